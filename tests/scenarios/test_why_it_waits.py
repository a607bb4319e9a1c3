"""A smarthost that wants five minutes: the message that waits says so, why, and until when."""

import json
from pathlib import Path

from tests.support.client import send
from tests.support.relay import relay, via
from tests.unit.admin.test_server import get

from backstamp.policy.adapt import Action, Adaptation
from backstamp.policy.retry import RetryPolicy
from backstamp.sink.server import Sink
from backstamp.telemetry import events

ASKS = Adaptation("*", r"421.*try again in", Action.PAUSE, 60.0)


async def test_a_pause_a_host_asked_for_is_explained(tmp_path: Path) -> None:
    async with (
        Sink() as sink,
        relay(
            tmp_path, routes=[via(sink.address)], retry=RetryPolicy(), admin=True, adaptations=[ASKS]
        ) as running,
    ):
        sink.script.say("MAIL", 421, "4.7.0 too busy, try again in 5 minutes")
        await send(running.address, ["first@y.test"])
        await running.until(events.Throttled)
        await running.until(events.Deferred)
        await send(running.address, ["second@z.test"])
        pause = running.events(events.Throttled)[0]
        admin = running.relay.addresses[-1]
        for number, state in ((0, "waits for its next try"), (1, "waits for the end of a pause")):
            queue_id = running.events(events.Accepted)[number].queue_id
            answer = json.loads((await get(admin, f"/api/v1/explain/{queue_id}"))[1])
            [found] = answer["facts"]["destinations"]
            assert found["state"] == state
            limit = found["way"]["limits"][0]
            assert abs(limit["paused_until"] - (pause.time / 1e6 + 300)) < 1
            assert abs(limit["learned"]["pause"]["since"] - pause.time / 1e6) < 1
            words = " ".join(answer["text"].split())
            assert "said 421 4.7.0 too busy, try again in 5 minutes (a rule for all: pause on" in words
            assert "(in 5 min)" in words or "(in 4 min" in words
