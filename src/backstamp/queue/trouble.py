"""What the queue does while its disk fails or is full (Q8). Pure: told what happened, says what follows.

One failure is one client's 451. Two in a row, a full disk, or too little room for the
reserve, and new mail is answered 452 at once, so that nothing is tried in vain; it is taken
again when a probe write succeeds and there is room. While stamps cannot be made durable, no
new delivery starts.
"""

import errno
from typing import Final

from backstamp.mail.reply import Reply

FULL: Final = Reply(452, "4.3.1 Insufficient system storage, try again later")
LOCAL: Final = Reply(451, "4.3.0 Local error in processing, try again later")

_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EMFILE, errno.ENFILE})
"""What does not pass by itself: no room on the disk, or none for another open file."""

_IN_A_ROW: Final = 2


class Trouble:
    """The disk's state of health as the queue met it."""

    def __init__(self) -> None:
        self.reason: str | None = None
        """What keeps the queue from taking mail, None while it takes it."""
        self.short = False
        """There is less room than the reserve."""
        self.stuck = False
        """Stamps could not be made durable: no new delivery starts."""
        self._failures = 0

    @property
    def probing(self) -> bool:
        """Whether a probe write must succeed first."""
        return self.reason is not None or self.stuck

    @property
    def refusal(self) -> Reply | None:
        """What a client with a new message is told, None if it is taken."""
        return FULL if self.reason is not None or self.short else None

    def refused(self, error: OSError) -> Reply:
        """Note a failed append; return what its client is told."""
        self._note(error)
        return FULL if error.errno in _NO_ROOM else LOCAL

    def unstamped(self, error: OSError) -> None:
        """Note stamps that could not be made durable."""
        self._note(error)
        self.stuck = True

    def _note(self, error: OSError) -> None:
        self._failures += 1
        if error.errno in _NO_ROOM or self._failures >= _IN_A_ROW:
            self.reason = self.reason or (error.strerror or str(error)).lower()

    def worked(self) -> None:
        """Note an append that worked: failures are no longer in a row."""
        self._failures = 0

    def probed(self) -> None:
        """Note a probe write that worked: mail is taken again. What is stuck is tried again, and told."""
        self._failures = 0
        self.reason = None

    def stamped(self) -> None:
        """Note that nothing waits for its stamps any more."""
        self.stuck = False
