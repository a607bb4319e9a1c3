"""Keys: what a record tells, and which message a key stands for (Q13)."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.queues import message

from backstamp.mail.envelope import Envelope
from backstamp.queue import ids, keys
from backstamp.queue.keys import KEY_LIFETIME, Index

NOW = 1_800_000_000_000


def identity(when: int, number: int = 0) -> bytes:
    return ids.make(when, number.to_bytes(10, "big"))


def test_a_key_is_of_its_scope() -> None:
    found = {keys.digest(scope, text) for scope in (b"a", b"b", b"") for text in (b"k", b"l", b"b\0k")}
    assert len(found) == 9
    assert {len(one) for one in found} == {keys.KEY_SIZE}


@given(st.binary(min_size=keys.KEY_SIZE, max_size=keys.KEY_SIZE), st.sampled_from([b"", b"RET=HDRS KEY=x"]))
def test_a_record_tells_the_key_that_was_put_in(key: bytes, parameters: bytes) -> None:
    named = keys.named(message(b"a@b.example", parameters=parameters).envelope, key)
    assert keys.told(named) == key
    assert named.parameters.count(b"KEY=") == 1


@pytest.mark.parametrize(
    "parameters", [b"", b"BODY=7BIT", b"XKEY=abcd", b"KEY=", b"KEY=abcd", b"KEY=!", b"KEY=abcde", b"KEY=\xff"]
)
def test_what_is_no_key_is_none(parameters: bytes) -> None:
    assert keys.told(Envelope(b"", (), parameters)) == b""


@given(st.binary())
def test_whatever_stands_in_a_record_gives_a_key_or_none(value: bytes) -> None:
    assert len(keys.told(Envelope(b"", (), b"KEY=" + value))) in (0, keys.KEY_SIZE)


def test_rows_are_read_as_they_were_written() -> None:
    written = [(b"k" * keys.KEY_SIZE, identity(NOW)), (b"l" * keys.KEY_SIZE, identity(NOW - KEY_LIFETIME))]
    octets = b"".join(key + queue_id for key, queue_id in written)
    assert list(keys.rows(octets + b"half")) == written
    assert keys.newest(octets) == NOW
    assert keys.newest(b"") == 0
    assert keys.living(octets, NOW) == octets[: keys.ROW_SIZE]


def test_of_several_messages_of_a_key_the_last_counts() -> None:
    """Those before were written and not acknowledged, or their day was over."""
    index = Index()
    first, last = identity(NOW), identity(NOW + 5)
    for queue_id in (last, first):
        index.add(b"k", queue_id, NOW)
    assert index.find(b"k", NOW) == last
    assert len(index) == 1
    index.add(b"k", identity(NOW - 2 * keys.SPAN), NOW)
    assert index.find(b"k", NOW) == last


def test_a_key_is_over_after_a_day_and_its_memory_is_given_back() -> None:
    index = Index()
    for hour in range(48):
        index.add(b"%d" % hour, identity(NOW + hour * keys.SPAN), NOW + hour * keys.SPAN)
    assert index.find(b"47", NOW + 47 * keys.SPAN) is not None
    assert index.find(b"23", NOW + 47 * keys.SPAN) is None
    assert len(index) == 24


def test_a_key_costs_no_more_than_two_hundred_octets() -> None:
    index = Index(limit=1 << 16)
    for number in range(60_000):
        index.add(keys.digest(b"u", b"%d" % number), identity(NOW, number), NOW)
    held = sum(
        sys.getsizeof(part.ids)
        + sum(sys.getsizeof(key) + sys.getsizeof(value) for key, value in part.ids.items())
        for part in index._parts
    )
    assert held / len(index) < 200
