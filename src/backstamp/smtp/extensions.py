"""What the listener offers in its EHLO reply: only what is carried through to the end."""


def keywords(message_size: int) -> tuple[str, ...]:
    """Return the EHLO keywords with their arguments (RFC 5321 §4.1.1.1)."""
    return (
        f"SIZE {message_size}",  # RFC 1870
        "8BITMIME",  # RFC 6152
        "SMTPUTF8",  # RFC 6531
        "PIPELINING",  # RFC 2920
        "ENHANCEDSTATUSCODES",  # RFC 2034
        "DSN",  # RFC 3461
        "MT-PRIORITY",  # RFC 6710
    )
