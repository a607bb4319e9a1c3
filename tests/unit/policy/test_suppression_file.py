"""The suppression list as a file."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backstamp.policy.suppression import Entry, Source
from backstamp.policy.suppression_file import CSV, NDJSON, Mistake, export, read

NOW = 1_764_000_000.5


def ndjson(text: str | bytes) -> list[Entry | Mistake]:
    return _read(NDJSON, text)


def table(text: str | bytes) -> list[Entry | Mistake]:
    return _read(CSV, text)


def _read(kind: str, text: str | bytes) -> list[Entry | Mistake]:
    octets = text.encode() if isinstance(text, str) else text
    return list(read(kind, octets.splitlines(keepends=True), NOW))


ENTRIES = [
    Entry("joe@example.org", "tenant", "invalid-recipient", '550 5.1.1 "no"\nat all', 7, 9, Source.BOUNCE),
    Entry("@example.org", since=7, source=Source.OPERATOR),
    Entry('"a b"@xn--bcher-kva.example', since=7),
]


def test_what_is_exported_comes_back_the_same() -> None:
    assert list(read(NDJSON, [export(one) for one in ENTRIES], NOW)) == ENTRIES


def test_a_line_may_have_the_address_only() -> None:
    assert ndjson('{"address": "Joe@Example.org"}\n\n') == [Entry("joe@example.org", since=int(NOW))]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("no", "truncated"),
        ("[]", "Expected `object`"),
        ("{}", "missing required field `address`"),
        ('{"address": "joe"}', "address 'joe': is not an address; write"),
        ('{"address": "a@b.example", "adress": "c"}', "unknown field `adress`"),
        ('{"address": "a@b.example", "source": "me"}', "Invalid enum value 'me'"),
        ('{"address": "a@b.example", "bounce_class": "A B"}', "a bounce class is"),
        ('{"address": "a@b.example", "expires": 1764000000000}', "expires 1764000000000: seconds since 1970"),
        ('{"address": "a@b.example", "since": -1}', "since -1: seconds since 1970"),
    ],
)
def test_a_mistake_names_its_line_and_what_it_is(line: str, problem: str) -> None:
    good = Entry("a@b.example", since=int(NOW))
    first, second, third = ndjson(f'{{"address": "a@b.example"}}\n\n{line}\n{{"address": "a@b.example"}}')
    assert (first, third) == (good, good)
    assert isinstance(second, Mistake)
    assert second.line == 3
    assert problem in second.problem


def test_a_table_with_columns() -> None:
    found = table(
        "\ufeffEmail, tenant,bounce_class,reply,since,expires,source\r\n"
        'Joe@Example.org,,invalid-recipient,"550 ""no"", sorry",7,,\r\n'
        ",,,,,,\r\n"
        "ann@example.org,one,,,,99.5,bounce\r\n"
    )
    assert found == [
        Entry("joe@example.org", "", "invalid-recipient", '550 "no", sorry', 7),
        Entry("ann@example.org", "one", "", "", int(NOW), 99, Source.BOUNCE),
    ]


def test_a_column_of_addresses() -> None:
    assert table("joe@example.org\n\n@example.net\n") == [
        Entry("joe@example.org", since=int(NOW)),
        Entry("@example.net", since=int(NOW)),
    ]


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("address,code\na@b.example,550\n", 1, "column 'code' is not known; there are address, tenant"),
        ("tenant\none\n", 1, "one of them is address"),
        ("address,email\na@b.example,a@b.example\n", 1, "every column stands once"),
        ("address,tenant\na@b.example\n", 2, "1 columns where there should be 2"),
        ("address,since\na@b.example,yesterday\n", 2, "`float | null`"),
        ("address,tenant\n,one\n", 2, "address '': is not an address; write"),
        ('address\n"a@b.example\n', 2, "unexpected end of data"),
        (b"a@b.example\n\xff@b.example\n", 2, "not an address"),
    ],
)
def test_a_mistake_in_a_table(text: str | bytes, line: int, problem: str) -> None:
    mistake = table(text)[-1]
    assert isinstance(mistake, Mistake)
    assert mistake.line == line
    assert problem in mistake.problem


@given(st.sampled_from([NDJSON, CSV]), st.lists(st.binary(max_size=60)))
def test_any_octets_are_entries_or_mistakes(kind: str, lines: list[bytes]) -> None:
    for one in read(kind, lines, NOW):
        assert isinstance(one, Entry | Mistake)
        if isinstance(one, Entry):
            assert list(read(NDJSON, [export(one)], NOW)) == [one]
