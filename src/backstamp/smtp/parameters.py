"""ESMTP parameters of MAIL and RCPT, on raw bytes, case kept (RFC 5321 §4.1.2).

What was not advertised is refused (555); what is malformed or said twice is a syntax
error (501). Values pass through as they came: ENVID and ORCPT go on to the next server octet
for octet (RFC 3461 §5.2.1). The queue keeps names of its own beside them (`TENANT`, `REPORTS`):
none of those is known here, so no client can say them.
"""

import re
from typing import Final

from backstamp.mail import release, xtext
from backstamp.mail.address import AddressError, parse_path

_PARAMETER: Final = re.compile(rb"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([!-<>-~]+))?")
_UTF8_PARAMETER: Final = re.compile(rb"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([!-<>-~\x80-\xff]+))?")
_SIZE: Final = re.compile(rb"[0-9]{1,20}")
_PRIORITY: Final = re.compile(rb"0|-?[1-9]")
_INTERVAL: Final = re.compile(rb"0*[1-9][0-9]{0,8}")
_ADDRESS_TYPE: Final = re.compile(rb"[A-Za-z0-9!#$%&'*+/?^_`{|}~-]+")
_CONDITIONS: Final = frozenset({b"SUCCESS", b"FAILURE", b"DELAY"})

ENVELOPE_ID: Final = 100
"""Octets an ENVID means, at most (RFC 3461 §5.4)."""

ORIGINAL_RECIPIENT: Final = 500
"""Octets of an ORCPT, at most (RFC 3461 §5.4)."""


LATE: Final = 300.0
"""Seconds a HOLDUNTIL may be in the past: clocks differ, and a time just gone means now."""


class ParameterError(ValueError):
    """A parameter that cannot be taken; `code` and the text make the reply."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


def parse(text: bytes, *, utf8: bool = False) -> dict[bytes, bytes | None]:
    """Return parameters by keyword in upper case; the value is None where there is none.

    With `utf8` a value may be beyond ASCII (RFC 6531 §3.3).

    Raises:
        ParameterError: 501, it is not the grammar or a keyword comes twice.
    """
    grammar = _UTF8_PARAMETER if utf8 else _PARAMETER
    found: dict[bytes, bytes | None] = {}
    for item in text.split(b" "):
        if not item:
            continue
        match = grammar.fullmatch(item)
        if match is None:
            raise ParameterError(501, "5.5.4 Not a parameter")
        keyword = match[1].upper()
        if keyword in found:
            raise ParameterError(501, f"5.5.4 {_shown(keyword)} is given twice")
        found[keyword] = match[2]
    return found


def declared_size(text: bytes) -> int | None:
    """Return the SIZE (RFC 1870) among MAIL's parameters, which were checked; None where there is none."""
    value = parse(text).get(b"SIZE") if b"=" in text else None
    return None if value is None else int(value)


def _shown(keyword: bytes) -> str:
    """Return a keyword for a reply, whose line is 512 octets at most (RFC 5321 §4.5.3.1.5)."""
    return keyword[:64].decode("ascii")


def mail(
    text: bytes,
    *,
    message_size: int,
    priority_limit: int = 9,
    hold: float = 0.0,
    now: float = 0.0,
    auth: bool = False,
    requiretls: bool = False,
) -> tuple[bytes, int | None]:
    """Check MAIL's parameters; return those that go with the message, and the priority if it was lowered.

    They are BODY, SMTPUTF8, RET, ENVID, MT-PRIORITY, the last no higher than `priority_limit`, and
    when it may leave (`mail.release`), at most `hold` seconds from `now` (since the epoch); 0: FUTURERELEASE
    is not offered. With `auth` (AUTH is offered) AUTH= is taken, and not kept: nobody is trusted to
    name the author of a message (RFC 4954 §5). With `requiretls` (it is offered, and the session has
    TLS) REQUIRETLS is kept (RFC 8689 §2).

    Raises:
        ParameterError: 501 or 555; 552 where SIZE is more than `message_size` (RFC 1870 §6.1).
    """
    if not text:
        return b"", None
    kept = []
    lowered = None
    given = parse(text)
    if hold:
        kept += _release(given, hold, now)
    for keyword, value in given.items():
        if keyword == b"SIZE":
            _check_size(value, message_size)
        elif keyword == b"BODY":
            if value is None or value.upper() not in {b"7BIT", b"8BITMIME"}:
                raise ParameterError(501, "5.5.4 BODY is 7BIT or 8BITMIME")
            kept.append(b"BODY=" + value.upper())
        elif keyword == b"SMTPUTF8":
            if value is not None:
                raise ParameterError(501, "5.5.4 SMTPUTF8 takes no value")
            kept.append(b"SMTPUTF8")
        elif keyword == b"RET":
            if value is None or value.upper() not in {b"FULL", b"HDRS"}:
                raise ParameterError(501, "5.5.4 RET is FULL or HDRS")
            kept.append(b"RET=" + value)
        elif keyword == b"ENVID":
            kept.append(b"ENVID=" + _checked_envelope_id(value))
        elif keyword == b"MT-PRIORITY":
            priority = _priority(value)
            if priority > priority_limit:
                priority = lowered = priority_limit
            kept.append(b"MT-PRIORITY=%d" % priority)
        elif keyword == b"REQUIRETLS" and requiretls:
            if value is not None:
                raise ParameterError(501, "5.5.4 REQUIRETLS takes no value")
            kept.append(b"REQUIRETLS")
        elif keyword == b"AUTH" and auth:
            _check_identity(value)
        else:
            raise ParameterError(555, f"5.5.4 {_shown(keyword)} is not known here")
    return b" ".join(kept), lowered


