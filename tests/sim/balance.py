"""The dispatcher's books, checked against its tasks: what is counted must be what there is.

It looks into the dispatcher from outside, at any moment between two turns of the loop: each
worker's coroutine tells what it has (a slot, a session, a race), and the sums must be what
lanes and throttles counted. `forgotten` is the claim that nobody is: a lane in which
something waits has a worker that will take it, a permit it waits for, or a timer.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from backstamp.delivery.dispatcher import Dispatcher


def wrong(dispatcher: Dispatcher) -> list[str]:
    """Return every count that is not what there is."""
    return [*_counts(dispatcher), *_places(dispatcher)]


def forgotten(dispatcher: Dispatcher) -> list[str]:
    """Return the lanes in which something waits and that nobody will look at."""
    found = []
    awake = Counter(lane for lane, frames in _workers(dispatcher) if "_rest" not in frames)
    called = Counter(lane for worker, lane in dispatcher._resting.lanes.items() if worker.done())
    for lane in dispatcher._sorter.lanes.values():
        at = dispatcher._permits.waits(lane)
        line = dict(dispatcher._permits.lines).get(at, ()) if at is not None else ()
        # Who stands first has a timer, if time is what it waits for.
        called_on = at is not None and (at.held or any(one in dispatcher._timers for one in line))
        if at is not None and not called_on:
            found.append(f"{lane.way.name} waits for a permit that nobody has, of {at.key}")
        looked_at = awake[lane] or called[lane] or lane in dispatcher._timers or called_on
        if lane.turns and not looked_at:
            found.append(f"{lane.way.name}: {len(lane.turns)} wait for nobody")
    return found


def left(dispatcher: Dispatcher) -> list[str]:
    """Return what is not put away though nothing waits and nobody works any more."""
    kept = {
        "lanes": dispatcher._sorter.lanes,
        "timers": dispatcher._timers,
        "workers": dispatcher._workers,
        "idle workers": dispatcher._resting.lanes,
        "questions": dispatcher._sorter.asked,
        "permits waited for": [*dispatcher._permits.lines],
        "rates waited for": [*dispatcher._rates.lines],
        "permits": dispatcher.connections,
        "askers": dispatcher._sorter._askers,
        "settlers": dispatcher._sorter._givers,
    }
    return [f"{name} are left: {what}" for name, what in kept.items() if what]


def _counts(dispatcher: Dispatcher) -> Iterator[str]:
    workers: Counter[Any] = Counter()
    sessions: Counter[Any] = Counter()
    coming: Counter[Any] = Counter(lane for one, lane in dispatcher._resting.lanes.items() if _called(one))
    held: Counter[Any] = Counter()
    races: Counter[Any] = Counter()
    booked: Counter[Any] = Counter()
    called: Counter[Any] = Counter()
    for lane, count in coming.items():
        for throttle in lane.throttles:
            called[throttle] += count
    for lane, frames in _workers(dispatcher):
        slot = frames["_work"].get("slot")
        racing = frames.get("_race", {}).get("extra", 0)
        workers[lane] += 1
        # A task that has not begun has no slot yet, and is counted as called.
        coming[lane] += slot is None or slot.coming
        for throttle in lane.throttles:
            called[throttle] += slot is None
        sessions[lane] += slot is not None and slot.session is not None
        for throttle in lane.throttles:
            held[throttle] += 1 + racing
            races[throttle] += racing
            booked[throttle] += slot is not None and throttle in slot._booked
    for lane in dispatcher._sorter.lanes.values():
        yield from _differs(lane.way.name, "workers", lane.workers, workers.pop(lane, 0))
        yield from _differs(lane.way.name, "coming", lane.coming, coming[lane])
        yield from _differs(lane.way.name, "sessions", lane.sessions, sessions[lane])
        idle = sum(other is lane and not worker.done() for worker, other in dispatcher._resting.lanes.items())
        yield from _differs(lane.way.name, "idle", len(lane.idle), idle)
    yield from (f"{lane.way.name} is not listed and has {count} workers" for lane, count in workers.items())
    for throttle in {*dispatcher._throttles.known.values(), *held, dispatcher._throttles.all}:
        yield from _differs(throttle.key, "held", throttle.held, held[throttle])
        yield from _differs(throttle.key, "racing", throttle.racing, races[throttle])
        yield from _differs(throttle.key, "booked", throttle.booked, booked[throttle])
        yield from _differs(throttle.key, "called", throttle.called, called[throttle])


def _places(dispatcher: Dispatcher) -> Iterator[str]:
    lanes = [*dispatcher._sorter.lanes.values()]
    for key, lane in dispatcher._sorter.lanes.items():
        if lane.key != key:
            yield f"{lane.way.name} stands at another's place"
        for throttle in lane.throttles[:-1]:
            if dispatcher._throttles.known.get(throttle.key) is not throttle:
                yield f"{lane.way.name} has a throttle of its own that others do not see: {throttle.key}"
    for throttle, line in dispatcher._rates.lines:
        for lane in line:
            if lane not in lanes or throttle not in lane.throttles:
                yield f"{lane.way.name} stands in the line of {throttle.key}, which is not its place"
    yield from (
        f"{lane.way.name} is not listed and has a timer" for lane in dispatcher._timers if lane not in lanes
    )
    for throttle, waiting in dispatcher._permits.lines:
        for lane in waiting:
            if lane not in lanes:
                yield f"{lane.way.name} is not listed and waits for a permit"
            if throttle not in lane.throttles:
                yield f"{lane.way.name} waits for a permit of {throttle.key}, which is not its own"


def _differs(name: str, what: str, counted: int, there: int) -> Iterator[str]:
    if counted != there:
        yield f"{name}: {what} counted {counted}, there are {there}"


def _called(worker: Any) -> bool:
    return bool(worker.done() and worker.result())


def _workers(dispatcher: Dispatcher) -> Iterator[tuple[Any, dict[str, dict[str, Any]]]]:
    """Yield each worker's lane, and the local names of the coroutines it stands in, by name."""
    for task in dispatcher._workers:
        frames = {}
        coroutine: Any = task.get_coro()
        while (frame := getattr(coroutine, "cr_frame", None)) is not None:
            frames[frame.f_code.co_name] = frame.f_locals
            coroutine = coroutine.cr_await
        if "_work" in frames:
            yield frames["_work"]["lane"], frames
