"""Programs and libraries that hand in mail, each told in its own way what to send and where.

`tls` and `mechanisms` are what a client can do of an `Access`, `able` what else of a letter. Most send
the content as it is given to them; those that make a header themselves are compared by what they
say they sent, or by the body.
"""

import asyncio
import json
import os
import platform
import re
import smtplib
import ssl
import zipfile
from importlib import metadata
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

import aiosmtplib
import msgspec
from tests.interop import tools
from tests.interop.access import BEARER, USER, Access, Entrance
from tests.interop.letters import Letter

PROGRAMS = Path(__file__).parent / "programs"
BOTH = frozenset({"none", "starttls", "implicit"})


class Sent(msgspec.Struct, frozen=True):
    """What a client made of it: whether it says the mail was taken, its words, and the octets it sent."""

    taken: bool
    words: str
    octets: bytes


class Client:
    """One program. `trace` is how many Received fields it adds; None: it makes the header itself."""

    name: ClassVar[str]
    tls: ClassVar[frozenset[str]] = BOTH
    mechanisms: ClassVar[frozenset[str]] = frozenset()
    able: ClassVar[frozenset[str]] = frozenset()
    """Of `utf8`, `dsn`, `pipelining`, `chunking`."""
    trace: ClassVar[int | None] = 0
    greets: ClassVar[bool] = True
    """Whether it says EHLO where it wants nothing of the extensions."""

    def missing(self) -> str:
        """Return why it cannot be run here, empty where it can."""
        return ""

    def version(self) -> str:
        """Return its version."""
        raise NotImplementedError

    def takes(self, access: Access) -> str:
        """Return what it lacks for a kind of access, empty where nothing."""
        if access.tls not in self.tls:
            return f"{self.name} has no TLS of this kind ({access.tls})"
        if access.mechanism and access.mechanism not in self.mechanisms:
            return f"{self.name} does not speak {access.mechanism}"
        return ""

    async def send(self, entrance: Entrance, letter: Letter, directory: Path) -> Sent:
        """Send a letter."""
        raise NotImplementedError


