"""When a message may leave, as the envelope keeps it."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backstamp.mail import release

NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("parameters", "until", "told"),
    [
        (b"", 0.0, ""),
        (b"BODY=7BIT", 0.0, ""),
        (b"HOLDUNTIL=2027-01-15T08:00:00Z", NOW, "until; 2027-01-15T08:00:00Z"),
        (b"RET=HDRS HOLDFOR=60 HOLDUNTIL=2027-01-15T08:00:00Z", NOW, "for; 60"),
        (b"HOLDUNTIL=", 0.0, ""),
        (b"HOLDUNTIL=\xff", 0.0, ""),
        (b"ENVID=xHOLDUNTIL=2027-01-15T08:00:00Z", 0.0, ""),
    ],
)
def test_what_parameters_say_of_it(parameters: bytes, until: float, told: str) -> None:
    assert (release.held_until(parameters), release.request(parameters)) == (until, told)


@given(st.floats(0, 2e10))
def test_rfc_3339_a_time_comes_back_never_earlier(seconds: float) -> None:
    """RFC 3339: written in whole seconds, a time is rounded up: mail that waits does not leave early."""
    back = release.parse(release.date_time(seconds))
    assert back is not None
    assert back == math.ceil(seconds)


@given(st.text())
def test_any_text_is_a_time_or_none(text: str) -> None:
    assert release.parse(text) is None or "T" in text.upper()
