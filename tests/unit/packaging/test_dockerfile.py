"""The Dockerfile, read without an engine: what it copies exists, what it promises stands there."""

import fnmatch
import json
import os
import re
import socket
import subprocess
import sys

from backstamp.config.load import load

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "..", ".."))


def read(name: str) -> str:
    with open(os.path.join(ROOT, name), encoding="utf-8") as stream:
        return stream.read()


def instructions() -> list[tuple[str, str]]:
    text = "\n".join(line for line in read("Dockerfile").splitlines() if not line.startswith("#"))
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in lines if line.strip()]


def final_stage() -> list[tuple[str, str]]:
    found = instructions()
    last = max(index for index, (name, _) in enumerate(found) if name == "FROM")
    return found[last:]


def arguments(name: str) -> list[str]:
    return [rest for found, rest in final_stage() if found == name]


def copied() -> list[str]:
    sources = []
    for name, rest in instructions():
        if name == "COPY" and not rest.startswith("--from="):
            sources += rest.split()[:-1]
    return sources


def test_everything_it_copies_exists():
    assert copied()
    assert [source for source in copied() if not os.path.exists(os.path.join(ROOT, source))] == []


def test_dockerignore_lets_in_everything_it_copies():
    allowed = [line[1:] for line in read(".dockerignore").splitlines() if line.startswith("!")]
    assert [source for source in copied() if not any(fnmatch.fnmatch(source, p) for p in allowed)] == []


def test_every_stage_is_the_oldest_python_we_support():
    assert {rest.split()[0] for name, rest in instructions() if name == "FROM"} == {"python:3.11-slim"}


def test_it_does_not_run_as_root():
    assert arguments("USER") == ["backstamp"]
    names = [name for name, _ in final_stage()]
    assert names.index("USER") < names.index("ENTRYPOINT")
    assert "RUN" not in names[names.index("USER") :]


def test_requirements_are_hashed_and_nothing_else_is_fetched():
    installs = [rest for name, rest in instructions() if name == "RUN" and "pip" in rest]
    commands = [part.strip() for rest in installs for part in rest.split("&&") if "pip" in part]
    assert commands
    assert all("--require-hashes" in command or "--no-deps" in command for command in commands)
    assert not any("apt-get" in rest for _, rest in instructions())


def test_the_health_check_asks_the_ready_address_of_its_configuration():
    (check,) = arguments("HEALTHCHECK")
    program = json.loads(check[check.index("CMD") + 3 :])
    settings = load(os.path.join(ROOT, "conf/docker.toml"))
    assert settings.admin is not None
    assert f"http://127.0.0.1:{settings.admin.port}/readyz" in program[2]
    # With docker's own settings a container has a proxy in its environment, which knows no 127.0.0.1.
    with socket.create_server(("127.0.0.1", 0)) as ready:
        here = program[2].replace(f":{settings.admin.port}/", f":{ready.getsockname()[1]}/")
        assert here != program[2]
        asking = subprocess.Popen(
            [sys.executable, "-c", here],
            stderr=subprocess.DEVNULL,
            env={**os.environ, "http_proxy": "http://127.0.0.1:1", "no_proxy": ""},
        )
        ready.settimeout(20)
        with asking, ready.accept()[0] as client:
            client.recv(65536)
            client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert asking.returncode == 0


def test_queue_ports_and_signal_fit_the_configuration():
    settings = load(os.path.join(ROOT, "conf/docker.toml"))
    assert settings.admin is not None
    assert arguments("VOLUME") == [settings.queue_directory]
    assert arguments("EXPOSE") == [f"{settings.listeners[0].port} {settings.admin.port}"]
    assert arguments("STOPSIGNAL") == ["SIGTERM"]
    (command,) = arguments("CMD")
    assert json.loads(command) == ["serve", "--config", "/etc/backstamp/backstamp.toml"]
