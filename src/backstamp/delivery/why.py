"""Why recipients wait, in sentences: the first thing an explanation says. Pure."""

from collections.abc import Iterator

from backstamp.delivery import told
from backstamp.delivery.facts import Destination, Explained, Limit, State, Waiting
from backstamp.delivery.history import Heard
from backstamp.delivery.phrases import ago, count, listed, sentence, when


def why(facts: Explained, one: Destination) -> Iterator[str]:
    """Yield why some recipients of a message are not done with."""
    yield _reason(facts, one)
    blocking = (
        next((limit for limit in one.way.limits if limit.name == one.blocked), None) if one.way else None
    )
    if blocking is not None and one.state in (State.PERMIT, State.TURN):
        yield from filter(None, [_no_connection(one, blocking, facts.now), told.holding(blocking)])
    if one.waiting is not None and one.waiting.line:
        yield f"In line before it: {count(one.waiting.line, 'other next hop')}."
    if one.lost:
        yield sentence(f"there is no way to it now: {one.lost}")
    for entry in one.listed:
        because = f" ({entry.bounce_class})" if entry.bounce_class else ""
        until = f" until {when(entry.expires, facts.now)}" if entry.expires is not None else ""
        yield f"{entry.address} is on the suppression list{because}{until}: it fails at its next try."
    doubtful = any(person.stamp == "?" for person in one.recipients)
    if doubtful and one.state is State.SENDING:
        yield (
            "In doubt until that is over: the final dot of this try or an earlier one is out, the reply is "
            "not in."
        )
    elif doubtful:
        yield (
            "In doubt: the final dot of a try went out, and no reply came. It is sent again, so that it may "
            "come twice."
        )


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
        at = f"{latest.host or 'the host'} {ago(latest.last, facts.now)}"
        return (
            f"In doubt, and held: the final dot went out to {at}, no reply came, and this mail is to come at "
            "most once. It may have arrived."
        )
    if facts.at_most_once:
        return (
            "Held: by an operator, or because it is in doubt and is to come at most once. In doubt it may "
            "have arrived."
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
    if facts.release > now:
        held = f"Its sender asked that it waits until {when(facts.release, now)} (FUTURERELEASE)."
        if one.past is None:
            return held
        latest = one.past.heard[0]
        return f"{held} A try before that was put off {ago(latest.last, now)} {quote(latest)}"
    if one.past is not None:
        latest = one.past.heard[0]
        return f"It was put off {ago(latest.last, now)} {quote(latest)}"
    if one.attempts:
        return "It was put off; what was answered is not kept any more."
    if facts.arrival < facts.started:
        return "It was here when the relay started. First tries after a start are spread over some minutes."
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
        others = f"{count(waiting.others, 'message')} of {count(waiting.tenants, 'other tenant')}"
        ahead += f", and turns are taken with {others}"
    return f"{ahead}. {count(waiting.sessions, 'connection')} to the destination at work."


def _no_connection(one: Destination, limit: Limit, now: float) -> str:
    of = told.named(limit)
    if limit.paused_until is not None:
        until, because = when(limit.paused_until, now), told.because(limit, "pause", now)
        return f"Mail to {of} is paused until {until}{because}."
    if limit.held >= limit.allowed:
        held = f"{limit.held:,} of the {limit.allowed:,} allowed now"
        more = f"; one more at {when(one.until, now)}" if one.until is not None else ""
        return sentence(f"no more connections for {of}: {held} are held{more}")
    next_ = f": the next may begin at {when(one.until, now)}" if one.until is not None else ""
    return sentence(f"new connections to {of} are limited to {limit.connection_rate}{next_}")


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
    next_ = f" The next may go at {when(one.until, facts.now)}." if one.until is not None else ""
    return f"It waits for the rate: messages to {of} are limited to {limit.message_rate}{slowed}.{next_}"


def quote(heard: Heard) -> str:
    """Return where it was heard, what, and its bounce class, as the end of a sentence."""
    # Not that it said so: a session that broke has words of this relay's own.
    where = f"at {heard.host}" if heard.host else "before any host was asked"
    kind = f" ({heard.bounce_class})" if heard.bounce_class else ""
    return f'{where}: "{heard.reply}"{kind}.'
