"""A relay, a sink behind it and room for other programs; and the table of what was proven.

What a test proved it says with `proved`; a whole run with `--interop-report FILE` writes the table.
"""

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from aiohttp import web
from tests.interop import report
from tests.interop.access import (
    ACCESSES,
    BEARER,
    TOKEN,
    USER,
    Access,
    Certificates,
    Entrance,
    settings,
    users,
)
from tests.support.relay import RunningRelay, run

from backstamp.sink.server import Options, Received, Sink, keywords

Proved = Callable[..., None]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--interop-report", default="", help="the file the table of what was proven is written to"
    )


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    rows = [
        row
        for one in terminalreporter.getreports("passed")
        for name, row in one.user_properties
        if name == "interop"
    ]
    file = config.getoption("--interop-report")
    broken = terminalreporter.getreports("failed") + terminalreporter.getreports("error")
    if file and rows and not broken:
        Path(file).write_text(report.written(rows))


@pytest.fixture
def proved(record_property: Callable[[str, object], None]) -> Proved:
    """Say that a program of a version, in a role, did something; and by which kind of access."""

    def say(role: str, name: str, version: str, what: str, way: str = "") -> None:
        record_property("interop", [role, name, version, what, way])

    return say


@pytest.fixture
def place() -> Iterator[Path]:
    """Give a directory that other users can reach."""
    path = Path(tempfile.mkdtemp(prefix="backstamp-interop-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Give an authority and a certificate for this machine."""
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def users_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a users file with the one user there is."""
    return users(tmp_path_factory.mktemp("users"))


@contextlib.asynccontextmanager
async def token_endpoint() -> AsyncIterator[str]:
    """Run a server that knows the one token (RFC 7662); give its URL."""

    async def introspect(request: web.Request) -> web.Response:
        right = (await request.post())["token"] == TOKEN
        return web.json_response({"active": True, "username": USER} if right else {"active": False})

    server = web.Application()
    server.router.add_post("/introspect", introspect)
    runner = web.AppRunner(server)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/introspect"
    finally:
        await runner.cleanup()


class Front:
    """A relay with one kind of listener, and the sink behind it."""

    def __init__(self, relay: RunningRelay, sink: Sink, entrance: Entrance, taken: list[Received]) -> None:
        self.relay = relay
        self.sink = sink
        self.entrance = entrance
        self.taken = taken

    async def until_taken(self, recipients: int) -> list[Received]:
        """Wait until the sink has mail for so many recipients and nothing is waiting; return it."""
        async with asyncio.timeout(40):
            while sum(len(message.recipients) for message in self.taken) < recipients:
                await asyncio.sleep(0.02)
        await self.relay.until_empty()
        return self.taken


@pytest.fixture(params=ACCESSES, ids=lambda access: access.name)
async def front(
    request: pytest.FixtureRequest, tmp_path: Path, certificates: Certificates, users_file: Path
) -> AsyncIterator[Front]:
    """Run a relay with each kind of listener."""
    access: Access = request.param
    taken: list[Received] = []
    async with contextlib.AsyncExitStack() as stack:
        sink = await stack.enter_async_context(
            Sink(options=Options(keywords=keywords("DSN")), received=taken.append)
        )
        auth = f'users = "{users_file}"'
        if access.mechanism in BEARER:
            url = await stack.enter_async_context(token_endpoint())
            auth = f'token_endpoint = "{url}"\nmechanisms = ["{access.mechanism}"]'
        made = settings(access, tmp_path, sink.address, certificates, auth)
        relay = await stack.enter_async_context(run(made, tmp_path))
        yield Front(relay, sink, Entrance(access, relay.address[1], certificates.ca, access.secret), taken)
