"""Opening a session for a lane: hosts in order, the addresses of each in a race, TLS or not.

Dead hosts are met by their last answer, not by a connect; where many of them are to be tried
again, they take turns, and whoever is not known to be dead has one all the same. Addresses
of one host race as happy eyeballs do (RFC 8305), a quarter of a second apart, and only where a
permit is to be had: a racing connection is one the host counts. A STARTTLS or a handshake that
ends the connection is answered by clear text on a fresh one where nothing demands TLS, and
remembered for a day.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import Any, Final

from backstamp.clock import Clock
from backstamp.delivery import hosts
from backstamp.delivery.feedback import Feedback
from backstamp.delivery.hosts import Hosts
from backstamp.delivery.lane import Job, Lane
from backstamp.delivery.outside import Candidate, Manner, Net, Session, Source
from backstamp.delivery.pacing import paced
from backstamp.delivery.progress import worse
from backstamp.delivery.tell import Teller
from backstamp.delivery.throttle import Throttle
from backstamp.delivery.tries import Tries
from backstamp.mail.fault import Fault, Phase
from backstamp.mail.outcome import Outcome
from backstamp.net.client import Refusal
from backstamp.policy import classify
from backstamp.policy.destination import Tls

STAGGER: Final = 0.25
"""Seconds between two connects to addresses of one host (RFC 8305 §8: Connection Attempt Delay)."""

CLEAR: Final = 86400.0
"""Seconds a broken TLS is remembered."""

REMEMBERED: Final = 10_000
"""Hosts whose broken TLS is remembered; the one that was met longest ago is forgotten first."""

Place = tuple[str, int]
"""Address and port."""


class Slot:
    """One place for a connection in a lane, kept from message to message."""

    def __init__(self, lane: Lane[Any]) -> None:
        self._lane = lane
        self.job: Job | None = None
        """Whose turn it is here."""
        self.doing = ""
        """What is under way, in a word or two, `with_whom`, and `since` when (monotonic seconds)."""
        self.with_whom = ""
        self.since = 0.0
        self.session: Session | None = None
        self.candidate: Candidate | None = None
        self.host = ""
        self.sent = 0
        """Messages sent over this session."""
        self.turns = 0
        """Messages sent since the permit was taken."""
        self.probe: Throttle | None = None
        """Whose ceiling this session is to try."""
        self.coming = False
        """Counted among those who were called and have not taken anything yet."""
        self._booked: Sequence[Throttle] = ()

    @property
    def lane(self) -> Lane[Any]:
        """Whose it is."""
        return self._lane

    def does(self, doing: str, with_whom: str, now: float) -> None:
        """Note what is under way from now on: for people who ask."""
        self.doing, self.with_whom, self.since = doing, with_whom, now

    def arrived(self) -> None:
        """Whoever was called is here, or will not come."""
        if self.coming:
            self.coming = False
            self._lane.coming -= 1

    def book(self, now: float) -> None:
        """Count the message that is about to be sent against the lane's rates."""
        self._booked = [one for one in self._lane.learners if one.paced]
        for throttle in self._booked:
            throttle.book(now)

    def unbook(self) -> None:
        """It is sent now, or not at all."""
        for throttle in self._booked:
            throttle.booked -= 1
        self._booked = ()

    async def close(self) -> None:
        """Say QUIT and let go."""
        session, self.session, self.sent, self.probe = self.session, None, 0, None
        if session is not None:
            self._lane.sessions -= 1
            await session.close()

    def take(self, session: Session, candidate: Candidate) -> None:
        """Keep a session that was opened."""
        self.session, self.candidate, self.host = session, candidate, str(candidate)
        lane = self._lane
        lane.sessions += 1
        self.probe = next((one for one in lane.throttles if one.window.probes(one.held)), None)


