"""The HTTP door: what gets in, what it is told, what it may cost."""

import asyncio
import contextlib
import io
import itertools
import json
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import msgspec
import pytest
from aiohttp import ClientSession, TCPConnector
from multidict import CIMultiDict
from tests.support.door import SETTINGS, RecordingQueue

from backstamp.clock import SystemClock
from backstamp.inject import server as module
from backstamp.inject.server import Authenticate, InjectServer, Rated
from backstamp.listener import guard
from backstamp.listener.intake import Door
from backstamp.listener.settings import HttpSettings, Limits
from backstamp.listener.transaction import Refuse
from backstamp.mail.reply import Reply
from backstamp.policy.user import User
from backstamp.queue.port import Message, QueueRefusedError
from backstamp.telemetry.events import Accepted, Alarm, Event, Refused

MAIL = {"from": "a@x.example", "to": ["b@y.example"], "text": "hello"}
RAW = b"Subject: raw\r\n\r\nhello\r\n"


class Here:
    """A door under test, its queue, its events, and a client."""

    def __init__(
        self, server: InjectServer, queue: RecordingQueue, events: list[Event], client: ClientSession
    ) -> None:
        self.server = server
        self.queue = queue
        self.events = events
        self._client = client

    async def post(
        self,
        body: object,
        headers: Mapping[str, str] | None = None,
        *,
        query: str = "",
        kind: str = module.JSON,
    ) -> tuple[int, Any]:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        async with self._client.post(
            self.url(query), data=io.BytesIO(data), headers={"Content-Type": kind, **(headers or {})}
        ) as said:
            self.headers = said.headers
            return said.status, json.loads(await said.read())

    def url(self, query: str = "") -> str:
        return "http://{}:{}/api/v1/messages{}".format(*self.server.address, query)

    @property
    def contents(self) -> list[bytes]:
        """What is queued, without the trace line."""
        return [one.content.partition(b"+0000\r\n")[2] for one in self.queue.messages]

    async def until_busy(self) -> None:
        while not self.server._requests:
            await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def door(
    *,
    limits: Limits | None = None,
    refuse: Refuse = lambda *_: None,
    authenticate: Authenticate | None = None,
    rates: Rated | None = None,
    admit: Callable[[str, asyncio.BaseTransport], bool] = lambda *_: True,
    leave: Callable[[str], None] = lambda _: None,
    requests: int = 100,
    memory: int = 200_000_000,
    **changes: object,
) -> AsyncIterator[Here]:
    changes = {"submission": True, "limits": limits or Limits(), **changes}
    listener = msgspec.structs.replace(SETTINGS, **changes)
    queue, events, numbers = RecordingQueue(), list[Event](), itertools.count(1)
    behind = Door(
        queue,
        clock=SystemClock(),
        emit=events.append,
        entropy=lambda count: next(numbers).to_bytes(count, "big"),
        refuse=refuse,
    )
    server = InjectServer(
        HttpSettings(listener, requests, memory, auth=authenticate is not None),
        behind,
        **({} if authenticate is None else {"authenticate": authenticate}),
        rates=rates,
        admit=admit,
        leave=leave,
    )
    await server.start()
    try:
        async with ClientSession(connector=TCPConnector(force_close=True)) as client:
            yield Here(server, queue, events, client)
    finally:
        await server.close()
    assert (server._requests, server._held) == (0, 0), "what was counted is given back"


async def test_mail_is_taken_and_told_by_its_queue_id() -> None:
    async with door(tenant="shop") as here:
        status, said = await here.post({**MAIL, "cc": ["c@z.example"], "priority": 3})
        [queued] = here.queue.messages
        [event] = here.events
        assert isinstance(event, Accepted)
        assert status == 202
        assert said == {
            "messages": [{"recipients": ["b@y.example", "c@z.example"], "queue_id": event.queue_id}]
        }
        assert event.client == "127.0.0.1"
        assert queued.envelope.parameters == b"TENANT=shop MT-PRIORITY=3"
        lines = queued.content.split(b"\r\n")
        assert lines[0] == b"Received: from [127.0.0.1] ([127.0.0.1])"
        assert lines[1].startswith(b"\tby relay.example.org with HTTP id ")
        assert lines[3].startswith(b"Date: ")
        assert lines[4].startswith(b"Message-ID: <")


