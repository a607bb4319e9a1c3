"""Workloads: small, and each with an order of writes of its own."""

import asyncio
import contextlib
import random

import msgspec
from tests.crash.world import Script, Workload
from tests.support.queues import message, settled

from backstamp.queue import operations
from backstamp.queue.keys import digest
from backstamp.queue.port import Delivery, Flag, QueueRefusedError, StampNotDurableError
from backstamp.queue.record import (
    HEADER_SIZE,
    SALT_SIZE,
    Header,
    decode_header,
    encode_envelope,
    encode_header,
)

KEYS = [digest(b"user u", b"%d" % number) for number in range(4)]


async def one_message(work: Workload) -> None:
    await work.accept(b"a@one.example")
    await work.deliver(await work.claim())


async def several_in_one_transaction(work: Workload) -> None:
    await work.accept(b"a@one.example", b"b@one.example", b"c@one.example")
    delivery = await work.claim()
    await work.deliver(delivery)
    work.give_back(delivery)


async def one_recipient_after_the_other(work: Workload) -> None:
    await work.accept(b"a@one.example", b"b@one.example", b"c@two.example")
    for _ in range(2):
        delivery = await work.claim()
        for ordinal in (await work.queue.load([delivery])).recipients:
            await work.deliver(delivery, ordinal)
        work.give_back(delivery)


async def mixed_outcomes_with_a_report(work: Workload) -> None:
    await work.accept(b"a@one.example", b"b@one.example", b"c@one.example")
    delivery = await work.claim()
    await work.deliver(delivery, 0)
    await work.fail(delivery, 1, 2)
    work.give_back(delivery)
    await work.report()
    await work.deliver(await work.claim())


async def two_reports_for_one_message(work: Workload) -> None:
    await work.accept(b"a@one.example", b"b@two.example")
    first, second = await work.claim(), await work.claim()
    await work.fail(first, 0)
    work.give_back(first)
    work.give_back(second)
    await work.report()
    report = await work.claim()
    again = await work.claim()
    if (await work.queue.load([report])).sender:
        report, again = again, report
    await work.fail(again, 1)
    work.give_back(again)
    await work.report()
    await work.deliver(report)


async def no_report_wanted(work: Workload) -> None:
    await work.accept(b"a@one.example", sender=b"")
    delivery = await work.claim()
    await work.fail(delivery, 0)
    work.give_back(delivery)
    await work.report()


async def interleaved_commits(work: Workload) -> None:
    await work.accept(b"a@one.example")
    delivery = await work.claim()
    others = [message(b"b@one.example"), message(b"c@one.example", b"d@two.example")]
    appends = [asyncio.ensure_future(work.queue.append(other)) for other in others]
    await work.deliver(delivery)
    for append, other in zip(appends, others, strict=True):
        await append
        work.note(other)
    for _ in range(3):
        await work.deliver(await work.claim())


async def rotation_and_removal(work: Workload) -> None:
    for number in range(4):
        await work.accept(b"u%d@one.example" % number, content=b"x" * 1500)
    for _ in range(4):
        delivery = await work.claim()
        await work.deliver(delivery)
        work.give_back(delivery)
    await work.accept(b"last@one.example")


async def a_reason_in_another_segment(work: Workload) -> None:
    await work.accept(b"a@one.example", content=b"x" * 1900)
    delivery = await work.claim()
    await work.accept(b"b@one.example", content=b"x" * 1900)
    other = await work.claim()
    await work.fail(delivery, 0)
    await work.deliver(other)
    work.give_back(other)
    work.give_back(delivery)
    await work.report()
    await work.deliver(await work.claim())


async def an_orderly_stop(work: Workload) -> None:
    await work.accept(b"a@one.example", b"b@two.example")
    await work.deliver(await work.claim())
    await work.queue.close()


async def compaction(work: Workload) -> None:
    """Several segments with little left in each; then deliveries, failures and a report from the copy."""
    for number in range(4):
        await work.accept(b"a%d@one.example" % number, b"b%d@two.example" % number, content=b"x" * 1200)
    claimed = [await work.claim() for _ in range(8)]
    for delivery in claimed:
        if delivery.domain == b"one.example":
            await work.deliver(delivery)
        work.give_back(delivery)
    await work.accept(b"other@one.example")
    assert await work.queue.compactor.compact()
    for delivery in [await work.claim() for _ in range(4)]:
        if delivery.domain == b"two.example":
            await work.fail(delivery, 1)
        else:
            await work.deliver(delivery)
        work.give_back(delivery)
    await work.report()


