"""A message explained: from the facts to plain sentences. Pure.

Why it waits, when the next try is, what happened so far, when it is given up, where it goes,
what limits it, and what would change it: in this order, one block a destination domain and
state. Times are absolute and relative, and nothing is said that is not in the facts.
"""

from collections.abc import Iterator

from backstamp.delivery import told
from backstamp.delivery.facts import Destination, Explained, State
from backstamp.delivery.history import Heard
from backstamp.delivery.phrases import (
    count,
    labelled,
    listed,
    moment,
    octets,
    paragraph,
    sentence,
    some,
    span,
    when,
)
from backstamp.delivery.remedies import remedies
from backstamp.delivery.why import quote, why

_WORDS = {
    "T": "waiting",
    "?": "in doubt",
    "D": "delivered",
    "F": "failed",
    "B": "failed and reported",
    "H": "held",
    "X": "removed",
}

_ENDED = {
    "D": "It was delivered to {}",
    "B": "It failed for {}, and that was reported where the sender wished it",
    "X": "An operator removed {}",
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
    for person in facts.over:
        ended = _ENDED[person.stamp].format(f"<{person.address}>")
        lines += ["", *paragraph(f"{ended}; the events of its id tell when and how.")]
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
    yield from labelled("why", why(facts, one))
    yield from labelled("next try", _next(facts, one))
    yield from labelled("so far", _so_far(facts, one))
    if one.expires is not None:
        yield from labelled("ends", [_end(facts, one.expires)])
    if one.way is not None:
        yield from labelled("goes", told.going(one.way))
        yield from labelled(
            "limits",
            [
                line
                for limit in one.way.limits
                for line in told.limiting(limit, now, known=limit.name == one.blocked and _told(one))
            ],
        )
        yield from labelled("policy", told.values(one.way, whole=False))
        yield from labelled("hosts", [told.down(host, now) for host in one.way.down])
    yield from labelled("change it", remedies(facts, one))


# ---- when, and what was ----


def _told(one: Destination) -> bool:
    """Tell whether the first words said already why its limit pauses."""
    return one.state in (State.PAUSE, State.PERMIT, State.TURN)


def _next(facts: Explained, one: Destination) -> Iterator[str]:
    now = facts.now
    if one.state in (State.HELD, State.REPORT, State.SENDING, State.LOST):
        return
    if one.next_try is not None:
        yield f"{sentence(when(one.next_try, now))} {_by(one)}".rstrip()
        for limit in one.way.limits if one.way is not None else ():
            if limit.paused_until is not None and limit.paused_until > one.next_try:
                until = when(limit.paused_until, now)
                yield f"Not before the pause of {told.named(limit)} is over: {until}."
    elif one.until is not None and one.state is not State.TURN:
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
        but = f"; the schedule waits {span(step.cut)} at most" if step.cut is not None else ""
        return f"The reply asked for {span(step.asked)}{but}."
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
        # Above: as what it was put off for, or is held in doubt for; an operator may hold anything.
        told_already = one.state is State.SCHEDULED or (one.state is State.HELD and facts.at_most_once)
        latest = past.heard[0]
        if told_already and latest.times > 1:
            yield f"The last answer came {latest.times:,} times, since {when(latest.first, now)}."
        for heard in past.heard[told_already:]:
            yield f"{_times(heard, now)} {quote(heard)}"
    elif one.attempts:
        yield f"{count(one.attempts, 'try', 'tries')} since the relay started; the answers are not kept."
    elif one.state not in (State.REPORT, State.HELD) and facts.arrival >= facts.started:
        yield "This is the first try." if one.state is State.SENDING else "It was not tried yet."
    if facts.arrival < facts.started and one.state is not State.REPORT:
        yield f"Nothing is known of tries before the relay started at {when(facts.started, now)}."


def _times(heard: Heard, now: float) -> str:
    if heard.times == 1:
        return f"At {when(heard.last, now)}"
    return f"{heard.times:,} times from {moment(heard.first, now)} to {when(heard.last, now)}"


def _end(facts: Explained, expires: float) -> str:
    last = "nobody is told but the events" if facts.report else "the sender gets a report"
    at = when(expires, facts.now)
    if expires <= facts.now:
        return f"Its lifetime is over since {at}: the next try that fails is the last, and {last}."
    return f"A try that fails after {at} is the last; then {last}."
