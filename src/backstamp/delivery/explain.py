"""A message explained: from the facts to plain sentences. Pure.

Why it waits, when the next try is, what happened so far, when it is given up, where it goes,
what limits it, and what would change it: in this order, one block a destination domain and
state. Times are absolute and relative, and nothing is said that is not in the facts.
"""

from collections.abc import Iterator

from backstamp.delivery import told
from backstamp.delivery.facts import Destination, Explained, Limit, State, Waiting
from backstamp.delivery.history import Heard
from backstamp.delivery.phrases import (
    ago,
    count,
    labelled,
    listed,
    moment,
    octets,
    paragraph,
    sentence,
    some,
    when,
)
from backstamp.delivery.remedies import remedies

_WORDS = {
    "T": "waiting",
    "?": "in doubt",
    "D": "delivered",
    "F": "failed",
    "B": "failed and reported",
    "H": "held",
    "X": "removed",
}

_SOON = {
    State.RESOLVING: "As soon as the name servers answer.",
    State.TURN: "As soon as its turn comes.",
    State.OPENING: "As soon as the connection stands.",
    State.PERMIT: "As soon as a connection is given back.",
}


def absent(queue_id: str) -> str:
    """Return what is to be said of a message that is not in the queue."""
    return (
        f"{queue_id} is not in the queue: every recipient was delivered, reported to the sender or removed, "
        "or it was never here; the events of its id tell which"
    )


def text(facts: Explained) -> str:
    """Return a message explained, in lines of at most 79 columns (but for long words of strangers)."""
    lines = [*_head(facts)]
    for one in facts.destinations:
        lines += ["", *_block(facts, one)]
    if facts.hidden:
        more = f"{count(facts.hidden, 'more destination')}: name a recipient (-r ADDRESS) to see its own."
        lines += ["", *paragraph(f"There are {more}")]
    return "\n".join(lines) + "\n"


def _head(facts: Explained) -> Iterator[str]:
    yield facts.queue_id
    sender = "a report of this relay" if facts.report else f"from <{facts.sender}>"
    tenant = f", tenant {facts.tenant}" if facts.tenant else ""
    priority = f", priority {facts.priority}" if facts.priority is not None else ""
    accepted = f"accepted {when(facts.arrival, facts.now)}"
    yield from paragraph(sentence(f"{sender}, {octets(facts.size)}{tenant}{priority}, {accepted}"))
    stands = [f"{number:,} {_WORDS[letter]}" for letter, number in facts.counts.items()]
    yield from paragraph(f"{count(sum(facts.counts.values()), 'recipient')}: {listed(stands)}.")
    for trouble in _troubles(facts):
        yield from paragraph(trouble)


def _troubles(facts: Explained) -> Iterator[str]:
    if facts.problem:
        yield sentence(f"sender and recipients are not known: {facts.problem}")
    if facts.closed:
        yield sentence(
            f"the disk of the queue is in trouble ({facts.trouble}): nothing new is sent until it is over"
        )
    elif facts.trouble:
        yield sentence(f"the queue takes no new mail ({facts.trouble}); what is in it is sent")
    if facts.stopping:
        yield "The relay is stopping: what is not under way is sent after its next start."


def _block(facts: Explained, one: Destination) -> Iterator[str]:
    people = [f"<{person.address}>" for person in one.recipients]
    yield from paragraph(f"{one.domain or '(no domain)'}, for {some(people, 'recipient')}")
    now = facts.now
    yield from labelled("why", _why(facts, one))
    yield from labelled("next try", _next(facts, one))
    yield from labelled("so far", _so_far(facts, one))
    if one.expires is not None:
        yield from labelled("ends", [_end(facts, one.expires)])
    if one.way is not None:
        yield from labelled("goes", told.going(one.way))
        yield from labelled(
            "limits", [text for limit in one.way.limits for text in told.limiting(limit, now)]
        )
        yield from labelled("policy", told.values(one.way, whole=False))
        yield from labelled("hosts", [told.down(host, now) for host in one.way.down])
    yield from labelled("change it", remedies(facts, one))


# ---- why ----


