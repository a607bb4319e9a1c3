"""Every decision about a destination, as pure functions: routes, retry times, classification, MX."""