async def run(letter: Letter, *command: str | Path, given: bytes = b"", **environment: str) -> Sent:
    """Run a command that sends a letter; what it was given is what it sends."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "LC_ALL": "C.UTF-8", **environment},
    )
    async with asyncio.timeout(100):
        output, _ = await process.communicate(given)
    return Sent(process.returncode == 0, output.decode(errors="replace"), letter.content)


def kept(directory: Path, name: str, octets: bytes) -> Path:
    """Write a file; return its path."""
    path = directory / name
    path.write_bytes(octets)
    return path


class Swaks(Client):
    """swaks, pipelining where asked."""

    name = "swaks"
    mechanisms = frozenset({"PLAIN", "LOGIN"})
    able = frozenset({"pipelining"})

    def missing(self) -> str:
        return tools.missing(programs=("swaks",))

    def version(self) -> str:
        return tools.version(r"version (\S+)", "swaks", "--version")

    async def send(self, entrance: Entrance, letter: Letter, directory: Path) -> Sent:
        access = entrance.access
        more = {"none": [], "starttls": ["--tls"], "implicit": ["--tls-on-connect"]}[access.tls]
        if more:
            more += ["--tls-verify", "--tls-ca-path", str(entrance.ca)]
        if access.mechanism:
            more += ["--auth", access.mechanism, "--auth-user", USER, "--auth-password", entrance.secret]
        # It doubles dots and makes CRLF of LF; a dot at the end is the end, where there is one.
        content = kept(directory, "content", letter.content.replace(b"\r\n", b"\n") + b".\n")
        return await run(
            letter, "swaks", "--pipeline", "--helo", "client.shop.test", "--server", access.host,
            "--port", str(entrance.port), "--from", letter.sender, "--to", ",".join(letter.recipients),
            "--data", f"@{content}", "--suppress-data", *more,
        )  # fmt: skip


class Msmtp(Client):
    """msmtp, as a sendmail."""

    name = "msmtp"
    mechanisms = frozenset({"PLAIN", "LOGIN", "SCRAM-SHA-256", "OAUTHBEARER", "XOAUTH2"})
    able = frozenset({"dsn", "pipelining"})

    def missing(self) -> str:
        return tools.missing(programs=("msmtp",))

    def version(self) -> str:
        return tools.version(r"version (\S+)", "msmtp", "--version")

    async def send(self, entrance: Entrance, letter: Letter, directory: Path) -> Sent:
        access = entrance.access
        tls = {
            "none": ["--tls=off"],
            "starttls": ["--tls=on"],
            "implicit": ["--tls=on", "--tls-starttls=off"],
        }
        more = tls[access.tls]
        if access.tls != "none":
            more += [f"--tls-trust-file={entrance.ca}"]
        if access.mechanism:
            more += [
                f"--auth={access.mechanism.lower()}",
                f"--user={USER}",
                f"--passwordeval=cat {kept(directory, 'secret', entrance.secret.encode())}",
            ]
        if letter.notify:
            more += [f"--dsn-notify={letter.notify.lower()}", f"--dsn-return={letter.ret.lower()}"]
        return await run(
            letter, "msmtp", f"--host={access.host}", f"--port={entrance.port}", "--domain=client.shop.test",
            f"--from={letter.sender}", *more, "--", *letter.recipients,
            given=letter.content.replace(b"\r\n", b"\n"),
        )  # fmt: skip


class Curl(Client):
    """curl with smtp:// and smtps://."""

    name = "curl"
    mechanisms = frozenset({"PLAIN", "LOGIN", "OAUTHBEARER", "XOAUTH2"})
    able = frozenset({"utf8"})

    def missing(self) -> str:
        return tools.missing(programs=("curl",))

    def version(self) -> str:
        return tools.version(r"curl (\S+)", "curl", "--version")

    async def send(self, entrance: Entrance, letter: Letter, directory: Path) -> Sent:
        access = entrance.access
        scheme = "smtps" if access.tls == "implicit" else "smtp"
        more = ["--ssl-reqd"] if access.tls == "starttls" else []
        if access.tls != "none":
            more += ["--cacert", str(entrance.ca)]
        if access.mechanism:
            if access.mechanism in BEARER:
                more += ["--user", f"{USER}:", "--oauth2-bearer", entrance.secret]
            else:
                more += ["--user", f"{USER}:{entrance.secret}"]
            more += ["--login-options", f"AUTH={access.mechanism}"]
        recipients = [part for one in letter.recipients for part in ("--mail-rcpt", one)]
        return await run(
            letter, "curl", "--silent", "--show-error", "--verbose", *more,
            f"{scheme}://{access.host}:{entrance.port}/client.shop.test", "--mail-from", letter.sender,
            *recipients, "--upload-file", kept(directory, "content", letter.content),
        )  # fmt: skip


class Snail(Client):
    """s-nail, the POSIX mailx; it makes the header itself and is compared by the body."""

    name = "s-nail"
    mechanisms = frozenset({"PLAIN", "LOGIN", "XOAUTH2"})
    trace = None
    greets = False

    def missing(self) -> str:
        return tools.missing(programs=("s-nail",))

    def version(self) -> str:
        return tools.version(r"v(\d\S*),", "s-nail", "-V")

    async def send(self, entrance: Entrance, letter: Letter, directory: Path) -> Sent:
        access = entrance.access
        scheme = "smtps" if access.tls == "implicit" else "smtp"
        who, settings = "", {}
        if access.mechanism:
            # In an URL, as RFC 3986 has it.
            who = f"{USER}:{quote(entrance.secret, safe='')}@"
            # What it calls so is XOAUTH2.
            settings["smtp-auth"] = access.mechanism.lower().replace("xoauth2", "oauthbearer")
        else:
            settings["smtp-auth"] = "none"
        settings |= {
            "mta": f"{scheme}://{who}{access.host}:{entrance.port}",
            "from": letter.sender,
            "hostname": "client.shop.test",
            "DEAD": "/dev/null",
            "ttycharset": "utf-8",
            "sendcharsets": "utf-8",
            "mime-encoding": "8bit",
            "tls-ca-file": str(entrance.ca),
            "tls-ca-no-defaults": "",
            "tls-verify": "strict",
        }
        more = [
            part for key, value in settings.items() for part in ("-S", f"{key}={value}" if value else key)
        ]
        if access.tls == "starttls":
            more += ["-S", "smtp-use-starttls"]
        sent = await run(
            letter, "s-nail", "-:/", "-s", "hello", "-S", "v15-compat", "-S", "sendwait", *more,
            *letter.recipients, given=letter.body.replace(b"\r\n", b"\n"),
        )  # fmt: skip
        return msgspec.structs.replace(sent, octets=b"\r\n\r\n" + letter.body)


