"""Waiting until the rates let a connection be begun for which there is a permit: in turn."""

import asyncio
from functools import partial
from typing import Any

from backstamp.clock import Clock
from backstamp.delivery.lane import Lane
from backstamp.delivery.throttle import Throttle


async def paced(lane: Lane[Any], clock: Clock) -> None:
    """Wait until all rates of a lane let a connection be begun, behind those who wait already, and count it.

    Who waits is counted too: permits are given behind. Where it waits for another rate, it is in nobody's
    way yet.
    """
    me = object()
    place: Throttle | None = None
    try:
        while True:
            now = clock.monotonic()
            says = _keeps_off(lane, me, now)
            if says is None:
                lane.connect(now)
                return
            if says is not place:
                if place is not None:
                    del place.callers[me]
                place = says
                place.callers[me] = None
            await asyncio.sleep(place.connect_at(now, [*place.callers].index(me)) - now)
    finally:
        if place is not None:
            del place.callers[me]


def _keeps_off(lane: Lane[Any], caller: object, now: float) -> Throttle | None:
    """Return the throttle for whose rate a connection waits, or others before it; None if it may begin."""
    slowest = max(lane.throttles, key=partial(_connects, now))
    if slowest.connect_at(now) > now:
        return slowest
    # Where there is no rate any more, nobody's turn is taken.
    lines = (one for one in lane.throttles if one.callers and one.connect_at(now, 1) > now)
    return next((one for one in lines if next(iter(one.callers)) is not caller), None)


def _connects(now: float, throttle: Throttle) -> float:
    return throttle.connect_at(now)
