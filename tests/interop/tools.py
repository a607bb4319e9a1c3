"""Where the other programs are: those of the system, and those unpacked below var/interop.

    python tests/interop/tools.py          # as root, on Debian: fetch what is not there

Debian's mail servers exclude each other as packages. Postfix is taken as it is installed; Exim
and OpenSMTPD are unpacked into a directory of ours, and nothing of them is installed. The tests
fetch nothing: what is absent is skipped, in words that say how to get it.
"""

import functools
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HOME = Path(os.environ.get("BACKSTAMP_INTEROP", ROOT / "var/interop"))

AIOSMTPD = "1.4.6"
"""Version whose tests are run; `aiosmtpd_differences.toml` is about it."""

INSTALLED = (
    *("swaks", "libnet-ssleay-perl", "libauthen-sasl-perl", "msmtp", "curl", "s-nail", "postfix"),
    *("nodejs", "node-nodemailer", "php-cli", "php-mbstring", "libphp-phpmailer"),
    *("default-jdk-headless", "libjakarta-mail-java", "libjakarta-activation-java"),
)
"""Debian packages that can be installed beside each other."""

UNPACKED = {"exim": ("exim4-daemon-light", "libidn12"), "opensmtpd": ("opensmtpd", "libevent-2.1-7")}

PHPMAILER = Path("/usr/share/php/libphp-phpmailer/src")
NODEMAILER = Path("/usr/share/nodejs/nodemailer")
JARS = (Path("/usr/share/java/jakarta-mail.jar"), Path("/usr/share/java/jakarta-activation.jar"))
EXIM = HOME / "exim/usr/sbin/exim4"
OPENSMTPD = HOME / "opensmtpd/usr/sbin/smtpd"
SDIST = HOME / f"sdist/aiosmtpd-{AIOSMTPD}"
PYTHON = HOME / "python"
"""What the tests of aiosmtpd need of Python and ours do not."""


def missing(*, programs: tuple[str, ...] = (), files: tuple[Path, ...] = (), root: bool = False) -> str:
    """Return why something cannot be run here, empty where it can."""
    for program in programs:
        if shutil.which(program) is None:
            return f"{program} is not installed (make interop-tools)"
    for file in files:
        if not file.exists():
            return f"{file.name} is not there (make interop-tools)"
    if root and not (os.geteuid() == 0 and shutil.which("unshare") and shutil.which("setpriv")):
        return "needs root, unshare and setpriv: a mail server of its own"
    return ""


@functools.cache
def said(*command: str) -> str:
    """Return what a command prints, wherever it does."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.stdout + done.stderr


def version(pattern: str, *command: str) -> str:
    """Return the first group of a pattern in what a command prints."""
    found = re.search(pattern, said(*command))
    return found.group(1) if found else "?"


def packaged(name: str) -> str:
    """Return the version of an unpacked package whose name begins so."""
    return next((HOME / "debs").rglob(f"{name}*.deb")).name.split("_")[1].partition("-")[0]


def libraries(home: Path) -> str:
    """Return the directories of an unpacked package's libraries, as LD_LIBRARY_PATH wants them."""
    return ":".join(sorted({str(file.parent) for file in home.glob("usr/lib/*/*.so*")}))


def _apt(*arguments: str, cwd: Path | None = None) -> None:
    # A daemon that is installed must not be started: policy-rc.d is the system's, this is for the rest.
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    subprocess.run(["apt-get", *arguments], cwd=cwd, check=True, env=environment)


def fetch() -> None:
    """Install and unpack what is not there."""
    listed = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    wanted = [name for name in INSTALLED if f"{name} installed" not in listed and not _given(name)]
    if wanted:
        _apt("install", "--yes", "--no-install-recommends", *wanted)
    for name, packages in UNPACKED.items():
        if (HOME / name).exists():
            continue
        debs = HOME / "debs" / name
        debs.mkdir(parents=True, exist_ok=True)
        _apt("download", *packages, cwd=debs)
        for package in debs.glob("*.deb"):
            subprocess.run(["dpkg", "-x", package, HOME / name], check=True)
    if EXIM.exists():
        EXIM.chmod(0o755)  # set-uid programs take no LD_LIBRARY_PATH; it needs no privilege here
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    if not SDIST.exists():
        (HOME / "sdist").mkdir(parents=True, exist_ok=True)
        subprocess.run(
            [*pip, "download", "--no-binary", ":all:", "--no-deps", "--dest", HOME, f"aiosmtpd=={AIOSMTPD}"],
            check=True,
        )
        # Not shutil: its filter, without which it writes anywhere, is younger than Debian's Python 3.11.2.
        archive = HOME / f"aiosmtpd-{AIOSMTPD}.tar.gz"
        subprocess.run(["tar", "-xzf", archive, "-C", HOME / "sdist"], check=True)
    if not PYTHON.exists():
        subprocess.run(
            [*pip, "install", "--no-deps", "--target", PYTHON, "pytest-mock", "setuptools<81"], check=True
        )


def _given(package: str) -> bool:
    """Tell whether a program is there that came some other way."""
    program = {"nodejs": "node", "default-jdk-headless": "javac"}.get(package)
    return program is not None and shutil.which(program) is not None


if __name__ == "__main__":
    fetch()