def _asked(entrance: Entrance, letter: Letter, directory: Path) -> dict[str, object]:
    access = entrance.access
    return {
        "host": access.host,
        "port": entrance.port,
        "tls": access.tls,
        "ca": str(entrance.ca),
        "mechanism": access.mechanism,
        "user": USER,
        "password": entrance.secret,
        "sender": letter.sender,
        "recipients": letter.recipients,
        "content": str(kept(directory, "content", letter.content)),
        "body": str(kept(directory, "body", letter.body)),
        "sent": str(directory / "sent"),
        "notify": letter.notify,
        "ret": letter.ret,
        "envid": letter.envid,
    }


class Nodemailer(Client):
    """nodemailer, a raw message."""

    name = "nodemailer"
    mechanisms = frozenset({"PLAIN", "LOGIN", "XOAUTH2"})
    able = frozenset({"utf8", "dsn"})

    def missing(self) -> str:
        return tools.missing(programs=("node",), files=(tools.NODEMAILER,))

    def version(self) -> str:
        return str(json.loads((tools.NODEMAILER / "package.json").read_text())["version"])

    async def send(self, entrance: Entrance, letter: Letter, directory: Path) -> Sent:
        asked = json.dumps(_asked(entrance, letter, directory)).encode()
        return await run(letter, "node", PROGRAMS / "send.js", tools.NODEMAILER, given=asked)


class PhpMailer(Client):
    """PHPMailer, which makes the header itself and tells what it sent."""

    name = "PHPMailer"
    mechanisms = frozenset({"PLAIN", "LOGIN", "XOAUTH2"})
    able = frozenset({"dsn"})
    trace = None

    def missing(self) -> str:
        return tools.missing(programs=("php",), files=(tools.PHPMAILER,))

    def version(self) -> str:
        return tools.version(r"VERSION = '(\S+)'", "cat", str(tools.PHPMAILER / "PHPMailer.php"))

    async def send(self, entrance: Entrance, letter: Letter, directory: Path) -> Sent:
        asked = json.dumps(_asked(entrance, letter, directory)).encode()
        sent = await run(letter, "php", PROGRAMS / "send.php", tools.PHPMAILER, given=asked)
        octets = (directory / "sent").read_bytes() if sent.taken else b""
        assert not sent.taken or letter.body.rstrip() in octets
        # It sends one line end more than it says.
        return msgspec.structs.replace(sent, octets=octets + b"\r\n")


class JakartaMail(Client):
    """Jakarta Mail, a message read from a file."""

    name = "Jakarta Mail"
    mechanisms = frozenset({"PLAIN", "LOGIN", "XOAUTH2"})
    able = frozenset({"utf8", "dsn"})

    def missing(self) -> str:
        return tools.missing(programs=("java", "javac"), files=tools.JARS)

    def version(self) -> str:
        with zipfile.ZipFile(tools.JARS[0]) as jar:
            manifest = jar.read("META-INF/MANIFEST.MF").decode()
        found = re.search(r"(?m)^(?:Bundle|Implementation)-Version: (\d[\d.]*\d)", manifest)
        return found.group(1) if found else "?"

    async def send(self, entrance: Entrance, letter: Letter, directory: Path) -> Sent:
        access = entrance.access
        protocol = "smtps" if access.tls == "implicit" else "smtp"
        properties = {
            "mail.transport.protocol": protocol,
            "mail.mime.allowutf8": str(letter.utf8).lower(),
            "user": USER,
            "password": entrance.secret,
        }
        its = {
            "host": access.host,
            "port": entrance.port,
            "localhost": "client.shop.test",
            "from": letter.sender,
            "allow8bitmime": "true",
            "starttls.required": str(access.tls == "starttls").lower(),
            "starttls.enable": str(access.tls == "starttls").lower(),
            "ssl.checkserveridentity": "true",
            "auth": "true" if access.mechanism else "false",
            "auth.mechanisms": access.mechanism,
            "dsn.notify": letter.notify,
            "dsn.ret": letter.ret,
            "sendpartial": "true",
        }
        properties |= {f"mail.{protocol}.{key}": str(value) for key, value in its.items() if value != ""}
        lines = "".join(f"{key}={value}\n" for key, value in properties.items())
        escaped = lines.encode("ascii", "backslashreplace").replace(b"\\x", b"\\u00")
        trust = []
        if access.tls != "none":
            store = directory / "trust.p12"
            await run(letter, "keytool", "-importcert", "-noprompt", "-file", entrance.ca, "-alias", "ca",
                      "-keystore", store, "-storetype", "PKCS12", "-storepass", "changeit")  # fmt: skip
            trust = [f"-Djavax.net.ssl.trustStore={store}", "-Djavax.net.ssl.trustStorePassword=changeit"]
        return await run(
            letter, "java", "-XX:TieredStopAtLevel=1", "-cp", ":".join(map(str, tools.JARS)), *trust,
            PROGRAMS / "Send.java", kept(directory, "properties", escaped),
            kept(directory, "content", letter.content),
            kept(directory, "recipients", "\n".join(letter.recipients).encode()),
        )  # fmt: skip


