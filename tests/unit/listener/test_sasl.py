"""Lines of an AUTH exchange."""

from base64 import b64encode

import pytest

from backstamp.listener import sasl


def reply(function, line: bytes) -> bytes:
    with pytest.raises(sasl.FramingError) as caught:
        function(line)
    return caught.value.reply


def test_base64_on_a_line() -> None:
    """RFC 4954: responses and challenges are base64."""
    assert sasl.response(b64encode(b"\0ann\0pw")) == b"\0ann\0pw"
    assert sasl.response(b"") == b""
    assert sasl.challenge(b"Username:") == b"334 VXNlcm5hbWU6\r\n"
    assert sasl.challenge(b"") == b"334 \r\n"


def test_an_empty_initial_response() -> None:
    """RFC 4954: `=` is an empty initial response, and nothing else is."""
    assert sasl.initial(b"=") == b""
    assert sasl.initial(b"AA==") == b"\0"
    assert reply(sasl.initial, b"").startswith(b"501 5.5.2 ")
    assert reply(sasl.initial, b"*").startswith(b"501 5.5.2 ")


def test_cancelled() -> None:
    """RFC 4954: `*` cancels, 501."""
    assert reply(sasl.response, b"*").startswith(b"501 5.7.0 ")


@pytest.mark.parametrize(
    "line", [b"=", b"A", b"AA", b"AA=", b"AA==AA==", b"AA ==", b"A*==", b"AA==\r", b"\xff\xff=="]
)
def test_what_is_no_base64(line: bytes) -> None:
    """RFC 4954: base64 that cannot be decoded, 501 5.5.2."""
    assert reply(sasl.response, line).startswith(b"501 5.5.2 ")


def test_the_longest_line() -> None:
    """RFC 4954: 12288 octets of base64, 500 5.5.6 beyond."""
    assert len(sasl.response(b"A" * sasl.LONGEST_LINE)) == 9216
    assert reply(sasl.response, b"A" * (sasl.LONGEST_LINE + 4)).startswith(b"500 5.5.6 ")
    assert reply(sasl.initial, b"A" * (sasl.LONGEST_LINE + 4)).startswith(b"500 5.5.6 ")
