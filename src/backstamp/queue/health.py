"""The queue's health: what it does while its disk fails or is full, and when that is over (Q8).

Stamps that could not be made durable are kept and handed over again after each probe; until
they are, no new delivery starts. What `Trouble` decides is carried out here: who is refused,
when is probed, what is told at the beginning and at the end.
"""

import asyncio
import contextlib
from collections.abc import Callable

from backstamp.clock import Clock
from backstamp.mail.reply import Reply
from backstamp.queue import ids
from backstamp.queue.bell import Gate
from backstamp.queue.store import Job, Marks, Probe
from backstamp.queue.trouble import LOCAL, Trouble
from backstamp.telemetry.events import Alarm, Event, Resumed
from backstamp.text import reason


class Health:
    """One queue's trouble with its disk. Used on the loop."""

    def __init__(
        self,
        gate: Gate,
        *,
        clock: Clock,
        emit: Callable[[Event], None],
        submit: Callable[[Job], None],
        free: Callable[[], int],
        reserve: int,
        period: float,
    ) -> None:
        self._gate = gate
        self._clock = clock
        self._emit = emit
        self._submit = submit
        self._free = free
        self._reserve = reserve
        self._period = period
        self._trouble = Trouble()
        self._troubled: tuple[float, str] | None = None
        """Since when the queue does not do all it should (monotonic), and why."""
        self._undone: dict[Marks, bool] = {}
        """Stamps that could not be made durable yet; whether only their reason could not be written."""
        self._timer: asyncio.TimerHandle | None = None
        self._looked = float("-inf")
        self._dead: str | None = None
        self.closing = False

    @property
    def problem(self) -> str | None:
        """What keeps the queue from taking mail or from sending it, None while all is well."""
        if self._dead is not None:
            return self._dead
        trouble = self._trouble
        if trouble.stuck:
            return "stamps cannot be made durable"
        return trouble.reason or ("there is less free space than the reserve" if trouble.short else None)

    def refusal(self, *, report: bool) -> Reply | None:
        """Return what a client with a new message is told, None if it is taken.

        A report frees a recipient: it may use the reserve, and is tried while other mail is not.
        """
        if self._dead is not None:
            return LOCAL
        self.look()
        return None if report else self._trouble.refusal

    def ask(self) -> str | None:
        """Look at the free space, and return `problem`."""
        self.look()
        return self.problem

    def die(self, problem: str) -> None:
        """Nothing can be acknowledged any more."""
        self._dead = problem
        self.alarm(problem, "nothing is accepted or delivered any more; the relay ends")

    def appended(self) -> None:
        """An append worked."""
        self._trouble.worked()

    def append_failed(self, error: OSError) -> Reply:
        """An append failed; return what its client is told."""
        if not self._trouble.probing:
            self.alarm(f"a message could not be written: {reason(error)}", "its client was told to try again")
        reply = self._trouble.refused(error)
        self._watch_disk()
        return reply

    def stamp_failed(self, job: Marks, queue_id: bytes) -> None:
        """Stamps could not be made durable: they are tried again after each probe.

        Where only the reason of a failure found no room nobody gets a second copy: delivery goes on.
        """
        assert job.error is not None
        first = not self._undone or self.closing
        self._undone[job] = job.unreasoned
        if job.unreasoned:
            self._trouble.refused(job.error)
            action = "the failure is not reported before it is"
        else:
            self._trouble.unstamped(job.error)
            self._gate.close()
            action = "nothing new is sent until it is; after a crash there may be a second copy"
        if first:
            self.alarm(f"a stamp could not be written: {job.error}", action, ids.text(queue_id))
        self._watch_disk()

    def stamped(self, job: Marks) -> None:
        """Stamps are durable; of those that were not, the last one lets delivery go on."""
        if job not in self._undone:
            return
        del self._undone[job]
        if all(self._undone.values()):
            self._trouble.stamped()
            self._gate.open()
            self._watch_disk()

    def _watch_disk(self) -> None:
        """Probe until the disk works again; tell when it began and when it is over."""
        problem = self.problem
        if problem is not None and self._troubled is None:
            self._troubled = (self._clock.monotonic(), problem)
        elif problem is None and self._troubled is not None:
            since, problem = self._troubled
            self._troubled = None
            self._emit(
                Resumed(
                    time=int(self._clock.wall() * 1e6),
                    problem=problem,
                    duration=self._clock.monotonic() - since,
                )
            )
        if (self._trouble.probing or self._undone) and self._timer is None and not self.closing:
            self._timer = asyncio.get_running_loop().call_later(self._period, self._probe)

    def _probe(self) -> None:
        self._submit(Probe(self._probed))

    def _probed(self, job: Probe) -> None:
        self._timer = None
        if job.error is None:
            self._trouble.probed()
        self.again()
        self._watch_disk()

    def again(self) -> None:
        """Hand over again what could not be made durable."""
        for job in self._undone:
            job.error = None
            if job.reason is not None:
                job.reason.error = None
            # Who was stamped again meanwhile may be so on disk already: the older stamp must not follow (Q3).
            image = job.segment.image
            job.runs = [
                (at, bytes([byte]))
                for start, run in job.runs
                for at, byte in enumerate(run, start)
                if image[at] == byte
            ]
            self._submit(job)

    def look(self) -> None:
        """Look at the free space now and then."""
        if not self._reserve:
            return
        now = self._clock.monotonic()
        if now < self._looked + self._period:
            return
        self._looked = now
        with contextlib.suppress(OSError):
            short = self._free() < self._reserve
            if short and not self._trouble.short:
                self.alarm(
                    "there is less free space than the reserve", "no new mail is taken; delivery goes on"
                )
            if short is not self._trouble.short:
                self._trouble.short = short
                self._watch_disk()

    def close(self) -> None:
        """Hand over for the last time what could not be made durable."""
        self.closing = True
        if self._timer is not None:
            self._timer.cancel()
        self.again()

    def alarm(self, problem: str, action: str, queue_id: str = "") -> None:
        """Tell what an operator must see."""
        now = int(self._clock.wall() * 1e6)
        self._emit(Alarm(time=now, problem=problem, action=action, queue_id=queue_id))
