"""One connection of a sink: commands in, scripted or usual replies out."""

import asyncio
from typing import TYPE_CHECKING, Final, cast

import msgspec

from backstamp.sink.auth import Dialogue, dialogue
from backstamp.sink.script import Step, reply
from backstamp.smtp.data import find_end, unstuff

if TYPE_CHECKING:
    from backstamp.sink.server import Sink

OK: Final = b"250 2.0.0 Ok\r\n"
GO_AHEAD: Final = b"354 Go ahead\r\n"
_TAKEN: Final = frozenset({b"2", b"3"})


class Received(msgspec.Struct):
    """One message as it came: addresses without brackets, content not dot-stuffed."""

    sender: bytes
    parameters: bytes
    recipients: list[bytes]
    content: bytes
    connection: int
    recipient_parameters: list[bytes]
    """Of each recipient, empty where there were none."""
    tls: bool
    user: str
    """Who was authenticated, empty if nobody."""


class Heard(msgspec.Struct):
    """A connection (`CONNECT`) or a command line, before it is answered; not the answers in AUTH."""

    connection: int
    client: str
    """The address it came from."""
    tls: bool
    line: bytes


class Session(asyncio.Protocol):
    """One connection."""

    def __init__(self, sink: "Sink") -> None:
        self._sink = sink
        self._transport: asyncio.Transport
        self._buffer = bytearray()
        self._scanned = 0
        self._content = False
        self._held = False
        self._out: list[bytes] = []
        self._number = 0
        self._tls = False
        self._user = ""
        self._dialogue: Dialogue | None = None
        self._instead: Step | None = None
        """What is said instead of the handshake, once the client begins it."""
        self._reset()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is here."""
        self._transport = cast(asyncio.Transport, transport)
        sink = self._sink
        sink.connections += 1
        self._number = sink.connections
        self._tls = sink.options.tls == "implicit"
        sink.open.add(self)
        self._client = str((transport.get_extra_info("peername") or ("",))[0])
        self._tell(b"CONNECT")
        limit = sink.options.connections
        if limit is not None and len(sink.open) > limit:
            sink.refused += 1
            self._do(Step(octets=reply(421, "4.7.0 Too many connections"), close=True))
        else:
            self._answer("CONNECT", reply(220, f"{sink.options.hostname} ESMTP sink"))
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        self._sink.open.discard(self)

    def drop(self) -> None:
        """End the connection without a word."""
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Take octets, answer what is whole."""
        if self._instead is not None:
            step, self._instead = self._instead, None
            self._do(step)
            self._flush()
            return
        self._buffer += data
        self._go_on()

    def _go_on(self) -> None:
        while not self._held and not self._transport.is_closing():
            if not (self._take_content() if self._content else self._take_command()):
                break
        self._flush()

    def _flush(self) -> None:
        if self._out and not self._transport.is_closing():
            self._transport.write(b"".join(self._out))
        self._out.clear()

    def _reset(self) -> None:
        self._begun = False
        """Whether MAIL was taken."""
        self._sender = b""
        self._parameters = b""
        self._recipients: list[bytes] = []
        self._recipient_parameters: list[bytes] = []

    # ---- commands ----

    def _take_command(self) -> bool:
        end = self._buffer.find(b"\n")
        if end < 0:
            return False
        line = bytes(self._buffer[:end]).rstrip(b"\r")
        del self._buffer[: end + 1]
        verb = line[:4].upper()
        if self._dialogue is not None:
            self._ask(line)
            return True
        self._tell(line)
        if verb == b"MAIL":
            self._sender, self._parameters = _path(line)
            unknown = self._sink.options.auth is not None and not self._user
            usual = b"530 5.7.0 Who are you?\r\n" if unknown else OK
            self._begun = self._answer("MAIL", usual, self._sender) in _TAKEN
        elif verb == b"RCPT":
            address, parameters = _path(line)
            usual = OK if self._begun else b"503 5.5.1 MAIL first\r\n"
            if self._answer("RCPT", usual, address) in _TAKEN:
                self._recipients.append(address)
                self._recipient_parameters.append(parameters)
        elif verb == b"DATA":
            usual = GO_AHEAD if self._recipients else b"554 5.5.1 No valid recipients\r\n"
            self._content = self._answer("DATA", usual) == b"3"
            self._scanned = 0
        elif verb == b"QUIT":
            self._answer("QUIT", b"221 2.0.0 Bye\r\n")
            self._flush()
            self._transport.close()
        elif verb == b"STAR":
            self._start_tls()
        elif verb == b"AUTH":
            self._begin_auth(line)
        else:
            self._other(verb.decode("ascii", "replace"))
        return True

    def _tell(self, line: bytes) -> None:
        if self._sink.heard is not None:
            self._sink.heard(Heard(self._number, self._client, self._tls, line))

    def _other(self, verb: str) -> None:
        options = self._sink.options
        if verb in {"RSET", "EHLO", "HELO"}:
            self._reset()
        if verb == "EHLO":
            self._answer("EHLO", reply(250, "\n".join([options.hostname, *self._keywords()])))
        elif verb in {"HELO", "RSET", "NOOP"}:
            self._answer(verb, OK)
        elif verb == "VRFY":
            self._answer(verb, b"252 2.0.0 Perhaps\r\n")
        else:
            self._out.append(b"500 5.5.1 Not known\r\n")

    def _keywords(self) -> list[str]:
        options = self._sink.options
        offered = list(options.keywords)
        if options.tls == "starttls" and not self._tls:
            offered.append("STARTTLS")
        if options.auth is not None and not self._user:
            offered.append(" ".join(["AUTH", *options.mechanisms]))
        return offered

    # ---- TLS and AUTH ----

    def _start_tls(self) -> None:
        offered = self._sink.options.tls == "starttls" and not self._tls
        usual = b"220 2.0.0 Go ahead\r\n" if offered else b"503 5.5.1 No\r\n"
        if self._answer("STARTTLS", usual) != b"2":
            return
        self._flush()
        self._held = True
        self._instead = self._sink.script.answer("TLS")
        if self._instead is not None:
            return
        # What comes now is the client's handshake, and no command.
        self._transport.pause_reading()
        self._buffer.clear()
        self._reset()
        task = asyncio.get_running_loop().create_task(self._shake_hands())
        self._sink.tasks.add(task)
        task.add_done_callback(self._sink.tasks.discard)

    async def _shake_hands(self) -> None:
        context = self._sink.context
        assert context is not None
        try:
            wrapped = await asyncio.get_running_loop().start_tls(
                self._transport, self, context, server_side=True
            )
        except OSError:
            self._transport.abort()
            self._sink.open.discard(self)
            return
        if wrapped is not None:
            self._transport = wrapped
            self._tls = True
            self._held = False
            self._go_on()

    def _begin_auth(self, line: bytes) -> None:
        options = self._sink.options
        _, mechanism, initial = (*line.split(b" "), b"", b"")[:3]
        name = mechanism.decode("ascii", "replace").upper()
        if (step := self._sink.script.answer("AUTH")) is not None:
            self._do(step)
        elif options.auth is None or name not in options.mechanisms or self._user:
            self._out.append(b"504 5.5.4 Not that\r\n")
        else:
            self._dialogue = dialogue(name, initial, *options.auth)
            self._ask(None)

    def _ask(self, answer: bytes | None) -> None:
        """Give the client's answer (None: there is none yet) to the dialogue, and say what comes of it."""
        asking, options = self._dialogue, self._sink.options
        assert asking is not None
        assert options.auth is not None
        if answer == b"*":
            self._dialogue = None
            self._out.append(b"501 5.0.0 Cancelled\r\n")
            return
        try:
            asked = next(asking) if answer is None else asking.send(answer)
        except StopIteration as end:
            self._dialogue = None
            if end.value:
                self._user = options.auth[0]
            self._out.append(
                b"235 2.7.0 Welcome\r\n" if end.value else b"535 5.7.8 Credentials are not valid\r\n"
            )
        else:
            self._out.append(b"334 " + asked + b"\r\n")

    # ---- the content ----

    def _take_content(self) -> bool:
        found = find_end(self._buffer, self._scanned)
        if found is None:
            self._scanned = len(self._buffer)
            return False
        end, behind = found
        sink = self._sink
        self._content = False
        step = sink.script.answer("DOT") if sink.script.rules else None
        taken = step is None or step.octets[:1] == b"2"
        if taken:
            sink.messages += 1
            sink.recipients += len(self._recipients)
            sink.octets += end
            if sink.received is not None:
                content = unstuff(bytes(self._buffer[:end]))
                message = Received(
                    self._sender,
                    self._parameters,
                    self._recipients,
                    content,
                    self._number,
                    self._recipient_parameters,
                    self._tls,
                    self._user,
                )
                sink.received(message)
        del self._buffer[:behind]
        self._reset()
        if step is None:
            self._out.append(OK)
        else:
            self._do(step)
        return True

    # ---- answers ----

    def _answer(self, verb: str, usual: bytes, address: bytes | None = None) -> bytes:
        """Say what the script says, else the usual; return the first digit of what is said."""
        step = self._sink.script.answer(verb, address) if self._sink.script.rules else None
        if step is None:
            self._out.append(usual)
            return usual[:1]
        self._do(step)
        return step.octets[:1]

    def _do(self, step: Step) -> None:
        if step.delay or step.bytewise:
            self._held = True
            loop = asyncio.get_running_loop()
            octets = [bytes([octet]) for octet in step.octets] if step.bytewise else [step.octets]
            loop.call_later(step.delay, self._later, octets, step)
            return
        self._out.append(step.octets)
        if step.close:
            self._flush()
            self._transport.close()

    def _later(self, octets: list[bytes], step: Step) -> None:
        """Say what was held back, piece by piece, then go on."""
        if self._transport.is_closing():
            return
        self._out.append(octets.pop(0))
        self._flush()
        if octets:
            asyncio.get_running_loop().call_later(0.001, self._later, octets, step)
            return
        if step.close:
            self._transport.close()
        self._held = False
        self._go_on()


def _path(line: bytes) -> tuple[bytes, bytes]:
    """Return the address and the parameters of a MAIL or RCPT line."""
    _, _, rest = line.partition(b"<")
    address, _, parameters = rest.rpartition(b">")
    return address, parameters.strip()
