"""Text that is shown, and text that never is."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backstamp.config import words

GLOBAL_FLAGS = "global flags not at the start of the expression at position "


def test_regular_expressions():
    assert words.pattern(r"too many .*connections|IB\d+") == r"too many .*connections|IB\d+"


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("(", '"(" is not a regular expression: missing ), unterminated subpattern at position 0'),
        ("", "\"\" is not a regular expression; write 'too many connections'"),
        ("a(?s)", '"a(?s)" is not a regular expression: ' + GLOBAL_FLAGS + "1"),
        ("(?s)a", '"(?s)a" is not a regular expression: ' + GLOBAL_FLAGS + "3"),
        (5, "5 is not a regular expression; write 'too many connections'"),
        ("[[a]", '"[[a]" is not a regular expression: Possible nested set at position 1'),
        ("a{9999999999}", '"a{9999999999}" is not a regular expression: the repetition number is too large'),
    ],
)
def test_what_is_no_regular_expression(value, why):
    with pytest.raises(ValueError) as raised:
        words.pattern(value)
    assert str(raised.value) == why


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (5, "not a string; write it in double quotes"),
        ("s3cret\n", "not a password: it is empty or has control characters"),
        ("", "not a password: it is empty or has control characters"),
    ],
)
def test_passwords_are_not_told(value, why):
    with pytest.raises(ValueError) as raised:
        words.secret(value)
    assert str(raised.value) == why


@given(st.text() | st.text("()[]{}?*+|\\^$.:=!<>#-\nab1P", max_size=8))
def test_any_pattern_compiles_in_a_group_or_is_a_sentence(value):
    try:
        found = words.pattern(value)
    except ValueError as error:
        assert "is not a regular expression" in str(error)
        assert "\n" not in str(error)
    else:
        re.compile(f"(?:{found})")


def test_passwords_are_kept_as_they_are():
    assert words.secret(" s3cret ü ") == " s3cret ü "


def test_values_are_shown_without_their_passwords():
    value = [{"password": "s3cret", "via": {"password": 5, "a": [1]}}]
    assert words.shown(value) == '[{"password": "…", "via": {"password": "…", "a": [1]}}]'