async def test_a_raw_message_is_taken_octet_for_octet() -> None:
    async with door(submission=False) as here:
        status, _ = await here.post(RAW, query="?from=a%40x.example&to=b@y.example", kind=module.MESSAGE)
        assert (status, here.contents) == (202, [RAW])
        said = await here.post(b"Subject: x\n\n", query="?from=&to=b@y.example", kind=module.MESSAGE)
        error = "550 5.6.0 The message has a bare LF; lines end by CRLF alone"
        assert said == (422, {"error": error, "messages": [{"recipients": ["b@y.example"], "error": error}]})
        assert isinstance(here.events[-1], Refused)
        status, said = await here.post(RAW, query="?from=x&to=b@y.example", kind=module.MESSAGE)
        assert (status, [one["path"] for one in said["errors"]]) == (400, ["from"])
        assert (await here.post(MAIL, query="?from="))[0] == 400


async def test_the_key_of_a_request_goes_before_its_messages() -> None:
    async with door(submission=False) as here:
        key = {"Idempotency-Key": "order-17"}
        await here.post(RAW, key, query="?from=&to=b@y.example", kind=module.MESSAGE)
        assert here.contents == [RAW]
        people = [{"address": f"{number}@y.example"} for number in range(3)]
        await here.post({"from": "a@x.example", "text": "", "recipients": people}, key)
        assert len({one.key for one in here.queue.messages}) == 4
        assert all(b"idempotency" not in one.lower() for one in here.contents)
        assert (await here.post(MAIL, {"Idempotency-Key": "a b"}))[0] == 400
        two = CIMultiDict([("Idempotency-Key", "a"), ("Idempotency-Key", "b"), ("Content-Type", module.JSON)])
        async with ClientSession() as client, client.post(here.url(), json=MAIL, headers=two) as said:
            assert said.status == 400


async def test_some_recipients_refused_and_all() -> None:
    """Security 10: what RCPT refuses is refused here."""

    def refuse(address: bytes, whose: bytes) -> bytes | None:
        return b"550 5.7.1 no\r\n" if (address, whose) == (b"no@y.example", b"t") else None

    async with door(refuse=refuse, tenant="t") as here:
        status, said = await here.post({**MAIL, "to": ["no@y.example", "b@y.example", "c@[127.0.0.1]"]})
        assert status == 202
        assert said["messages"][0]["recipients"] == ["b@y.example"]
        assert said["messages"][0]["refused"] == [
            {"address": "no@y.example", "reply": "550 5.7.1 no"},
            {"address": "c@[127.0.0.1]", "reply": "550 5.1.2 Address literals are not accepted"},
        ]
        assert [one.address for one in here.queue.messages[0].envelope.recipients] == [b"b@y.example"]
        assert [one.recipient for one in here.events if isinstance(one, Refused)] == [
            "no@y.example",
            "c@[127.0.0.1]",
        ]
        assert (await here.post({**MAIL, "to": ["no@y.example"]}))[1]["error"] == "550 5.7.1 no"
        status, said = await here.post({**MAIL, "to": ["no@y.example", "c@[127.0.0.1]"]})
        assert (status, said["error"]) == (422, "554 5.5.1 No valid recipients")


class Few:
    """Rates of somebody who may hand in two messages, and name three recipients."""

    def __init__(self) -> None:
        self.messages, self.recipients = 2, 3
        self.users: list[str] = []

    def message(self, user: str, before: int) -> bytes | None:
        self.users.append(user)
        self.messages -= 1
        return b"450 4.7.1 messages\r\n" if self.messages < 0 or before else None

    def recipient(self, user: str) -> bytes | None:
        self.users.append(user)
        self.recipients -= 1
        return b"450 4.7.1 recipients\r\n" if self.recipients < 0 else None


async def test_rates_hold_here_too() -> None:
    """Who may send so much a minute by SMTP may not send more by HTTP."""

    async def authenticate(*_: str) -> User:
        return User("joe")

    few, asked = Few(), []

    def rates(peer: str) -> Few:
        asked.append(peer)
        return few

    async with door(authenticate=authenticate, rates=rates) as here:
        who = {"Authorization": "Bearer x"}
        assert (await here.post({**MAIL, "to": ["a@[127.0.0.1]", "b@y.example", "c@y.example"]}, who))[
            0
        ] == 202
        status, said = await here.post({**MAIL, "to": ["b@y.example", "c@y.example"]}, who)
        assert (status, said["messages"][0]["refused"]) == (
            202,
            [{"address": "c@y.example", "reply": "450 4.7.1 recipients"}],
        )
        status, said = await here.post(MAIL, who)
        assert (status, said["error"]) == (503, "450 4.7.1 messages")
        few.messages = 1
        status, said = await here.post({**MAIL, "to": ["a@[127.0.0.1]", "b@y.example"]}, who)
        assert (status, said["error"], here.headers["Retry-After"]) == (503, "450 4.7.1 recipients", "30")
        assert len(here.queue.messages) == 2
        assert (set(few.users), set(asked)) == ({"joe"}, {"127.0.0.1"})
        assert {one.user for one in here.events if isinstance(one, Refused)} == {"joe"}


