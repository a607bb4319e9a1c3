"""What SIGTERM, SIGINT and SIGHUP ask of a relay, from its first moment to its last.

To the system each of them is death, and an event loop hears them only while it runs: not while the program
loads, nor between the loop's end and the process's. So they are heard here before anything is loaded, and
kept until there is a relay to ask. Leaf: it imports next to nothing, for it is the first that a start loads.
"""

import signal
from collections.abc import Callable
from types import FrameType

ENDS = (signal.SIGTERM, signal.SIGINT)
RELOADS = signal.SIGHUP


Call = Callable[[], None]


def _nothing() -> None:
    pass


def _nobody(_: Call) -> None:
    pass


class Signals:
    """What was asked of this process, and who is told of it."""

    def __init__(self) -> None:
        self.ending = False
        """Whether somebody asked for the end."""
        self._reloading = False
        self._tell: Callable[[Call], object] = _nobody
        self._end: Call = _nothing
        self._reload: Call = _nothing

    def hear(self) -> None:
        """Have signals kept from now on, in place of dying of them. Only the main thread may."""
        for name in (*ENDS, RELOADS):
            signal.signal(name, self._heard)

    def answer(self, tell: Callable[[Call], object], *, end: Call, reload: Call) -> None:
        """Have a relay asked; `tell` brings a call to its loop. What came before is asked at once."""
        self.hear()
        self._tell, self._end, self._reload = tell, end, reload
        if self.ending:
            self._ask(end)
        if self._reloading:
            self._ask(reload)

    def finish(self) -> None:
        """Have nothing more asked: the process ends by itself.

        Ignored and not only unheard: the interpreter's own end makes what has a handler deadly again.
        """
        for name in (*ENDS, RELOADS):
            signal.signal(name, signal.SIG_IGN)

    def _heard(self, number: int, _: FrameType | None) -> None:
        if number == RELOADS:
            self._reloading = True
            self._ask(self._reload)
        else:
            self.ending = True
            self._ask(self._end)

    def _ask(self, what: Call) -> None:
        try:
            self._tell(what)
        except RuntimeError:  # the loop is closed: there is nobody any more
            self._tell = _nobody


ours = Signals()
"""Those of this process."""
