"""Every event, declared once: one JSON object a line on standard output (docs/events.md).

An event is a fact about mail or about the relay, made when it is true and durable:
`delivered` after the stamp's sync, never before. `event` names it, `time` is UTC with
milliseconds. Recipients are text as in the command; replies are made printable.
"""

import msgspec


class Event(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag_field="event"):
    """What all events have; `time` is microseconds since the epoch until it is written out."""

    time: int


class Started(Event, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag="started"):
    """The relay's ports answer. `addresses` are the listeners', then `[http]`'s, then `[admin]`'s."""

    version: str
    addresses: tuple[str, ...]
    waiting: int


class Reloaded(Event, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag="reloaded"):
    """The configuration was read again and is in force, but for what an alarm before says needs a restart."""

    config: str


class Stopped(Event, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag="stopped"):
    """The relay drained and closed; `waiting` recipients stay queued."""

    waiting: int


class Accepted(Event, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag="accepted"):
    """A message is on stable storage and its client was told 250."""

    queue_id: str
    client: str
    sender: str
    recipients: int
    size: int
    duration: float
    user: str = ""


class Repeated(Event, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag="repeated"):
    """A client sent again what was accepted under its Backstamp-Idempotency-Key: nothing was queued.

    It was told the 250 of the first one, whose `queue_id` it is.
    """

    queue_id: str
    client: str
    user: str = ""


class Refused(Event, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag="refused"):
    """A client was told no: `command` is the verb, `reply` what it read.

    `sender` and `recipient` are as it said them, where it is their command that was refused.
    """

    client: str
    command: str
    reply: str
    sender: str = ""
    recipient: str = ""
    user: str = ""


class Authenticated(Event, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag="authenticated"):
    """A client proved who it is (AUTH)."""

    client: str
    user: str
    mechanism: str


class AuthenticationFailed(
    Event, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag="authentication_failed"
):
    """A client did not prove who it is. `user` is who it said it was, absent where it named nobody.

    `reason` is `credentials` (wrong password or token, or no such user), `locked` (too many failures before),
    `busy` (too many passwords to check) or `trouble` (what judges it does not work; an alarm says why).
    """

    client: str
    mechanism: str
    reason: str
    reply: str
    user: str = ""


class Limited(Event, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag="limited"):
    """A client reached a limit: `limit` is its key in `[limits]`, `reply` what it read.

    `client` is an address, a network (IPv6, /64) or `user` and a name. One event a minute for each client
    and limit; `count` is how often it was refused since the last one.
    """

    client: str
    limit: str
    reply: str
    count: int


class HandshakeFailed(Event, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag="handshake_failed"):
    """A client's connection ended before it could be heard: `stage` is what failed, `reason` says how.

    `PROXY` is what a proxy says first, and then `client` is the proxy; `TLS` and `STARTTLS` are handshakes.
    One event a minute for each client, stage and reason; `count` is how often it came since the last one. Who
    connects and goes without an octet is not told of.
    """

    client: str
    stage: str
    reason: str
    count: int


class Attempt(Event, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag="attempt"):
    """A transaction begins: one message, some recipients of a domain, one host."""

    queue_id: str
    domain: str
    recipients: int
    mx: str
    attempt: int


class Delivered(Event, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag="delivered"):
    """A remote server took the message for a recipient and the stamp `D` is durable.

    `tls` is version and cipher of the session, absent in clear text.
    """

    queue_id: str
    recipient: str
    reply: str
    mx: str
    duration: float
    delay: float
    tls: str = ""


class Deferred(Event, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag="deferred"):
    """An attempt did not succeed; `retry_at` (seconds since the epoch) says when the next one is.

    `bounce_class` says why in a word (`policy/bounce.py`).
    """

    queue_id: str
    recipient: str
    reply: str
    mx: str
    duration: float
    scope: str
    retry_at: float
    bounce_class: str = ""


class Failed(Event, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag="failed"):
    """A recipient is given up and the stamp `F` is durable; a report follows where one is wanted.

    `bounce_class` says why in a word (`policy/bounce.py`).
    """

    queue_id: str
    recipient: str
    reply: str
    mx: str
    duration: float
    scope: str
    bounce_class: str = ""


class Bounced(Event, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag="bounced"):
    """Failed recipients are closed (`B`). `report` is the report's queue id, empty where none is wanted."""

    queue_id: str
    report: str
    sender: str
    recipients: tuple[str, ...]


class InDoubt(Event, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag="in_doubt"):
    """The final dot went out and no reply came: the recipient may get a second copy."""

    queue_id: str
    recipient: str
    mx: str
    reply: str


class HostDown(Event, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag="host_down"):
    """A host gave no session. Until it does, one attempt tries it now and then; the others go on at once."""

    mx: str
    reply: str


class HostUp(Event, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag="host_up"):
    """A host that gave no session gives them again; `duration` is how long it gave none."""

    mx: str
    duration: float


class Throttled(Event, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag="throttled"):
    """A destination or provider taught its limits: `change` is what is done, `why` who said what.

    `seconds` is for how long, 0 until it teaches otherwise. `all`: this machine has nothing for one more
    connection to anybody.
    """

    destination: str
    change: str
    why: str
    seconds: float


class TlsFailed(Event, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag="tls_failed"):
    """A host's TLS broke; for a day its mail goes in clear text, since nothing demands TLS there."""

    mx: str
    reply: str


class Recovered(Event, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag="recovered"):
    """The queue was read at start."""

    segments: int
    messages: int
    recipients: int
    duration: float


class Resumed(Event, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag="resumed"):
    """What kept the queue from taking or sending mail is over; `duration` is how long it took."""

    problem: str
    duration: float


class Held(Event, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag="held"):
    """At-most-once mail is in doubt: the recipient waits for `queue release` or `queue remove`."""

    queue_id: str
    recipient: str
    mx: str
    reply: str


class Operated(Event, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag="operated"):
    """An operator's verb (hold, release, retry, remove, bounce) was carried out, durably."""

    queue_id: str
    verb: str
    recipients: tuple[str, ...]


class Suppressed(Event, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag="suppressed"):
    """An address is on the suppression list, durably. `source` is who put it there: bounce, operator, import.

    `until` is seconds since the epoch, absent: until it is removed. `tenant` is absent where it holds for
    all. An import is told once, without addresses; `entries` is how many it had.
    """

    source: str
    recipient: str = ""
    tenant: str = ""
    bounce_class: str = ""
    reply: str = ""
    until: float | None = None
    entries: int = 1


class Unsuppressed(Event, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag="unsuppressed"):
    """An operator removed an address from the suppression list, durably."""

    recipient: str
    tenant: str = ""


class Renewed(Event, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag="renewed"):
    """Certificates shown to clients were written anew and are in use. `until` is the end of the one that ends
    first, in seconds since the epoch.
    """

    certificates: tuple[str, ...]
    until: float


class Alarm(Event, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag="alarm"):
    """Something an operator must see: damage, a failed write. `action` is what was done."""

    problem: str
    action: str
    queue_id: str = ""