def _why(facts: Explained, one: Destination) -> Iterator[str]:
    yield _reason(facts, one)
    blocking = (
        next((limit for limit in one.way.limits if limit.name == one.blocked), None) if one.way else None
    )
    if blocking is not None and one.state in (State.PERMIT, State.TURN):
        yield from filter(None, [_no_connection(one, blocking, facts.now), told.holding(blocking)])
    if one.lost:
        yield sentence(f"there is no way to it now: {one.lost}")
    for entry in one.listed:
        why = f" ({entry.bounce_class})" if entry.bounce_class else ""
        until = f" until {when(entry.expires, facts.now)}" if entry.expires is not None else ""
        yield f"{entry.address} is on the suppression list{why}{until}: it fails at its next try, with a report."
    if any(person.stamp == "?" for person in one.recipients):
        yield "In doubt: the final dot of a try went out and no reply came. It is sent again: one copy too many may come."


def _reason(facts: Explained, one: Destination) -> str:
    now = facts.now
    match one.state:
        case State.HELD:
            return _held(facts, one)
        case State.REPORT:
            return _failed(facts, one)
        case State.SCHEDULED:
            return _put_off(facts, one)
        case State.DUE:
            if facts.closed or facts.stopping:
                return "It is due, and nothing new is begun now: see above."
            return "It is due, and is taken up in a moment."
        case State.RESOLVING:
            return f"It waits for the name servers: where mail for {one.domain} goes is not known yet."
        case State.LOST:
            return "It cannot be sent to the destination, and is being settled."
        case State.TURN:
            return f"It waits for its turn: {_turn(facts, one.waiting)}"
        case State.OPENING:
            under = told.doing(one.doing, now) if one.doing is not None else "it begins"
            return sentence(f"it waits for the first connection to the destination: {under}")
        case State.PERMIT:
            return "It waits until a connection may be opened to the destination."
        case State.RATE | State.PAUSE:
            return _slow(facts, one)
        case State.SENDING:
            under = told.doing(one.doing, now) if one.doing is not None else "it begins"
            return sentence(f"it is under way: {under}")


def _held(facts: Explained, one: Destination) -> str:
    latest = one.past.heard[0] if one.past is not None else None
    if facts.at_most_once and latest is not None:
        host = latest.host or "the host"
        return (
            f"In doubt, and held: the final dot went out to {host} {span(facts.now - latest.last)} ago, no reply "
            "came, and this mail is to come at most once. It may have arrived: ask there, then decide."
        )
    if facts.at_most_once:
        return (
            "Held: by an operator, or because it is in doubt and is to come at most once. In doubt, it may have "
            "arrived; nothing is sent until somebody decides."
        )
    return "Held by an operator: nothing is sent until it is released."


def _failed(facts: Explained, one: Destination) -> str:
    if facts.report:
        return "It failed, and no report is made about a report; that is noted in a moment."
    if facts.reporting:
        return f"It failed; the report to <{facts.sender}> is being made now."
    return (
        f"It failed, and a report to <{facts.sender}> is owed: made when every recipient has been tried, or "
        "some minutes after the first failure."
    )


def _put_off(facts: Explained, one: Destination) -> str:
    now = facts.now
    if one.past is not None:
        latest = one.past.heard[0]
        return f"It was put off {ago(latest.last, now)}: {_quote(latest)}"
    if one.attempts:
        return "It was put off; what was answered is not kept any more."
    if facts.arrival < facts.started:
        return "It was here when the relay started, and waits for its first try since: these are spread over a while."
    return "It waits for its time."


def _turn(facts: Explained, waiting: Waiting | None) -> str:
    if waiting is None:
        return "it is about to be sent."
    parts = []
    if waiting.urgent:
        parts.append(f"{count(waiting.urgent, 'message')} of a higher priority")
    if waiting.before:
        whose = f" of its tenant {facts.tenant}" if facts.tenant else ""
        parts.append(f"{count(waiting.before, 'message')}{whose}")
    ahead = f"{listed(parts)} before it" if parts else "it is the next of its tenant"
    if waiting.others:
        ahead += f"; {count(waiting.others, 'message')} of {count(waiting.tenants, 'other tenant')} take turns with it"
    return f"{ahead}. {count(waiting.sessions, 'connection')} to the destination at work."


