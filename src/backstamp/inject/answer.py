"""From what became of an order to the status and the JSON of its answer. Pure.

202: all messages were taken. 207: some were. Else none was: 503 where trying again can help (a reply
4yz), 422 where it cannot. `error` of the whole is that of the first message that has one.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from backstamp.inject.shape import MistakenError

RETRY_AFTER: Final = 30
"""Seconds after which a client may try again what was answered 503."""

NOBODY: Final = "554 5.5.1 No valid recipients"


class Refusal(msgspec.Struct, frozen=True):
    """A recipient who was not taken, and the reply that SMTP has for it."""

    address: str
    reply: str


class Outcome(msgspec.Struct, frozen=True, omit_defaults=True):
    """One message: its queue id where it is on stable storage, else the SMTP reply as `error`."""

    recipients: tuple[str, ...] = ()
    queue_id: str = ""
    error: str = ""
    refused: tuple[Refusal, ...] = ()


class Answer(msgspec.Struct, frozen=True):
    """A response: status, JSON, whether to say Retry-After."""

    status: int
    body: bytes
    retry: bool = False


def of(outcomes: Sequence[Outcome]) -> Answer:
    """Return the answer to an order with these outcomes, at least one."""
    failed = [one for one in outcomes if one.error]
    if not failed:
        return Answer(202, msgspec.json.encode({"messages": outcomes}))
    body = msgspec.json.encode({"error": failed[0].error, "messages": outcomes})
    if len(failed) < len(outcomes):
        return Answer(207, body)
    again = any(one.error.startswith("4") for one in failed)
    return Answer(503 if again else 422, body, again)


def nobody(refused: Sequence[Refusal]) -> Outcome:
    """Return the outcome of a message none of whose recipients was taken.

    One reply for all is that of the message; of several a temporary one is, as trying again may help.
    """
    replies = list(dict.fromkeys(one.reply for one in refused))
    later = [one for one in replies if one.startswith("4")]
    said = later[0] if later else replies[0] if len(replies) == 1 else NOBODY
    return Outcome(error=said, refused=tuple(refused))


def mistakes(error: MistakenError) -> Answer:
    """Return the answer to a request that cannot be understood."""
    said = [{"path": one.path, "problem": one.problem} for one in error.mistakes]
    return Answer(400, msgspec.json.encode({"error": str(error), "errors": said}))


def problem(status: int, text: str) -> Answer:
    """Return the answer to a request that is not looked at further."""
    return Answer(status, msgspec.json.encode({"error": text}), status == 503)
