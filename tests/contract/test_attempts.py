"""Attempts at claims, over every engine: several claims and several transactions of one message at once."""

import asyncio
import contextlib
import itertools
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.queues import TestClock, gathered, local_queue, message

from backstamp.mail.content import PIECE
from backstamp.mail.envelope import Flow
from backstamp.mail.reply import Reply
from backstamp.queue.engine import Engine
from backstamp.queue.memory import MemoryQueue
from backstamp.queue.operations import BusyError, act
from backstamp.queue.port import Delivery, Flag, Load, Reason
from backstamp.queue.stamps import Stamp

LARGE = 100
WHY = Reply(550, "5.1.1 no such user")
T, Q, H, D, F = Stamp.TODO, Stamp.DOUBT, Stamp.HELD, Stamp.DELIVERED, Stamp.FAILED


@contextlib.asynccontextmanager
async def opened(engine: str) -> AsyncIterator[Engine]:
    """Open an engine to which a content of more than 100 octets is large."""
    if engine == "memory":
        yield MemoryQueue(clock=TestClock(), emit=[].append, large=LARGE)
        return
    with tempfile.TemporaryDirectory() as root:
        queue = await local_queue(Path(root) / "q", clock=TestClock(), large=LARGE)
        try:
            yield queue
        finally:
            await queue.close()


@pytest.fixture(params=["memory", "local"])
async def queue(request: pytest.FixtureRequest) -> AsyncIterator[Engine]:
    async with opened(request.param) as engine:
        yield engine


def busy(queue: Engine) -> int:
    return sum(segment.busy for segment in queue.segments())


# ---- what a claim tells before it is loaded ----


async def test_a_claim_tells_whose_it_is_and_for_how_many(queue: Engine) -> None:
    said = b"BODY=8BITMIME TENANT=acme MT-PRIORITY=-3"
    await queue.append(message(b"a@one.example", b"b@one.example", b"c@two.example", parameters=said))
    deposit = await queue.deposit(message(b"d@two.example", parameters=said))
    await deposit.commit()
    await queue.append(message(b"e@one.example", sender=b"S@Origin.Example"))
    await queue.append(message(b"f@one.example", sender=b"t@origin.example", parameters=b"BODY=8BITMIME"))
    claims = await queue.claim(10)
    assert [claim.count for claim in claims] == [2, 1, 1, 1, 1]
    assert [claim.waiting for claim in claims] == [2, 1, 1, 1, 1]
    tenant, domain = Flow(b"acme", -3), Flow(b"origin.example")
    assert [claim.flow for claim in claims] == [tenant, tenant, tenant, domain, domain]
    # A million that wait hold one flow.
    assert len({id(claim.flow) for claim in claims}) == 2
    assert len({claim.message for claim in claims}) == 4
    assert claims[0].message == claims[1].message


async def test_what_is_released_or_comes_back_is_of_the_same_flow(queue: Engine) -> None:
    sent = message(b"a@one.example", b"b@two.example", parameters=b"TENANT=acme")
    await queue.append(sent)
    entry = queue.find(sent.queue_id)
    assert entry is not None
    await act(queue, "hold", entry, [0])
    claims = await queue.claim(10)
    assert [(claim.domain, claim.waiting) for claim in claims] == [(b"one.example", 0), (b"two.example", 1)]
    for claim in claims:
        queue.give_back(claim, 0.0)
    await act(queue, "release", entry, [0])
    again = await queue.claim(10)
    assert [(claim.domain, claim.waiting) for claim in again] == [(b"one.example", 1), (b"two.example", 1)]
    assert all(claim.flow == Flow(b"acme") for claim in again)


async def test_waiting_counts_who_may_still_be_sent_to(queue: Engine) -> None:
    await queue.append(message(*(b"%d@one.example" % n for n in range(5))))
    [claim] = await queue.claim(1)
    await queue.load([claim])
    queue.doubt(claim, [1])
    await queue.stamp(claim, {0: D, 2: F}, [Reason((2,), WHY)])
    assert (claim.count, claim.waiting) == (5, 3)
    assert list((await queue.load([claim])).recipients) == [1, 3, 4]
    queue.give_back(claim, 0.0)


