"""A program that sends by BDAT where it may: what it sends arrives, octet for octet."""

import re
from pathlib import Path

import pytest
from tests.interop.access import Access, Entrance
from tests.interop.conftest import Front, Proved
from tests.interop.letters import large, letter
from tests.interop.servers import EximRelays
from tests.interop.test_clients import arrives
from tests.interop.wire import Wire

pytestmark = pytest.mark.interop


@pytest.mark.parametrize("front", [Access("clear")], ids=lambda access: access.name, indirect=True)
@pytest.mark.parametrize("size", [0, 5_000_000], ids=["small", "large"])
async def test_chunks_arrive_as_one_message(size: int, front: Front, place: Path, proved: Proved) -> None:
    """RFC 3030: chunks are counted, and nothing in them is doubled or ends them."""
    client = EximRelays()
    if lacks := client.missing():
        pytest.skip(lacks)
    sent = large(size) if size else letter()
    async with Wire(*front.entrance.address) as wire:
        front.entrance = Entrance(front.entrance.access, wire.port, front.entrance.ca)
        (message,) = await arrives(client, front, place, sent)
    chunks = re.findall(rb"(?m)^BDAT (\d+)( LAST)?\r$", wire.said)
    assert chunks[-1][1]
    assert not any(last for _, last in chunks[:-1])
    assert (len(chunks) > 1) == bool(size)
    assert not re.search(rb"(?m)^DATA\r$", wire.said)
    # All of it was in chunks: the content, and the one Received field that Exim put above.
    counted = sum(int(count) for count, _ in chunks)
    assert message.content[-counted:].startswith(b"Received: ")
    assert message.content[-counted:].endswith(sent.content)
    assert message.content[-counted:] in re.sub(rb"(?m)^BDAT \d+(?: LAST)?\r\n", b"", wire.said)
    proved("client", client.name, client.version(), "CHUNKING: BDAT, octet-exact")
