"""The HTTP side: health, metrics, the queue as JSON."""
