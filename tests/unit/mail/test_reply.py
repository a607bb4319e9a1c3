"""Replies: the first digit decides, and the enhanced status is the text's if it fits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backstamp.mail.reply import EnhancedStatus, Reply


@pytest.mark.parametrize(
    ("code", "kinds"),
    [
        (199, (False, False, False)),
        (200, (True, False, False)),
        (250, (True, False, False)),
        (299, (True, False, False)),
        (354, (False, False, False)),
        (400, (False, True, False)),
        (421, (False, True, False)),
        (499, (False, True, False)),
        (500, (False, False, True)),
        (556, (False, False, True)),
        (599, (False, False, True)),
        (600, (False, False, False)),
        (0, (False, False, False)),
    ],
)
def test_the_first_digit_decides(code: int, kinds: tuple[bool, bool, bool]) -> None:
    reply = Reply(code)
    assert (reply.positive, reply.transient, reply.permanent) == kinds


@pytest.mark.parametrize(
    ("code", "text", "expected"),
    [
        (550, "5.1.1 unknown", "5.1.1"),
        (550, "5.1.1", "5.1.1"),
        (550, "5.1.1\n5.1.1 second line", "5.1.1"),
        (250, "2.0.0 ok", "2.0.0"),
        (451, "4.7.100 later", "4.7.100"),
        (556, "5.1.10 null MX", "5.1.10"),
        (550, "unknown", "5.0.0"),
        (550, "", "5.0.0"),
        (550, "4.2.2 the peer's slip", "5.0.0"),
        (450, "5.2.2 the peer's slip", "4.0.0"),
        (550, "5.1.1unknown", "5.0.0"),
        (550, "5.1.1.1 no", "5.0.0"),
        (550, "5.1000.1 no", "5.0.0"),
        (550, " 5.1.1 no", "5.0.0"),
        (550, "5.1 no", "5.0.0"),
        (550, "5.١.١ digits of another script", "5.0.0"),
        (550, "#5.1.1 no", "5.0.0"),
    ],
)
def test_the_enhanced_status(code: int, text: str, expected: str) -> None:
    """RFC 3463."""
    assert str(Reply(code, text).enhanced) == expected


def test_a_reply_as_text() -> None:
    assert str(Reply(550)) == "550"
    assert str(Reply(550, "5.1.1 unknown")) == "550 5.1.1 unknown"


def test_a_status_is_three_numbers() -> None:
    assert EnhancedStatus(5, 1, 10) == (5, 1, 10)
    assert str(EnhancedStatus(5, 1, 10)) == "5.1.10"


@given(st.integers(100, 999), st.text())
def test_any_reply_has_a_status_of_its_class(code: int, text: str) -> None:
    """RFC 3463."""
    status = Reply(code, text).enhanced
    assert status.class_ == code // 100
    assert 0 <= status.subject <= 999
    assert 0 <= status.detail <= 999
    assert str(status).isascii()
