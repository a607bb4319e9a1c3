"""The reference of events and metrics, made from their declarations; a test keeps docs/ current."""

from typing import Final, get_type_hints

from backstamp.telemetry import metrics
from backstamp.telemetry.events import Event

_TYPES: Final = {
    int: "integer",
    float: "number",
    float | None: "number",
    str: "text",
    tuple[str, ...]: "list of text",
}

_EVENTS_HEAD: Final = """\
# Events

One JSON object a line on standard output, or readable text where that is a terminal. Every event has
`event`, its name, and `time`, UTC with milliseconds. Durations are seconds. A field that is empty or has
its default is left out. Made from `src/backstamp/telemetry/events.py` by `make docs`.
"""

_METRICS_HEAD: Final = """\
# Metrics

`GET /metrics` on the admin address, for Prometheus. Made from `src/backstamp/telemetry/metrics.py` by
`make docs`.

| metric | kind | what it counts |
| --- | --- | --- |
"""


def events_reference() -> str:
    """Return docs/events.md."""
    parts = [_EVENTS_HEAD]
    for kind in Event.__subclasses__():
        hints = get_type_hints(kind)
        fields = [f"`{name}` ({_TYPES[hints[name]]})" for name in kind.__struct_fields__ if name != "time"]
        words = " ".join((kind.__doc__ or "").split())
        parts.append(f"\n## {kind.__struct_config__.tag}\n\n{words}\n\nFields: {', '.join(fields)}.\n")
    return "".join(parts)


def metrics_reference() -> str:
    """Return docs/metrics.md."""
    rows = [(f"{name}_total", "counter", words) for name, words in metrics.COUNTERS.values()]
    further = (metrics.CLASSES, metrics.LIMITED, metrics.UNHEARD, metrics.LOST)
    rows += [(f"{name}_total", "counter", words) for name, words in further]
    rows += [(name, "histogram", words) for name, words in (metrics.DELAY, metrics.DURATION)]
    rows += [(name, "gauge", words) for name, words in metrics.GAUGES.items()]
    return _METRICS_HEAD + "".join(
        f"| `{metrics.PREFIX}{name}` | {kind} | {words} |\n" for name, kind, words in rows
    )
