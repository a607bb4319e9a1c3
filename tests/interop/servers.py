"""Mail servers of their own on loopback: each takes mail into files, or sends all it gets to one host.

As a server it takes mail for every domain and keeps it in a maildir, a copy for each recipient named in a
field of the server's; as a relay it is the client of another, and a letter is given to it by SMTP.
"""

import os
import re
import shutil
from pathlib import Path
from typing import Any, ClassVar

import msgspec
from tests.interop import clients, tools
from tests.interop.access import USER, Access, Certificates, Entrance
from tests.interop.clients import Client, Sent, Smtplib
from tests.interop.isolated import Isolated, until
from tests.interop.letters import Letter
from tests.support.process import free_port

OWNER = 29825
"""Number of the user who owns what is delivered; no other file has it."""


class Manner(msgspec.Struct, frozen=True, kw_only=True):
    """How a server is to be. `hops` is where a relay sends everything; None: it keeps the mail."""

    certificates: Certificates | None = None
    size: int = 20_000_000
    refuse: bool = False
    """Whether every recipient is refused for now (4yz), as greylisting does."""
    relay: Entrance | None = None


class Server:
    """One server in a directory. Started again with another manner it keeps its port and its mail."""

    name: ClassVar[str]
    recipient: ClassVar[str]
    """The field that names a copy's recipient."""
    tls: ClassVar[bool] = True
    """Whether its TLS works where it offers it."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        directory.chmod(0o755)
        self.maildir = directory / "mail"
        self.maildir.mkdir(exist_ok=True)
        os.chown(self.maildir, OWNER, OWNER)
        self._isolated: Isolated | None = None

    @staticmethod
    def missing() -> str:
        """Return why it cannot be run here, empty where it can."""
        raise NotImplementedError

    @staticmethod
    def version() -> str:
        """Return its version."""
        raise NotImplementedError

    def prepared(self, manner: Manner) -> Isolated:
        """Write its configuration; return how it is run."""
        raise NotImplementedError

    def log(self) -> str:
        """Return its log."""
        raise NotImplementedError

    async def start(self, manner: Manner | None = None) -> None:
        """Start it."""
        self._isolated = self.prepared(manner or Manner())
        await self._isolated.start(self.port)

    async def stop(self) -> None:
        """End it."""
        if self._isolated is not None:
            await self._isolated.stop()
            self._isolated = None

    def kept(self) -> list[bytes]:
        """Return what it took, with CRLF as line ends."""
        files = sorted(self.maildir.rglob("new/*"))
        return [file.read_bytes().replace(b"\n", b"\r\n") for file in files]

    def copies(self) -> dict[str, int]:
        """Return how many copies each recipient has."""
        found: dict[str, int] = {}
        for content in self.kept():
            name = re.search(rf"(?mi)^{self.recipient}: *<?([^>\s]+)>?\s*$".encode(), content)
            assert name is not None, content[:1000]
            who = name.group(1).decode()
            found[who] = found.get(who, 0) + 1
        return found

    async def until_kept(self, count: int) -> None:
        """Wait until it has so many copies."""
        await until(
            lambda: len(self.kept()) >= count, lambda: f"{len(self.kept())} kept\n{self.log()[-3000:]}"
        )


class Postfix(Server):
    """Debian's Postfix, an instance of its own."""

    name = "Postfix"
    recipient = "X-Original-To"

    @staticmethod
    def missing() -> str:
        return tools.missing(files=(Path("/usr/sbin/postfix"),), root=True)

    @staticmethod
    def version() -> str:
        return tools.version(r"mail_version = (\S+)", "postconf", "-d", "mail_version")

    def prepared(self, manner: Manner) -> Isolated:
        config = self.directory / "config"
        for part in ("config", "queue", "data", "log"):
            (self.directory / part).mkdir(exist_ok=True)
        shutil.chown(self.directory / "data", "postfix", "postfix")
        settings: dict[str, Any] = {
            "compatibility_level": "3.6",
            "queue_directory": self.directory / "queue",
            "data_directory": self.directory / "data",
            "myhostname": "postfix.test",
            "mydestination": "",
            "inet_interfaces": "127.0.0.1",
            "inet_protocols": "ipv4",
            "mynetworks": "127.0.0.0/8",
            "disable_dns_lookups": "yes",
            "smtp_host_lookup": "native",
            "alias_maps": "",
            "alias_database": "",
            "maillog_file": "/var/log/postfix.log",
            "message_size_limit": manner.size,
            "smtpd_recipient_limit": "2000",
            "smtpd_tls_security_level": "none",
            "smtp_tls_security_level": "none",
            "smtpd_recipient_restrictions": "permit_mynetworks, reject",
        }
        if manner.certificates is not None:
            settings |= {
                "smtpd_tls_security_level": "may",
                "smtpd_tls_cert_file": manner.certificates.chain,
                "smtpd_tls_key_file": manner.certificates.key,
            }
        if manner.refuse:
            settings["smtpd_recipient_restrictions"] = (
                "check_recipient_access static:{450 4.2.0 Come again later}"
            )
        if manner.relay is not None:
            settings |= self._relay(manner.relay)
        else:
            settings |= {
                "virtual_mailbox_domains": "static:all",
                "virtual_mailbox_maps": "static:mail/",
                "virtual_mailbox_base": self.directory,
                "virtual_mailbox_limit": "0",
                "virtual_minimum_uid": "100",
                "virtual_uid_maps": f"static:{OWNER}",
                "virtual_gid_maps": f"static:{OWNER}",
            }
        (config / "main.cf").write_text("".join(f"{key} = {value}\n" for key, value in settings.items()))
        services = [f"127.0.0.1:{self.port} inet n - n - - smtpd", *SERVICES]
        (config / "master.cf").write_text("\n".join(services) + "\n")
        for name in ("dynamicmaps.cf", "postfix-files"):
            if (Path("/etc/postfix") / name).exists():
                shutil.copy(Path("/etc/postfix") / name, config / name)
        command = ["/usr/sbin/postfix", "-c", config, "start-fg"]
        return Isolated(self.directory, command, over={"/var/log": self.directory / "log"})

    def _relay(self, entrance: Entrance) -> dict[str, Any]:
        access = entrance.access
        hop = f"[{access.host}]:{entrance.port}"
        settings: dict[str, Any] = {"relayhost": hop, "smtp_helo_name": "client.shop.test"}
        if access.tls != "none":
            settings |= {
                "smtp_tls_security_level": "secure",
                "smtp_tls_secure_cert_match": "hostname",
                "smtp_tls_CAfile": entrance.ca,
                "smtp_tls_wrappermode": "yes" if access.tls == "implicit" else "no",
            }
        if access.mechanism:
            secret = clients.kept(self.directory, "secret", f"{hop} {USER}:{entrance.secret}\n".encode())
            settings |= {
                "smtp_sasl_auth_enable": "yes",
                "smtp_sasl_password_maps": f"texthash:{secret}",
                "smtp_sasl_mechanism_filter": access.mechanism.lower(),
                "smtp_sasl_security_options": "noanonymous",
            }
        return settings

    def log(self) -> str:
        file = self.directory / "log/postfix.log"
        return file.read_text(errors="replace") if file.exists() else ""


