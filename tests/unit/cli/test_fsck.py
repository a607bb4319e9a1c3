"""`backstamp fsck` as an operator meets it."""

import json
from pathlib import Path

from tests.support.queues import local_queue, message
from typer.testing import CliRunner

from backstamp.cli import build
from backstamp.cli.configuration import BAD_CONFIGURATION
from backstamp.cli.fsck import DAMAGED

SOUND = 0


def run(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(build(), ["fsck", *map(str, arguments)])
    return result.exit_code, result.stdout, result.stderr


async def made(root: Path) -> Path:
    queue = await local_queue(root)
    for _ in range(2):
        await queue.append(message(b"a@x.example"))
    await queue.close()
    return root / "0" / "00000000000000000001.mail"


async def test_sound(tmp_path: Path) -> None:
    await made(tmp_path)
    code, said, complaint = run(tmp_path)
    assert (code, complaint) == (SOUND, "")
    assert said.startswith("segment 1: sound; 2 alive, 0 done (2 T)")


async def test_damaged_and_repaired(tmp_path: Path) -> None:
    mail = await made(tmp_path)
    octets = bytearray(mail.read_bytes())
    octets[20] ^= 1
    mail.write_bytes(octets)
    code, said, complaint = run(tmp_path)
    assert code == DAMAGED
    assert "DAMAGED" in said
    assert "--repair: keep it as corrupt/00000000000000000001-16.corrupt" in said
    assert complaint == f"stop the relay, then: backstamp fsck --repair {tmp_path}\n"
    code, said, _ = run(tmp_path, "--repair")
    assert code == SOUND
    assert "was damaged, repaired" in said
    code, said, _ = run(tmp_path, "--json")
    assert code == SOUND
    told = json.loads(said)
    assert (told["sound"], told["kept"], told["segments"][0]["alive"]) == (True, 1, 1)


async def test_in_use(tmp_path: Path) -> None:
    queue = await local_queue(tmp_path)
    code, _, complaint = run(tmp_path, "--repair")
    assert code == BAD_CONFIGURATION
    assert complaint == f"backstamp: {tmp_path} is in use: stop the relay before it is repaired\n"
    assert run(tmp_path)[0] == SOUND
    await queue.close()


def test_no_queue(tmp_path: Path) -> None:
    code, _, complaint = run(tmp_path)
    assert code == BAD_CONFIGURATION
    assert complaint == f"backstamp: {tmp_path} is no queue: there is no {tmp_path}/FORMAT\n"
    assert run(tmp_path / "nowhere", "--repair")[0] == BAD_CONFIGURATION
    assert not (tmp_path / "nowhere").exists()
    (tmp_path / "FORMAT").write_text("another\n")
    said = f"{tmp_path}/FORMAT says 'another', this version reads 'backstamp queue 1'"
    assert run(tmp_path)[2] == f"backstamp: {said}\n"
    assert "say which queue" in run()[2]


async def test_the_queue_of_a_configuration(tmp_path: Path) -> None:
    await made(tmp_path / "queue")
    config = tmp_path / "backstamp.toml"
    config.write_text(
        f"""hostname = "relay.example.org"
[queue]
directory = "{tmp_path / "queue"}"
[[listen]]
address = "127.0.0.1:2525"
allow = ["127.0.0.0/8"]
"""
    )
    assert run("--config", config)[0] == SOUND
