"""What tests say they prove: the threats and the documents they cite (docs/conformance.md).

A test cites at the beginning of its docstring (`Security 11: …`, `RFC 3207 §4.2, RFC 8314: …`) or in its name
(`test_rfc_3461_…`), a dialogue in its first line. `python -m tests.support.rows` prints them all.
"""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

_ROW = r"(?:Security|RFC) \d+"
_PLACE = r"(?: (?:§|section |appendix )[\w.]+)?"
_CITED = re.compile(rf"{_ROW}{_PLACE}(?:(?:,| and) {_ROW}{_PLACE})*")
_NAMED = re.compile(r"test_rfc_(\d+)_")


def cited(text: str) -> list[str]:
    """Return the rows a text begins with."""
    found = _CITED.match(text)
    return re.findall(_ROW, found[0]) if found is not None else []


def collected() -> Mapping[str, list[str]]:
    """Return by row (`Security 11`, `RFC 3207`) the tests that prove it, as `tests/…/test_x.py::test_y`."""
    rows: defaultdict[str, list[str]] = defaultdict(list)
    for name, found in _tests():
        for row in dict.fromkeys(found):
            rows[row].append(name)
    return rows


def _tests() -> Iterator[tuple[str, list[str]]]:
    for path in sorted(ROOT.glob("tests/**/test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                found = cited(ast.get_docstring(node) or "")
                found += [f"RFC {number}" for number in _NAMED.findall(node.name)]
                yield f"{path.relative_to(ROOT)}::{node.name}", found
    for path in sorted(ROOT.glob("tests/dialogues/**/*.txt")):
        first = path.read_text(encoding="utf-8").partition("\n")[0]
        yield str(path.relative_to(ROOT)), cited(first.removeprefix("# "))


def names() -> set[str]:
    """Return the names of all tests and dialogues."""
    return {name for name, _ in _tests()}


if __name__ == "__main__":
    for row, tests in sorted(
        collected().items(), key=lambda item: (item[0][0] != "S", int(item[0].split()[1]))
    ):
        print(f"{row}: {len(tests)}")
        for one in tests:
            print(f"  {one}")
