"""Times, spans, lists and columns."""

import pytest

from backstamp.delivery import phrases

NOW = 1_800_000_000.0  # 2027-01-15 08:00:00 UTC


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (-1, "0 s"),
        (0.4, "0 s"),
        (48, "48 s"),
        (60, "1 min"),
        (252, "4 min 12 s"),
        (3600, "1 h"),
        (3660, "1 h 1 min"),
        (3601, "1 h"),
        (86_400 * 5 - 3600, "4 d 23 h"),
    ],
)
def test_spans(seconds: float, said: str) -> None:
    assert phrases.span(seconds) == said


@pytest.mark.parametrize(
    ("time", "said"),
    [
        (NOW, "08:00:00 UTC (now)"),
        (NOW + 252, "08:04:12 UTC (in 4 min 12 s)"),
        (NOW - 48, "07:59:12 UTC (48 s ago)"),
        (NOW + 86_400, "2027-01-16 08:00 UTC (in 1 d)"),
    ],
)
def test_times_are_absolute_and_relative(time: float, said: str) -> None:
    assert phrases.when(time, NOW) == said


def test_how_long_ago() -> None:
    assert phrases.ago(NOW - 90, NOW) == "1 min 30 s ago"
    assert phrases.ago(NOW, NOW) == "a moment ago"


@pytest.mark.parametrize(
    ("items", "said"),
    [
        ([], ""),
        (["a"], "a"),
        (["a", "b"], "a and b"),
        (["a", "b", "c"], "a, b and c"),
        (["a", "b", "c", "d"], "a, b, c and d"),
        (["a", "b", "c", "d", "e"], "a, b, c and 2 more hosts"),
    ],
)
def test_some_of_a_list(items: list[str], said: str) -> None:
    assert phrases.some(items, "host") == said


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mx.test", "mx.test"),
        ("a.test,b.test", "a.test and b.test"),
        ("a.test,b.test|c.test", "a.test and 2 more"),
        ("a.test,b.test from 192.0.2.1, 2001:db8::1", "a.test and b.test from 192.0.2.1, 2001:db8::1"),
        ("a.test,b.test (y.test)", "a.test and b.test (y.test)"),
    ],
)
def test_names_of_sites(name: str, said: str) -> None:
    assert phrases.site(name) == said


def test_counts_sizes_and_sentences() -> None:
    assert (phrases.count(1, "try", "tries"), phrases.count(1200, "try", "tries")) == ("1 try", "1,200 tries")
    assert [phrases.octets(number) for number in (1, 9_999, 48_211, 1_250_000)] == [
        "1 octet",
        "9,999 octets",
        "48 kB",
        "1.2 MB",
    ]
    assert phrases.sentence("so it is") == "So it is."


def test_a_label_stands_before_the_first_line_only() -> None:
    lines = phrases.labelled("why", ["word " * 20, "more"])
    assert lines[0].startswith("  why        word")
    assert all(line.startswith(" " * 13) for line in lines[1:])
    assert max(map(len, lines)) <= phrases.WIDTH
    assert phrases.labelled("why", []) == []
