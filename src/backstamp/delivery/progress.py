"""An attempt under way: who is pending, what is to be settled, what was last seen of the hosts. Pure."""

from collections.abc import Mapping, Set

import msgspec

from backstamp.delivery.outside import Candidate
from backstamp.mail.envelope import Recipient
from backstamp.mail.outcome import Outcome, Scope, Verdict


class Progress(msgspec.Struct):
    """An attempt under way: who is pending, what is to be settled, and what was last seen of the destination.

    Who was delivered is in neither: that is stamped and told.
    """

    pending: dict[int, Recipient]
    outcomes: dict[int, Outcome]
    durations: dict[int, float]
    last: Outcome | None = None
    broken: Candidate | None = None
    """The host whose session ended before the final dot: worth one more connection."""
    impersonal: set[int] = set()
    """Whose outcome tells nothing of themselves (`judge.impersonal`)."""

    def note(self, outcome: Outcome) -> None:
        """Remember a host's failure."""
        self.last = worse(self.last, outcome)

    def done(
        self, outcomes: Mapping[int, Outcome], duration: float, impersonal: Set[int] = frozenset()
    ) -> None:
        """Note outcomes; whoever met the host's own trouble stays pending for the next host.

        Those among the `impersonal` were refused, if they were, for something that is not theirs.
        """
        for ordinal, outcome in outcomes.items():
            delivered = outcome.verdict is Verdict.DELIVERED
            if outcome.scope >= Scope.HOST and not delivered:
                self.note(outcome)
                continue
            del self.pending[ordinal]
            if not delivered:
                self.outcomes[ordinal] = outcome
                self.durations[ordinal] = duration
                if ordinal in impersonal:
                    self.impersonal.add(ordinal)

    @property
    def failed_by_host(self) -> bool:
        """Whether it was a host that failed last, for a while, and not the mail."""
        last = self.last
        return last is not None and last.verdict is Verdict.DEFERRED and last.scope is Scope.HOST


def worse(last: Outcome | None, outcome: Outcome) -> Outcome:
    """Return which of two failures is told: temporary trouble outweighs what is final at another host."""
    if last is None or last.verdict is Verdict.FAILED or outcome.verdict is Verdict.DEFERRED:
        return outcome
    return last
