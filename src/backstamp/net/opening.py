"""Opening a session: greeting, EHLO, TLS as it is demanded, EHLO again, AUTH.

Whatever keeps a host from giving one is a value. A host that fails in the handshake is not
tried in clear text here: that takes another connection, and whoever asked decides on it
(`Phase.TLS`). Under MAY a host that refuses STARTTLS and stays goes on in clear text.
"""

import socket

from backstamp.mail.fault import Fault, Phase
from backstamp.net import auth, dial
from backstamp.net.client import Client, NoSessionError, Refusal
from backstamp.net.connection import Connection
from backstamp.net.tls import Contexts
from backstamp.policy.destination import Tls
from backstamp.policy.manner import Candidate, Manner, Source
from backstamp.policy.route import Credentials
from backstamp.text import printable


class Opener:
    """Makes connections and opens sessions on them: what delivery asks of the world (`outside.Net`)."""

    def __init__(self, contexts: Contexts | None = None) -> None:
        self._contexts = contexts or Contexts()

    async def dial(self, candidate: Candidate, source: Source, seconds: float) -> socket.socket | Fault:
        """Connect to exactly this address, from exactly that one."""
        return await dial.dial(
            candidate.address, candidate.port, seconds=seconds, source=source.address or None
        )

    async def open(
        self, wire: socket.socket, candidate: Candidate, manner: Manner
    ) -> Connection | Refusal | Fault:
        """Open a session. The socket is the session's, whatever comes."""
        return await open_session(wire, host=candidate.name, manner=manner, contexts=self._contexts)

    def hang_up(self, wire: socket.socket) -> None:
        """Close a connection nobody wants."""
        wire.close()


async def open_session(
    sock: socket.socket, *, host: str, manner: Manner, contexts: Contexts
) -> Connection | Refusal | Fault:
    """Open a session on a connected socket with the host of this name (or address).

    The name is what is sent as SNI, and what a certificate must be for under VERIFY.

    Raises:
        ValueError: no name to say in EHLO, or credentials with a NUL.
    """
    timeouts = manner.policy.timeouts
    try:
        client = Client(sock, host=host.removesuffix("."), helo=manner.helo, timeouts=timeouts)
    except ValueError:
        sock.close()
        raise
    try:
        await client.greet(await contexts.demanded(manner.tls) if manner.implicit_tls else None)
        await client.hello()
        await _demand(client, manner, contexts)
        if manner.credentials is not None:
            await _authenticate(client, manner.credentials)
    except NoSessionError as error:
        if error.value.phase in {Phase.TLS, Phase.AUTH}:
            await client.leave()
        client.drop()
        return error.value
    except BaseException:
        client.drop()
        raise
    if not client.is_connected:
        client.drop()
        return Fault(Phase.EHLO, "disconnected", "the server closed the connection")
    return Connection(client)


async def _demand(client: Client, manner: Manner, contexts: Contexts) -> None:
    """Begin TLS where it is demanded, or offered and not unwelcome. Raises NoSessionError."""
    if manner.implicit_tls or manner.tls is Tls.NONE or (manner.tls is Tls.MAY and not manner.starttls):
        return
    if not client.supports_extension("STARTTLS"):
        if manner.tls is Tls.MAY:
            return
        text = "TLS is demanded, and the server does not offer STARTTLS"
        raise NoSessionError(Fault(Phase.TLS, "not offered", text))
    reply = await client.ask(Phase.TLS, b"STARTTLS")
    if reply.code != 220:
        if reply.code < 400:
            # Whether it shakes hands now, nobody knows.
            raise NoSessionError(Fault(Phase.TLS, "handshake", f"STARTTLS was answered by {reply.code}"))
        if manner.tls is Tls.MAY and reply.code != 421:
            await _stays(client, reply.code)
            return
        raise NoSessionError(Refusal(reply, Phase.TLS))
    await client.begin_tls(await contexts.demanded(manner.tls))
    try:
        await client.hello()
    except NoSessionError as error:
        if isinstance(error.value, Fault) and error.value.problem == "disconnected":
            # In TLS 1.3 the client is done first: how the server found the handshake shows only now.
            raise NoSessionError(Fault(Phase.TLS, "handshake", error.value.text)) from None
        raise


async def _stays(client: Client, code: int) -> None:
    """See that a host did not hang up behind its refusal of STARTTLS. Raises NoSessionError.

    Its end may be on the way yet; mail would meet it, and look as if the host broke off then.
    """
    gone = Fault(Phase.TLS, "disconnected", f"the server closed the connection behind its {code} to STARTTLS")
    try:
        reply = await client.ask(Phase.TLS, b"NOOP")
    except NoSessionError as error:
        if isinstance(error.value, Fault) and error.value.problem == "disconnected":
            raise NoSessionError(gone) from None
        raise
    if reply.code == 421:
        raise NoSessionError(gone)


async def _authenticate(client: Client, credentials: Credentials) -> None:
    """Say who this relay is. Raises NoSessionError where that cannot be said safely, or is refused."""
    if not (client.wire.tls or client.wire.local):
        text = "credentials are not sent in clear text, and there is no TLS"
        raise NoSessionError(Fault(Phase.AUTH, "clear text", text))
    offered = [method.upper() for method in client.server_auth_methods]
    mechanism = auth.choose(offered, credentials)
    if mechanism is None:
        has = printable(", ".join(offered)) or "none"
        text = f"no AUTH mechanism for these credentials; the server offers {has}"
        raise NoSessionError(Fault(Phase.AUTH, "not offered", text))
    exchange = auth.Exchange(mechanism, credentials)
    try:
        reply = await client.ask(Phase.AUTH, exchange.first)
        for answer in exchange.answers:
            if reply.code != 334:
                break
            reply = await client.ask(Phase.AUTH, answer)
    except NoSessionError as error:
        if isinstance(error.value, Fault) and error.value.problem == "protocol":
            # The text quotes what the server said, and that may be what it was told.
            hidden = Fault(Phase.AUTH, "protocol", "the server's answer to AUTH is no reply")
            raise NoSessionError(hidden) from None
        raise
    if not reply.positive:
        raise NoSessionError(Refusal(exchange.shown(reply), Phase.AUTH))
