"""The page of conformance and the tests say the same: every threat, every document, no test that is not."""

import re

import pytest
from tests.support import rows

PAGE = (rows.ROOT / "docs/conformance.md").read_text(encoding="utf-8")
COLLECTED = rows.collected()
OUT = {
    row
    for line in PAGE.partition("\n## Out\n")[2].splitlines()
    for row in re.findall(r"RFC \d+", line.partition(" | ")[0])
}
PROVEN = PAGE.partition("\n## Out\n")[0]
TABLE = {
    (f"Security {row[0]}" if row[0].isdigit() else row[0]): row[-1]
    for line in PROVEN.splitlines()
    if (row := [cell.strip() for cell in line.strip("|").split(" | ")])
    and len(row) == 4
    and "`tests/" in row[-1]
}
FRONT = [
    1870, 2034, 2920, 3030, 3207, 3461, 3463, 3848, 4616, 4865, 4954, 5248, 5321, 5802, 6152, 6409, 6531,
    6532, 6533, 6710, 7505, 7628, 7677, 8314, 8689,
]  # fmt: skip
"""Documents the front door is made by."""


@pytest.mark.parametrize("number", range(1, 23))
def test_every_threat_has_a_test_and_a_row(number: int) -> None:
    assert COLLECTED[f"Security {number}"]
    assert f"Security {number}" in TABLE


@pytest.mark.parametrize("number", FRONT)
def test_every_document_of_the_front_door_has_a_test_and_a_row(number: int) -> None:
    assert COLLECTED[f"RFC {number}"]
    assert f"RFC {number}" in TABLE


@pytest.mark.parametrize("row", TABLE)
def test_the_page_names_tests_that_are_there_and_say_so(row: str) -> None:
    named = re.findall(r"`(tests/[^`]+)`", TABLE[row])
    assert named
    assert set(named) <= set(COLLECTED[row])


def test_the_page_names_no_document_without_tests_but_those_that_are_out() -> None:
    named = set(re.findall(r"RFC \d+", PAGE))
    assert {one for one in named if one not in COLLECTED} == OUT, "a document is out, or has tests"
    assert not OUT & set(TABLE)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Security 11: words", ["Security 11"]),
        ("RFC 3207 §4.2: words of RFC 5321", ["RFC 3207"]),
        ("Security 13, RFC 5321: words", ["Security 13", "RFC 5321"]),
        ("RFC 4954, RFC 4616 and RFC 5802: words", ["RFC 4954", "RFC 4616", "RFC 5802"]),
        ("RFC 5321 section 4.1.4.", ["RFC 5321"]),
        ("Words of RFC 5321", []),
    ],
)
def test_what_a_docstring_cites(text: str, found: list[str]) -> None:
    assert rows.cited(text) == found
