"""Backstamp, an outbound SMTP relay.

It accepts mail with one durable write, delivers it concurrently, and marks each
recipient's success with one byte, in place, before the next attempt.
"""

__version__ = "0.1.0"