def rcpt(text: bytes, *, utf8: bool = False) -> bytes:
    """Check RCPT's parameters; return those that go with the recipient: NOTIFY and ORCPT.

    With `utf8` (the transaction has SMTPUTF8) an ORCPT may be beyond ASCII (RFC 6533 §3).

    Raises:
        ParameterError: 501 or 555.
    """
    kept = []
    for keyword, value in parse(text, utf8=utf8).items():
        if keyword == b"NOTIFY":
            kept.append(b"NOTIFY=" + _checked_notify(value))
        elif keyword == b"ORCPT":
            kept.append(b"ORCPT=" + _checked_original(value, utf8=utf8))
        else:
            raise ParameterError(555, f"5.5.4 {_shown(keyword)} is not known here")
    return b" ".join(kept)


def _release(given: dict[bytes, bytes | None], hold: float, now: float) -> list[bytes]:
    """Take HOLDFOR or HOLDUNTIL out of what was given; return what is kept of it (RFC 4865 §4).

    What is more than was offered is answered like a syntax error, as the RFC advises.
    """
    if not {b"HOLDFOR", b"HOLDUNTIL"} & {*given}:
        return []
    if {b"HOLDFOR", b"HOLDUNTIL"} <= {*given}:
        raise ParameterError(501, "5.5.4 HOLDFOR and HOLDUNTIL exclude each other")
    if b"HOLDFOR" in given:
        value = given.pop(b"HOLDFOR")
        if value is None or _INTERVAL.fullmatch(value) is None:
            raise ParameterError(501, "5.5.4 HOLDFOR is a number of seconds, 1 to 999999999")
        until = now + int(value)
        kept = [b"HOLDFOR=%d" % int(value)]
    else:
        value = given.pop(b"HOLDUNTIL")
        found = release.parse((value or b"").decode("ascii"))
        if found is None:
            raise ParameterError(501, "5.5.4 HOLDUNTIL is a date-time of RFC 3339, as 2027-01-15T08:00:00Z")
        if found < now - LATE:
            raise ParameterError(501, "5.5.4 HOLDUNTIL is in the past")
        until = found
        kept = []
    if until > now + hold:
        raise ParameterError(501, f"5.5.4 A message is held for {hold:.0f} seconds at most")
    # Of a time that is just gone nothing is left to do.
    return [*kept, b"HOLDUNTIL=%b" % release.date_time(until).encode()] if until > now else []


def _check_identity(value: bytes | None) -> None:
    """Check an AUTH= (RFC 4954 §5): `<>`, or a mailbox in xtext."""
    if value == b"<>":
        return
    meant = xtext.decode(value or b"")
    try:
        address, rest = parse_path(b"<%b>" % meant) if meant else (b"", b"")
    except AddressError:
        address, rest = b"", b""
    if not address or rest:
        raise ParameterError(501, "5.5.4 AUTH is <>, or a mailbox in xtext")


def _check_size(value: bytes | None, message_size: int) -> None:
    if value is None or _SIZE.fullmatch(value) is None:
        raise ParameterError(501, "5.5.4 SIZE wants a number")
    if int(value) > message_size:
        raise ParameterError(552, f"5.3.4 Message size exceeds the limit of {message_size} octets")


def _checked_envelope_id(value: bytes | None) -> bytes:
    """Return an ENVID as it came (RFC 3461 §4.4)."""
    meant = xtext.decode(value or b"")
    if value is None or meant is None or len(meant) > ENVELOPE_ID:
        raise ParameterError(501, f"5.5.4 ENVID is xtext of at most {ENVELOPE_ID} printable characters")
    return value


def _priority(value: bytes | None) -> int:
    """Return what MT-PRIORITY says (RFC 6710): a digit without a plus sign, no minus before zero."""
    if value is None or _PRIORITY.fullmatch(value) is None:
        raise ParameterError(501, "5.5.4 MT-PRIORITY is a number from -9 to 9")
    return int(value)


def _checked_notify(value: bytes | None) -> bytes:
    """Return a NOTIFY as it came (RFC 3461 §4.1): NEVER, or conditions, each of them once."""
    conditions = (value or b"").upper().split(b",")
    repeated = len({*conditions}) < len(conditions)
    if value is None or (conditions != [b"NEVER"] and (repeated or not _CONDITIONS.issuperset(conditions))):
        raise ParameterError(501, "5.5.4 NOTIFY is NEVER, or some of SUCCESS,FAILURE,DELAY")
    return value


def _checked_original(value: bytes | None, *, utf8: bool) -> bytes:
    """Return an ORCPT as it came (RFC 3461 §4.2; of the type `utf-8`, RFC 6533 §3).

    But for one that Postfix makes of an internationalized address: to refuse that would refuse its recipient,
    to pass it on would leave it to the next server to do so.
    """
    kind, _, address = (value or b"").partition(b";")
    if utf8 and kind.lower() == b"rfc822" and xtext.decode(address) is None:
        mended = xtext.mended(address)
        kind, address = b"utf-8", mended or b""
        value = b"utf-8;" + address
    meant = xtext.decode_utf8(address) if kind.lower() == b"utf-8" else xtext.decode(address)
    if value is None or not meant or _ADDRESS_TYPE.fullmatch(kind) is None or len(value) > ORIGINAL_RECIPIENT:
        raise ParameterError(501, "5.5.4 ORCPT is an address type, a semicolon and an address in xtext")
    return value