async def compaction_of_a_compacted_segment(work: Workload) -> None:
    await work.accept(b"a@one.example", b"b@two.example", b"c@three.example", content=b"x" * 1200)
    await work.accept(b"d@one.example", content=b"x" * 1200)
    for _ in range(2):
        delivery = await work.claim()
        await work.deliver(delivery)
        work.give_back(delivery)
        await work.queue.compactor.compact()
    await work.deliver(await work.claim())


async def in_doubt(work: Workload) -> None:
    await work.accept(b"a@one.example", b"b@one.example")
    delivery = await work.claim()
    assert work.queue.doubt(delivery, [0, 1]) is None
    await work.deliver(delivery, 0)
    work.give_back(delivery)
    await work.accept(b"c@one.example")
    await work.deliver(await work.claim())


async def in_doubt_and_at_most_once(work: Workload) -> None:
    await work.accept(b"a@one.example", b"b@one.example", flags=Flag.AT_MOST_ONCE)
    delivery = await work.claim()
    await work.take_once(delivery, 0)
    await work.deliver(delivery, 0)
    await work.take_once(delivery, 1)
    work.give_back(delivery)
    await work.accept(b"c@one.example")
    await work.deliver(await work.claim())


async def large_content_in_a_segment_of_its_own(work: Workload) -> None:
    await work.accept(b"a@one.example")
    large = message(b"b@one.example", b"c@two.example", content=b"x" * 3000)
    deposit = await work.queue.deposit(msgspec.structs.replace(large, content=large.content[:1000]))
    await work.deliver(await work.claim())
    await deposit.write(large.content[1000:2500])
    await deposit.write(large.content[2500:])
    await deposit.commit()
    work.note(large)
    given_up = await work.queue.deposit(message(b"d@one.example", content=b"y" * 1500))
    await work.deliver(await work.claim())
    await given_up.abandon()


async def decided_by_an_operator(work: Workload) -> None:
    sent = await work.accept(b"a@one.example", b"b@one.example", b"c@two.example")
    entry = work.queue.find(sent.queue_id)
    assert entry is not None
    await operations.act(work.queue, "hold", entry, [0, 1])
    await operations.act(work.queue, "release", entry, [1])
    for _ in range(2):
        delivery = await work.claim()
        await work.deliver(delivery)
        work.give_back(delivery)
    await operations.act(work.queue, "release", entry, [0])
    await work.deliver(await work.claim())


async def the_same_key_again(work: Workload) -> None:
    first = await work.accept(b"a@one.example", key=KEYS[0])
    assert await work.queue.append(message(b"a@one.example", key=KEYS[0])) == first.queue_id
    both = [message(b"b@one.example", key=KEYS[1]) for _ in range(2)]
    stands = await asyncio.gather(*(work.queue.append(one) for one in both))
    assert stands == [both[0].queue_id] * 2
    work.note(both[0], stands[0])
    for _ in range(2):
        await work.deliver(await work.claim())


async def keys_of_removed_segments(work: Workload) -> None:
    for number in range(4):
        await work.accept(b"u%d@one.example" % number, content=b"x" * 1500, key=KEYS[number])
    for _ in range(4):
        delivery = await work.claim()
        await work.deliver(delivery)
        work.give_back(delivery)
        await settled()
    again = await work.accept(b"u0@one.example", content=b"x" * 1500, key=KEYS[0])
    assert work.queue.find(again.queue_id) is None
    await work.accept(b"last@one.example")


async def keys_in_a_compacted_segment(work: Workload) -> None:
    """Of what is copied one message is open, the others are finished: only their keys must live on."""
    for number in range(2):
        await work.accept(b"a@one.example", b"b@two.example", content=b"x" * 600, key=KEYS[2 * number])
        await work.accept(b"c@one.example", content=b"x" * 600, key=KEYS[2 * number + 1])
    await work.accept(b"other@one.example", content=b"x" * 1500)
    claimed = [await work.claim() for _ in range(7)]
    for delivery in claimed:
        if delivery.domain == b"one.example":
            await work.deliver(delivery)
        work.give_back(delivery)
    await settled()
    assert await work.queue.compactor.compact()
    for delivery in [await work.claim() for _ in range(2)]:
        await work.deliver(delivery)
        work.give_back(delivery)
    await settled()