async def test_a_message_for_each_and_what_became_of_it() -> None:
    def refuse(address: bytes, _: bytes) -> bytes | None:
        return b"550 5.7.1 no\r\n" if address == b"1@y.example" else None

    async with door(refuse=refuse) as here:
        people = [
            {"address": f"{number}@y.example", "substitutions": {"n": str(number)}} for number in range(40)
        ]
        order = {"from": "a@x.example", "subject": "Hello {{n}}", "text": "", "recipients": people}
        status, said = await here.post(order)
        assert status == 207
        assert [bool(one.get("queue_id")) for one in said["messages"]] == [
            number != 1 for number in range(40)
        ]
        assert len({one["queue_id"] for one in said["messages"] if "queue_id" in one}) == 39
        for queued in here.queue.messages:
            [one] = queued.envelope.recipients
            assert b"\r\nTo: %b\r\nSubject: Hello %b\r\n" % (one.address, one.address[:-10]) in queued.content
        here.queue.error = QueueRefusedError(Reply(452, "4.3.1 full"))
        assert (await here.post(order))[0] == 503


async def test_local_trouble_is_503_and_to_be_tried_again() -> None:
    async with door() as here:
        here.queue.error = QueueRefusedError(Reply(452, "4.3.1 full"))
        status, said = await here.post(MAIL)
        assert (status, said["error"], here.headers["Retry-After"]) == (503, "452 4.3.1 full", "30")
        here.queue.error = RuntimeError("a bug")
        assert (await here.post(MAIL))[0] == 503
        assert isinstance(here.events[-2], Alarm)


async def test_a_bug_before_the_door_is_503_too(monkeypatch: Any) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a bug")

    async with door() as here:
        with monkeypatch.context() as patch:
            patch.setattr(module.build, "envelope", broken)
            status, said = await here.post(MAIL)
            assert (status, said["messages"][0]["error"][:3]) == (503, "451")
            patch.setattr(module.answer, "of", broken)
            assert (await here.post(MAIL))[0] == 503
        assert (await here.post(MAIL))[0] == 202


async def test_what_is_wrong_is_named() -> None:
    async with door() as here:
        status, said = await here.post({**MAIL, "to": ["x"], "textt": ""})
        assert (status, said["errors"]) == (400, [{"path": "textt", "problem": "is not known"}])
        status, said = await here.post({**MAIL, "to": ["x"]})
        assert said["error"] == "to[0]: is not an address; write user@example.org"


async def test_another_method_or_path_is_told_in_json_too() -> None:
    async with door() as here, ClientSession() as client:
        async with client.get(here.url()) as said:
            assert (said.status, said.headers["Allow"]) == (405, "POST")
            assert (await said.json())["error"].startswith("method not allowed; ")
        async with client.post(here.url("s"), json=MAIL) as said:
            assert said.status == 404
            assert (await said.json())["error"].startswith("not found; ")


async def test_who_may_not_relay_is_not_read() -> None:
    """Security 10: the address of the connection decides."""
    async with door(allow=()) as here:
        status, said = await here.post(MAIL, {"X-Forwarded-For": "127.0.0.1", "Forwarded": "for=127.0.0.1"})
        assert (status, said) == (403, {"error": "550 5.7.1 Relaying denied"})
        assert not here.queue.messages


