"""The HTTP door: who may, a body within its bounds, an order, and the door that SMTP's mail goes through.

A queue id is told after the sync and never before. No page of a browser gets in: it would have to
send a type of body that browsers ask leave for, and says its Origin, which is refused. What a request
may cost is bounded before it is paid: requests at a time, octets of bodies together, the time of a body.
"""

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler

from backstamp.inject import answer, build, query, request
from backstamp.inject import order as orders
from backstamp.inject.answer import RETRY_AFTER, Answer, Outcome, Refusal
from backstamp.inject.order import Item, Order
from backstamp.inject.shape import MistakenError
from backstamp.inject.wishes import Wishes
from backstamp.listener import admission, guard
from backstamp.listener.client import names_tenant, tenant_of
from backstamp.listener.intake import Door
from backstamp.listener.origin import Origin, Verdict
from backstamp.listener.pace import Pace
from backstamp.listener.settings import HttpSettings
from backstamp.listener.transaction import Rates
from backstamp.mail.envelope import Envelope, flow
from backstamp.policy.user import User
from backstamp.telemetry.events import Refused
from backstamp.text import printable

PATH: Final = "/api/v1/messages"
JSON: Final = "application/json"
MESSAGE: Final = "message/rfc822"

LINE: Final = 65536
"""Octets of a request line: a raw message's envelope stands in it."""

INLINE: Final = 262144
"""Octets of a body from which on it is read and its messages are built beside the loop."""

ABREAST: Final = 16
"""Messages of one order that are taken at a time, if they are small."""

ABREAST_OCTETS: Final = 8_000_000
"""Octets of bodies that such messages may come to together."""

_KEY: Final = re.compile(r"[!-~]{1,190}")

Authenticate = Callable[[str, str, str], Awaitable[User | None]]
"""From a scheme in lower case (`basic`, `bearer`), credentials as they came and a peer to a user.

None: they are wrong. Raises `UndecidedError` where that cannot be told now.
"""

Rated = Callable[[str], Rates]
"""From a peer to the rates that hold for it."""


class UndecidedError(Exception):
    """Whether credentials are right cannot be told now; the text is the SMTP reply (4yz)."""


