"""Backstamp-Idempotency-Key: taken out, judged, digested by whose it is; what clients are told."""

import itertools

import msgspec
import pytest
from tests.support.door import SETTINGS, RecordingQueue, door

from backstamp.clock import SystemClock
from backstamp.listener.intake import KEY, Door
from backstamp.listener.origin import Origin
from backstamp.listener.settings import ListenerSettings
from backstamp.mail.envelope import Envelope, Recipient
from backstamp.queue import ids
from backstamp.telemetry.events import Accepted, Event, Repeated

ENVELOPE = Envelope(b"a@b.example", (Recipient(b"c@d.example"),))
ORIGIN = Origin("127.0.0.1", "client", "ESMTP")
FIELD = b"Backstamp-Idempotency-Key: "
REST = b"Subject: x\r\n\r\nbody\r\n"


class Taking:
    """A door, its queue and its events."""

    def __init__(self) -> None:
        self.queue = RecordingQueue()
        self.events: list[Event] = []
        numbers = itertools.count(1)
        self.door = Door(
            self.queue,
            clock=SystemClock(),
            emit=self.events.append,
            entropy=lambda count: next(numbers).to_bytes(count, "big"),
        )

    async def take(
        self, content: bytes, origin: Origin = ORIGIN, settings: ListenerSettings = SETTINGS
    ) -> bytes:
        return (await self.door.take(content, ENVELOPE, origin, settings)).reply

    async def key(self, text: bytes, origin: Origin = ORIGIN, settings: ListenerSettings = SETTINGS) -> bytes:
        """Return the key that mail with a field of this value gets."""
        assert (await self.take(FIELD + text + b"\r\n" + REST, origin, settings)).startswith(b"250 ")
        message = self.queue.messages[-1]
        assert message.content.endswith(b"\r\n" + REST)
        assert b"idempotency" not in message.content.lower()
        return message.key


async def test_mail_without_the_field_has_no_key() -> None:
    taking = Taking()
    await taking.take(REST + FIELD + b"in the body\r\n")
    assert taking.queue.messages[0].key == b""


@pytest.mark.parametrize(
    "field",
    [
        b"Backstamp-Idempotency-Key:order 4711",
        b"backstamp-IDEMPOTENCY-key \t: \t order 4711 \t ",
        b"Backstamp-Idempotency-Key:\r\n order 4711\r\n\t",
        b"Backstamp-Idempotency-Key: order\r\n 4711",
    ],
)
async def test_however_the_field_is_written_it_is_one_key(field: bytes) -> None:
    taking = Taking()
    plain = await taking.key(b"order 4711")
    assert (await taking.take(b"From: a\r\n" + field + b"\r\n" + REST)).startswith(b"250 ")
    written = taking.queue.messages[-1]
    assert written.key == plain
    assert written.content.endswith(b"From: a\r\n" + REST)
    assert b"4711" not in written.content


async def test_the_key_of_a_user_is_that_users_and_without_one_the_listeners() -> None:
    taking = Taking()
    shop = msgspec.structs.replace(SETTINGS, tenant="shop")
    port = msgspec.structs.replace(SETTINGS, port=587)
    ann, bob = (msgspec.structs.replace(ORIGIN, user=user) for user in ("ann", "bob"))
    found = [
        await taking.key(b"k", origin, settings)
        for origin in (ORIGIN, ann, bob)
        for settings in (SETTINGS, shop, port)
    ]
    assert len({*found[:3]}) == 3
    assert len({*found[3:6]}) == len({*found[6:]}) == 1
    assert len({*found}) == 5


@pytest.mark.parametrize(
    "fields",
    [
        FIELD + b"\r\n",
        FIELD + b" \r\n \r\n",
        FIELD + b"x" * 201 + b"\r\n",
        FIELD + b"a\tb\r\n",
        FIELD + "ä".encode() + b"\r\n",
        FIELD + b"\x7f\r\n",
        FIELD + b"a\r\n" + FIELD + b"a\r\n",
        FIELD + b"a\r\nBackstamp-Tenant: shop\r\n" + FIELD + b"b\r\n",
    ],
)
async def test_what_is_not_one_key_is_refused(fields: bytes) -> None:
    taking = Taking()
    assert await taking.take(fields + REST) == KEY
    assert not taking.queue.messages


async def test_keys_of_one_and_of_two_hundred_octets_are_taken() -> None:
    taking = Taking()
    assert await taking.key(b"!") != await taking.key(b"~" * 200)


async def test_a_tenant_stands_beside_a_key() -> None:
    taking = Taking()
    await taking.key(b"k\r\nBackstamp-Tenant: shop")
    assert taking.queue.messages[0].envelope.parameters == b"TENANT=shop"


async def test_who_sends_again_is_told_the_first_250_and_it_is_an_event_of_its_own() -> None:
    taking = Taking()
    first = await taking.take(FIELD + b"k\r\n" + REST)
    taking.queue.stands = taking.queue.messages[0].queue_id
    assert await taking.take(FIELD + b"k\r\n" + REST) == first
    accepted, repeated = taking.events
    assert isinstance(accepted, Accepted)
    assert isinstance(repeated, Repeated)
    assert (repeated.queue_id, repeated.client) == (accepted.queue_id, "127.0.0.1")
    assert first == b"250 2.0.0 Ok: queued as %b\r\n" % accepted.queue_id.encode()


async def test_who_sends_a_large_message_again_is_told_the_first_250() -> None:
    """The same for content that is written as it arrives."""
    async with door() as opened:
        stands = opened.queue.stands = ids.make(1, bytes(10))
        answer = await opened.talk(
            b"EHLO a\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n"
            + FIELD
            + b"k\r\n\r\n"
            + (b"x" * 998 + b"\r\n") * 2000
            + b".\r\nQUIT\r\n"
        )
        assert b"250 2.0.0 Ok: queued as " + ids.text(stands).encode() in answer
        assert opened.queue.deposits
        assert isinstance(opened.events[-1], Repeated)
