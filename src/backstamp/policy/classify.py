"""Reply or fault → outcome and scope. The only place that decides how far a failure reaches.

A recipient's own refusal fails that one; a refusal of the message fails all it was offered
for; trouble of a host tries the next one; trouble of the destination ends the attempt.
Whatever is not understood is temporary: mail is not given up on a guess. Faults of DNS
follow RFC 5321 §5.1 and RFC 7505, ours are put into words as replies so that reports and
events have one form.
"""

import re
from typing import Final

from backstamp.mail.fault import Fault, Phase
from backstamp.mail.outcome import Outcome, Scope, Verdict
from backstamp.mail.reply import Reply
from backstamp.policy.adapt import too_many_connections
from backstamp.policy.mx import DnsFault, DnsProblem

_SCOPES = {
    Phase.CONNECT: Scope.HOST,
    Phase.GREETING: Scope.HOST,
    Phase.EHLO: Scope.HOST,
    Phase.TLS: Scope.HOST,
    Phase.AUTH: Scope.HOST,
    Phase.MAIL: Scope.MESSAGE,
    Phase.RCPT: Scope.RECIPIENT,
    Phase.DATA: Scope.MESSAGE,
    Phase.CONTENT: Scope.MESSAGE,
    Phase.FINAL: Scope.MESSAGE,
}

_TOO_MANY = {(0, 0), (5, 3)}
"""Subject and detail of a 452 or 552 to RCPT that may mean too many recipients (RFC 3463 §3.6)."""

_ROOM: Final = re.compile(r"quota|\bfull\b|storage|space", re.IGNORECASE)
_IN_TIME: Final = re.compile(r"\b(?:rate|minute|hour|day|hourly|daily)\b", re.IGNORECASE)

_FAULTS = {
    (Phase.CONNECT, ""): "4.4.1",
    (Phase.CONNECT, "resources"): "4.3.0",
    (Phase.TLS, "not offered"): "4.7.4",
    (Phase.TLS, ""): "4.7.5",
    (Phase.AUTH, ""): "4.7.0",
}
"""Statuses by phase and problem (RFC 3463 §3.5, §3.8); the rest is 4.4.2, a bad connection."""

_DNS = {
    DnsProblem.NO_DOMAIN: (550, "5.1.2", "the domain does not exist"),
    DnsProblem.NULL_MX: (556, "5.1.10", "the domain accepts no mail (null MX)"),
    DnsProblem.NO_ADDRESS: (550, "5.4.4", "no mail host of the domain has an address"),
    DnsProblem.BAD_NAME: (550, "5.1.2", "not a domain name"),
    DnsProblem.SERVER_FAILURE: (451, "4.4.3", "the name servers failed"),
    DnsProblem.TIMEOUT: (451, "4.4.3", "the name servers did not answer"),
    DnsProblem.ALIAS_LOOP: (451, "4.4.3", "the domain's aliases lead in a circle"),
}


def reply(answer: Reply, phase: Phase, host: str) -> Outcome:
    """Classify a peer's reply to a command of a phase. A 2yz counts as delivered only to the final dot.

    How far it reaches is `reach`'s. A refusal before MAIL is never
    permanent for the mail: the next host may take it. A 3yz or 2yz out of place is a
    broken peer, and so temporary. 552 to RCPT once meant too many recipients and is temporary
    (§4.5.3.1.10), unless the enhanced status says that it means something else.
    """
    scope = reach(answer, phase)
    if answer.positive and phase is Phase.FINAL:
        return Outcome(Verdict.DELIVERED, answer, scope, host)
    if phase is Phase.RCPT and answer.code == 552 and answer.enhanced[1:] in _TOO_MANY:
        return Outcome(Verdict.DEFERRED, answer, scope, host)
    if answer.permanent and scope is not Scope.HOST:
        return Outcome(Verdict.FAILED, answer, scope, host)
    return Outcome(Verdict.DEFERRED, answer, scope, host)


def reach(answer: Reply, phase: Phase) -> Scope:
    """Return how far a refusal to a command of a phase reaches.

    421 is the host's wherever it comes (RFC 5321 §3.8), and so is a 4yz to MAIL that speaks of too
    many connections: the next host has its own. A rate or a reputation is no reason to try the next
    host, which would only be asked too often as well: it is the message's, and the lane slows down.
    """
    if answer.code == 421 or (phase is Phase.MAIL and too_many_connections(answer, phase)):
        return Scope.HOST
    return _SCOPES[phase]


