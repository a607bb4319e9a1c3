"""What would change a message's fate: the exact commands, and keys of the configuration. Pure."""

from collections.abc import Iterator
from typing import Final

from backstamp.delivery.facts import Destination, Explained, Limit, State, Way
from backstamp.delivery.told import table

HINTS: Final = {
    "greylist": "Greylisting ends by itself: the host wants to see a second try from the same address.",
    "rate": "The other side wants less at a time.",
    "reputation": "The other side mistrusts this relay's address: see the page its reply names.",
    "authentication": "The other side wants the sender's SPF, DKIM or DMARC in order, or a name for this "
    "relay's address.",
    "spam-block": "The other side refuses the content.",
    "full-mailbox": "The recipient has to make room.",
    "tls": "TLS does not come about: see what is demanded above.",
    "connection": "See whether the host can be reached from this machine: its port may be blocked.",
    "dns": "Ask the name servers for the domain, and see [dns] nameservers.",
    "system": "The trouble is the other side's own; it has to end there.",
}
"""By bounce class: what the class says about a way out."""


def remedies(facts: Explained, one: Destination) -> Iterator[str]:
    """Yield what would change where one destination's recipients stand, the likeliest first."""
    match one.state:
        case State.HELD:
            yield f"`backstamp queue release {facts.queue_id}` sends it."
        case State.REPORT:
            yield "Nothing: who failed is not tried again. Mail that is sent anew is."
            return
        case State.SENDING:
            yield "Nothing while it is under way: what an operator asks is refused until that is over."
            return
        case State.SCHEDULED:
            yield from _scheduled(facts, one)
        case State.TURN | State.OPENING | State.PERMIT:
            yield from _connections(one)
        case State.RATE:
            yield from _rate(one)
        case State.PAUSE:
            yield (
                "`queue retry` does not shorten a pause. A rule of your own makes the next one shorter: "
                "[[adapt]] with words of the reply as its pattern comes before the shipped ones."
            )
        case State.RESOLVING:
            yield HINTS["dns"]
    if facts.closed:
        yield "The disk: free some space, or mend it. Delivery goes on by itself then."
    for listed in one.listed:
        yield f"`backstamp suppression remove {listed.address}` takes it off the suppression list."
    if facts.report:
        yield f"`backstamp queue remove {facts.queue_id}` gives it up."
        return
    verbs = f"`backstamp queue bounce {facts.queue_id}` gives it up with a report, `queue remove` without one"
    yield f"{verbs}; add `-r ADDRESS` for one recipient." if sum(facts.counts.values()) > 1 else f"{verbs}."


def _scheduled(facts: Explained, one: Destination) -> Iterator[str]:
    latest = one.past.heard[0] if one.past is not None else None
    doubtful = any(person.stamp == "?" for person in one.recipients)
    if latest is not None and latest.bounce_class in HINTS and not doubtful:
        yield HINTS[latest.bounce_class]
    paused = any(limit.paused_until is not None for limit in one.way.limits) if one.way is not None else False
    but = "; the pause holds all the same" if paused else ""
    early = ", before the time its sender asked for" if facts.release > facts.now else ""
    yield f"`backstamp queue retry {facts.queue_id}` makes it due now{early}{but}."
    if one.way is not None and one.step is not None and one.step.asked is None:
        origin = _origin(one.way, "retry.schedule")
        yield f"The waits: {table(one.way, origin, 'retry.schedule')}."


def _connections(one: Destination) -> Iterator[str]:
    if (limit := _blocking(one)) is None or one.way is None:
        return
    if limit.kind == "all":
        yield "More connections together: [delivery] total_connections."
    elif limit.ceiling is not None and limit.allowed >= limit.ceiling:
        yield "Nothing here: the other side counts connections, and one more is tried by itself."
    elif limit.connection_rate and limit.held < limit.allowed:
        yield f"More new connections: {_key(one.way, limit, 'connection_rate')}."
    else:
        yield f"More connections: {_key(one.way, limit, 'connections')}."
        if limit.allowed < limit.most:
            yield "They begin with few, and grow by themselves as mail is taken."


def _rate(one: Destination) -> Iterator[str]:
    if (limit := _blocking(one)) is None or one.way is None:
        return
    if limit.slow_until is not None:
        yield "Nothing at once: the rate was learned from a reply, and ends by itself."
    yield f"A higher rate: {_key(one.way, limit, 'message_rate')}."


def _blocking(one: Destination) -> Limit | None:
    limits = one.way.limits if one.way is not None else ()
    return next((limit for limit in limits if limit.name == one.blocked), None)


def _key(way: Way, limit: Limit, key: str) -> str:
    """Return the key that sets a limit: the provider's where it is shared, else the domain's own."""
    if limit.kind == "provider":
        return table(way, "provider", key)
    if way.rule:
        return table(way, "rule", key)
    own = f', or of this domain alone: [[destination]] match = "{way.domain}"' if not way.smarthost else ""
    return f"{table(way, 'default', key)}{own}"


def _origin(way: Way, key: str) -> str:
    return next((knob.origin for knob in way.knobs if knob.key == key), "default")
