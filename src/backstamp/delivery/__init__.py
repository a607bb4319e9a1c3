"""From claim to stamp: routing, lanes, attempts, reports."""