# ---- loading ----


async def test_claims_of_one_message_are_loaded_together(queue: Engine) -> None:
    await queue.append(message(b"a@one.example", b"b@two.example", b"c@two.example", b"d@three.example"))
    claims = {claim.domain: claim for claim in await queue.claim(10)}
    two, three = claims[b"two.example"], claims[b"three.example"]
    load = await queue.load([two, three])
    assert {ordinal: who.address for ordinal, who in load.recipients.items()} == {
        1: b"d@three.example",
        2: b"b@two.example",
        3: b"c@two.example",
    }
    # Any claim of the message does for all of its ordinals.
    await queue.stamp(two, {1: D, 2: D})
    assert [claim.waiting for claim in claims.values()] == [1, 0, 1]
    assert list((await queue.load([*claims.values()])).recipients) == [0, 3]
    for claim in claims.values():
        queue.give_back(claim, 0.0)
    assert busy(queue) == 0
    assert {claim.domain for claim in await queue.claim(10)} == {b"one.example", b"two.example"}


async def test_a_claim_is_counted_once_however_often_it_is_loaded(queue: Engine) -> None:
    await queue.append(message(b"a@one.example", b"b@two.example"))
    one, two = await queue.claim(10)
    await queue.load([one], content=False)
    await queue.load([one, two], content=False)
    await asyncio.gather(queue.load([one, two]), queue.load([two, one]))
    assert busy(queue) == 2
    queue.give_back(one, 0.0)
    assert busy(queue) == 1
    queue.give_back(two, 0.0)
    assert busy(queue) == 0


@pytest.mark.parametrize("size", [10, LARGE + 1])
async def test_without_the_content_the_rest_is_there(queue: Engine, size: int) -> None:
    content, once = b"x" * size, Flag.AT_MOST_ONCE
    await queue.append(message(b"a@one.example", parameters=b"BODY=8BITMIME", content=content, flags=once))
    [claim] = await queue.claim(1)
    bare = await queue.load([claim], content=False)
    whole = await queue.load([claim])
    assert bare.content == b""
    assert await gathered(whole.content) == content
    for load in (bare, whole):
        assert (load.sender, load.parameters, load.flags) == (
            b"sender@example.org",
            b"BODY=8BITMIME",
            once,
        )
        assert list(load.recipients) == [0]
    queue.give_back(claim, 0.0)


async def test_claims_of_which_nobody_waits_are_loaded_without_reading(queue: Engine) -> None:
    sent = message(b"a@one.example", b"b@two.example")
    await queue.append(sent)
    entry = queue.find(sent.queue_id)
    assert entry is not None
    claims = await queue.claim(10)
    await act(queue, "remove", entry, [0, 1])
    load = await queue.load(claims)
    assert (load.recipients, load.content, busy(queue)) == ({}, b"", 0)
    for claim in claims:
        queue.give_back(claim, 0.0)
    assert not queue.ledger.scheduled()


async def test_who_rests_lets_operators_act_and_may_go_on(queue: Engine) -> None:
    sent = message(b"a@one.example", b"b@one.example")
    await queue.append(sent)
    entry = queue.find(sent.queue_id)
    assert entry is not None
    [claim] = await queue.claim(1)
    assert (await queue.load([claim], content=False)).sender == b"sender@example.org"
    with pytest.raises(BusyError):
        await act(queue, "hold", entry, [0])
    queue.rest(claim)
    queue.rest(claim)
    assert busy(queue) == 0
    assert await act(queue, "hold", entry, [0]) == (0,)
    assert claim.waiting == 1
    assert list((await queue.load([claim])).recipients) == [1]
    await queue.stamp(claim, {1: D})
    queue.give_back(claim, 0.0)
    assert (busy(queue), queue.ledger.claimed) == (0, 0)


