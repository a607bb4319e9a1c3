"""aiosmtpd's own tests, run against this relay's session; what differs is meant to, and listed with why.

Their files are no part of this repository: they are run where `make interop-tools` has unpacked their
source distribution. A test that fails unlisted is a difference nobody thought of; one that is listed
and passes is a difference no more.
"""

import asyncio
import os
import sys
import tomllib
from pathlib import Path
from xml.etree import ElementTree

import pytest
from tests.interop import tools
from tests.interop.conftest import Proved

LIST = Path(__file__).parent / "aiosmtpd_differences.toml"

pytestmark = [pytest.mark.interop, pytest.mark.timeout(600)]


def covers(entry: str, name: str) -> bool:
    """Tell whether an entry means a test: itself, all its parameters, or its class."""
    return name == entry or name.startswith((f"{entry}[", f"{entry}::"))


def listed() -> tuple[list[str], dict[str, str]]:
    """Return the files that are run, and why by the name in the list."""
    found = tomllib.loads(LIST.read_text())
    assert found["version"] == tools.AIOSMTPD
    whys = [(name, one["why"]) for one in found["difference"] for name in one["tests"]]
    assert len(dict(whys)) == len(whys)
    return found["run"], dict(whys)


async def outcome(files: list[str], report: Path) -> dict[str, bool]:
    """Run their tests; return which passed."""
    tests = [f"aiosmtpd/tests/{name}" for name in files]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "ignore", "-m", "pytest", "-q", "-c", os.devnull, "--rootdir", tools.SDIST,
        "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "tests.interop.aiosmtpd_adapter",
        "-o", "asyncio_mode=auto", "--timeout=10", "--tb=short", f"--junitxml={report}", *tests,
        cwd=tools.SDIST, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "PYTHONPATH": f"{tools.ROOT / 'src'}:{tools.ROOT}:{tools.PYTHON}",
             "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    output, _ = await process.communicate()
    assert process.returncode in (0, 1), output.decode(errors="replace")[-3000:]
    found: dict[str, bool] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        module, _, group = case.get("classname", "").removeprefix("aiosmtpd.tests.").partition(".")
        name = "::".join(part for part in (module, group, case.get("name", "")) if part)
        # One that passed and broke at its end is there twice.
        bad = case.find("failure") is not None or case.find("error") is not None
        found[name] = found.get(name, True) and not bad
    return found


async def test_their_tests_pass_but_for_what_is_listed(tmp_path: Path, proved: Proved) -> None:
    if lacks := tools.missing(files=(tools.SDIST, tools.PYTHON / "pytest_mock")):
        pytest.skip(lacks)
    files, whys = listed()
    found = await outcome(files, tmp_path / "report.xml")
    failed = {name for name, passed in found.items() if not passed}
    unlisted = sorted(name for name in failed if not any(covers(entry, name) for entry in whys))
    assert not unlisted, "\n".join(unlisted)
    idle = sorted(entry for entry in whys if not any(covers(entry, name) for name in failed))
    assert not idle, f"listed, but they do not fail: {idle}"
    what = f"{len(found) - len(failed)} of {len(found)} tests pass, the others are listed with why"
    proved("suite", "aiosmtpd's tests", tools.AIOSMTPD, f"{', '.join(files)}: {what}")
