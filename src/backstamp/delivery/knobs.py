"""The policy in force for a way, each value with who says it: rule, provider, route, sender. Pure."""

import enum
from collections.abc import Iterator
from typing import Any

import msgspec

from backstamp.delivery.facts import Knob
from backstamp.delivery.lane import Way
from backstamp.delivery.router import Bound, Question, Tables
from backstamp.policy.destination import Rate
from backstamp.policy.retry import RetryPolicy


def knobs(question: Question, bound: Bound, way: Way, tables: Tables) -> Iterator[Knob]:
    """Yield every value of a way's policy under its name in the configuration."""
    policy, route = way.policy, question.route
    origins = tables.policies.origins(way.rule, way.provider)
    if route is not None and route.tls is not None:
        origins["tls"] = "route"
    source = bound.pool.name if bound.pool is not None else ""
    if route is not None and route.source is not None:
        origins["source"] = "route"
    elif source != policy.source:
        origins["source"] = "sender"
    for key in policy.__struct_fields__:
        value = source if key == "source" else getattr(policy, key)
        origin = origins.get(key, "default")
        if isinstance(value, RetryPolicy):
            schedule = ", ".join(duration(seconds) for seconds in value.schedule)
            yield Knob("retry.schedule", schedule, origin)
            yield Knob("retry.lifetime", duration(value.lifetime), origin)
        else:
            yield Knob(key, _shown(value), origin)


def said(rate: Rate) -> str:
    """Return a rate in words: `100 an hour`, `one in 36 s`."""
    if rate.count == 1:
        return f"one in {rate.seconds:.3g} s"
    unit = {1.0: "a second", 60.0: "a minute", 3600.0: "an hour", 86400.0: "a day"}.get(rate.seconds)
    return f"{rate.count:,} {unit}" if unit else f"{rate.count:,} in {duration(rate.seconds)}"


def duration(seconds: float) -> str:
    """Return a duration as the configuration has it: `5m`, `2h`, `90s`."""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g}{unit}"
    return f"{seconds:g}s"


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, Rate):
        return said(value)
    if isinstance(value, enum.IntEnum):
        return value.name.lower()
    if isinstance(value, enum.Enum):
        return str(value.value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return duration(value)
    if isinstance(value, msgspec.Struct):
        parts = msgspec.structs.asdict(value)
        return ", ".join(f"{key} {duration(seconds)}" for key, seconds in parts.items())
    return str(value)
