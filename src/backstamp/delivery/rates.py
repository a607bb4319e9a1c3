"""Rates: which lane sends next where several share a rate of messages. Pure.

Lanes whose sessions are open and that a rate keeps off stand in the line of the throttle that
says no. Whoever finds that the next may go lets those go who stood there before it.
"""

from backstamp.delivery.lines import AnyLane, Lines


class Rates:
    """Who waits for a rate of messages, with a session."""

    def __init__(self) -> None:
        self.lines = Lines()

    def stand(self, lane: AnyLane, now: float) -> None:
        """Let a lane that is kept off stand in the line of the throttle that says so: last, if it is new."""
        if (throttle := lane.slowest(now)) is not None:
            self.lines.stand(lane, throttle)

    def before(self, lane: AnyLane) -> AnyLane | None:
        """Return a lane that goes before this one, None if it is its turn."""
        if self.lines:
            for throttle in lane.learners:
                first = self.lines.first(throttle)
                if first is not None and first is not lane:
                    return first
        return None

    def leave(self, lane: AnyLane) -> None:
        """Take a lane out: it goes, or has nothing to send."""
        self.lines.leave(lane)
