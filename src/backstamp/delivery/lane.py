"""A lane: all ready deliveries of one next hop, and the workers that take them one by one. Pure.

Lanes pull: a worker that is free takes the next delivery, so that connections are reused
and no delivery waits for another lane. Which worker gets what is decided here; workers
themselves are the dispatcher's tasks. Idle workers are woken last in, first out, so that
the fewest connections stay warm.
"""

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from backstamp.delivery.attempt import Find
from backstamp.policy.destination import DestinationPolicy
from backstamp.queue.port import Delivery

W = TypeVar("W")


class Lane(Generic[W]):
    """The deliveries of one next hop that are ready. `W` is how a worker is woken."""

    def __init__(self, key: object, policy: DestinationPolicy, find: Find) -> None:
        self.key = key
        self.policy = policy
        self.find = find
        self.ready: deque[Delivery] = deque()
        self.idle: list[W] = []
        self.workers = 0

    def offer(self, claim: Delivery, wake: Callable[[W, Delivery], None]) -> bool:
        """Take a delivery in; tell whether another worker should be started for it."""
        if self.idle:
            wake(self.idle.pop(), claim)
            return False
        self.ready.append(claim)
        return self.wants_worker()

    def wants_worker(self) -> bool:
        """Tell whether one more connection is allowed and of use."""
        return bool(self.ready) and self.workers < self.policy.connections

    @property
    def empty(self) -> bool:
        """Nothing ready and nobody working: the lane can be forgotten."""
        return not self.ready and not self.workers