class Smtplib(Client):
    """Python's own."""

    name = "smtplib"
    mechanisms = frozenset({"PLAIN", "LOGIN"})
    able = frozenset({"utf8", "dsn"})

    def version(self) -> str:
        return f"Python {platform.python_version()}"

    async def send(self, entrance: Entrance, letter: Letter, directory: Path) -> Sent:
        return await asyncio.to_thread(self._send, entrance, letter)

    def _send(self, entrance: Entrance, letter: Letter) -> Sent:
        access = entrance.access
        context = ssl.create_default_context(cafile=entrance.ca)
        try:
            client: smtplib.SMTP
            if access.tls == "implicit":
                client = smtplib.SMTP_SSL(*entrance.address, "client.shop.test", context=context, timeout=60)
            else:
                client = smtplib.SMTP(*entrance.address, "client.shop.test", timeout=60)
            with client:
                if access.tls == "starttls":
                    client.starttls(context=context)
                if access.mechanism:
                    client.ehlo_or_helo_if_needed()
                    client.user, client.password = USER, entrance.secret
                    way = {"PLAIN": client.auth_plain, "LOGIN": client.auth_login}[access.mechanism]
                    client.auth(access.mechanism, way)
                client.ehlo_or_helo_if_needed()
                client.sendmail(letter.sender, letter.recipients, letter.content, *options(letter))
        except smtplib.SMTPException as error:
            return Sent(False, repr(error), letter.content)
        return Sent(True, "", letter.content)


def options(letter: Letter) -> tuple[list[str], list[str]]:
    """Return the parameters of MAIL and of RCPT."""
    mail = ["SMTPUTF8", "BODY=8BITMIME"] if letter.utf8 else ["BODY=8BITMIME"]
    mail += [f"RET={letter.ret}"] if letter.ret else []
    mail += [f"ENVID={letter.envid}"] if letter.envid else []
    return mail, [f"NOTIFY={letter.notify}"] if letter.notify else []


class Aiosmtplib(Client):
    """aiosmtplib."""

    name = "aiosmtplib"
    mechanisms = frozenset({"PLAIN", "LOGIN", "XOAUTH2"})
    able = frozenset({"utf8", "dsn"})

    def version(self) -> str:
        return metadata.version("aiosmtplib")

    async def send(self, entrance: Entrance, letter: Letter, directory: Path) -> Sent:
        access = entrance.access
        client = aiosmtplib.SMTP(
            hostname=access.host,
            port=entrance.port,
            local_hostname="client.shop.test",
            use_tls=access.tls == "implicit",
            start_tls=access.tls == "starttls",
            tls_context=None if access.tls == "none" else ssl.create_default_context(cafile=entrance.ca),
        )
        try:
            async with client:
                # Before AUTH it says it in `login` only, which chooses the mechanism itself.
                await client.ehlo()
                if access.mechanism == "PLAIN":
                    await client.auth_plain(USER, entrance.secret)
                elif access.mechanism == "LOGIN":
                    await client.auth_login(USER, entrance.secret)
                elif access.mechanism == "XOAUTH2":
                    await client.auth_xoauth2(USER, entrance.secret)
                mail, rcpt = options(letter)
                await client.sendmail(
                    letter.sender,
                    list(letter.recipients),
                    letter.content,
                    mail_options=mail,
                    rcpt_options=rcpt,
                )
        except aiosmtplib.SMTPException as error:
            return Sent(False, repr(error), letter.content)
        return Sent(True, "", letter.content)
