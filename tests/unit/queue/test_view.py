"""A message as people look at it: what is said of each recipient."""

from backstamp.mail.envelope import Envelope, Recipient
from backstamp.queue.stamps import Stamp
from backstamp.queue.view import view


def test_only_who_is_tried_again_has_a_time_for_it() -> None:
    """A delivery has one time, and those of it who are held or done have none."""
    stamps = [*Stamp]
    recipients = tuple(Recipient(b"%d@x.example" % number) for number in range(len(stamps)))
    seen = view(bytes(16), 0, 1, Envelope(b"a@b.example", recipients), stamps, dict.fromkeys(range(7), 5.0))
    assert {one.stamp for one in seen.recipients if one.retry_at is not None} == {"T", "?"}