SERVICES = """\
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
""".splitlines()


class Exim(Server):
    """Debian's Exim, unpacked."""

    name = "Exim"
    recipient = "Envelope-to"

    @staticmethod
    def missing() -> str:
        return tools.missing(files=(tools.EXIM,), root=True)

    @staticmethod
    def version() -> str:
        return tools.packaged("exim4-daemon")

    def prepared(self, manner: Manner) -> Isolated:
        for part in ("spool", "log"):
            (self.directory / part).mkdir(exist_ok=True)
            os.chown(self.directory / part, OWNER, OWNER)
        os.chown(self.directory, OWNER, OWNER)
        found = tools.libraries(tools.HOME / "exim")
        rcpt = "defer message = 450 4.2.0 Come again later" if manner.refuse else "accept"
        tls = "tls_advertise_hosts =\n"
        if manner.certificates is not None:
            # Its user reads the key.
            key = clients.kept(self.directory, "key.pem", manner.certificates.key.read_bytes())
            chain = self._readable(manner.certificates.chain)
            tls = f"tls_advertise_hosts = *\ntls_certificate = {chain}\ntls_privatekey = {key}\n"
            os.chown(key, OWNER, OWNER)
        text = EXIM.format(
            directory=self.directory,
            binary=tools.EXIM,
            libraries=found,
            port=self.port,
            owner=OWNER,
            size=manner.size,
            rcpt=rcpt,
            tls=tls,
            maildir=self.maildir,
        )
        text += EXIM_KEEPS.format(maildir=self.maildir) if manner.relay is None else self._relay(manner.relay)
        (self.directory / "exim.conf").write_text(text)
        command = [
            "setpriv",
            f"--reuid={OWNER}",
            f"--regid={OWNER}",
            "--clear-groups",
            "env",
            f"LD_LIBRARY_PATH={found}",
            tools.EXIM,
            "-C",
            self.directory / "exim.conf",
            "-bdf",
            "-q1m",
        ]
        return Isolated(self.directory, command, users={"Debian-exim": OWNER})

    def _readable(self, file: Path) -> Path:
        return clients.kept(self.directory, file.name, file.read_bytes())

    def _relay(self, entrance: Entrance) -> str:
        access = entrance.access
        more = "hosts_avoid_tls = *"
        if access.tls != "none":
            ca = self._readable(entrance.ca)
            more = f"hosts_require_tls = *\n  tls_verify_certificates = {ca}\n  tls_verify_hosts = *"
            more += "\n  protocol = smtps" if access.tls == "implicit" else ""
        authenticator = ""
        if access.mechanism:
            more += "\n  hosts_require_auth = *"
            words = ("", USER, entrance.secret)
            sent = "^".join(words) if access.mechanism == "PLAIN" else " : ".join(words)
            authenticator = (
                f"begin authenticators\none:\n  driver = plaintext\n  public_name = {access.mechanism}\n"
                f"  client_send = {sent}\n"
            )
        return EXIM_RELAYS.format(host=access.host, port=entrance.port, more=more) + authenticator

    def log(self) -> str:
        return "".join(
            file.read_text(errors="replace") for file in sorted((self.directory / "log").glob("*log"))
        )