class Opener:
    """Opens sessions. One for all lanes: between them it remembers which hosts are dead, and whose TLS is."""

    def __init__(
        self,
        net: Net,
        *,
        hostname: str,
        clock: Clock,
        tell: Teller,
        feedback: Feedback,
        own_names: frozenset[str],
        freed: Callable[[Lane[Any]], None],
    ) -> None:
        """Make one; `freed` is called for a lane that gave a permit back."""
        self._net = net
        self._hostname = hostname
        self._clock = clock
        self._tell = tell
        self._feedback = feedback
        self._own_names = own_names
        self._freed = freed
        self.dead = Hosts()
        self._clear: OrderedDict[Place, float] = OrderedDict()

    async def open(self, lane: Lane[Any], slot: Slot, tries: Tries) -> Outcome | None:
        """Give a slot a session with a host that was not tried yet; return the last failure on the way to it.

        Whether there is a session the slot tells; without one and without a failure nobody was left
        to try. `tries` grows by the hosts that were tried: not by those called off in a race, which come
        again where its winner is no good. The caller holds a permit of the lane.
        """
        await slot.close()
        last: Outcome | None = None
        async with aclosing(lane.way.find()) as found:  # type: ignore[type-var]  # it is a generator
            async for host in found:
                if isinstance(host, Outcome):
                    last = worse(last, host)
                    continue
                reached = [one for one in host if self._source(lane, one) is not None]
                if not reached:
                    last = worse(last, classify.no_source(host[0].name))
                group = [one for one in reached if one not in tries.hosts]
                while group:
                    slot.does("connecting", group[0].name, self._clock.monotonic())
                    connected, last = await self._race(lane, group, tries, last)
                    if connected is None:
                        if lane.way.by_mx and tries.full:
                            return last
                        break
                    outcome = await self._greet(lane, slot, *connected)
                    if outcome is None:
                        return last
                    last = worse(last, outcome)
                    if not lane.held(self._clock.monotonic()):
                        # It was one connection too many: another host would only be asked for the same.
                        return last
        return last

    def clear(self, candidate: Candidate) -> bool:
        """Tell whether a host is spoken to in clear text because its TLS broke."""
        return self._clear.get((candidate.address, candidate.port), 0.0) > self._clock.monotonic()

    def _source(self, lane: Lane[Any], candidate: Candidate) -> Source | None:
        """Return from where to connect to an address, None if this relay has nothing of its family there."""
        sources = lane.way.sources
        if not sources:
            return Source("", self._hostname)
        six = ":" in candidate.address
        return next((source for source in sources if (":" in source.address) == six), None)

    # ---- connecting ----

    async def _race(
        self, lane: Lane[Any], group: list[Candidate], tries: Tries, last: Outcome | None
    ) -> tuple[tuple[Candidate, Any] | None, Outcome | None]:
        """Connect to the first address of a host that answers, taking from the group who was tried."""
        running: dict[asyncio.Task[Any], Candidate] = {}
        extra = 0
        try:
            while group or running:
                while extra > max(0, len(running) - 1):
                    extra -= 1
                    self._give(lane)
                if group and (not running or _race_permit(lane, self._clock.monotonic())):
                    extra += bool(running)
                    candidate = group.pop(0)
                    dead = self._known(lane, candidate)
                    if dead is None and lane.way.by_mx and tries.full:
                        group.clear()
                        continue
                    known = self._met(lane, candidate, tries) if dead is not None else None
                    if known is not None:
                        tries.meets(candidate)
                        last = worse(last, known)
                        continue
                    tries.tries(candidate, dead=dead is not None)
                    running[asyncio.ensure_future(self._dial(lane, candidate))] = candidate
                patience = STAGGER if group else None
                done, _ = await asyncio.wait(running, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    candidate = running.pop(task)
                    wire = task.result()
                    if not isinstance(wire, Fault):
                        return (candidate, wire), last
                    last = worse(last, self._down(lane, candidate, wire))
            return None, last
        finally:
            lost = await self._call_off(running)
            group[:0] = lost
            for candidate in lost:
                tries.calls_off(candidate)
            for _ in range(extra):
                self._give(lane)

    async def _call_off(self, running: dict[asyncio.Task[Any], Candidate]) -> list[Candidate]:
        """End the connects that lost; return whose, but for those that failed in that moment."""
        lost = []
        for task in running:
            task.cancel()
        for task, candidate in running.items():
            await asyncio.wait([task])
            if task.cancelled():
                lost.append(candidate)
            elif task.exception() is None and not isinstance(task.result(), Fault):
                self._net.hang_up(task.result())
                lost.append(candidate)
        return lost

    def _give(self, lane: Lane[Any]) -> None:
        for throttle in lane.throttles:
            throttle.held -= 1
            throttle.racing -= 1
        self._freed(lane)

    async def _dial(self, lane: Lane[Any], candidate: Candidate) -> Any:
        await paced(lane, self._clock)
        source = self._source(lane, candidate)
        assert source is not None
        return await self._net.dial(candidate, source, lane.way.policy.timeouts.connect)

    # ---- greeting ----

    async def _greet(self, lane: Lane[Any], slot: Slot, candidate: Candidate, wire: Any) -> Outcome | None:
        """Make a session of a connection; return why there is none."""
        way = lane.way
        slot.does("greeting", str(candidate), self._clock.monotonic())
        source = self._source(lane, candidate)
        assert source is not None
        manner = Manner(
            way.policy,
            source.helo or self._hostname,
            way.policy.tls,
            starttls=not self.clear(candidate),
            implicit_tls=way.implicit_tls,
            credentials=way.credentials,
        )
        opened = await self._net.open(wire, candidate, manner)
        if isinstance(opened, Fault | Refusal) and _may_be_clear(manner, opened):
            why = opened.text if isinstance(opened, Fault) else f"STARTTLS was refused: {opened.reply}"
            wire = await self._dial(lane, candidate)
            if isinstance(wire, Fault):
                return self._down(lane, candidate, wire)
            manner = Manner(manner.policy, manner.helo, manner.tls, starttls=False)
            opened = await self._net.open(wire, candidate, manner)
            if not isinstance(opened, Fault | Refusal):
                self._remember(candidate, why)
        if isinstance(opened, Fault):
            return self._down(lane, candidate, opened)
        if isinstance(opened, Refusal):
            return self._refused(lane, candidate, opened)
        self._up(lane, candidate)
        if opened.peer in self._own_names and not way.route:
            await opened.close()
            return classify.loop(lane.way.name)
        slot.take(opened, candidate)
        return None

    def _remember(self, candidate: Candidate, why: str) -> None:
        place = (candidate.address, candidate.port)
        if place not in self._clear:
            self._tell.tls_failed(str(candidate), why)
        self._clear[place] = self._clock.monotonic() + CLEAR
        self._clear.move_to_end(place)
        if len(self._clear) > REMEMBERED:
            self._clear.popitem(last=False)

    # ---- dead hosts ----

    def _pause(self, lane: Lane[Any]) -> float:
        return hosts.pause(lane.way.policy.retry.schedule[0])

    def _places(self, lane: Lane[Any], candidate: Candidate) -> tuple[hosts.Place, hosts.Place]:
        """Return where a host's trouble is noted: that with this lane only, that with all from its source.

        Its TLS and credentials are a lane's own; a host may block one address of ours and not another.
        """
        source = self._source(lane, candidate)
        address, port = candidate.address, candidate.port
        return (lane.key, address, port), (source.address if source is not None else "", address, port)

    def _known(self, lane: Lane[Any], candidate: Candidate) -> Outcome | None:
        """Return what a dead host did last, whenever it is to be tried again."""
        answers = (self.dead.answer(place) for place in self._places(lane, candidate))
        return next((answer for answer in answers if answer is not None), None)

    def _met(self, lane: Lane[Any], candidate: Candidate, tries: Tries) -> Outcome | None:
        """Return what a dead host did last; None if it is to be tried, by the caller."""
        if candidate in tries.called_off:
            # It has that try already: others wait for its word.
            return None
        now, pause = self._clock.monotonic(), self._pause(lane)
        places = self._places(lane, candidate)
        if lane.way.by_mx and tries.full_of_dead:
            if all(self.dead.due(place, now) for place in places):
                for one in tries.dead:
                    self.dead.give_way(self._places(lane, one))
            return self._known(lane, candidate)
        for place in places:
            if (outcome := self.dead.met(place, now, pause)) is not None:
                return outcome
        return None

    def _down(self, lane: Lane[Any], candidate: Candidate, fault: Fault) -> Outcome:
        outcome = classify.fault(fault, str(candidate))
        if fault.problem == "resources":
            self._feedback.starved(lane, fault.text)
            return outcome
        self._dead(lane, candidate, outcome, fault.phase)
        return outcome

    def _refused(self, lane: Lane[Any], candidate: Candidate, refusal: Refusal) -> Outcome:
        outcome = classify.reply(refusal.reply, refusal.phase, str(candidate))
        self._feedback.heard(lane, refusal.reply, refusal.phase, str(candidate))
        if lane.sessions or not lane.held(self._clock.monotonic()):
            # It has sessions of ours, and has only had enough of them.
            return outcome
        self._dead(lane, candidate, outcome, refusal.phase)
        return outcome

    def _dead(self, lane: Lane[Any], candidate: Candidate, outcome: Outcome, phase: Phase) -> None:
        self._feedback.failed(lane)
        own, general = self._places(lane, candidate)
        place = own if phase in {Phase.TLS, Phase.AUTH} else general
        if self.dead.failed(place, outcome, self._clock.monotonic(), self._pause(lane)):
            self._tell.host_down(outcome)

    def _up(self, lane: Lane[Any], candidate: Candidate) -> None:
        now = self._clock.monotonic()
        answered = [self.dead.answered(place, now) for place in self._places(lane, candidate)]
        down = [seconds for seconds in answered if seconds is not None]
        if down:
            self._tell.host_up(str(candidate), max(down))


def _may_be_clear(manner: Manner, why: Fault | Refusal) -> bool:
    """Tell whether clear text may answer a broken TLS: what looks like an attack is not (RFC 3207 §6).

    A host that refuses STARTTLS and hangs up with that (421) is no better than one that breaks the handshake.
    """
    demanded = manner.tls > Tls.MAY or manner.implicit_tls or manner.credentials is not None
    attack = isinstance(why, Fault) and why.problem == "protocol"
    return why.phase is Phase.TLS and not attack and manner.starttls and not demanded


def _race_permit(lane: Lane[Any], now: float) -> bool:
    """Take one more permit for a racing connect, if there is one at once."""
    if not all(throttle.may_race(now) for throttle in lane.throttles):
        return False
    for throttle in lane.throttles:
        throttle.held += 1
        throttle.racing += 1
    return True