class _EndedError(Exception):
    """A request ends here."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.answer = answer.problem(status, text)


async def _nobody(*_: str) -> User | None:
    """Know no user."""
    return None


@web.middleware
async def _told(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Say what there is no handler for (404, 405) as everything else is said, in JSON."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        said = answer.problem(error.status, f"{error.reason.lower()}; mail is handed in by POST {PATH}")
        headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else None
        return web.Response(body=said.body, status=said.status, content_type=JSON, headers=headers)


class InjectServer:
    """Serves `POST /api/v1/messages`. `settings` may be replaced while it runs; the next request sees it.

    With `auth` in them every request needs a user whom `authenticate` knows; without, an address that may
    relay. With `rates` messages and recipients are counted as those of SMTP, by `admit` and `leave`
    connections. `grace` is the seconds that requests under way have when it closes.
    """

    def __init__(
        self,
        settings: HttpSettings,
        door: Door,
        *,
        authenticate: Authenticate = _nobody,
        rates: Rated | None = None,
        admit: Callable[[str, asyncio.BaseTransport], bool] = lambda *_: True,
        leave: Callable[[str], None] = lambda _: None,
        grace: float = 5.0,
    ) -> None:
        self.settings = settings
        self._door = door
        self._authenticate = authenticate
        self._rates = rates
        self._requests = 0
        self._held = 0
        self.address = (settings.listener.host, settings.listener.port)
        """Where it listens; the port is the real one once it does."""
        application = web.Application(middlewares=[_told])
        application.router.add_post(PATH, self._post)
        self._runner = web.AppRunner(
            application,
            access_log=None,
            handle_signals=False,
            auto_decompress=False,
            max_line_size=LINE,
            shutdown_timeout=1.0,
            keepalive_timeout=guard.HEAD,
            logger=guard.bugs(),
        )
        self._admit, self._leave = admit, leave
        self._listening: asyncio.Server | None = None
        self._grace = grace
        self._closing = False
        self._idle = asyncio.Event()

    async def start(self) -> None:
        """Listen. Raises OSError if the address cannot be had."""
        await self._runner.setup()
        handlers = self._runner.server
        assert handlers is not None
        host, port = self.address
        try:
            self._listening = await guard.listen(handlers, host, port, admit=self._admit, leave=self._leave)
        except OSError:
            await self._runner.cleanup()
            raise
        name = self._listening.sockets[0].getsockname()
        self.address = (str(name[0]), int(name[1]))

    async def close(self) -> None:
        """Stop listening; what is under way is read to its end and answered, if that is soon."""
        self._closing = True
        if self._listening is not None:
            self._listening.close()
        # aiohttp reads nothing more once it is told to end, so that is told last.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._grace):
                while self._requests:
                    self._idle.clear()
                    await self._idle.wait()
        await self._runner.cleanup()

    # ---- a request ----

    async def _post(self, asked: web.Request) -> web.Response:
        try:
            with self._counted():
                said = await self._answer(asked)
        except _EndedError as error:
            said = error.answer
            if said.status != 401:  # who is wrong about a password has events of its own
                self._refused(Origin(admission.plain(asked.remote or ""), "", ""), b"", str(error))
        except (web.RequestPayloadError, ConnectionError):
            said = answer.problem(400, "the body did not come whole")
        except Exception as error:  # a bug must cost no mail: the client keeps it and tries again
            said = answer.problem(503, self._door.broken(error).decode("ascii").rstrip())
        response = web.Response(body=said.body, status=said.status, content_type=JSON)
        if said.retry:
            response.headers["Retry-After"] = str(RETRY_AFTER)
        if said.status == 401:
            response.headers["WWW-Authenticate"] = 'Basic realm="backstamp", charset="UTF-8"'
            response.headers.add("WWW-Authenticate", 'Bearer realm="backstamp"')
        return response

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        if self._closing:
            raise _EndedError(503, "the relay is stopping")
        if self._requests >= self.settings.requests:
            raise _EndedError(503, "too many requests at a time")
        self._requests += 1
        try:
            yield
        finally:
            self._requests -= 1
            self._idle.set()

    async def _answer(self, asked: web.Request) -> Answer:
        settings = self.settings
        peer = admission.plain(asked.remote or "")
        user = await self._user(asked, peer)
        headers = asked.headers
        if "Origin" in headers:
            raise _EndedError(403, "pages of a browser may not hand in mail")
        if "Content-Encoding" in headers:
            raise _EndedError(415, "the body is sent as it is, without a Content-Encoding")
        if asked.content_type not in {JSON, MESSAGE}:
            raise _EndedError(
                415, f"the body is JSON or a message, and says so (Content-Type: {JSON} or {MESSAGE})"
            )
        keys = headers.getall("Idempotency-Key", [])
        if len(keys) > 1:
            raise _EndedError(400, "Idempotency-Key is given twice")
        key = keys[0] if keys else None
        if key is not None and _KEY.fullmatch(key) is None:
            raise _EndedError(400, "Idempotency-Key is 1 to 190 printable ASCII characters without spaces")
        raw = asked.content_type == MESSAGE
        limit = settings.listener.limits.message_size
        # Base64 and JSON's escapes make more of the same message.
        limit = limit if raw else 2 * limit + 1_000_000
        # What could never be taken is not to be sent again, as after a 503.
        limit = min(limit, settings.memory)
        body = bytearray()
        try:
            await self._read(asked, body, limit)
            size = len(body)
            literal = f"IPv6:{peer}" if ":" in peer else peer
            name = "" if user is None else printable(user.name)
            origin = Origin(peer, f"[{literal}]", "HTTP", name, account=user)
            try:
                if size < INLINE:
                    order = self._order(asked, bytes(body), user, raw=raw)
                else:
                    order = await asyncio.to_thread(self._order, asked, bytes(body), user, raw=raw)
            except MistakenError as error:
                self._refused(origin, b"", printable(str(error)))
                return answer.mistakes(error)
            return answer.of(await self._take(order, origin, key, size, settings))
        finally:
            self._held -= len(body)

    async def _user(self, asked: web.Request, peer: str) -> User | None:
        """Return who asks, None where an address is enough."""
        if not self.settings.auth:
            if not admission.may_relay(peer, self.settings.listener.allow):
                raise _EndedError(403, admission.DENIED)
            return None
        scheme, _, credentials = asked.headers.get("Authorization", "").partition(" ")
        try:
            user = (
                await self._authenticate(scheme.lower(), credentials.strip(), peer) if credentials else None
            )
        except UndecidedError as error:
            raise _EndedError(503, str(error)) from None
        if user is None:
            raise _EndedError(401, "authentication is required (Authorization: Basic or Bearer)")
        return user

    async def _read(self, asked: web.Request, body: bytearray, limit: int) -> None:
        """Read the body as it comes, at the pace of a content; each piece is counted before the next."""
        settings = self.settings
        too_big = f"the body has more than {limit} octets"
        if (asked.content_length or 0) > limit:
            raise _EndedError(413, too_big)
        now = asyncio.get_running_loop().time
        pace = Pace(settings.listener.limits, now())
        pace.begin(now())
        try:
            async with asyncio.timeout_at(pace.deadline(now())) as time:
                async for piece in asked.content.iter_any():
                    pace.took(len(piece), now())
                    time.reschedule(pace.deadline(now()))
                    if len(body) + len(piece) > limit:
                        raise _EndedError(413, too_big)
                    if self._held + len(piece) > settings.memory:
                        raise _EndedError(503, "too many octets of requests at a time")
                    body += piece
                    self._held += len(piece)
        except TimeoutError:
            raise _EndedError(408, "the body took too long") from None

    def _order(self, asked: web.Request, body: bytes, user: User | None, *, raw: bool) -> Order:
        listener = self.settings.listener
        wishes = Wishes(
            listener.limits.recipients,
            listener.tenant if user is None else tenant_of(user),
            names_tenant(listener, user),
            listener.priority,
            listener.priority_limit,
        )
        if raw:
            return query.read(asked.query, body, wishes)
        if asked.query:
            raise _EndedError(400, "a query goes with message/rfc822; JSON says it all itself")
        return request.read(body, wishes)

    # ---- its messages ----

    async def _take(
        self, order: Order, origin: Origin, key: str | None, size: int, settings: HttpSettings
    ) -> Sequence[Outcome]:
        """Take an order's messages, some at a time, and tell of each."""
        if order.persons is None:
            return [await self._take_one(order, next(orders.items(order)), origin, key, size, settings)]
        numbered = enumerate(orders.items(order))
        outcomes: dict[int, Outcome] = {}

        async def work() -> None:
            for number, item in numbered:
                own = None if key is None else f"{key}/{number}"
                outcomes[number] = await self._take_one(order, item, origin, own, size, settings)

        async with asyncio.TaskGroup() as group:
            for _ in range(max(1, min(ABREAST, ABREAST_OCTETS // (size + 1)))):
                group.create_task(work())
        return [outcomes[number] for number in sorted(outcomes)]

    async def _take_one(
        self, order: Order, item: Item, origin: Origin, key: str | None, size: int, settings: HttpSettings
    ) -> Outcome:
        whose = flow(Envelope(order.sender, (), order.parameters)).tenant
        rates = None if self._rates is None else self._rates(origin.peer)
        if rates is not None and (limited := rates.message(_name(origin), 0)) is not None:
            error = _shown(limited)
            self._refused(origin, order.sender, error)
            return Outcome(tuple(_text(one) for one in item.recipients), error=error)
        refused = []
        for address in item.recipients:
            if (reply := self._refusal(address, whose, rates, origin)) is not None:
                refused.append(Refusal(_text(address), reply))
                self._refused(origin, order.sender, reply, address)
        away = {one.address for one in refused}
        item = Item(tuple(one for one in item.recipients if _text(one) not in away), item.letter)
        if not item.recipients:
            return answer.nobody(refused)
        token = self._door.entropy(12).hex()
        try:
            if size < INLINE:
                content = _content(item, token, key)
            else:
                content = await asyncio.to_thread(_content, item, token, key)
            envelope = build.envelope(order, item, content)
            verdict = await self._door.take(content, envelope, origin, settings.listener)
        except Exception as broken:  # what became of the order's other messages must still be told
            verdict = Verdict(self._door.broken(broken))
        taken = tuple(_text(one) for one in item.recipients)
        if verdict.reply.startswith(b"2"):
            return Outcome(taken, verdict.queue_id, refused=tuple(refused))
        reply = _shown(verdict.reply)
        self._refused(origin, order.sender, reply)
        return Outcome(taken, error=reply, refused=tuple(refused))

    def _refusal(self, address: bytes, whose: bytes, rates: Rates | None, origin: Origin) -> str | None:
        """Return what RCPT would be answered, None if the recipient is taken."""
        if (reply := admission.recipient(address, allowed=True)) is not None:
            return reply
        said = self._door.refuse(address, whose)
        if said is None and rates is not None:
            said = rates.recipient(_name(origin))
        return None if said is None else _shown(said)

    def _refused(self, origin: Origin, sender: bytes, reply: str, recipient: bytes = b"") -> None:
        self._door.emit(
            Refused(
                time=self._now(),
                client=origin.peer,
                command="POST",
                reply=reply,
                sender=_text(sender),
                recipient=_text(recipient),
                user=origin.user,
            )
        )

    def _now(self) -> int:
        return int(self._door.clock.wall() * 1e6)


def _content(item: Item, token: str, key: str | None) -> bytes:
    letter = item.letter
    content = letter if isinstance(letter, bytes) else build.content(letter, token)
    return content if key is None else build.keyed(content, key)


def _name(origin: Origin) -> str:
    return "" if origin.account is None else origin.account.name


def _shown(reply: bytes) -> str:
    return reply.decode("ascii", "backslashreplace").rstrip()


def _text(address: bytes) -> str:
    return address.decode("utf-8", "backslashreplace")
