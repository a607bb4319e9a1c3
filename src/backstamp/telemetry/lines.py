"""An event as a line: JSON for programs, text for people. Pure.

JSON has the declared fields in their order, `time` as RFC 3339 in UTC with milliseconds.
Text is for a terminal: the time of day, the event, the queue id, and what a person wants
to know, the stamp among it.
"""

from datetime import UTC, datetime
from functools import lru_cache

import msgspec

from backstamp.telemetry import events
from backstamp.telemetry.events import Event
from backstamp.text import printable

_encoder = msgspec.json.Encoder()


def moment(microseconds: int) -> str:
    """Return a time as RFC 3339 has it, UTC, with milliseconds."""
    seconds, rest = divmod(microseconds, 1_000_000)
    return f"{_second(seconds)}.{rest // 1000:03}Z"


@lru_cache(16)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def json(event: Event) -> bytes:
    """Return an event as one line of JSON."""
    number = b'"time":%d' % event.time
    # The encoder knows time only as a number; it stands behind the event's name, before all strangers' words.
    return _encoder.encode(event).replace(number, b'"time":"%b"' % moment(event.time).encode(), 1) + b"\n"


def text(event: Event) -> bytes:
    """Return an event as one line for a person."""
    queue_id = getattr(event, "queue_id", "")
    words = printable(_words(event), 2000)
    clock = moment(event.time)[11:23]
    return f"{clock}  {event.__struct_config__.tag!s:<10}{queue_id:<28}{words}\n".encode("utf-8", "replace")


def _words(event: Event) -> str:  # one row an event: a table in the form of code
    match event:
        case events.Accepted():
            who = f"from <{event.sender}> by {event.client}"
            return f"{who}, {event.recipients} recipients, {event.size} octets, {_span(event.duration)}"
        case events.Repeated():
            return f"sent again by {event.client}: it is queued already"
        case events.Attempt():
            return f"attempt {event.attempt} at {event.mx} for {event.recipients} at {event.domain}"
        case events.Delivered():
            how = f" by {event.tls}" if event.tls else ""
            after = _span(event.duration)
            return f"<{event.recipient}> stamped D after {after}{how}: {event.mx} said {event.reply}"
        case events.Deferred():
            until = moment(int(event.retry_at * 1e6))
            return f"<{event.recipient}> until {until}{_why(event)}: {_at(event.mx)}{event.reply}"
        case events.Failed():
            return f"<{event.recipient}> stamped F{_why(event)}: {_at(event.mx)}{event.reply}"
        case events.Bounced():
            told = f"report {event.report} to <{event.sender}>" if event.report else "no report wanted"
            return f"{len(event.recipients)} stamped B, {told}"
        case events.InDoubt():
            where = f"by {event.mx}: {event.reply}" if event.mx else "before the relay ended"
            return f"<{event.recipient}> may have been taken {where}"
        case events.Refused():
            return f"{event.client} {event.command} <{event.recipient or event.sender}>: {event.reply}"
        case events.Authenticated():
            return f"{event.client} is {event.user} by {event.mechanism}"
        case events.AuthenticationFailed():
            who = f" as {event.user}" if event.user else ""
            return f"{event.client}{who} by {event.mechanism}, {event.reason}: {event.reply}"
        case events.Limited():
            return f"{event.client} reached {event.limit}, {event.count} refused: {event.reply}"
        case events.HandshakeFailed():
            often = f", {event.count} times" if event.count > 1 else ""
            return f"{event.client} by {event.stage}{often}: {event.reason}"
        case events.Started():
            return (
                f"version {event.version} on {', '.join(event.addresses)}, {event.waiting} recipients waiting"
            )
        case events.Reloaded():
            return f"{event.config} is in force"
        case events.Stopped():
            return f"{event.waiting} recipients stay queued"
        case events.Recovered():
            return f"{event.recipients} recipients of {event.messages} messages in {event.segments} segments"
        case events.Resumed():
            return f"after {_span(event.duration)}: {event.problem}"
        case events.Held():
            return f"<{event.recipient}> is in doubt and at most once, held for a decision: {event.reply}"
        case events.Operated():
            return f"{event.verb} by an operator: {', '.join(f'<{one}>' for one in event.recipients)}"
        case events.HostDown():
            return f"{event.mx} gives no session: {event.reply}"
        case events.HostUp():
            return f"{event.mx} gives sessions again after {_span(event.duration)}"
        case events.Throttled():
            span = f" for {_span(event.seconds)}" if event.seconds else ""
            return f"{event.destination}: {event.change}{span}: {event.why}"
        case events.TlsFailed():
            return f"{event.mx} is spoken to in clear text: {event.reply}"
        case events.Suppressed():
            who = f"<{event.recipient}>" if event.recipient else f"{event.entries} entries"
            whose = f" for {event.tenant}" if event.tenant else ""
            end = f" until {moment(int(event.until * 1e6))}" if event.until else ""
            why = ": ".join(word for word in (event.bounce_class, event.reply) if word)
            return f"{who}{whose}{end} by {event.source}{f', {why}' if why else ''}"
        case events.Unsuppressed():
            return f"<{event.recipient}>{f' for {event.tenant}' if event.tenant else ''} by an operator"
        case events.Renewed():
            return f"{', '.join(event.certificates)}, until {moment(int(event.until * 1e6))}"
        case events.Alarm():
            return f"{event.problem}; {event.action}"
        case _:
            return ""


def _at(mx: str) -> str:
    return f"{mx} said " if mx else ""


def _why(event: events.Deferred | events.Failed) -> str:
    return f" ({event.bounce_class})" if event.bounce_class else ""


def _span(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.1f} s"
