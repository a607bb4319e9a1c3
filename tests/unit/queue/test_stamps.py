"""The stamp table: codewords far apart, every move of the table, and no other."""

from itertools import combinations, product

import pytest

from backstamp.queue import stamps
from backstamp.queue.stamps import FINAL, LETTERS, MEANINGS, NEXT, WAITING, IllegalStampError, Stamp

MOVES = {"T": "?DFHX", "?": "TDFHX", "D": "", "F": "B", "B": "", "H": "TFX", "X": ""}


def distance(one: int, two: int) -> int:
    return (one ^ two).bit_count()


@pytest.mark.parametrize(("one", "two"), list(combinations(Stamp, 2)))
def test_any_two_codewords_differ_in_four_bits(one: Stamp, two: Stamp) -> None:
    assert distance(one, two) >= 4


@pytest.mark.parametrize("stamp", Stamp)
def test_what_a_disk_invents_is_no_stamp(stamp: Stamp) -> None:
    """Zeroes and ones, of a hole or an erased block, are far away too."""
    assert distance(stamp, 0x00) == distance(stamp, 0xFF) == 4


@pytest.mark.parametrize("stamp", Stamp)
def test_no_three_flipped_bits_make_another_stamp(stamp: Stamp) -> None:
    near = {byte for byte in range(256) if 1 <= distance(byte, stamp) <= 3}
    assert len(near) == 8 + 28 + 56
    assert not near & set(map(int, Stamp))


@pytest.mark.parametrize(("before", "after"), list(product(Stamp, repeat=2)))
def test_every_move_of_the_table_and_no_other(before: Stamp, after: Stamp) -> None:
    if after is before or after.letter in MOVES[before.letter]:
        stamps.check(before, after)
    else:
        with pytest.raises(IllegalStampError) as raised:
            stamps.check(before, after)
        assert str(raised.value) == f"stamp {before.letter} cannot become {after.letter}"


def test_the_table_is_the_one_of_the_documents() -> None:
    assert {before.letter: {after.letter for after in NEXT[before]} for before in Stamp} == {
        before: set(after) for before, after in MOVES.items()
    }


def test_every_stamp_has_a_letter_and_a_meaning() -> None:
    assert set(LETTERS) == set(MEANINGS) == set(Stamp)
    assert "".join(stamp.letter for stamp in Stamp) == "T?DFBHX"


def test_what_is_final_goes_nowhere() -> None:
    assert {stamp for stamp in Stamp if not NEXT[stamp]} == FINAL
    assert {Stamp.TODO, Stamp.DOUBT} == WAITING
    assert not FINAL & WAITING


@pytest.mark.parametrize("byte", range(256))
def test_every_byte_is_read(byte: int) -> None:
    words = {int(stamp): stamp for stamp in Stamp}
    if byte in words:
        assert stamps.read(byte) == stamps.read(byte, at_most_once=True) == (words[byte], True)
    else:
        assert stamps.read(byte) == (Stamp.TODO, False)
        assert stamps.read(byte, at_most_once=True) == (Stamp.HELD, False)