async def test_who_is_known_may() -> None:
    """Security 11: with authentication no address is enough, and what is unknown is told alike."""
    asked = []

    async def authenticate(scheme: str, credentials: str, peer: str) -> User | None:
        asked.append((scheme, credentials, peer))
        if scheme == "basic":
            raise module.UndecidedError("454 4.7.0 Temporary authentication failure")
        return User("joe") if credentials == "secret" else None

    async with door(authenticate=authenticate) as here:
        for headers in ({}, {"Authorization": "Bearer"}, {"Authorization": "Bearer wrong"}):
            assert (await here.post(MAIL, headers))[0] == 401
            assert here.headers.getall("WWW-Authenticate") == [
                'Basic realm="backstamp", charset="UTF-8"',
                'Bearer realm="backstamp"',
            ]
        said = await here.post(MAIL, {"Authorization": "Basic eDp5"})
        assert said == (503, {"error": "454 4.7.0 Temporary authentication failure"})
        assert (await here.post(MAIL, {"Authorization": "BEARER secret"}))[0] == 202
        assert asked[-1] == ("bearer", "secret", "127.0.0.1")
        *_, event = here.events
        assert isinstance(event, Accepted)
        assert event.user == "joe"


async def test_no_page_of_a_browser_gets_in() -> None:
    async with door() as here:
        for kind in ("application/x-www-form-urlencoded", "text/plain", "multipart/form-data; boundary=x"):
            assert (await here.post(MAIL, kind=kind))[0] == 415
        assert (await here.post(MAIL, {"Origin": "http://evil.example"}))[0] == 403
        assert (await here.post(b"\x1f\x8b", {"Content-Encoding": "gzip"}))[0] == 415
        assert not here.queue.messages
        assert [isinstance(event, Refused) for event in here.events] == [True] * 5, "an operator sees it"