EXIM = """
primary_hostname = exim.test
spool_directory = {directory}/spool
log_file_path = {directory}/log/%slog
pid_file_path = {directory}/pid
exim_path = {binary}
exim_user = {owner}
exim_group = {owner}
keep_environment = LD_LIBRARY_PATH
add_environment = LD_LIBRARY_PATH={libraries}
deliver_drop_privilege = true
message_size_limit = {size}
{tls}
acl_smtp_rcpt = acl_rcpt
acl_smtp_data = accept
recipients_max = 5000
smtp_accept_queue_per_connection = 0
smtp_accept_max_per_connection = 0
dsn_advertise_hosts = *
smtputf8_advertise_hosts = *
allow_domain_literals = true
local_interfaces = 127.0.0.1
daemon_smtp_ports = {port}
begin acl
acl_rcpt:
  {rcpt}
"""
EXIM_KEEPS = """
begin routers
all:
  driver = accept
  transport = keep
begin transports
keep:
  driver = appendfile
  directory = {maildir}
  maildir_format = true
  create_directory = true
  envelope_to_add = true
  return_path_add = true
"""
EXIM_RELAYS = """
begin routers
all:
  driver = manualroute
  transport = out
  route_list = * {host}
  self = send
begin transports
out:
  driver = smtp
  port = {port}
  helo_data = client.shop.test
  allow_localhost = true
  {more}
begin retry
* * F,1h,1m
"""


