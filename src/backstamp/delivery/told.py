"""A way and its limits in sentences: for a message that waits, and for a dry run. Pure."""

from collections.abc import Iterator
from typing import Final

from backstamp.delivery.facts import Doing, Down, Limit, Way
from backstamp.delivery.phrases import ago, count, listed, sentence, site, some, span, when

TLS: Final = {
    "none": "clear text, even where TLS is offered",
    "may": "TLS where it is offered and works, else clear text",
    "encrypt": "TLS, with any certificate",
    "verify": "TLS, with a certificate for the host's name from an authority this machine trusts",
}

DOING: Final = {
    "connecting": "connecting to {host}",
    "greeting": "greeting {host} (its reply to the connection, EHLO, TLS)",
    "sending": "sending to {host}",
    "open": "open and idle at {host}",
}


def table(way: Way, origin: str, key: str = "") -> str:
    """Return where in the configuration a value stands, and its key."""
    section, _, name = key.rpartition(".")
    found = {
        "rule": f'[[destination]] match = "{way.rule}"',
        "provider": f'[[provider]] name = "{way.provider}"',
        "route": "[[route]]",
        "sender": "[[source]] senders",
    }.get(origin, f"[{section or 'delivery'}]")
    if origin in ("rule", "provider") and section:
        return f"{found}, {key}"
    return f"{found} {name}".rstrip() if origin in ("default", "route") else f"{found}, {name}".rstrip(", ")


def named(limit: Limit) -> str:
    """Return what a limit is of."""
    if limit.kind == "all":
        return "all destinations together"
    if limit.kind == "provider":
        return limit.name
    return site(limit.name)


def going(way: Way) -> Iterator[str]:
    """Yield where mail goes, how, and whose values hold."""
    if way.smarthost:
        yield f"To the smarthost {site(way.name)}, by the route {way.route}."
    else:
        by = f", by MX (the route {way.route} says so)" if way.route else ", by MX"
        provider = f"; they are {way.provider}'s" if way.provider else ""
        yield f"To {site(way.name)}{by}{provider}."
    tls = TLS[way.tls]
    if way.implicit_tls:
        tls = f"TLS from the first octet{tls.removeprefix('TLS') if way.tls in ('encrypt', 'verify') else ''}"
    login = f", with AUTH as {way.username}" if way.username else ""
    sources = f" From {listed(way.sources)}." if way.sources else ""
    yield f"With {tls}{login}.{sources}"


def values(way: Way, *, whole: bool) -> Iterator[str]:
    """Yield the policy by who says it; what is as everywhere is named only if the whole is wanted."""
    shown = [knob for knob in way.knobs if knob.key not in ("timeouts", "source")]
    own = False
    for origin in ("route", "rule", "provider"):
        said = [f"{knob.key} {knob.value}" for knob in way.knobs if knob.origin == origin]
        if said:
            own = True
            yield sentence(f"{table(way, origin)}: {', '.join(said)}")
    if whole:
        said = [f"{knob.key} {knob.value}" for knob in shown if knob.origin == "default"]
        yield sentence(f"[delivery] and [retry]: {', '.join(said)}")
    else:
        yield "All else is as in [delivery] and [retry]." if own else "All is as in [delivery] and [retry]."


def limiting(limit: Limit, now: float, *, known: bool = False) -> Iterator[str]:
    """Yield what a limit says now, and why, unless the why of what blocks is `known` already."""
    held = count(limit.held, "connection")
    if limit.kind == "all":
        yield f"All destinations together: {held}, of {limit.most:,} at most."
        return
    allowed = f"; {limit.allowed:,} allowed now, {limit.most:,} at most"
    yield f"{named(limit)}: {held}{allowed}."
    if limit.paused_until is not None:
        why = "" if known else because(limit, "pause", now)
        yield f"Paused until {when(limit.paused_until, now)}{why}."
    if limit.ceiling is not None:
        tried = f"; one more is tried {_at(limit.probe_at, now)}" if limit.probe_at is not None else ""
        learned = because(limit, "fewer", now)
        yield f"It was learned that it takes {count(limit.ceiling, 'connection')}{learned}{tried}."
    if limit.recipients is not None:
        learned = because(limit, "recipients", now)
        yield f"It was learned that it takes {count(limit.recipients, 'recipient')} a transaction{learned}."
    if limit.messages is not None:
        learned = because(limit, "messages", now)
        yield f"It was learned that it takes {count(limit.messages, 'message')} a connection{learned}."
    if limit.message_rate:
        rate = f"Messages: {limit.message_rate}"
        if limit.slow_until is not None:
            rate += f", slower than configured until {when(limit.slow_until, now)}"
            rate += because(limit, "slower", now)
        next_ = f"; the next {_at(limit.next_message, now)}" if limit.next_message is not None else ""
        yield f"{rate}{next_}."
    if limit.connection_rate:
        yield f"New connections: {limit.connection_rate}."


def because(limit: Limit, what: str, now: float) -> str:
    """Return why and since when something was learned, as the end of a sentence."""
    reason = limit.learned.get(what)
    if reason is None:
        return ""
    return f", because {ago(reason.since, now)} {reason.why.rstrip('.')}" if reason.why else ""


def holding(limit: Limit) -> str:
    """Return who has a limit's connections."""
    holders = [f"{site(one.name)} ({one.connections:,})" for one in limit.holders]
    return f"They are held by {some(holders, 'next hop')}." if holders else ""


def doing(one: Doing, now: float) -> str:
    """Return what is under way and for how long."""
    return f"{DOING[one.doing].format(host=one.host)}, for {span(now - one.since)}"


def down(one: Down, now: float) -> str:
    """Return what a dead host said, and when it is tried again."""
    again = f"it is tried again {_at(one.again, now)}" if one.again > now else "the next message tries it"
    return f"{one.host} gives no session since {when(one.since, now)}: {one.reply.rstrip('.')}; {again}."


def _at(time: float | None, now: float) -> str:
    return "now" if time is None or time <= now else f"at {when(time, now)}"
