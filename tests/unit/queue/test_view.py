"""A message as people look at it: what is said of each recipient."""

import pytest

from backstamp.mail.envelope import Envelope, Recipient
from backstamp.queue.stamps import Stamp
from backstamp.queue.view import MessageView, named, view


def test_only_who_is_tried_again_has_a_time_for_it() -> None:
    """A delivery has one time, and those of it who are held or done have none."""
    stamps = [*Stamp]
    recipients = tuple(Recipient(b"%d@x.example" % number) for number in range(len(stamps)))
    seen = view(bytes(16), 0, 1, Envelope(b"a@b.example", recipients), stamps, dict.fromkeys(range(7), 5.0))
    assert {one.stamp for one in seen.recipients if one.retry_at is not None} == {"T", "?"}


def to(*addresses: bytes) -> MessageView:
    recipients = tuple(map(Recipient, addresses))
    return view(bytes(16), 0, 1, Envelope(b"s@b.example", recipients), [Stamp.TODO] * len(recipients))


@pytest.mark.parametrize(
    ("written", "ordinals"),
    [
        (["a@later.example"], [0]),
        (["a@LATER.Example"], [0]),
        (["<a@later.example>"], [0]),
        ([" <B@one.example> "], [1]),
        (["c@one.example", "<a@later.EXAMPLE>", "a@later.example"], [0, 2, 3]),
        (['"x<y>"@one.example'], [4]),
        (["ü@bücher.EXAMPLE"], [5]),
    ],
)
def test_whom_an_address_names(written: list[str], ordinals: list[int]) -> None:
    """As a listing prints it or as somebody remembers it; two spellings of one domain are one."""
    seen = to(
        b"a@later.example",
        b"B@ONE.example",
        b"c@one.example",
        b"c@ONE.example",
        b'"x<y>"@one.example',
        "ü@bücher.example".encode(),
    )
    assert named(seen, written) == ordinals


@pytest.mark.parametrize("strange", ["", "a", "A@later.example", "later.example", "<>", "a@later.example x"])
def test_whom_it_does_not_name(strange: str) -> None:
    with pytest.raises(ValueError, match="is no recipient of " + "0" * 26):
        named(to(b"a@later.example"), ["a@later.example", strange])
