"""What the listener offers in its EHLO reply: only what is carried through to the end."""

from backstamp.mail import release


def keywords(
    message_size: int,
    *,
    hold: float = 0.0,
    now: float = 0.0,
    starttls: bool = False,
    auth: str = "",
    requiretls: bool = False,
) -> tuple[str, ...]:
    """Return the EHLO keywords with their arguments (RFC 5321 §4.1.1.1).

    `hold` is the longest a message may be held for its sender, in seconds, 0: not at all; `now` is
    seconds since the epoch. `auth` is the line of AUTH, empty for none. `requiretls`: only over TLS (RFC
    8689 §2).
    """
    later = (f"FUTURERELEASE {hold:.0f} {release.date_time(now + int(hold))}",) if hold else ()  # RFC 4865
    return (
        f"SIZE {message_size}",  # RFC 1870
        "8BITMIME",  # RFC 6152
        "SMTPUTF8",  # RFC 6531
        "PIPELINING",  # RFC 2920
        "ENHANCEDSTATUSCODES",  # RFC 2034
        "CHUNKING",  # RFC 3030
        "DSN",  # RFC 3461
        "MT-PRIORITY",  # RFC 6710
        *later,
        *(("STARTTLS",) if starttls else ()),  # RFC 3207
        *((auth,) if auth else ()),  # RFC 4954
        *(("REQUIRETLS",) if requiretls else ()),  # RFC 8689
    )
