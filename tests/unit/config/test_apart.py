"""A configuration that a process of its own reads: the same settings, the same mistakes, never a crash."""

import errno
import subprocess
import sys
from pathlib import Path

import pytest
import trustme
from tests.support.certificates import written

from backstamp.config import ConfigurationError, apart
from backstamp.config.load import load

ROOT = Path(__file__).resolve().parents[3]
FULL = """
hostname = "relay.example.org"
[queue]
directory = "queue"
[[listen]]
address = "127.0.0.1:2525"
tls = "starttls"
certificate = "{certificate}"
key = "{key}"
allow = ["127.0.0.0/8", "2001:db8::/32"]
[[route]]
match = "*.example.net"
via = ["smtp.example.com:587", "127.0.0.1:2526"]
username = "ann"
password = "secret"
tls = "verify"
[[provider]]
name = "ours"
mx = ["*.mail.example.com"]
[[adapt]]
provider = "ours"
pattern = "^421 .*too many"
action = "pause"
for = "5m"
[[destination]]
match = "example.com"
connections = 3
[http]
address = "127.0.0.1:8026"
[admin]
address = "127.0.0.1:8025"
"""


@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / "conf").glob("*.toml")))
def test_a_shipped_file_comes_to_the_same_there_as_here(name: str) -> None:
    assert same(ROOT / "conf" / name)


def test_every_kind_of_record_comes_over_whole(tmp_path: Path) -> None:
    certificate, key = written(trustme.CA(), tmp_path, "relay.example.org")
    file = tmp_path / "backstamp.toml"
    file.write_text(FULL.format(certificate=certificate, key=key))
    assert apart.load(str(file)) == load(file)


def same(file: Path) -> bool:
    """Compare what a file comes to, mistakes included."""
    try:
        return apart.load(str(file)) == load(file)
    except ConfigurationError as error:
        with pytest.raises(ConfigurationError) as here:
            load(file)
        return error.problems == here.value.problems


def test_all_mistakes_come_over(tmp_path: Path) -> None:
    file = tmp_path / "backstamp.toml"
    file.write_text('hostnam = "relay.example.org"\n[queue]\ndirectory = 1\n')
    with pytest.raises(ConfigurationError) as there:
        apart.load(str(file))
    with pytest.raises(ConfigurationError) as here:
        load(file)
    assert there.value.problems == here.value.problems
    assert len(there.value.problems) > 1


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no such file"):
        apart.load(str(tmp_path / "nothing.toml"))


def test_a_reader_that_breaks_is_a_mistake_and_no_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(ConfigurationError, match="its reader ended with 1"):
        apart.load("x.toml")


def test_a_reader_that_cannot_be_started_is_a_mistake_and_no_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reload in a machine without memory: an alarm says so, and what is in force stays."""

    def none(*_: object, **__: object) -> None:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr(subprocess, "Popen", none)
    with pytest.raises(ConfigurationError, match=r"^x.toml: cannot be read: .*: cannot allocate memory$"):
        apart.load("x.toml")


def test_a_relay_does_not_load_what_only_its_start_needs() -> None:
    """Memory: a third of a relay's is libraries."""
    code = "import sys; from backstamp import serving; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    loaded = set(done.stdout.split())
    assert "backstamp.listener.session" in loaded
    assert not loaded & {"pydantic", "pydantic_core", "typer", "tomllib", "cryptography", "scramp", "argon2"}
