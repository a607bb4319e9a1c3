"""Who is not sent to."""

from backstamp.delivery.suppressed import suppressed
from backstamp.mail.envelope import Recipient
from backstamp.mail.outcome import Outcome, Scope, Verdict
from backstamp.mail.reply import Reply
from backstamp.policy.suppression import Match, Source


class Listed:
    def match(self, address: bytes, tenant: bytes) -> Match | None:
        names = {b"joe@y.test": "invalid-recipient", b"ann@y.test": ""}
        name = names.get(address) if tenant == b"one" else None
        return None if name is None else Match(name, Source.BOUNCE, None)


RECIPIENTS = {
    3: Recipient(b"joe@y.test"),
    4: Recipient(b"bob@y.test"),
    7: Recipient(b"ann@y.test", b"NOTIFY=NEVER"),
}


def test_who_is_on_the_list_fails_alone() -> None:
    words = "5.7.1 Recipient is on the suppression list"
    assert suppressed(RECIPIENTS, b"one", Listed()) == {
        3: Outcome(Verdict.FAILED, Reply(550, f"{words}: invalid-recipient"), Scope.RECIPIENT),
        7: Outcome(Verdict.FAILED, Reply(550, words), Scope.RECIPIENT),
    }


def test_another_tenant_sends_to_all() -> None:
    assert suppressed(RECIPIENTS, b"two", Listed()) == {}
