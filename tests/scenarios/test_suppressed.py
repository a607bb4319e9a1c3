"""An address that bounced is not sent to again; whoever wants to is told so at once."""

import asyncio
import smtplib
from collections.abc import Callable
from pathlib import Path

from tests.support.door import door

from backstamp.clock import SystemClock
from backstamp.policy.suppression import Entry, Source, SuppressionPolicy
from backstamp.queue.files import DiskFiles
from backstamp.suppression.keeper import SuppressionList
from backstamp.telemetry.events import Event, Refused

SENDER = "news@origin.test"
TEXT = b"Subject: hello\r\n\r\nHello\r\n"


def send(
    address: tuple[str, int], recipients: list[str], sender: str = SENDER
) -> dict[str, tuple[int, bytes]]:
    """Send a message; return who was refused."""
    with smtplib.SMTP(*address, timeout=20) as client:
        return client.sendmail(sender, recipients, TEXT)


def listed(directory: Path, emit: Callable[[Event], None]) -> SuppressionList:
    policy = SuppressionPolicy(enabled=True)
    return SuppressionList(DiskFiles(), str(directory), policy, clock=SystemClock(), emit=emit)


async def test_after_two_bounces_a_recipient_is_refused_also_after_a_restart(tmp_path: Path) -> None:
    suppression = listed(tmp_path, [].append)
    await suppression.open()
    async with door(refuse=suppression.refuse) as here:
        for _ in range(2):
            assert await asyncio.to_thread(send, here.listener.address, ["gone@y.test", "ok@y.test"]) == {}
            # What delivery will say when the failure of a recipient is durable.
            suppression.bounced(b"gone@y.test", b"origin.test", "invalid-recipient", "550 5.1.1 unknown")
            await suppression.flush()
    await suppression.close()

    suppression = listed(tmp_path, [].append)
    await suppression.open()
    async with door(refuse=suppression.refuse) as here:
        refused = await asyncio.to_thread(send, here.listener.address, ["Gone@Y.test", "ok@y.test"])
        text = b"5.7.1 Recipient is on the suppression list: invalid-recipient"
        assert refused == {"Gone@Y.test": (550, text)}
        [message] = here.queue.messages
        assert [one.address for one in message.envelope.recipients] == [b"ok@y.test"]
        [told] = [event for event in here.events if isinstance(event, Refused)]
        assert (told.command, told.recipient) == ("RCPT", "TO:<Gone@Y.test>")

        other = "shop@else.test"
        assert await asyncio.to_thread(send, here.listener.address, ["gone@y.test"], other) == {}
        await suppression.remove("gone@y.test", None)
        assert await asyncio.to_thread(send, here.listener.address, ["gone@y.test"]) == {}
    await suppression.close()


async def test_a_domain_an_operator_wrote_down_gets_nothing_from_anybody(tmp_path: Path) -> None:
    suppression = listed(tmp_path, [].append)
    suppression.policy = SuppressionPolicy()
    await suppression.open()
    await suppression.add(Entry("@y.test", source=Source.OPERATOR))
    async with door(refuse=suppression.refuse) as here:
        refused = await asyncio.to_thread(send, here.listener.address, ["a@y.test", "b@sub.y.test"])
        assert list(refused) == ["a@y.test"]
    await suppression.close()
