"""Any host at the other end: whatever it says, the relay lives on, and its books agree with the host's.

What was told as delivered the host took; what it took twice was told as in doubt between; once the
hosts behave, nothing waits any more. SECONDS is how long the long proof goes on, SEED (it is told at
the end) is where the hosts' dice begin; who meets which roll is a matter of time.
"""

import asyncio
import os
import ssl
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest
import trustme
import uvloop
from tests.fuzz.host import Host
from tests.support.certificates import written
from tests.support.client import send
from tests.support.relay import relay, via

from backstamp.policy.destination import DestinationPolicy, Timeouts
from backstamp.policy.retry import RetryPolicy
from backstamp.telemetry import events

QUICK = Timeouts(connect=2, greeting=0.4, mail=0.4, rcpt=0.4, data=0.4, block=0.4, final=0.4, quit=0.2)
RETRY = RetryPolicy(schedule=(0.1, 0.2, 0.3), lifetime=86400.0)
CONNECTIONS = 5
SENDER = b"sender@origin.test"
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
SECONDS = float(os.environ.get("SECONDS", "600"))
Copy = tuple[str, bytes]
"""Queue id and recipient."""
SIZES = (20, 20, 20, 5000, 400_000)
"""Octets of a body; the last is streamed."""


async def siege(directory: Path, seed: int, messages: int) -> Counter[str]:
    """Relay messages to hosts that do anything, until they behave; return what happened, by name."""
    random = Random(seed)
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*written(authority, directory, "host.test"))
    broken: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: broken.append(context))
    policy = DestinationPolicy(timeouts=QUICK, connections=CONNECTIONS, recipients_per_transaction=3)
    async with Host(random, context) as one, Host(random, context) as other:
        routes = [via(one.address, "one.test"), via(other.address)]
        async with relay(directory, routes=routes, policy=policy, retry=RETRY) as running:
            waiting = asyncio.Semaphore(10)

            async def submit() -> None:
                domains = random.choices(["one.test", "other.test"], k=random.randint(1, 5))
                people = [f"u{number}@{domain}" for number, domain in enumerate(domains)]
                body = b"Subject: x\r\n\r\n" + b"x" * random.choice(SIZES) + b"\r\n.dot\r\n"
                async with waiting:
                    await send(running.address, people, content=body)

            async with asyncio.TaskGroup() as group:
                for _ in range(messages):
                    group.create_task(submit())
            await asyncio.sleep(1)
            early = len(running.events(events.Delivered))
            one.calm()
            other.calm()
            await running.until_empty(60)
            assert broken == []
            assert not running.events(events.Alarm)
            assert max(one.most, other.most) <= CONNECTIONS
            doubt = counted(running.events(events.InDoubt))
            told = counted(running.events(events.Delivered))
            failed = counted(running.events(events.Failed))
            compare(one.took + other.took, one.confused | other.confused, told, doubt, failed)
        deeds = one.deeds + other.deeds
        return Counter(delivered=len(told), early=early, doubt=len(doubt), failed=len(failed), **deeds)


def counted(found: Sequence[events.Delivered | events.InDoubt | events.Failed]) -> Counter[Copy]:
    return Counter((event.queue_id, event.recipient.encode()) for event in found)


def compare(
    took: Counter[Copy],
    confused: set[str],
    told: Counter[Copy],
    doubt: Counter[Copy],
    failed: Counter[Copy],
) -> None:
    """Hold what the relay told against what the hosts took."""
    assert not told.keys() & failed.keys()
    for copy, count in told.items():
        assert count == 1, f"{copy} was told {count} times"
        # Reports of this relay's own say nowhere in the mail which they are.
        assert took[copy] or copy[0] in confused or copy[1] == SENDER, f"{copy} was not taken"
    for copy, count in took.items():
        if copy[0] and copy[0] not in confused:
            assert count <= 1 + doubt[copy], f"{copy}: {count} copies"
            assert copy in told or copy in failed or doubt[copy], f"{copy} was taken, and nothing is told"


def run(
    loop: Callable[[], asyncio.AbstractEventLoop], siege: Coroutine[Any, Any, Counter[str]]
) -> Counter[str]:
    with asyncio.Runner(loop_factory=loop) as runner:
        return runner.run(siege)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("loop", LOOPS)
def test_whatever_a_host_says_the_relay_s_books_are_true(loop: str, seed: int, tmp_path: Path) -> None:
    found = run(LOOPS[loop], siege(tmp_path, seed, 30))
    assert found["delivered"] > 20, found


@pytest.mark.slow
@pytest.mark.timeout(int(2 * SECONDS) + 300)
@pytest.mark.parametrize(("name", "share"), [("uvloop", 0.5), ("asyncio", 0.2)])
def test_minutes_of_any_host_leave_the_books_true(
    name: str, share: float, tmp_path: Path, say: Callable[[str], None]
) -> None:
    seed = int(os.environ.get("SEED", time.time_ns() % 1_000_000))
    began = time.monotonic()
    found: Counter[str] = Counter()
    while time.monotonic() - began < SECONDS * share:
        seed += 1
        try:
            found += run(LOOPS[name], siege(tmp_path / str(seed), seed, 60))
        except BaseException as error:
            error.add_note(f"seed {seed - 1}")
            raise
    say(f"last seed {seed}: {dict(found)}")
