"""ESMTP parameters on raw octets, and what EHLO offers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backstamp.smtp import extensions, parameters
from backstamp.smtp.parameters import ParameterError


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (b"", b""),
        (b"SIZE=1000", b""),
        (b"size=0 body=7bit", b"BODY=7BIT"),
        (b"BODY=8BITMIME  SMTPUTF8", b"BODY=8BITMIME SMTPUTF8"),
    ],
)
def test_what_goes_with_the_message(text: bytes, kept: bytes) -> None:
    assert parameters.mail(text, message_size=1000) == kept


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b"SIZE", 501),
        (b"SIZE=x", 501),
        (b"SIZE=1001", 552),
        (b"SIZE=999999999999999999999", 501),
        (b"BODY", 501),
        (b"BODY=BINARYMIME", 501),
        (b"SMTPUTF8=yes", 501),
        (b"SMTPUTF8 smtputf8", 501),
        (b"RET=HDRS", 555),
        (b"AUTH=<>", 555),
        (b"=x", 501),
        (b"A=b=c", 501),
        (b"X\tY", 501),
        (b"X=\xff", 501),
    ],
)
def test_what_is_refused(text: bytes, code: int) -> None:
    with pytest.raises(ParameterError) as refused:
        parameters.mail(text, message_size=1000)
    assert refused.value.code == code


def test_rcpt_takes_none_yet() -> None:
    parameters.rcpt(b" ")
    for text, code in ((b"NOTIFY=NEVER", 555), (b"\x01", 501)):
        with pytest.raises(ParameterError) as refused:
            parameters.rcpt(text)
        assert refused.value.code == code


@given(st.binary(max_size=60))
def test_any_octets_are_taken_or_refused(text: bytes) -> None:
    try:
        kept = parameters.mail(text, message_size=1000)
    except ParameterError as error:
        assert error.code in {501, 552, 555}
        str(error).encode("ascii")
    else:
        assert set(kept.split()) <= {b"BODY=7BIT", b"BODY=8BITMIME", b"SMTPUTF8"}


def test_what_is_offered() -> None:
    assert extensions.keywords(1000) == (
        "SIZE 1000",
        "8BITMIME",
        "SMTPUTF8",
        "PIPELINING",
        "ENHANCEDSTATUSCODES",
    )
