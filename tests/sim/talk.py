"""Sessions with a peer, from dialling to QUIT: replies without octets, in virtual time.

`Talk` is to delivery what `net.client.Connection` is: the same results, the same waits
(RFC 5321 §4.5.3.2), `dotting` before the final dot and `settled` in the turn of the final
2yz. A peer decides at the moment a command is sent; its answer takes a round trip. Commands
go in one group, so a transaction takes two round trips and what the host needs to think.
"""

import asyncio
from collections.abc import Sequence

from tests.sim.habits import Answer, Cut
from tests.sim.peer import Peer, Visit

from backstamp.delivery.outside import Manner
from backstamp.mail.fault import Fault, Phase
from backstamp.mail.reply import Reply
from backstamp.net.client import Refusal
from backstamp.net.transaction import Dotting, Result, Settled, Transaction, at_once
from backstamp.policy.destination import Timeouts, Tls

OK = Reply(250, "2.0.0 ok")
GO_ON = Reply(354, "go on")


class _BrokenError(Exception):
    """The session is over without a reply."""

    def __init__(self, phase: Phase, problem: str) -> None:
        super().__init__(problem)
        self.fault = Fault(phase, problem, f"{problem} ({phase.value})")


async def dial(peer: Peer, source: str, seconds: float) -> Visit | Fault:
    """Connect, or fail to within so many seconds."""
    visit = Visit(peer, source)
    try:
        answer = visit.ask(peer.of_connect)
        needs = peer.trip() + (visit.wait(Phase.CONNECT) if peer.waits else 0.0)
        if answer is Cut.SILENT or needs > seconds:
            await asyncio.sleep(seconds)
            visit.end()
            return Fault(Phase.CONNECT, "timeout", f"no connection within {seconds:g} seconds")
        await asyncio.sleep(needs)
    except BaseException:
        visit.end()
        raise
    if answer is Cut.CLOSED:
        visit.end()
        return Fault(Phase.CONNECT, "refused", "no connection: connection refused")
    return visit


async def greet(visit: Visit, manner: Manner) -> "Talk | Refusal | Fault":
    """Read the greeting, say EHLO, begin TLS."""
    peer = visit.peer
    limit = manner.policy.timeouts.greeting
    wanted = manner.tls is not Tls.NONE and manner.starttls and bool(peer.tls)
    try:
        needs = await _within(visit, Phase.GREETING, limit, 0.0)
        answer = visit.ask(peer.of_greet)
        if answer is None:
            needs = await _within(visit, Phase.EHLO, limit, needs)
        # One round trip more for the handshake, another for the second EHLO.
        await asyncio.sleep(needs + (2 * peer.trip() if wanted else 0.0))
        if isinstance(answer, Cut):
            raise _BrokenError(Phase.GREETING, "disconnected")
        if answer is not None:
            peer.codes[answer.code] += 1
            visit.end()
            return Refusal(answer, Phase.GREETING)
        if (wanted and peer.tls == "broken") or (manner.tls >= Tls.ENCRYPT and not peer.tls):
            raise _BrokenError(Phase.TLS, "tls")
    except _BrokenError as error:
        visit.end()
        return error.fault
    except BaseException:
        visit.end()
        raise
    return Talk(visit, manner.policy.timeouts, peer.tls if wanted else "")


async def _within(visit: Visit, phase: Phase, limit: float, before: float) -> float:
    """Return how long a reply takes, behind what was before it; give up where that is too long."""
    needs = visit.peer.trip() + (visit.wait(phase) if visit.peer.waits else 0.0)
    if needs > limit:
        await asyncio.sleep(before + limit)
        raise _BrokenError(phase, "timeout")
    return before + needs


