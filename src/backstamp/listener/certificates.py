"""The certificates a listener shows: chosen by the client's SNI, taken anew when they are renewed.

Files are looked at, at most once a second, when a handshake begins or somebody polls. A renewal
is taken as a whole or not at all: while a part is missing, is not its key's or has expired, the old
ones are shown. Sessions keep what they began with. Every handshake is given the context of the
moment, so nothing of an older one is resumed.
"""

import ssl
from collections.abc import Callable
from typing import Final

from backstamp.clock import Clock
from backstamp.listener.settings import TlsSettings
from backstamp.net import pem, server_tls
from backstamp.net.server_tls import Certificate, CertificateError, ClientCertificate
from backstamp.telemetry.events import Alarm, Event, Renewed

EVERY: Final = 1.0
"""Seconds between two looks at the files."""

PATIENCE: Final = 10.0
"""Seconds a renewal may be half done before an operator is told: certificate and key are two files."""

SOON: Final = 14 * 86400.0
"""Seconds before its end from which on a certificate that was not renewed is an alarm."""

DAY: Final = 86400.0


class Certificates:
    """One listener's certificates, and which clients' certificates it trusts."""

    def __init__(self, settings: TlsSettings, *, clock: Clock, emit: Callable[[Event], None]) -> None:
        """Read the files. Raises CertificateError if one is no good; an expired one is shown, and told."""
        self.settings = settings
        self._clock = clock
        self._emit = emit
        more = (settings.client_ca,) if settings.client_ca else ()
        self._files = (*(file for pair in settings.pairs for file in pair), *more)
        self._stamps = server_tls.stamps(self._files)
        self._context, self._shown = self._read()
        self._next = clock.monotonic() + EVERY
        self._broken: tuple[float, CertificateError] | None = None
        self._alarmed = False
        self._reminded: float | None = None
        self._remind()

    def context(self) -> ssl.SSLContext:
        """Return the context for a new connection; its SNI chooses among the certificates by itself."""
        self.poll()
        return self._context

    def trusted(self, client: ClientCertificate | None) -> bool:
        """Tell whether a client with this certificate may relay."""
        if client is None:
            return False
        settings = self.settings
        return client.fingerprint in settings.client_fingerprints or not settings.client_names.isdisjoint(
            client.names
        )

    def trusts(self, session: ssl.SSLObject) -> bool:
        """Tell whether the client of a session showed a certificate with which it may relay."""
        return self.trusted(pem.identity(session))

    def poll(self) -> None:
        """Look at the files, if that was not done within the last second."""
        now = self._clock.monotonic()
        if now < self._next:
            return
        self._next = now + EVERY
        stamps = server_tls.stamps(self._files)
        if stamps != self._stamps:
            self._stamps = stamps
            self._renew(now)
        if self._broken is not None and not self._alarmed and now - self._broken[0] >= PATIENCE:
            self._alarmed = True
            self._alarm(
                f"renewed certificates cannot be used: {self._broken[1]}",
                "the old ones are shown; write a certificate and its key anew",
            )
        self._remind()

    def _renew(self, now: float) -> None:
        try:
            context, shown = self._read()
            self._judge(shown)
        except CertificateError as error:
            self._broken = (self._broken[0] if self._broken is not None else now, error)
            return
        self._context, self._shown = context, shown
        self._broken = self._reminded = None
        self._alarmed = False
        files = tuple(certificate for certificate, _ in self.settings.pairs)
        self._emit(Renewed(time=self._now(), certificates=files, until=min(one.ends for one in shown)))

    def _judge(self, shown: tuple[Certificate, ...]) -> None:
        """Refuse a renewal that is over already, or not begun. Raises CertificateError."""
        wall = self._clock.wall()
        for (file, _), one in zip(self.settings.pairs, shown, strict=True):
            if one.ends <= wall:
                raise CertificateError(file, f"expired on {server_tls.day(one.ends)}")
            if one.begins > wall:
                raise CertificateError(file, f"is not valid before {server_tls.day(one.begins)}")

    def _read(self) -> tuple[ssl.SSLContext, tuple[Certificate, ...]]:
        """Return the context of the first certificate, which hands over to the others, and what is known.

        Raises:
            CertificateError: a file is no good.
        """
        settings = self.settings
        if settings.client_ca:
            pem.read_certificates(settings.client_ca)
        shown = tuple(pem.read_pair(*pair) for pair in settings.pairs)
        contexts = [server_tls.server_context(*pair, settings.client_ca) for pair in settings.pairs]
        by_name: dict[str, ssl.SSLContext] = {}
        for one, context in zip(shown, contexts, strict=True):
            for name in one.names:
                by_name.setdefault(name, context)

        def choose(session: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
            if name is not None and (chosen := _chosen(by_name, name)) is not None:
                session.context = chosen

        contexts[0].sni_callback = choose
        return contexts[0], shown

    def _remind(self) -> None:
        """Tell once a day of certificates that end soon."""
        now = self._clock.monotonic()
        left = min(one.ends for one in self._shown) - self._clock.wall()
        if left > SOON or (self._reminded is not None and now - self._reminded < DAY):
            return
        self._reminded = now
        for (file, _), one in zip(self.settings.pairs, self._shown, strict=True):
            left = one.ends - self._clock.wall()
            if left <= SOON:
                verb = "ends" if left > 0 else "ended"
                self._alarm(
                    f"the certificate {file} {verb} on {server_tls.day(one.ends)}",
                    "it is shown until it is renewed; a renewed one is taken by itself",
                )

    def _alarm(self, problem: str, action: str) -> None:
        self._emit(Alarm(time=self._now(), problem=problem, action=action))

    def _now(self) -> int:
        return int(self._clock.wall() * 1e6)


def _chosen(by_name: dict[str, ssl.SSLContext], name: str) -> ssl.SSLContext | None:
    """Return the context for a host's name: its own, else that of a wildcard for its left-most label."""
    name = name.lower().removesuffix(".")
    return by_name.get(name) or by_name.get(f"*.{name.partition('.')[2]}")
