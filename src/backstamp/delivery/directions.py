"""A dry run in plain sentences: from the facts of a way to text. Pure."""

from collections.abc import Iterator

from backstamp.delivery import told
from backstamp.delivery.facts import Directions, Fit, Host, Waiting
from backstamp.delivery.phrases import count, labelled, paragraph, sentence, when


def text(facts: Directions) -> str:
    """Return a dry run, in lines of at most 79 columns (but for long words of strangers)."""
    return "\n".join(_lines(facts)) + "\n"


def _lines(facts: Directions) -> Iterator[str]:
    sender = "" if facts.sender is None else f" from <{facts.sender}>"
    yield from paragraph(f"Mail{sender} for <{facts.address}>, if it were sent now:")
    yield ""
    if facts.listed is not None:
        yield from labelled("suppressed", _listed(facts))
    yield from labelled("route", _routes(facts))
    if facts.lost:
        end = (
            "Mail fails at once, with a report."
            if facts.final
            else "Mail waits, and is tried again on schedule."
        )
        yield from labelled("no way", [f"{facts.lost}.", end])
    for host in facts.hosts:
        label = "host" if host.preference is None else f"MX {host.preference}"
        yield from labelled(label, _host(host, implicit=facts.implicit))
    if facts.way is None:
        return
    yield from labelled("goes", [*_nowhere(facts), *told.going(facts.way), *_equal(facts)])
    yield from labelled("source", _source(facts))
    yield from labelled("lane", _lane(facts.waiting))
    limits = [line for limit in facts.way.limits for line in told.limiting(limit, facts.now)]
    yield from labelled("limits", limits)
    yield from labelled("down", [told.down(one, facts.now) for one in facts.way.down])
    yield from labelled("policy", told.values(facts.way, whole=True))


def _listed(facts: Directions) -> Iterator[str]:
    found = facts.listed
    assert found is not None
    why = f" for {found.bounce_class}" if found.bounce_class else ""
    until = f" until {when(found.expires, facts.now)}" if found.expires is not None else ""
    yield f"{found.address} is on the suppression list{why}{until}, by {found.source}: it is not sent to."
    yield f"`backstamp suppression remove {found.address}` takes it off."


def _routes(facts: Directions) -> Iterator[str]:
    if not any(fit.fits for fit in facts.routes):
        yield "None fits, so the MX of the domain decide."
    for fit in facts.routes:
        yield _route(fit)
    if facts.others:
        yield f"{count(facts.others, 'more route')} do not fit."


def _route(fit: Fit) -> str:
    mark = "" if fit.fits else "does not fit, "
    return f"{fit.route} via {fit.via}: {mark}{fit.why}."


def _host(host: Host, *, implicit: bool) -> Iterator[str]:
    alone = " (there is no MX: the domain itself)" if implicit else ""
    why = f": not tried, {host.problem}" if host.problem else ""
    yield f"{host.name} port {host.port}{alone}{why}"
    if host.unanswered:
        yield f"It may have more addresses: a question to DNS failed ({host.unanswered})."
    for one in host.addresses:
        clear = ", in clear text: its TLS broke of late" if one.clear else ""
        yield f"{one.address}{f': not tried, {one.refused}' if one.refused else ': may be tried'}{clear}"


def _nowhere(facts: Directions) -> Iterator[str]:
    if all(one.refused for host in facts.hosts for one in host.addresses):
        waits = any(host.unanswered for host in facts.hosts)
        until = " Mail waits until DNS answers." if waits else ""
        yield f"Nowhere now: there is no address that may be tried.{until}"


def _equal(facts: Directions) -> Iterator[str]:
    numbers = [host.preference for host in facts.hosts if host.preference is not None]
    if len(numbers) > len({*numbers}):
        yield "Hosts of one preference are tried in an order that chance decides."


def _source(facts: Directions) -> Iterator[str]:
    if not facts.pool:
        yield "The system chooses the address."
        return
    shares = [
        f"{one.address}{f' as {one.helo}' if one.helo else ''} ({one.part:.0%} of its family)"
        for one in facts.shares
    ]
    yield f"The pool {facts.pool}: {', '.join(shares)}. A message keeps its address from try to try."


def _lane(waiting: Waiting | None) -> Iterator[str]:
    if waiting is None:
        yield "Nothing is due for this way now, and no connection is open."
    else:
        messages, connections = count(waiting.messages, "message"), count(waiting.sessions, "connection")
        found = f"for this way {messages} due; {connections} open"
        opening = waiting.workers - waiting.sessions
        yield sentence(f"{found}, {opening} being opened" if opening > 0 else found)
    # Their way is found when they are due, and there may be a million of them.
    yield "Mail that was put off until later is not counted."