async def chunks(size: int, ended: Callable[[], object] = lambda: None) -> AsyncIterator[bytes]:
    for _ in range(size // 1000):
        yield b"x" * 1000
    ended()


async def test_a_body_has_a_size() -> None:
    """Security 15: what is too large is not gathered, announced or not."""
    async with door(limits=Limits(message_size=10_000), submission=False) as here:
        query = "?from=&to=b@y.example"
        fits = b"\r\n" + b"x" * 9_998
        assert (await here.post(fits, query=query, kind=module.MESSAGE))[0] == 202
        assert (await here.post(fits + b"x", query=query, kind=module.MESSAGE))[0] == 413
        async with here._client.post(
            here.url(query), data=chunks(11_000), headers={"Content-Type": module.MESSAGE}
        ) as said:
            assert said.status == 413
        assert (await here.post({**MAIL, "text": "x" * 1_100_000}))[0] == 413
        assert (await here.post({**MAIL, "text": "x" * 11_000}))[1]["error"].startswith("552 5.3.4 ")


async def test_bodies_together_have_a_size() -> None:
    """Security 15: so many octets of bodies are held at a time."""
    async with door(memory=2000) as here:
        waiting = asyncio.Event()

        async def held(message: Message) -> bytes:
            await waiting.wait()
            return message.queue_id

        here.queue.append = held  # type: ignore[method-assign,assignment]
        first = asyncio.create_task(here.post({**MAIL, "text": "x" * 1500}))
        while here.server._held < 1500:
            await asyncio.sleep(0)
        assert (await here.post({**MAIL, "text": "x" * 1000}))[0] == 503
        waiting.set()
        assert (await first)[0] == 202
        assert (await here.post({**MAIL, "text": "x" * 1000}))[0] == 202
        # For what has never room the client is not to try again.
        assert (await here.post({**MAIL, "text": "x" * 2000}))[0] == 413


async def test_requests_have_a_number() -> None:
    """Security 15: so many are served at a time; who waits for the queue counts."""
    async with door(requests=1) as here:
        waiting = asyncio.Event()

        async def held(message: Message) -> bytes:
            await waiting.wait()
            return message.queue_id

        here.queue.append = held  # type: ignore[method-assign,assignment]
        first = asyncio.create_task(here.post(MAIL))
        await here.until_busy()
        assert (await here.post(MAIL))[0] == 503
        waiting.set()
        assert (await first)[0] == 202


async def test_a_body_has_a_time() -> None:
    """Security 14: a body that trickles is not waited for."""
    async with door(limits=Limits(message=0.05)) as here:
        reader, writer = await asyncio.open_connection(*here.server.address)
        head = "POST /api/v1/messages HTTP/1.1\r\nHost: x\r\n"
        head += "Content-Type: application/json\r\nContent-Length: 9\r\n\r\n{"
        writer.write(head.encode())
        assert (await reader.readline()).startswith(b"HTTP/1.1 408 ")
        writer.close()


async def test_half_a_body_is_no_message() -> None:
    async with door() as here:
        _, writer = await asyncio.open_connection(*here.server.address)
        head = "POST /api/v1/messages?from=&to=b@y.example HTTP/1.1\r\nHost: x\r\n"
        head += "Content-Type: message/rfc822\r\n"
        writer.write(head.encode() + b"Content-Length: 90\r\n\r\n" + RAW)
        await here.until_busy()
        writer.transport.abort()
        while here.server._requests:
            await asyncio.sleep(0.01)
        assert not here.queue.messages
        assert not here.events, "a client that goes away is no trouble of the relay's"


async def test_a_large_letter_is_built_beside_the_loop() -> None:
    async with door() as here:
        status, _ = await here.post({**MAIL, "text": "x" * 400_000})
        assert (status, len(here.queue.messages)) == (202, 1)


async def test_an_address_that_is_taken() -> None:
    async with door() as here:
        listener = msgspec.structs.replace(SETTINGS, port=here.server.address[1])
        other = InjectServer(HttpSettings(listener), here.server._door)
        with pytest.raises(OSError):
            await other.start()


async def test_who_keeps_a_connection_is_told_when_the_relay_stops() -> None:
    async with door() as here:
        here.server._closing = True
        status, said = await here.post(MAIL)
        assert (status, said) == (503, {"error": "the relay is stopping"})
        assert not here.queue.messages


async def test_connections_are_counted_before_anything_is_said() -> None:
    """Who connects and asks for nothing takes nobody's place without being counted."""
    here_now: list[str] = []

    def admit(peer: str, _: asyncio.BaseTransport) -> bool:
        if len(here_now) == 2:
            return False
        here_now.append(peer)
        return True

    async with door(admit=admit, leave=here_now.remove) as here:
        idle = [await asyncio.open_connection(*here.server.address) for _ in range(2)]
        reader, writer = await asyncio.open_connection(*here.server.address)
        assert (await reader.read()).startswith(b"HTTP/1.1 503 ")
        writer.close()
        assert here_now == ["127.0.0.1"] * 2
        for _, writer in idle:
            writer.close()
        while here_now:
            await asyncio.sleep(0.01)
        assert (await here.post(MAIL))[0] == 202


@pytest.mark.parametrize(
    ("limits", "trickles"),
    [(Limits(block=0.2), False), (Limits(block=0.2, min_data_rate=1000), True), (Limits(message=0.2), True)],
)
async def test_a_body_that_stands_still_or_trickles_is_cut_off(limits: Limits, trickles: bool) -> None:
    """Security 14: as a content by SMTP; a hundred of them would be all that are served at a time."""
    async with door(limits=limits) as here:
        reader, writer = await asyncio.open_connection(*here.server.address)
        writer.write(
            b"POST /api/v1/messages HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: 100000\r\n\r\n{"
        )
        answer = asyncio.create_task(reader.read(12))
        async with asyncio.timeout(20):
            while not answer.done():
                if trickles:
                    writer.write(b" ")
                await asyncio.sleep(0.02)
        assert await answer == b"HTTP/1.1 408"
        [event] = here.events
        assert isinstance(event, Refused)
        assert event.reply == "the body took too long"
        writer.close()


async def test_a_request_that_never_comes_whole_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "HEAD", 0.05)
    async with door() as here:
        for said in (b"", b"POST /api/v1/messages HTTP/1.1\r\nHost: x\r\n"):
            reader, writer = await asyncio.open_connection(*here.server.address)
            writer.write(said)
            assert await asyncio.wait_for(reader.read(), 20) == b""
            writer.close()


@pytest.mark.parametrize(
    ("body", "query", "kind", "reply"),
    [
        (b"{", "", module.JSON, "body: not JSON: "),
        (b'{"from": "nobody"}', "", module.JSON, "from: is not an address; write user@example.org"),
        (RAW, "?to=b@y.example", module.MESSAGE, "from: is missing"),
    ],
)
async def test_a_request_that_is_wrong_is_told_as_other_refusals(
    body: bytes, query: str, kind: str, reply: str
) -> None:
    """As a MAIL or RCPT that is none: whoever looks why mail does not come finds it."""

    async def authenticate(*_: str) -> User:
        return User("joe")

    async with door(authenticate=authenticate) as here:
        status, _ = await here.post(body, {"Authorization": "Bearer x"}, query=query, kind=kind)
        assert status == 400
        [event] = here.events
        assert isinstance(event, Refused)
        assert (event.client, event.user, event.command) == ("127.0.0.1", "joe", "POST")
        assert event.reply.startswith(reply)
