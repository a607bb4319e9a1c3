"""What is known of a message or a destination now, as records: for JSON, and for sentences. Pure.

Whoever asks gets facts and words; the words (`explain`, `directions`) say nothing that is not
in the facts. Every time is seconds since the epoch; every text from strangers is printable.
"""

import enum

import msgspec

from backstamp.delivery.history import Past


class State(enum.Enum):
    """Where the recipients of one domain stand."""

    HELD = "held"
    """Nobody sends to them before an operator decides."""
    REPORT = "failed, report owed"
    SCHEDULED = "waits for its next try"
    DUE = "due, not taken up yet"
    RESOLVING = "waits for DNS"
    TURN = "waits for its turn"
    OPENING = "waits for a connection that is being opened"
    PERMIT = "waits until a connection may be opened"
    RATE = "waits for the rate"
    PAUSE = "waits for the end of a pause"
    SENDING = "under way"
    LOST = "no way to the destination"
    """It is being settled."""


class Knob(msgspec.Struct, frozen=True):
    """One value of the policy in force; `origin`: rule, provider, route or default."""

    key: str
    value: str
    origin: str


class Reason(msgspec.Struct, frozen=True):
    """Why something was learned; `since` may be before the relay's start."""

    why: str
    since: float


class Holder(msgspec.Struct, frozen=True):
    """Who has connections: a next hop."""

    name: str
    connections: int


class Limit(msgspec.Struct, frozen=True):
    """One throttle, of a destination, a provider, or of everything together.

    `allowed` connections now, of `most` in the configuration, `held` now. Rates are in words, empty
    where there is none; `next_message` is None where one may go at once. `recipients` of a transaction and
    `messages` of a connection are None where the host takes what the configuration says. `learned` is by
    what was learned: pause, slower, fewer, recipients, messages. `holders` have the connections.
    """

    name: str
    kind: str
    allowed: int
    most: int
    held: int
    ceiling: int | None = None
    probe_at: float | None = None
    message_rate: str = ""
    slow_until: float | None = None
    next_message: float | None = None
    connection_rate: str = ""
    paused_until: float | None = None
    recipients: int | None = None
    messages: int | None = None
    learned: dict[str, Reason] = {}
    holders: tuple[Holder, ...] = ()


class Down(msgspec.Struct, frozen=True):
    """A host that gave no session, and when it is tried again."""

    host: str
    reply: str
    since: float
    again: float


class Doing(msgspec.Struct, frozen=True):
    """What is under way: connecting, greeting or sending, with whom, since when."""

    doing: str
    host: str
    since: float


class Way(msgspec.Struct, frozen=True):
    """Where mail goes and what holds there. `name` is the site (its exchangers) or the smarthost's hosts."""

    name: str
    smarthost: bool
    domain: str
    route: str = ""
    rule: str = ""
    provider: str = ""
    tls: str = "may"
    implicit_tls: bool = False
    username: str = ""
    sources: tuple[str, ...] = ()
    knobs: tuple[Knob, ...] = ()
    limits: tuple[Limit, ...] = ()
    down: tuple[Down, ...] = ()


class Waiting(msgspec.Struct, frozen=True):
    """A lane: what is due and waits there, who works, and where one message stands (None: not about one).

    `line` is how many other lanes stand before it, where it waits in line for a limit they share.
    """

    messages: int
    workers: int
    sessions: int
    doing: tuple[Doing, ...] = ()
    before: int | None = None
    others: int = 0
    tenants: int = 0
    urgent: int = 0
    line: int = 0


class Step(msgspec.Struct, frozen=True):
    """Which wait of the schedule the next try follows, and what the reply asked for (seconds).

    `cut` is the schedule's longest wait, where the reply asked for more: then that is met.
    """

    number: int
    of: int
    wait: float
    asked: float | None = None
    cut: float | None = None


class Listed(msgspec.Struct, frozen=True):
    """Why an address is on the suppression list."""

    address: str
    bounce_class: str
    source: str
    expires: int | None


class Person(msgspec.Struct, frozen=True):
    """A recipient: stamp, and whether an earlier attempt left it in doubt."""

    address: str
    stamp: str


class Said(msgspec.Struct, frozen=True):
    """Why somebody failed."""

    reply: str
    host: str
    time: float


class Destination(msgspec.Struct, frozen=True):
    """Recipients of one domain that are in one state.

    `blocked` names the limit that says no and `until` when that ends (None: nobody can tell). `attempts`
    are those that ended, since the relay's start. `expires` is when a failed try is the last.
    """

    domain: str
    state: State
    recipients: tuple[Person, ...]
    attempts: int = 0
    past: Past | None = None
    next_try: float | None = None
    step: Step | None = None
    expires: float | None = None
    way: Way | None = None
    lost: str = ""
    waiting: Waiting | None = None
    blocked: str = ""
    until: float | None = None
    doing: Doing | None = None
    listed: tuple[Listed, ...] = ()
    failures: tuple[Said, ...] = ()


class Explained(msgspec.Struct, frozen=True):
    """A message in the queue.

    `counts` is by stamp; `trouble` what ails the queue's disk, empty if nothing does; `closed`: deliveries
    may not begin. `hidden` destinations are not in `destinations`: there are too many. `release` is before
    when its sender does not want it sent (RFC 4865), 0 where nothing was said. `over` are recipients who
    were asked about by name, and are finished.
    """

    queue_id: str
    now: float
    started: float
    sender: str
    arrival: float
    size: int
    counts: dict[str, int]
    destinations: tuple[Destination, ...]
    hidden: int = 0
    tenant: str = ""
    priority: int | None = None
    at_most_once: bool = False
    report: bool = False
    reporting: bool = False
    problem: str = ""
    trouble: str = ""
    closed: bool = False
    stopping: bool = False
    release: float = 0.0
    over: tuple[Person, ...] = ()


# ---- a dry run ----


class Fit(msgspec.Struct, frozen=True):
    """A route and what became of it: chosen, outweighed, or why it does not fit."""

    route: str
    via: str
    fits: bool
    why: str


class Address(msgspec.Struct, frozen=True):
    """An address of a host; `refused` says why it is not connected to, empty if it may be."""

    address: str
    refused: str = ""
    clear: bool = False
    """Its TLS broke of late: it is spoken to in clear text where nothing demands TLS."""


class Host(msgspec.Struct, frozen=True):
    """A host in the order of tries. `problem` says why it is not tried, empty if it is."""

    name: str
    port: int
    preference: int | None = None
    addresses: tuple[Address, ...] = ()
    problem: str = ""
    unanswered: str = ""
    """A family whose addresses DNS failed to tell for now, and how; empty if these are all."""


class Share(msgspec.Struct, frozen=True):
    """An address of a pool: the name said there, and its part of its family's connections."""

    address: str
    helo: str
    part: float


class Directions(msgspec.Struct, frozen=True):
    """Which way mail for an address would go now. `sender` is None where none was named.

    `final`: mail fails at once, `lost` says why there is no way. `implicit`: there is no MX.
    """

    address: str
    sender: str | None
    domain: str
    now: float
    routes: tuple[Fit, ...] = ()
    others: int = 0
    """Routes that do not fit and are not named."""
    lost: str = ""
    final: bool = False
    implicit: bool = False
    hosts: tuple[Host, ...] = ()
    way: Way | None = None
    pool: str = ""
    shares: tuple[Share, ...] = ()
    waiting: Waiting | None = None
    listed: Listed | None = None