def _no_connection(one: Destination, limit: Limit, now: float) -> str:
    of = told.named(limit)
    if limit.paused_until is not None:
        return f"{sentence(of)[:-1]} is paused until {when(limit.paused_until, now)}{told.because(limit, 'pause', now)}."
    if limit.held >= limit.allowed:
        held = f"{limit.held:,} of the {limit.allowed:,} allowed now"
        more = f"; one more at {when(one.until, now)}" if one.until is not None else ""
        return sentence(f"no more connections for {of}: {held} are held{more}")
    until = f", at {when(one.until, now)}" if one.until is not None else ""
    return sentence(
        f"new connections to {of} are limited to {limit.connection_rate}: the next may begin{until}"
    )


def _slow(facts: Explained, one: Destination) -> str:
    limits = one.way.limits if one.way is not None else ()
    limit = next((limit for limit in limits if limit.name == one.blocked), None)
    until = f" until {when(one.until, facts.now)}" if one.until is not None else ""
    if limit is None:
        return f"It waits{until}."
    of = told.named(limit)
    if one.state is State.PAUSE:
        return (
            f"It waits for a pause: nothing is sent to {of}{until}{told.because(limit, 'pause', facts.now)}."
        )
    slowed = told.because(limit, "slower", facts.now) if limit.slow_until is not None else ""
    return f"It waits for the rate: {of} gets {limit.message_rate}{slowed}. The next may go at {when(one.until or facts.now, facts.now)}."


# ---- when, and what was ----


def _next(facts: Explained, one: Destination) -> Iterator[str]:
    now = facts.now
    if one.state in (State.HELD, State.REPORT, State.SENDING):
        return
    if one.next_try is not None:
        yield f"{sentence(when(one.next_try, now))} {_by(one)}".rstrip()
        limits = one.way.limits if one.way is not None else ()
        paused = [
            limit for limit in limits if limit.paused_until is not None and limit.paused_until > one.next_try
        ]
        for limit in paused:
            if limit.paused_until is not None:
                yield f"{sentence(told.named(limit))[:-1]} is paused longer, until {when(limit.paused_until, now)}."
    elif one.until is not None:
        yield f"{when(one.until, now)}, or when its turn comes after that."
    elif one.state is State.DUE and (facts.closed or facts.stopping):
        yield "As soon as deliveries may begin again."
    else:
        yield _SOON.get(one.state, "At once.")


def _by(one: Destination) -> str:
    step = one.step
    if step is None:
        return ""
    if step.asked is not None:
        return f"The reply asked for {span(step.asked)}."
    return (
        f"That is wait {step.number} of {step.of} of the schedule: {span(step.wait)}, and up to a tenth more."
    )


def _so_far(facts: Explained, one: Destination) -> Iterator[str]:
    now = facts.now
    for said in one.failures:
        who = f"{said.host} said " if said.host else ""
        yield f'{when(said.time, now)}: {who}"{said.reply}".'
    past = one.past
    if past is not None:
        tries = count(max(one.attempts, *(heard.times for heard in past.heard)), "try", "tries")
        yield f"{tries}, the first at {when(past.first, now)}."
        # The last answer stands above where it is the reason.
        for heard in past.heard[one.state in (State.SCHEDULED, State.HELD) and past.heard[0].times == 1 :]:
            yield f"{_times(heard, now)}: {_quote(heard)}"
    elif one.attempts:
        yield f"{count(one.attempts, 'try', 'tries')} since the relay started; the answers are not kept any more."
    elif one.state is not State.REPORT and facts.arrival >= facts.started:
        yield "It was not tried yet."
    if facts.arrival < facts.started and one.state is not State.REPORT:
        yield f"Nothing is known of tries before the relay started at {when(facts.started, now)}."


def _times(heard: Heard, now: float) -> str:
    if heard.times == 1:
        return f"At {when(heard.last, now)}"
    return f"{heard.times:,} times from {moment(heard.first, now)} to {when(heard.last, now)}"


def _quote(heard: Heard) -> str:
    who = f"{heard.host} said" if heard.host else "this relay found"
    kind = f" ({heard.bounce_class})" if heard.bounce_class else ""
    return f'{who} "{heard.reply}"{kind}.'


def _end(facts: Explained, expires: float) -> str:
    last = "nobody is told but the events" if facts.report else "the sender gets a report"
    at = when(expires, facts.now)
    if expires <= facts.now:
        return f"Its lifetime is over since {at}: the next try that fails is the last, and {last}."
    return f"A try that fails after {at} is the last; then {last}."
