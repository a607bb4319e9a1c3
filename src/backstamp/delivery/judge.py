"""From what came back of one transaction to each recipient's outcome. Pure."""

from collections.abc import Sequence

import msgspec

from backstamp.mail.fault import Fault, Phase
from backstamp.mail.outcome import Outcome, Scope, Verdict
from backstamp.mail.reply import Reply
from backstamp.net.transaction import Result
from backstamp.policy import classify

_SILENT = Fault(Phase.FINAL, "disconnected", "the server closed the session")


def whole(result: Result) -> bool:
    """Tell whether a transaction went as it should: everybody was taken, and the content for them."""
    mail, final = result.mail, result.final
    if mail is None or final is None or not mail.positive or not final.positive:
        return False
    # A list, not a generator: this is asked of every transaction.
    return not [one for one in result.recipients if one is None or not 200 <= one.code <= 299]


def judge(result: Result, ordinals: Sequence[int], host: str) -> dict[int, Outcome]:
    """Return the outcomes by ordinal.

    In doubt (the final dot is out, no reply came) is deferred with the message's scope: trying
    the next host at once would be the second copy.
    """
    if whole(result) and result.final is not None:
        return dict.fromkeys(ordinals, classify.reply(result.final, Phase.FINAL, host))
    return {
        ordinal: _one(result, answer, host)
        for ordinal, answer in zip(ordinals, result.recipients, strict=True)
    }


def doubtful(outcome: Outcome) -> bool:
    """Tell whether an outcome of a transaction that ended in doubt is that of a recipient who was taken."""
    return outcome.scope is Scope.MESSAGE and outcome.verdict is Verdict.DEFERRED


def again(result: Result, ordinals: Sequence[int]) -> list[int]:
    """Return who was refused only because the transaction had enough recipients: for the next one, at once.

    Those refused so after somebody was taken (RFC 5321 §4.5.3.1.10), and only if those who were taken
    have their answer: each round then answers for one at least, and there is an end to the rounds.
    """
    if result.mail is None or not result.mail.positive or result.final is None or result.final.transient:
        return []
    taken = False
    found = []
    for ordinal, answer in zip(ordinals, result.recipients, strict=True):
        if answer is None:
            continue
        if answer.positive:
            taken = True
        elif taken and classify.too_many_recipients(answer):
            found.append(ordinal)
    return found


def impersonal(result: Result, ordinals: Sequence[int]) -> frozenset[int]:
    """Return whose refusal, if they were refused, tells nothing of them: the suppression list learns nothing.

    To MAIL it is the sender who is refused, whatever the words are. To DATA or the dot it is the content,
    for all who were taken; where that is one, it may be a host that looks for a mailbox so late.
    """
    if result.mail is not None and not result.mail.positive:
        return frozenset(ordinals)
    if result.final is not None and result.final.positive:
        return frozenset()
    pairs = zip(ordinals, result.recipients, strict=True)
    taken = frozenset(ordinal for ordinal, answer in pairs if answer is not None and answer.positive)
    return taken if len(taken) > 1 else frozenset()


def _one(result: Result, answer: Reply | None, host: str) -> Outcome:
    """The first refusal on a recipient's way decides; without one, what ended the session does."""
    if result.mail is not None and not result.mail.positive:
        return classify.reply(result.mail, Phase.MAIL, host)
    if answer is not None and not answer.positive:
        return classify.reply(answer, Phase.RCPT, host)
    if answer is not None and result.final is not None:
        return classify.reply(result.final, Phase.FINAL, host)
    if answer is not None and result.data is not None and result.data.code != 354:
        return classify.reply(result.data, Phase.DATA, host)
    if result.fault is None and (closing := _closing(result)) is not None:
        return classify.reply(closing, Phase.RCPT, host)
    broken = classify.fault(result.fault or _SILENT, host)
    if answer is not None and result.in_doubt:
        return msgspec.structs.replace(broken, scope=Scope.MESSAGE)
    return broken


def _closing(result: Result) -> Reply | None:
    """Return the 421 behind which the host answered nothing more (RFC 5321 §3.8)."""
    return next((one for one in result.recipients if one is not None and one.code == 421), None)