class OpenSmtpd(Server):
    """Debian's OpenSMTPD, unpacked; its paths and users are compiled in.

    6.8 offers STARTTLS with OpenSSL 3 and fails every handshake (OpenSMTPD's issue 1171).
    """

    name = "OpenSMTPD"
    recipient = "X-Kept-For"
    tls = False

    @staticmethod
    def missing() -> str:
        return tools.missing(files=(tools.OPENSMTPD,), root=True)

    @staticmethod
    def version() -> str:
        return tools.packaged("opensmtpd_")

    def prepared(self, manner: Manner) -> Isolated:
        for part in ("spool", "lib", "lib/opensmtpd", "lib/opensmtpd/empty", "run", "home"):
            (self.directory / part).mkdir(exist_ok=True)
            (self.directory / part).chmod(0o711)
        (self.maildir / "new").mkdir(exist_ok=True)
        os.chown(self.maildir / "new", OWNER, OWNER)
        os.chown(self.directory / "home", OWNER, OWNER)
        # The content as it is, behind a field of who it was for.
        keep = clients.kept(
            self.directory,
            "keep",
            b'#!/bin/sh\nf=$(mktemp "$1/.XXXXXXXX")\n'
            b'{ echo "X-Kept-For: <$2>"; cat; } > "$f" && mv "$f" "$1/new/"\n',
        )
        keep.chmod(0o755)
        pki, listen = "", f"listen on 127.0.0.1 port {self.port} hostname opensmtpd.test"
        if manner.certificates is not None:
            chain = clients.kept(self.directory, "chain.pem", manner.certificates.chain.read_bytes())
            key = clients.kept(self.directory, "key.pem", manner.certificates.key.read_bytes())
            for file in (chain, key):
                file.chmod(0o600)
            pki = f'pki opensmtpd.test cert "{chain}"\npki opensmtpd.test key "{key}"'
            listen += " tls pki opensmtpd.test"
        filters = ""
        if manner.refuse:
            filters = (
                'filter later phase rcpt-to match rcpt-to regex ".*" reject "450 4.2.0 Come again later"'
            )
            listen += " filter later"
        text = (
            f"{pki}\n{filters}\nsmtp max-message-size {manner.size}\n"
            f'table all {{ "@" = "keeper" }}\n{listen}\n'
            f'action "keep" mda "{keep} {self.maildir} %{{rcpt}}" virtual <all>\n'
            'match from any for any action "keep"\n'
        )
        config = clients.kept(self.directory, "smtpd.conf", text.encode())
        over = {
            "/var/spool": self.directory / "spool",
            "/var/lib": self.directory / "lib",
            "/run": self.directory / "run",
            "/usr/libexec": tools.HOME / "opensmtpd/usr/libexec",
        }
        command = [
            "env",
            f"LD_LIBRARY_PATH={tools.libraries(tools.HOME / 'opensmtpd')}",
            tools.OPENSMTPD,
            "-d",
            "-f",
            config,
        ]
        users = {"opensmtpd": OWNER + 1, "opensmtpq": OWNER + 2, "keeper": OWNER}
        return Isolated(self.directory, command, over=over, users=users, home=self.directory / "home")

    def log(self) -> str:
        return (self.directory / "output").read_text(errors="replace")


SERVERS = (Postfix, Exim, OpenSmtpd)


class ByServer(Client):
    """A server that relays: it is given the letter by SMTP and sends it on, pipelined."""

    able = frozenset({"utf8", "dsn", "pipelining"})
    trace = 1
    server: ClassVar[type[Server]]
    settled: ClassVar[str]
    """How its log tells what became of a recipient: the word for it, then the recipient."""
    taken: ClassVar[frozenset[str]]
    """The words for taken."""

    def missing(self) -> str:
        return self.server.missing()

    def version(self) -> str:
        return self.server.version()

    async def send(self, entrance: Entrance, letter: Letter, directory: Path) -> Sent:
        server = self.server(directory / "server")

        def words() -> dict[str, str]:
            return {
                name: word
                for word, name in re.findall(self.settled, server.log())
                if name in letter.recipients
            }

        await server.start(Manner(relay=entrance))
        try:
            given = await Smtplib().send(
                Entrance(Access("clear"), server.port, entrance.ca), letter, directory
            )
            assert given.taken, given.words
            await until(lambda: len(words()) == len(letter.recipients), lambda: server.log()[-3000:])
        finally:
            await server.stop()
        return Sent(set(words().values()) <= self.taken, server.log(), letter.content)


class PostfixRelays(ByServer):
    """Postfix with `relayhost`."""

    name = "Postfix"
    mechanisms = frozenset({"PLAIN", "LOGIN", "SCRAM-SHA-256"})
    server = Postfix
    settled = r"(?=.* status=([a-z]+)) to=<([^>]+)>"
    taken = frozenset({"sent"})


class EximRelays(ByServer):
    """Exim with a smarthost."""

    name = "Exim"
    mechanisms = frozenset({"PLAIN", "LOGIN"})
    able = ByServer.able | {"chunking"}
    server = Exim
    settled = r" (=>|->|\*\*|==) (\S+) "
    taken = frozenset({"=>", "->"})
