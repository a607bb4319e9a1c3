"""The documents and the code name the same things: invariants, tests, files, commands."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
FORMAT = (ROOT / "docs/queue-format.md").read_text()
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("bench/*.md")])


def defined() -> set[str]:
    return set(re.findall(r"^- \*\*(Q\d+)\*\*", FORMAT, re.MULTILINE))


def test_every_invariant_that_is_cited_is_defined_and_the_other_way_round() -> None:
    sources = [*ROOT.glob("src/**/*.py"), *ROOT.glob("tests/**/*.py"), *DOCUMENTS]
    cited = {number for path in sources for number in re.findall(r"\bQ\d+\b", path.read_text())}
    assert cited == defined()


def test_every_invariant_names_tests_that_cite_it_or_are_its() -> None:
    rows = dict(re.findall(r"^\| (Q\d+) \| (.*) \|$", FORMAT, re.MULTILINE))
    assert set(rows) == defined()
    for row in rows.values():
        assert re.findall(r"`(tests/[^`]+)`", row)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_that_documents_name_are_there(path: Path) -> None:
    text = path.read_text()
    named = re.findall(r"`((?:src|tests|docs|conf|bench|requirements)/[\w./-]+)`", text)
    linked = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    for name in named:
        assert (ROOT / name).exists(), name
    for link in linked:
        assert (path.parent / link).exists(), link


def test_modules_that_the_architecture_names_are_there() -> None:
    text = (ROOT / "docs/architecture.md").read_text()
    for name in re.findall(r"`((?:\w+/)+\w+\.py)`", text):
        assert (ROOT / "src/backstamp" / name).exists() or (ROOT / name).exists(), name


def test_the_format_document_has_the_codes_bytes() -> None:
    from backstamp.queue.record import HEADER_SIZE
    from backstamp.queue.segment import CAPACITY
    from backstamp.queue.stamps import MEANINGS, Stamp

    for stamp in Stamp:
        assert f"| `{stamp.letter}` | 0x{int(stamp):02X} | {MEANINGS[stamp]} |" in FORMAT
    assert f"header ({HEADER_SIZE} octets)" in FORMAT
    assert f"{CAPACITY:,} stamps" in FORMAT


def test_nothing_in_the_project_names_a_registry_or_a_machine() -> None:
    files = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split()
    needles = [word.encode() for word in ("pypi" + ".org", "pythonhosted" + ".org", "registry." + "npmjs")]
    for name in files:
        content = (ROOT / name).read_bytes() if (ROOT / name).is_file() else b""
        for needle in needles:
            assert needle not in content, name
