"""Dead hosts: known to all, tried by one."""

from backstamp.delivery.hosts import PAUSE, Hosts, pause
from backstamp.mail.outcome import Outcome, Scope, Verdict
from backstamp.mail.reply import Reply

HOST = ("", "192.0.2.1", 25)
WHY = Outcome(Verdict.DEFERRED, Reply(450, "4.4.1 no connection"), Scope.HOST, "mx")
LATER = Outcome(Verdict.DEFERRED, Reply(450, "4.4.2 no greeting"), Scope.HOST, "mx")


def test_who_meets_a_dead_host_hears_what_the_last_one_met() -> None:
    hosts = Hosts()
    assert hosts.met(HOST, 0.0, 30.0) is None
    assert hosts.failed(HOST, WHY, 1.0, 30.0)
    assert hosts.met(HOST, 30.9, 30.0) is WHY
    assert hosts.met(("", "192.0.2.1", 587), 2.0, 30.0) is None


def test_when_the_pause_is_over_one_tries() -> None:
    hosts = Hosts()
    hosts.failed(HOST, WHY, 0.0, 30.0)
    assert hosts.met(HOST, 30.0, 30.0) is None
    assert hosts.met(HOST, 30.0, 30.0) is WHY
    assert not hosts.failed(HOST, LATER, 40.0, 30.0)
    assert hosts.met(HOST, 69.9, 30.0) is LATER
    # Whoever tried and never came back does not keep it dead.
    assert hosts.met(HOST, 70.0, 30.0) is None
    assert hosts.met(HOST, 100.0, 30.0) is None


def test_who_gives_way_is_passed_over_once() -> None:
    hosts = Hosts()
    assert hosts.due(HOST, 0.0)
    assert hosts.answer(HOST) is None
    hosts.give_way([HOST])
    hosts.failed(HOST, WHY, 0.0, 30.0)
    assert (hosts.due(HOST, 29.9), hosts.due(HOST, 30.0)) == (False, True)
    hosts.give_way([HOST])
    # A failure that comes late changes nothing.
    hosts.failed(HOST, LATER, 10.0, 30.0)
    assert not hosts.due(HOST, 40.0)
    assert hosts.answer(HOST) is LATER
    assert hosts.met(HOST, 40.0, 30.0) is LATER
    assert hosts.due(HOST, 40.0)
    assert hosts.met(HOST, 40.0, 30.0) is None


def test_a_session_ends_it() -> None:
    hosts = Hosts()
    hosts.failed(HOST, WHY, 5.0, 30.0)
    hosts.failed(HOST, WHY, 35.0, 30.0)
    assert hosts.answered(HOST, 65.0) == 60.0
    assert hosts.answered(HOST, 65.0) is None
    assert hosts.met(HOST, 66.0, 30.0) is None


def test_the_memory_is_bounded() -> None:
    hosts = Hosts(size=2)
    for number in range(3):
        hosts.failed(("", "192.0.2.1", number), WHY, 0.0, 30.0)
    hosts.failed(("", "192.0.2.1", 1), WHY, 0.0, 30.0)
    hosts.failed(("", "192.0.2.1", 3), WHY, 0.0, 30.0)
    assert len(hosts) == 2
    assert hosts.met(("", "192.0.2.1", 1), 1.0, 30.0) is WHY
    assert hosts.met(("", "192.0.2.1", 2), 1.0, 30.0) is None


def test_the_pause_is_shorter_than_any_wait_of_a_message() -> None:
    assert pause(60.0) == PAUSE
    assert pause(4.0) == 2.0