async def test_at_most_once_in_doubt_is_held_by_who_rests(queue: Engine) -> None:
    await queue.append(message(b"a@one.example", b"b@one.example", flags=Flag.AT_MOST_ONCE))
    [claim] = await queue.claim(1)
    await queue.load([claim])
    permit = queue.doubt(claim, [0])
    assert permit is not None
    await permit
    queue.rest(claim)
    assert list((await queue.load([claim])).recipients) == [1]
    queue.give_back(claim, 0.0)


# ---- large contents ----

HEADER = b"Subject: large\r\nX-Other: yes\r\n\r\n"


@pytest.mark.parametrize(
    "content",
    [
        HEADER + b"x" * (LARGE + 1),
        HEADER + b"x" * (PIECE - len(HEADER)),
        HEADER + b"x" * (PIECE + 1 - len(HEADER)),
        HEADER + b"x" * 3 * PIECE + b"\xfc\r\n",
        b"\r\nno header" + b"y" * LARGE,
        b"x" * 300_000,
        b"x" * 262_143 + b"\r\n\r\n" + b"y" * PIECE,
    ],
    ids=["small", "one piece", "one octet more", "8-bit", "no header", "nothing else", "across the limit"],
)
async def test_a_large_content_comes_in_pieces(queue: Engine, content: bytes) -> None:
    deposit = await queue.deposit(message(b"a@one.example", content=content[:50]))
    await deposit.write(content[50:])
    await deposit.commit()
    [claim] = await queue.claim(1)
    load = await queue.load([claim])
    assert not isinstance(load.content, bytes)
    # `gathered` compares what is said of it with what comes. Transactions under way read independently.
    assert await asyncio.gather(gathered(load.content), gathered(load.content)) == [content, content]
    async for piece in load.content.pieces():
        assert content.startswith(piece)
        break
    queue.give_back(claim, 0.0)


async def test_a_content_up_to_the_bound_is_whole(queue: Engine) -> None:
    await queue.append(message(b"a@one.example", content=b"x" * LARGE))
    await queue.append(message(b"a@one.example", content=b"x" * (LARGE + 1)))
    loads = [await queue.load([claim]) for claim in await queue.claim(2)]
    assert [isinstance(load.content, bytes) for load in loads] == [True, False]


async def test_a_report_holds_only_the_header_of_a_large_content(queue: Engine) -> None:
    await queue.append(message(b"a@one.example", content=HEADER + b"x" * LARGE))
    [claim] = await queue.claim(1)
    await queue.load([claim])
    await queue.stamp(claim, {0: F}, [Reason((0,), WHY)])
    queue.give_back(claim, 0.0)
    owed = await queue.claim_report()
    assert (owed.content, owed.whole) == (HEADER[:-4], False)


async def test_it_can_be_read_to_the_end_though_everybody_has_it(queue: Engine) -> None:
    content = HEADER + b"x" * 4 * PIECE
    await queue.append(message(b"a@one.example", content=content))
    [claim] = await queue.claim(1)
    load = await queue.load([claim])
    assert not isinstance(load.content, bytes)
    pieces = []
    async for piece in load.content.pieces():
        if not pieces:
            await queue.stamp(claim, {0: D})
        pieces.append(piece)
    assert b"".join(pieces) == content
    queue.give_back(claim, 0.0)
    assert (busy(queue), queue.ledger.messages) == (0, 0)


async def test_it_can_be_read_until_the_last_claim_is_given_back(queue: Engine) -> None:
    content = HEADER + b"x" * 4 * PIECE
    await queue.append(message(b"a@one.example", b"b@two.example", content=content))
    one, two = await queue.claim(2)
    load = await queue.load([one, two])
    await queue.stamp(one, {0: D})
    queue.give_back(one, 0.0)
    assert await gathered(load.content) == content
    await queue.stamp(one, {1: D})
    assert await gathered(load.content) == content
    queue.give_back(two, 0.0)
    assert busy(queue) == 0


# ---- transactions at once ----


