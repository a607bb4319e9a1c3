"""How a client comes in: the kinds of listeners, each as configuration and as what a client is told."""

import subprocess
import sys
from pathlib import Path
from typing import Literal

import msgspec
import trustme

from backstamp.config import Settings
from backstamp.config.load import parse

USER, PASSWORD = "app", "sesame open, 100%"
TOKEN = "ya29.vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg-_~+/=="
"""A bearer token (RFC 6750 §2.1) of that user's."""

BEARER = frozenset({"OAUTHBEARER", "XOAUTH2"})

FILE = """\
hostname = "relay.example.org"
[queue]
directory = "{directory}/queue"
[[listen]]
address = "{address}"
submission = false
{listen}
[limits]
recipients = 2000
message_size = "50MB"
[retry]
schedule = ["1s"]
lifetime = "1h"
[delivery]
private_addresses = true
{auth}
[[route]]
match = "*"
via = "{via}"
"""


class Access(msgspec.Struct, frozen=True):
    """One kind: what is done about TLS, and the mechanism of AUTH, empty for none."""

    name: str
    tls: Literal["none", "starttls", "implicit"] = "none"
    mechanism: str = ""

    @property
    def host(self) -> str:
        """The name a client connects to: certificates are for names."""
        return "127.0.0.1" if self.tls == "none" else "localhost"

    @property
    def secret(self) -> str:
        """What proves who the user is, empty without AUTH."""
        return TOKEN if self.mechanism in BEARER else PASSWORD if self.mechanism else ""

    def protocol(self, *, utf8: bool) -> str:
        """Return the `with` of the relay's Received line (RFC 3848, RFC 6531 §4.3)."""
        tls, auth = "S" if self.tls != "none" else "", "A" if self.mechanism else ""
        return f"{'UTF8SMTP' if utf8 else 'ESMTP'}{tls}{auth}"


ACCESSES = (
    Access("clear"),
    Access("starttls", "starttls"),
    Access("implicit", "implicit"),
    Access("plain", "starttls", "PLAIN"),
    Access("login", "starttls", "LOGIN"),
    Access("implicit-plain", "implicit", "PLAIN"),
    Access("scram-sha-256", "starttls", "SCRAM-SHA-256"),
    Access("oauthbearer", "starttls", "OAUTHBEARER"),
    Access("xoauth2", "starttls", "XOAUTH2"),
)


class Entrance(msgspec.Struct, frozen=True):
    """Where a client goes in, and what it needs to."""

    access: Access
    port: int
    ca: Path
    """Certificate of the authority (PEM)."""
    secret: str = ""
    """The password or the token to authenticate with."""

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        return self.access.host, self.port


class Certificates:
    """An authority and a certificate for this machine, as files."""

    def __init__(self, directory: Path) -> None:
        authority = trustme.CA()
        issued = authority.issue_cert("localhost", "127.0.0.1")
        self.ca = directory / "ca.pem"
        self.chain = directory / "chain.pem"
        self.key = directory / "key.pem"
        authority.cert_pem.write_to_path(str(self.ca))
        self.chain.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(str(self.key))


def users(directory: Path) -> Path:
    """Make a users file with one user, as an operator does; return its path."""
    file = directory / "users"
    program = (sys.executable, "-m", "backstamp", "user", "add", USER, "--password-stdin", "--users", file)
    subprocess.run(program, input=PASSWORD.encode(), check=True, timeout=60)
    return file


def settings(
    access: Access,
    directory: Path,
    via: tuple[str, int],
    certificates: Certificates,
    auth: str = "",
) -> Settings:
    """Return the settings of a relay with such a listener and this `[auth]`; what is wrong is raised."""
    listen = []
    if access.tls != "none":
        listen += [
            f'tls = "{access.tls}"',
            f'certificate = "{certificates.chain}"',
            f'key = "{certificates.key}"',
        ]
    if access.mechanism:
        # Nobody may relay for where they are: what arrives was authenticated.
        listen += ['auth = "required"', "allow = []"]
    text = FILE.format(
        address="127.0.0.1:0",
        directory=directory,
        listen="\n".join(listen),
        via="{}:{}".format(*via),
        auth=f"[auth]\n{auth}",
    )
    return parse(text.encode(), "interop.toml")