class Talk:
    """An open session (`delivery.outside.Session`)."""

    def __init__(self, visit: Visit, timeouts: Timeouts, tls: str) -> None:
        peer = visit.peer
        self.extensions = peer.extensions
        self.size_limit = peer.size_limit
        self.peer = peer.name
        self.tls = tls
        self._visit = visit
        self._timeouts = timeouts
        self._busy = False

    @property
    def usable(self) -> bool:
        """Whether another MAIL may be sent."""
        return not self._visit.ended

    async def transact(
        self, transaction: Transaction, settled: Settled, dotting: Dotting = at_once
    ) -> Result:
        """Run one transaction."""
        assert not self._busy, "two transactions at a time"
        self._busy = True
        visit = self._visit
        result = Result([None] * len(transaction.recipients))
        try:
            if visit.ended:
                raise _BrokenError(Phase.MAIL, "disconnected")
            accepted = await self._envelope(visit, transaction, result)
            if accepted:
                await self._content(visit, transaction, result, accepted, settled, dotting)
        except _BrokenError as error:
            result.fault = error.fault
            result.in_doubt = error.fault.phase is Phase.FINAL
            visit.end()
        except BaseException:
            visit.end()
            raise
        finally:
            self._busy = False
        return result

    async def close(self) -> None:
        """Say QUIT and let go."""
        try:
            if not self._visit.ended:
                await asyncio.sleep(min(self._visit.peer.trip(), self._timeouts.quit))
        finally:
            self._visit.end()

    # ---- the two halves of a transaction ----

    async def _envelope(self, visit: Visit, transaction: Transaction, result: Result) -> list[int]:
        """Send MAIL, RCPT and DATA in one group; return who was taken, nobody where DATA was not."""
        peer = visit.peer
        sender, recipients = transaction.sender, [one.address for one in transaction.recipients]
        now = visit.now
        visit.mails += 1
        peer.mails.append((now, visit.source, len(recipients)))
        for promise in peer.promises:
            promise.sent(now, visit.source, len(recipients), visit.mails)
        needs = peer.trip()
        if peer.waits:
            needs += await self._hesitate(visit)
        reply = await self._answer(visit, visit.ask(peer.of_mail, sender), Phase.MAIL, needs) or OK
        result.mail = reply
        accepted: list[int] = []
        if reply.positive:
            accepted = await self._recipients(visit, sender, recipients, result, needs)
        if accepted:
            said = await self._answer(visit, visit.ask(peer.of_data), Phase.DATA, needs)
            result.data = said or GO_ON
            if said is not None:
                accepted = []
        await asyncio.sleep(needs)
        return accepted

    async def _recipients(
        self, visit: Visit, sender: bytes, recipients: Sequence[bytes], result: Result, needs: float
    ) -> list[int]:
        peer = visit.peer
        if not peer.of_rcpt:
            result.recipients[:] = [OK] * len(recipients)
            return list(range(len(recipients)))
        accepted: list[int] = []
        for index, recipient in enumerate(recipients):
            said = visit.ask(peer.of_rcpt, sender, recipient, len(accepted))
            reply = await self._answer(visit, said, Phase.RCPT, needs) or OK
            result.recipients[index] = reply
            if reply.positive:
                accepted.append(index)
            elif reply.code == 421:
                return []
        return accepted

    async def _content(
        self,
        visit: Visit,
        transaction: Transaction,
        result: Result,
        accepted: list[int],
        settled: Settled,
        dotting: Dotting,
    ) -> None:
        """Send the content and the dot, and read what comes."""
        peer, world = visit.peer, visit.peer.world
        if (permit := dotting(accepted)) is not None:
            await permit
        name = world.name(transaction.content)
        taken = [transaction.recipients[index].address for index in accepted]
        said = visit.ask(peer.of_final)
        needs = peer.trip() + peer.pace.work + world.size(transaction.content) / peer.pace.octets
        needs += visit.wait(Phase.FINAL) if peer.waits else 0.0
        if said is Cut.TAKEN or (said is None and needs > self._timeouts.final):
            world.take(peer, name, taken, acknowledged=False)
        if needs > self._timeouts.final:
            said = Cut.SILENT
        try:
            reply = await self._answer(visit, said, Phase.FINAL, needs) or OK
            if said is None or not reply.positive:
                await asyncio.sleep(needs)
        except asyncio.CancelledError:
            if said is None:
                world.take(peer, name, taken, acknowledged=False)
            raise
        result.final = reply
        if said is None:
            peer.codes[250] += 1
            world.take(peer, name, taken, acknowledged=True)
            settled(reply, accepted)

    # ---- what may go wrong ----

    async def _answer(self, visit: Visit, said: Answer, phase: Phase, needs: float) -> Reply | None:
        """Return a habit's reply, counted; whatever is none ends the session. None: nothing was said."""
        if said is None:
            return None
        if isinstance(said, Reply):
            visit.peer.codes[said.code] += 1
            if said.code == 421:
                visit.end()
            return said
        if said is Cut.SILENT:
            await asyncio.sleep(self._limit(phase))
            raise _BrokenError(phase, "timeout")
        await asyncio.sleep(needs)
        raise _BrokenError(phase, "disconnected")

    async def _hesitate(self, visit: Visit) -> float:
        """Return how long a slow host takes over the commands, within the time of each."""
        slow = 0.0
        for phase in (Phase.MAIL, Phase.RCPT, Phase.DATA):
            needs, limit = visit.wait(phase), self._limit(phase)
            if needs > limit:
                await asyncio.sleep(slow + limit)
                raise _BrokenError(phase, "timeout")
            slow += needs
        return slow

    def _limit(self, phase: Phase) -> float:
        """Return how long to wait for a reply (RFC 5321 §4.5.3.2)."""
        timeouts = self._timeouts
        return {Phase.MAIL: timeouts.mail, Phase.RCPT: timeouts.rcpt, Phase.DATA: timeouts.data}.get(
            phase, timeouts.final
        )
