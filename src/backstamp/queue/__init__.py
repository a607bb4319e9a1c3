"""The queue: accepted mail on stable storage, one stamp per recipient, ordered by time."""