async def a_key_of_large_content(work: Workload) -> None:
    large = message(b"b@one.example", content=b"x" * 1500, key=KEYS[0])
    deposits = [await work.queue.deposit(one) for one in (large, message(b"b@one.example", key=KEYS[0]))]
    work.note(large, await deposits[0].commit())
    assert await deposits[1].commit() == large.queue_id
    delivery = await work.claim()
    await work.deliver(delivery)
    work.give_back(delivery)
    await settled()
    await work.accept(b"a@one.example", key=KEYS[0])


async def records_in_an_attachment(work: Workload) -> None:
    """Mail that holds records: one cut out of a segment file as it stands, one made for where it will stand.

    A cut that loses the sector of its header leaves them behind damage, where the reader looks for the next.
    """
    await work.accept(b"a@one.example")
    [octets] = [octets for path, octets in work.files.contents().items() if path.endswith(".mail")]
    record = octets[SALT_SIZE:]
    header = decode_header(record, SALT_SIZE, work.queue.segments()[0].seed)
    assert isinstance(header, Header)
    other = message(b"b@two.example")
    content = b"x" * 600 + record + b"x" * 600
    at = len(octets) + HEADER_SIZE + len(encode_envelope(other.envelope)) + len(content)
    forged = msgspec.structs.replace(header, offset=at)
    # Nobody outside knows the salt.
    content += encode_header(forged, 0) + record[HEADER_SIZE:] + b"x" * 600
    await work.queue.append(msgspec.structs.replace(other, content=content))
    work.note(msgspec.structs.replace(other, content=content))
    for _ in range(2):
        await work.deliver(await work.claim())
    await work.accept(b"c@one.example")


def at_random(seed: int) -> Script:
    """Return a workload of what comes: mail to several, deliveries, failures, reports, in any order."""

    async def script(work: Workload) -> None:
        chance = random.Random(seed)
        claimed: list[Delivery] = []
        for _ in range(chance.randrange(4, 12)):
            verb = chance.choice(("accept", "accept", "claim", "settle", "settle", "report", "compact"))
            if verb == "accept":
                await _accept(work, chance, keyed=seed % 10 == 3)
            elif verb == "claim" and work.queue.ledger.scheduled():
                claimed.append(await work.claim())
            elif verb == "settle" and claimed:
                await _settle(work, chance, claimed.pop(chance.randrange(len(claimed))))
            elif verb == "compact":
                await work.queue.compactor.compact()
            elif verb == "report" and work.queue.ledger.report_ready:
                with contextlib.suppress(QueueRefusedError):
                    await work.report()

    script.__name__ = f"at_random_{seed}"
    return script


async def _accept(work: Workload, chance: random.Random, *, keyed: bool) -> None:
    names = [b"u%d@d%d.example" % (number, chance.randrange(2)) for number in range(chance.randrange(1, 4))]
    sender = chance.choice((b"sender@example.org", b"sender@example.org", b""))
    with contextlib.suppress(QueueRefusedError):
        content = b"x" * chance.choice((20, 600, 1500))
        await work.accept(*names, sender=sender, content=content, key=chance.choice(KEYS) if keyed else b"")


async def _settle(work: Workload, chance: random.Random, delivery: Delivery) -> None:
    waiting = list((await work.queue.load([delivery])).recipients)
    failed = tuple(ordinal for ordinal in waiting if chance.random() < 0.3)
    taken = tuple(ordinal for ordinal in waiting if ordinal not in failed and chance.random() < 0.8)
    if taken:
        await work.deliver(delivery, *taken)
    if failed:
        with contextlib.suppress(StampNotDurableError):
            await work.fail(delivery, *failed)
    work.give_back(delivery)


WORKLOADS: dict[str, Script] = {
    script.__name__: script
    for script in (
        one_message,
        several_in_one_transaction,
        one_recipient_after_the_other,
        mixed_outcomes_with_a_report,
        two_reports_for_one_message,
        no_report_wanted,
        interleaved_commits,
        rotation_and_removal,
        a_reason_in_another_segment,
        an_orderly_stop,
        compaction,
        compaction_of_a_compacted_segment,
        in_doubt,
        in_doubt_and_at_most_once,
        large_content_in_a_segment_of_its_own,
        decided_by_an_operator,
        records_in_an_attachment,
        the_same_key_again,
        keys_of_removed_segments,
        keys_in_a_compacted_segment,
        a_key_of_large_content,
    )
}
