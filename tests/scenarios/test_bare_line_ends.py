"""An application that ends its lines as it likes: one message in, one out, octet for octet."""

import asyncio
from pathlib import Path

import pytest
from tests.support.operator import SOON, configured
from tests.support.peer import ExactPeer, ExactSession

from backstamp.telemetry import events

FALSE_ENDS = [
    b"\n.\n", b"\n.\r", b"\r.\n", b"\r.\r", b"\n.\r\n", b"\r.\r\n", b"\r\n.\n", b"\r\n.\r",
    b"\r\n.\r\r\n", b"\r\r\n.\r\r\n",
]  # fmt: skip
SMUGGLED = b"MAIL FROM:<smuggled@b.example>\r\nRCPT TO:<victim@d.example>\r\nDATA\r\n"
LISTEN = '[[listen]]\naddress = "127.0.0.1:0"\nsubmission = false\nline_endings = "normalize"\n'


async def take(session: ExactSession) -> None:
    """Take messages until the client leaves; what is heard is as it stood on the wire."""
    while True:
        await session.hear()
        line = session.heard[-1]
        if line == b"DATA":
            await session.say(b"354 go on\r\n")
            session.heard.append(await session.content() + b".\r\n")
        await session.say(b"250 ok\r\n")


@pytest.mark.parametrize("size", [0, 2 * 1024 * 1024], ids=["small", "large"])
async def test_what_leaves_is_octet_for_octet_what_was_queued(tmp_path: Path, size: int) -> None:
    """Security 2: no bare line end and no bare dot on the wire, and one message for each that came."""
    async with ExactPeer(take) as peer:
        route = '[[route]]\nmatch = "*"\nvia = "{}:{}"\n'.format(*peer.address)
        async with configured(tmp_path, LISTEN + route, schedule=SOON) as running:
            for number, end in enumerate(FALSE_ENDS if not size else FALSE_ENDS[:2]):
                body = b"x" * 70 + b"\r\n"
                raw = b"Subject: x\r\n\r\n" + body * (size // 72) + b"first" + end + SMUGGLED + b"z\r\n"
                said = (
                    b"EHLO c.example\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n"
                    + raw
                    + b".\r\nQUIT\r\n"
                )
                reader, writer = await asyncio.open_connection(*running.relay.addresses[1])
                writer.write(said)
                async with asyncio.timeout(20):
                    replies = await reader.read(-1)
                writer.close()
                assert replies.count(b"\r\n354 ") == 1
                assert replies.count(b"queued as") == 1
                await running.until(events.Delivered, number + 1)
                content = raw.replace(b"\r\n.", b"\r\n")
                content = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
                heard = [one for session in peer.sessions for one in session.heard]
                contents = [one for one in heard if one.endswith(b"\r\n.\r\n")]
                assert len(contents) == number + 1
                wire = contents[-1].partition(b"+0000\r\n")[2]
                assert wire == content.replace(b"\r\n.", b"\r\n..") + b".\r\n"
                assert not any(b"smuggled" in one for one in heard if one not in contents)
