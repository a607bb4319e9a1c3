"""Whom an attempt tried, and whom it may still try. Pure.

Connects are counted, hosts that were only met by their last answer are not: those cost
nothing. Hosts that are known to be dead have a count of their own, so that however many of
them stand before a host that is well, it has its turn. Who was called off in a race was not
tried.
"""

from collections.abc import Iterable
from typing import Final

from backstamp.policy.manner import Candidate

CONNECTS: Final = 10
"""Addresses of MX hosts an attempt connects to at most; RFC 5321 §5.1 asks for at least two."""

DEAD: Final = 10
"""Addresses beside them that are known to be dead and that it connects to, at most."""


class Tries:
    """The tries of one attempt."""

    def __init__(self, hosts: Iterable[Candidate] = ()) -> None:
        self.hosts = set(hosts)
        """Who was tried, or only met."""
        self.called_off: set[Candidate] = set()
        """Who lost a race once: that try is still this attempt's."""
        self.dead: set[Candidate] = set()
        """Who was known to be dead, and was tried all the same."""
        self._met: set[Candidate] = set()

    @property
    def full(self) -> bool:
        """Whether nobody is to be tried any more but who is known to be dead."""
        return len(self.hosts) - len(self._met) - len(self.dead) >= CONNECTS

    @property
    def full_of_dead(self) -> bool:
        """Whether nobody is to be tried any more who is known to be dead."""
        return len(self.dead) >= DEAD

    def tries(self, candidate: Candidate, *, dead: bool) -> None:
        """It is connected to; `dead` if it gave no session of late."""
        self.hosts.add(candidate)
        if dead:
            self.dead.add(candidate)

    def meets(self, candidate: Candidate) -> None:
        """Its last answer was taken."""
        self.hosts.add(candidate)
        self._met.add(candidate)

    def calls_off(self, candidate: Candidate) -> None:
        """Another was there first."""
        self.forget(candidate)
        self.called_off.add(candidate)

    def forget(self, candidate: Candidate) -> None:
        """It may be tried once more."""
        for those in (self.hosts, self.dead, self._met):
            those.discard(candidate)
