"""What an operator may do to a queued message: hold, release, retry, remove, bounce (Q3).

Each verb moves stamps along the table, durably, and touches nobody else's work: while an
attempt or a report of the message is under way it is refused, and the operator tries again.
A delivery that waits in its lane is no obstacle: when its turn comes it finds nobody waiting.
"""

from collections.abc import Sequence
from typing import Final

from backstamp.mail.reply import Reply
from backstamp.queue.engine import Engine
from backstamp.queue.entry import Entry
from backstamp.queue.port import Reason
from backstamp.queue.stamps import Stamp

VERBS: Final[dict[str, tuple[frozenset[Stamp], Stamp]]] = {
    "hold": (frozenset({Stamp.TODO, Stamp.DOUBT}), Stamp.HELD),
    "release": (frozenset({Stamp.HELD}), Stamp.TODO),
    "retry": (frozenset({Stamp.TODO, Stamp.DOUBT}), Stamp.TODO),
    "remove": (frozenset({Stamp.TODO, Stamp.DOUBT, Stamp.HELD}), Stamp.REMOVED),
    "bounce": (frozenset({Stamp.TODO, Stamp.DOUBT, Stamp.HELD}), Stamp.FAILED),
}
"""Whom a verb is for, and what becomes of them."""

RETURNED: Final = Reply(554, "5.0.0 Returned by the operator of the relay")


class BusyError(Exception):
    """An attempt or a report of the message is under way."""


async def act(engine: Engine, verb: str, entry: Entry, ordinals: Sequence[int]) -> tuple[int, ...]:
    """Carry out a verb for those recipients it is for; return who they were. Durable on return.

    Raises:
        BusyError: an attempt or a report of the message is under way.
        DamagedError: its record does not verify.
        OSError: it cannot be read.
        StampNotDurableError: the queue closed before it was durable.
    """
    envelope = await engine.envelope(entry)
    if envelope is None:
        return ()
    for_whom, becomes = VERBS[verb]
    chosen = tuple(ordinal for ordinal in ordinals if entry.stamp(ordinal) in for_whom)
    if not chosen:
        return ()
    if engine.under_way(entry):
        raise BusyError
    if verb == "retry":
        engine.hurry(entry, chosen)
        return chosen
    reasons = [Reason(chosen, RETURNED, "", engine.now())] if becomes is Stamp.FAILED else []
    await engine.mark(entry, dict.fromkeys(chosen, becomes), reasons)
    if verb == "release":
        engine.offer(entry, envelope, chosen)
    return chosen
