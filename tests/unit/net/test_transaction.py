"""The machine alone: replies in, octets out, no sockets."""

from typing import Any

import pytest

from backstamp.mail.envelope import Recipient
from backstamp.mail.fault import Phase
from backstamp.mail.reply import Reply
from backstamp.net.transaction import AT_ONCE, Machine, Transaction

OK = Reply(250, "ok")
GO = Reply(354, "go")


class Run:
    """A machine and what it did."""

    def __init__(self, *recipients: bytes | Recipient, content: Any = b"x\r\n", **how: bool) -> None:
        self.written: list[bytes] = []
        self.settled: list[tuple[Reply, list[int]]] = []
        self.finished = 0
        self.large = 0
        to = [one if isinstance(one, Recipient) else Recipient(one) for one in recipients or (b"a@y",)]
        self.machine = Machine(
            Transaction(b"s@x", tuple(to), content, b"BODY=8BITMIME"),
            write=self.written.append,
            settled=lambda reply, accepted: self.settled.append((reply, list(accepted))),
            finished=self._finish,
            large=self._large,
            pipelining=how.get("pipelining", True),
            size=how.get("size", False),
            reset=how.get("reset", False),
        )
        self.machine.start()

    def _finish(self, machine: Machine) -> None:
        self.finished += 1

    def _large(self) -> None:
        self.large += 1

    def replies(self, *replies: Reply) -> "Run":
        for reply in replies:
            self.machine.reply(reply)
        return self


def test_a_group_goes_out_at_once() -> None:
    run = Run(b"a@y", b"b@y", size=True, reset=True)
    assert run.written == [
        b"RSET\r\nMAIL FROM:<s@x> SIZE=3 BODY=8BITMIME\r\nRCPT TO:<a@y>\r\nRCPT TO:<b@y>\r\nDATA\r\n"
    ]
    run.replies(OK, OK, OK, OK, GO)
    assert run.written[1] == b"x\r\n.\r\n"
    run.replies(OK)
    assert run.settled == [(OK, [0, 1])]
    assert (run.finished, run.machine.clean) == (1, True)


def test_one_by_one_data_is_not_asked_for_nobody() -> None:
    run = Run(b"a@y", b"b@y", pipelining=False)
    run.replies(OK, Reply(550, "no"), Reply(450, "later"))
    assert run.written == [b"MAIL FROM:<s@x> BODY=8BITMIME\r\n", b"RCPT TO:<a@y>\r\n", b"RCPT TO:<b@y>\r\n"]
    assert (run.finished, run.machine.clean, run.settled) == (1, False, [])


def test_one_by_one_a_refused_sender_ends_it() -> None:
    run = Run(pipelining=False).replies(Reply(550, "no"))
    assert len(run.written) == 1
    assert run.finished == 1


def test_recipients_taken_after_a_refused_sender_count_for_nothing() -> None:
    run = Run().replies(Reply(550, "no"), OK, GO)
    assert run.written[1] == b".\r\n"
    run.replies(OK)
    assert run.settled == []


def test_a_reply_nobody_asked_for() -> None:
    run = Run(content=b"x" * (AT_ONCE + 10)).replies(OK, OK, GO)
    assert run.large == 1
    run.replies(OK)
    assert (run.settled, run.finished, run.machine.clean) == ([], 1, False)
    result = run.machine.result
    assert result.fault is not None
    assert (result.fault.phase, result.fault.problem, result.final) == (Phase.CONTENT, "protocol", None)
    assert result.in_doubt is False
    other = Run(pipelining=False)
    other.machine._waiting.clear()
    other.replies(OK)
    assert other.machine.result.fault is not None
    assert other.machine.result.fault.problem == "protocol"


def test_a_large_content_is_left_to_the_driver() -> None:
    run = Run(content=b"x" * (AT_ONCE + 10)).replies(OK, OK, GO)
    assert run.machine.stream is not None
    assert run.machine.phase is Phase.CONTENT
    run.machine.broken("disconnected", "gone")
    assert run.machine.result.in_doubt is False
    run = Run(content=b"x" * (AT_ONCE + 10)).replies(OK, OK, GO)
    run.machine.dot()
    assert run.written[-1] == b".\r\n"
    run.machine.broken("disconnected", "gone")
    run.machine.broken("disconnected", "again")
    assert run.machine.result.in_doubt is True
    assert run.finished == 1


@pytest.mark.parametrize("place", range(4))
def test_421_ends_it_wherever_it_comes(place: int) -> None:
    run = Run().replies(*(OK, OK, GO)[:place], Reply(421, "closing"))
    assert run.machine.done
    assert run.settled == []
    assert run.machine.result.in_doubt is False


@pytest.mark.parametrize("pipelining", [True, False])
def test_421_to_rset_is_the_answer_to_mail(pipelining: bool) -> None:
    run = Run(reset=True, pipelining=pipelining).replies(Reply(421, "closing"))
    assert run.machine.result.mail == Reply(421, "closing")
    assert (run.finished, len(run.written)) == (1, 1)


def test_a_bug_of_the_callback_is_kept() -> None:
    run = Run()

    def settled(*_: object) -> None:
        raise ZeroDivisionError

    run.machine._settled = settled
    run.replies(OK, OK, GO, OK)
    assert isinstance(run.machine.error, ZeroDivisionError)
    assert run.finished == 1


def test_the_end_of_the_last_line_goes_out_with_the_dot() -> None:
    run = Run(content=b"x" * (AT_ONCE + 10)).replies(OK, OK, GO)
    run.machine.dot(b"\r\n")
    assert run.written[-1] == b"\r\n.\r\n"


class Stored:
    """A content that is not held."""

    size = 5
    ascii = True
    header = b""


def test_a_stored_content_is_always_left_to_the_driver() -> None:
    run = Run(content=Stored(), size=True).replies(OK, OK, GO)
    assert run.written[0].startswith(b"MAIL FROM:<s@x> SIZE=5 BODY=8BITMIME\r\n")
    assert isinstance(run.machine.stream, Stored)
    assert (run.large, run.machine.phase) == (1, Phase.CONTENT)


def test_each_recipient_has_its_parameters() -> None:
    for pipelining in (True, False):
        run = Run(Recipient(b"a@y", b"NOTIFY=NEVER"), Recipient(b"b@y"), pipelining=pipelining)
        run.replies(OK, OK, OK)
        assert b"RCPT TO:<a@y> NOTIFY=NEVER\r\nRCPT TO:<b@y>\r\n" in b"".join(run.written)
        with pytest.raises(ValueError, match="control character"):
            Run(Recipient(b"a@y", b"NOTIFY=NEVER\nX"), pipelining=pipelining)


@pytest.mark.parametrize("bad", [b"a\r\nb", b"a\0", b"\x7f"])
def test_control_characters_are_a_bug_of_the_caller(bad: bytes) -> None:
    with pytest.raises(ValueError, match="control character"):
        Run(bad)