class Transaction:
    """One transaction of an attempt: what it says to the queue, step by step."""

    def __init__(self, queue: Engine, claim: Delivery, ordinals: list[int], end: str) -> None:
        self._queue = queue
        self._claim = claim
        self._ordinals = ordinals
        self._end = end

    async def run(self, turns: int) -> dict[int, Stamp]:
        """Carry it out, other tasks getting their turns between the steps; return how it leaves its own."""
        queue, claim, ordinals = self._queue, self._claim, self._ordinals
        await _turns(turns)
        if self._end == "refused":
            await queue.stamp(claim, dict.fromkeys(ordinals, F), [Reason(tuple(ordinals), WHY)])
            return dict.fromkeys(ordinals, F)
        if (permit := queue.doubt(claim, ordinals)) is not None:
            await permit
        await _turns(turns)
        if self._end == "lost":
            return dict.fromkeys(ordinals, Q)
        if self._end == "deferred":
            queue.answered(claim, ordinals)
            return dict.fromkeys(ordinals, T)
        durable = queue.stamp(claim, dict.fromkeys(ordinals, D))
        await _turns(turns)
        await durable
        return dict.fromkeys(ordinals, D)


async def _turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


ENDS = st.sampled_from(["delivered", "deferred", "refused", "lost"])
RUNS = st.tuples(ENDS, st.integers(1, 4), st.integers(0, 3))
"""How a transaction ends, for how many it is, and how many turns it lets go by at each step."""


@settings(max_examples=40)
@given(
    st.sampled_from(["memory", "local"]),
    st.lists(RUNS, min_size=1, max_size=6),
    st.integers(1, 3),
    st.booleans(),
)
def test_transactions_at_once_each_have_their_own_end(
    engine: str, runs: list[tuple[str, int, int]], domains: int, once: bool
) -> None:
    asyncio.run(_at_once(engine, runs, domains, Flag.AT_MOST_ONCE if once else Flag.NONE))


async def _at_once(engine: str, runs: list[tuple[str, int, int]], domains: int, flags: Flag) -> None:
    """Send one message to several domains in several transactions; then look at what the queue knows."""
    count = sum(size for _, size, _ in runs)
    async with opened(engine) as queue:
        sent = message(*(b"%d@d%d.example" % (n, n % domains) for n in range(count)), flags=flags)
        await queue.append(sent)
        entry = queue.find(sent.queue_id)
        assert entry is not None
        claims = await queue.claim(100)
        load: Load = await queue.load(claims)
        left = iter(load.recipients)
        ends = await asyncio.gather(
            *(
                # Whatever claim it goes by: all are of one message.
                Transaction(queue, claims[n % len(claims)], [*itertools.islice(left, size)], end).run(turns)
                for n, (end, size, turns) in enumerate(runs)
            )
        )
        expected = {ordinal: stamp for end in ends for ordinal, stamp in end.items()}
        assert {ordinal: entry.stamp(ordinal) for ordinal in expected} == expected
        waiting = {ordinal for ordinal, stamp in expected.items() if stamp in (T, Q)}
        assert sum(claim.waiting for claim in claims) == queue.ledger.waiting == len(waiting)
        for claim in claims:
            queue.give_back(claim, 0.0)
        held = {ordinal for ordinal, stamp in expected.items() if stamp is Q} if flags else set()
        assert set(entry.ordinals(H)) == held
        expected = {ordinal: H if ordinal in held else stamp for ordinal, stamp in expected.items()}
        assert {ordinal: entry.stamp(ordinal) for ordinal in expected} == expected
        if waiting - held:
            again = await queue.claim(100)
            load = await queue.load(again)
            assert set(load.recipients) == waiting - held
            assert set(load.doubts) == {ordinal for ordinal, stamp in expected.items() if stamp is Q}
            for claim in again:
                queue.give_back(claim, 0.0)
        await _settled(queue)
        assert (busy(queue), queue.ledger.claimed) == (0, 0)
        assert queue.ledger.waiting == len(waiting - held)


async def _settled(queue: Engine) -> None:
    """Wait for the stamps of held mail, which nobody else waits for."""
    async with asyncio.timeout(10):
        while busy(queue):
            await asyncio.sleep(0)
