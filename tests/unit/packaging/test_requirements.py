"""The locked requirements: every line pinned and hashed, every dependency in them, no registry named."""

import os
import re
import tomllib

import pytest

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "..", ".."))
FILES = ("runtime.txt", "build.txt", "dev.txt")
PIN = re.compile(r"^([a-z0-9-]+)==([^ ;]+)((?: ; [^\\]+)?) \\$")
HASH = re.compile(r"^    --hash=sha256:[0-9a-f]{64}( \\)?$")


def lines(name: str) -> list[str]:
    with open(os.path.join(ROOT, "requirements", name), encoding="utf-8") as stream:
        return stream.read().splitlines()


def pins(name: str) -> dict[str, str]:
    return {found[1]: found[2] for line in lines(name) if (found := PIN.match(line))}


def wanted() -> dict:
    with open(os.path.join(ROOT, "pyproject.toml"), "rb") as stream:
        return tomllib.load(stream)


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[^A-Za-z0-9_.-]", text)[0].lower().replace("_", "-") for text in requirements}


@pytest.mark.parametrize("name", FILES)
def test_every_line_is_a_pin_or_a_hash(name):
    assert pins(name)
    strange = [
        line for line in lines(name) if not PIN.match(line) and not HASH.match(line) and line[:1] != "#"
    ]
    assert strange == []


@pytest.mark.parametrize("name", FILES)
def test_no_registry_is_named(name):
    assert [line for line in lines(name) if "://" in line or line.startswith("--")] == []


def test_every_dependency_is_locked():
    project = wanted()["project"]
    assert names(project["dependencies"]) <= pins("runtime.txt").keys()
    assert names(project["optional-dependencies"]["dev"]) <= pins("dev.txt").keys()
    assert names(wanted()["build-system"]["requires"]) <= pins("build.txt").keys() & pins("dev.txt").keys()


def test_tests_run_with_the_versions_that_are_shipped():
    shared = pins("runtime.txt").keys() & pins("dev.txt").keys()
    assert shared == pins("runtime.txt").keys()
    assert {name: pins("dev.txt")[name] for name in shared} == pins("runtime.txt")
