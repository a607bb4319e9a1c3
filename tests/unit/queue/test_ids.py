"""Queue ids: there and back, in order of time, and nothing else is one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backstamp.queue import ids

raw = st.binary(min_size=16, max_size=16)


@given(raw)
def test_there_and_back(queue_id: bytes) -> None:
    written = ids.text(queue_id)
    assert len(written) == 26
    assert ids.parse(written) == ids.parse(written.lower()) == queue_id


@given(raw, raw)
def test_text_sorts_as_the_bytes_do(one: bytes, two: bytes) -> None:
    assert (one < two) == (ids.text(one) < ids.text(two))


@given(st.integers(0, 2**48 - 1), st.integers(0, 2**48 - 1), st.binary(min_size=10, max_size=10))
def test_later_ids_sort_behind(one: int, two: int, chance: bytes) -> None:
    assert (one < two) == (ids.make(one, chance) < ids.make(two, chance))


def test_known_ids() -> None:
    assert ids.text(bytes(16)) == "0" * 26
    assert ids.text(b"\xff" * 16) == "7" + "Z" * 25
    # The example of the ULID specification: its first ten characters are the time.
    assert ids.text(ids.make(1469918176385, bytes(10)))[:10] == "01ARYZ6S41"


@pytest.mark.parametrize(
    "written",
    ["", "0" * 25, "0" * 27, "U" + "0" * 25, "I" * 26, "0" * 25 + "L", "8" + "0" * 25, "Z" * 26,
     "0" * 25 + "٣", "0" * 25 + " ", "0" * 25 + "\n", "-" + "0" * 25],
)  # fmt: skip
def test_what_is_no_id(written: str) -> None:
    with pytest.raises(ValueError, match="queue id"):
        ids.parse(written)


@pytest.mark.parametrize("strange", ["Ö", "ſ", "٣", "U", "\n"])
def test_a_character_of_another_alphabet_is_named(strange: str) -> None:
    with pytest.raises(ValueError, match="does not occur in a queue id") as caught:
        ids.parse("0" * 25 + strange)
    assert str(caught.value).startswith(repr(strange))


@given(st.text(max_size=30))
def test_any_text_is_an_id_or_a_named_error(written: str) -> None:
    try:
        queue_id = ids.parse(written)
    except ValueError:
        return
    assert ids.text(queue_id) == written.upper()
