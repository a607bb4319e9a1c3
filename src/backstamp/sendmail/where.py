"""Where the relay takes mail from programs of this machine, from its configuration file. Pure.

Only `hostname` and `[[listen]]` are looked at, and nothing is checked: that would cost a tenth of a second
of every mail that cron sends. The relay checked it when it started.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from backstamp.sendmail.failure import CONFIGURATION, SendmailError

_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - what a wildcard is reached by


class Where(NamedTuple):
    """The relay's own name, and how it is reached: a socket's path, or with a port a loopback address."""

    hostname: str
    host: str
    port: int = 0

    def __str__(self) -> str:
        return f"{self.host} port {self.port}" if self.port else self.host


def find(document: Mapping[str, Any], file: str) -> Where:
    """Return where a configuration takes local mail: the first socket file, else plain loopback port.

    Raises:
        SendmailError: with EX_CONFIG and what to add.
    """
    hostname = document.get("hostname")
    if not isinstance(hostname, str) or not hostname or not hostname.isprintable():
        raise SendmailError(CONFIGURATION, f"{file}: hostname: missing")
    listen = document.get("listen")
    tables = [one for one in listen if isinstance(one, dict)] if isinstance(listen, list) else []
    for table in tables:
        address = table.get("address")
        if isinstance(address, str) and address.startswith("unix:/"):
            return Where(hostname, address.removeprefix("unix:"))
    for table in tables:
        host, _, port = str(table.get("address")).rpartition(":")
        host = host.strip("[]")
        host = _LOOPBACK.get(host, host)
        plain = table.get("tls", "none") == "none" and table.get("auth", "off") != "required"
        plain = plain and not _for_a_proxy(table.get("proxies"), host)
        if plain and (host == "::1" or host.startswith("127.")) and port.isdecimal() and int(port):
            return Where(hostname, host, int(port))
    raise SendmailError(
        CONFIGURATION,
        f"{file}: no [[listen]] takes mail of this machine;"
        ' add one with address = "unix:/run/backstamp/smtp.sock"',
    )


def _for_a_proxy(proxies: object, host: str) -> bool:
    """Tell whether who comes from this machine is taken for a proxy: its header would be waited for."""
    if not isinstance(proxies, list) or not proxies:
        return False
    from ipaddress import ip_address, ip_network  # few configurations need it

    # What the system takes as the source of a connection to any address of 127.0.0.0/8.
    source = ip_address("::1" if ":" in host else "127.0.0.1")
    try:
        return any(source in ip_network(one, strict=False) for one in proxies)
    except ValueError:
        return False
