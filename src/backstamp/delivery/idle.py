"""Idle workers: each keeps its session warm until there is something to do, or its time or permit is over."""

import asyncio

from backstamp.delivery.lane import Lane
from backstamp.delivery.throttle import Throttle

Worker = asyncio.Future[bool]
"""How an idle worker is called: True, there is something to do; False, it is to go."""


class IdleWorkers:
    """The idle workers of all lanes, the one idle longest first."""

    def __init__(self) -> None:
        self.lanes: dict[Worker, Lane[Worker]] = {}

    async def rest(self, lane: Lane[Worker], seconds: float) -> bool:
        """Wait for something to do; False if there was nothing for so long."""
        loop = asyncio.get_running_loop()
        worker: Worker = loop.create_future()
        lane.idle.append(worker)
        self.lanes[worker] = lane
        timer = loop.call_later(seconds, self.retire, worker)
        try:
            return await worker
        finally:
            timer.cancel()
            del self.lanes[worker]
            if worker.done() and not worker.cancelled() and worker.result():
                lane.woken -= 1
                lane.come()

    def retire(self, worker: Worker) -> None:
        """Let a worker go if it is idle. It leaves its lane in the same turn: nobody can wake it."""
        lane = self.lanes.get(worker)
        if lane is not None and worker in lane.idle:
            lane.idle.remove(worker)
            worker.set_result(False)

    def retire_all(self) -> None:
        """Let all of them go."""
        for worker in [*self.lanes]:
            self.retire(worker)

    def make_room(self, throttle: Throttle) -> None:
        """Let the worker go that has been idle longest where others wait for a permit."""
        for worker, lane in self.lanes.items():
            # Who waits for the rate is not idle.
            if throttle in lane.throttles and not lane.turns:
                self.retire(worker)
                return
