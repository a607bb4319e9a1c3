"""Every decision about a destination, as pure functions of data: routes, retry times, classification, MX order."""