def too_many_recipients(answer: Reply) -> bool:
    """Tell whether a refusal of RCPT means that the transaction has enough recipients.

    452 does, and 552 where it is from before RFC 2821 (RFC 5321 §4.5.3.1.10), unless the status
    or the words speak of room, or of how many in a time.
    """
    status = answer.enhanced[1:]
    if answer.code not in (452, 552) or status not in _TOO_MANY or _IN_TIME.search(answer.text):
        return False
    return status == (5, 3) or not _ROOM.search(answer.text)


def fault(found: Fault, host: str) -> Outcome:
    """Classify a session that broke without a reply: the host's trouble, temporary."""
    status = _FAULTS.get((found.phase, found.problem)) or _FAULTS.get((found.phase, ""), "4.4.2")
    words = Reply(450, f"{status} {found.text}")
    return Outcome(Verdict.DEFERRED, words, Scope.HOST, host)


def dns(found: DnsFault) -> Outcome:
    """Classify a name that led nowhere."""
    code, status, meaning = _DNS[found.problem]
    verdict = Verdict.FAILED if code >= 500 else Verdict.DEFERRED
    return Outcome(verdict, Reply(code, f"{status} {found.text}: {meaning}"), Scope.DESTINATION)


def lost_smarthost(host: str) -> Outcome:
    """Classify a route whose next hop cannot be found: this side's mistake, so the mail waits."""
    words = Reply(451, f"4.4.4 the smarthost {host} cannot be found")
    return Outcome(Verdict.DEFERRED, words, Scope.DESTINATION)


def no_source(host: str) -> Outcome:
    """Classify a host of another address family than the pool: this side's lack, so the mail waits."""
    words = Reply(451, f"4.4.4 {host} has no address of a family that this relay sends from")
    return Outcome(Verdict.DEFERRED, words, Scope.HOST)


def loop(domain: str) -> Outcome:
    """Classify a domain whose best mail exchanger is this relay (RFC 5321 §5.1)."""
    words = Reply(554, f"5.4.6 mail for {domain} loops back to this relay")
    return Outcome(Verdict.FAILED, words, Scope.DESTINATION)


def forbidden(host: str, address: str, why: str) -> Outcome:
    """Classify an address this relay must not connect to; another host of the domain may do."""
    words = Reply(550, f"5.4.4 {host} has the address {address}: {why}")
    return Outcome(Verdict.FAILED, words, Scope.HOST, host)


def no_smtputf8(host: str, *, address: bool) -> Outcome:
    """Classify internationalized mail for a peer without SMTPUTF8 (RFC 6531 §3.5).

    `address` tells that an address is beyond ASCII; otherwise it is the header.
    """
    if address:
        words = Reply(553, "5.6.7 an address needs SMTPUTF8, which the remote server does not offer")
    else:
        words = Reply(554, "5.6.9 the header needs SMTPUTF8, which the remote server does not offer")
    return Outcome(Verdict.FAILED, words, Scope.MESSAGE, host)


def no_requiretls(host: str) -> Outcome:
    """Classify mail that demands TLS all the way for a peer that does not promise it (RFC 8689 §4.2.1).

    Another host may.
    """
    words = Reply(550, "5.7.30 the mail needs REQUIRETLS, which the remote server does not offer")
    return Outcome(Verdict.FAILED, words, Scope.HOST, host)


def unverified(host: str) -> Outcome:
    """Classify mail that demands TLS all the way where a host's name and certificate are not verified."""
    words = Reply(550, "5.7.10 the mail needs REQUIRETLS, and the way to the remote server is not verified")
    return Outcome(Verdict.FAILED, words, Scope.MESSAGE, host)


def no_8bitmime(host: str) -> Outcome:
    """Classify 8-bit content for a peer without 8BITMIME (RFC 6152 §3); it is never sent raw."""
    words = Reply(554, "5.6.3 the mail has 8-bit content, which the remote server does not take")
    return Outcome(Verdict.FAILED, words, Scope.MESSAGE, host)


def too_big(host: str, size: int, limit: int) -> Outcome:
    """Classify content above the peer's declared SIZE (RFC 1870 §6.1); it is not sent."""
    words = Reply(552, f"5.3.4 the mail has {size} octets, the remote server takes {limit}")
    return Outcome(Verdict.FAILED, words, Scope.MESSAGE, host)


def broken() -> Outcome:
    """Classify an attempt that ended in a bug of ours: the mail has no part in it (promise 4)."""
    return Outcome(Verdict.DEFERRED, Reply(451, "4.3.0 the relay failed to try"), Scope.DESTINATION)


def expired(last: Outcome) -> Outcome:
    """Give up a deferred recipient whose lifetime is over; the last reply is told."""
    words = Reply(554, f"5.4.7 delivery time expired; the last answer was: {last.reply}")
    return Outcome(Verdict.FAILED, words, last.scope, last.host)
