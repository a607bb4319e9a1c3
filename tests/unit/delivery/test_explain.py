"""Messages explained, word for word: one golden text a case (`tests/golden/explain`)."""

import os
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backstamp.delivery import explain
from backstamp.delivery.facts import (
    Destination,
    Doing,
    Down,
    Explained,
    Holder,
    Knob,
    Limit,
    Listed,
    Person,
    Reason,
    Said,
    State,
    Step,
    Waiting,
    Way,
)
from backstamp.delivery.history import Heard, Past
from backstamp.mail.reply import Reply

GOLDEN = Path(__file__).resolve().parents[2] / "golden/explain"
NOW = 1_800_000_000.0
ID = "01M851RQPP73GN3XVVNKKD3C5B"
HOST = "mx1.y.test[192.0.2.1]:25"
SITE = "mx1.y.test,mx2.y.test|mx3.y.test"
MEANT = {"allowed": 5, "most": 20, "held": 2}
OWN = Limit(SITE, "destination", **MEANT)
ALL = Limit("all", "all", 1000, 1000, 40)
WAY = Way(SITE, False, "y.test", limits=(OWN, ALL), knobs=(Knob("retry.schedule", "1m, 5m", "default"),))
WORDS = '421 4.7.0 busy, try again in 5 minutes (a rule for all: pause on "busy")'
BUSY = Reason(f"{HOST} said {WORDS}", NOW - 48)
MANY = Reason(f"{HOST} said 421 4.7.0 too many connections", NOW - 3700)

WAITS = (Person("a@y.test", "T"),)


def heard(
    reply: str, ago: float = 90.0, *, kind: str = "system", times: int = 1, failed: bool = False
) -> Heard:
    code, _, text = reply.partition(" ")
    return Heard(Reply(int(code), text), HOST, kind, False, 1, NOW - ago * times, NOW - ago, times, times)


def past(*found: Heard) -> Past:
    return Past(min(one.first for one in found), max(one.last for one in found), found)


def to(state: State, *, people: tuple[Person, ...] = WAITS, **more: object) -> Destination:
    more.setdefault("expires", NOW + 430_000)
    more.setdefault("way", WAY)
    return msgspec.structs.replace(Destination("y.test", state, people), **more)


def message(*destinations: Destination, **more: object) -> Explained:
    stamps = [person.stamp for one in destinations for person in one.recipients]
    facts = Explained(
        ID,
        NOW,
        NOW - 86_400,
        "shop@origin.test",
        NOW - 725,
        48_211,
        {letter: stamps.count(letter) for letter in dict.fromkeys(stamps)},
        destinations,
        tenant="origin.test",
    )
    return msgspec.structs.replace(facts, **more)


def limited(**more: object) -> Way:
    return msgspec.structs.replace(WAY, limits=(msgspec.structs.replace(OWN, **more), ALL))


HELD = (Person("a@y.test", "H"),)
LATER = {"next_try": NOW + 252, "attempts": 3}

CASES = {
    "over": message(counts={"D": 1, "B": 1, "T": 1}, over=(Person("a@y.test", "D"), Person("a@Y.test", "B"))),
    "over_by_an_operator": message(counts={"X": 1, "T": 1}, over=(Person("a@y.test", "X"),)),
    "held": message(to(State.HELD, people=HELD, expires=None, way=None)),
    "held_after_tries": message(
        to(
            State.HELD,
            people=HELD,
            expires=None,
            way=None,
            past=past(
                heard("450 4.2.0 greylisted", kind="greylist", times=3),
                heard("450 4.4.1 no connection", 600, kind="connection"),
            ),
            attempts=4,
        )
    ),
    "held_in_doubt": message(
        to(
            State.HELD,
            people=HELD,
            expires=None,
            way=None,
            past=past(heard("450 4.4.2 no reply to the final dot", 300, kind="connection")),
        ),
        at_most_once=True,
    ),
    "held_after_a_restart": message(
        to(State.HELD, people=HELD, expires=None, way=None), at_most_once=True, started=NOW - 60
    ),
    "deferred": message(
        to(
            State.SCHEDULED,
            past=past(heard("450 4.2.0 greylisted", kind="greylist", times=3)),
            step=Step(2, 7, 300),
            **LATER,
        )
    ),
    "deferred_as_asked_and_paused": message(
        to(
            State.SCHEDULED,
            past=past(
                heard("421 4.7.0 busy, try again in 5 minutes", 48, kind="rate"),
                heard("450 4.4.1 no connection", 600, kind="connection", times=2),
            ),
            step=Step(2, 7, 300, 300),
            way=limited(paused_until=NOW + 300, learned={"pause": BUSY}),
            **LATER,
        )
    ),
    "deferred_as_asked_for_too_long": message(
        to(
            State.SCHEDULED,
            past=past(heard("450 4.2.0 greylisted, try again in 1 hour", kind="greylist")),
            step=Step(1, 1, 300, 3600, 300),
            **LATER,
        )
    ),
    "deferred_and_nothing_kept": message(to(State.SCHEDULED, **LATER)),
    "future_release": message(
        to(State.SCHEDULED, next_try=NOW + 86_400, expires=NOW + 518_400), release=NOW + 86_400
    ),
    "future_release_after_an_early_try": message(
        to(State.SCHEDULED, past=past(heard("450 4.2.0 greylisted", kind="greylist")), **LATER),
        release=NOW + 252,
    ),
    "lifetime_over": message(
        to(
            State.SCHEDULED,
            past=past(heard("452 4.2.2 mailbox full", kind="full-mailbox")),
            step=Step(7, 7, 14_400),
            expires=NOW - 60,
            **LATER,
        )
    ),
    "in_doubt": message(
        to(
            State.SCHEDULED,
            people=(Person("a@y.test", "?"),),
            past=past(heard("450 4.4.2 no reply to the final dot", kind="connection")),
            step=Step(1, 7, 60),
            **LATER,
        )
    ),
    "turn": message(to(State.TURN, waiting=Waiting(120, 2, 2, (), 7, 80, 3, 4))),
    "turn_at_a_ceiling": message(
        to(
            State.TURN,
            waiting=Waiting(120, 2, 2, (), 0, 0, 0, 0),
            blocked=SITE,
            until=NOW + 75,
            way=limited(
                allowed=2, ceiling=2, probe_at=NOW + 75, learned={"fewer": MANY}, holders=(Holder(SITE, 2),)
            ),
        )
    ),
    "opening": message(
        to(
            State.OPENING,
            waiting=Waiting(3, 1, 0),
            doing=Doing("connecting", HOST, NOW - 22),
            way=msgspec.structs.replace(
                WAY,
                down=(
                    Down("mx2.y.test[192.0.2.2]:25", "450 4.4.1 no connection", NOW - 4000, NOW + 12),
                    Down("mx3.y.test[192.0.2.3]:25", "450 4.4.1 no connection", NOW - 40, NOW - 1),
                ),
            ),
        )
    ),
    "permit_of_a_provider": message(
        to(
            State.PERMIT,
            waiting=Waiting(3, 0, 0, line=7),
            blocked="provider google",
            way=Way(
                SITE,
                False,
                "y.test",
                provider="google",
                tls="encrypt",
                sources=("192.0.2.77",),
                knobs=(Knob("connections", "10", "provider"), Knob("tls", "encrypt", "provider")),
                limits=(
                    Limit(
                        "provider google",
                        "provider",
                        10,
                        10,
                        10,
                        holders=tuple(Holder(f"mx{n}.z.test", 2) for n in range(5)),
                    ),
                    ALL,
                ),
            ),
        )
    ),
    "permit_of_all": message(
        to(
            State.PERMIT,
            waiting=Waiting(3, 0, 0),
            blocked="all",
            way=msgspec.structs.replace(WAY, limits=(OWN, Limit("all", "all", 2, 2, 2))),
        )
    ),
    "new_connections_limited": message(
        to(
            State.PERMIT,
            waiting=Waiting(3, 0, 0),
            blocked=SITE,
            until=NOW + 5,
            way=msgspec.structs.replace(limited(held=0, connection_rate="6 a minute"), rule="y.test"),
        )
    ),
    "rate": message(
        to(
            State.RATE,
            waiting=Waiting(3, 1, 1),
            blocked=SITE,
            until=NOW + 30,
            way=limited(
                message_rate="one in 36 s",
                next_message=NOW + 30,
                slow_until=NOW + 3000,
                learned={"slower": Reason(f"{HOST} said 451 4.7.1 slow down", NOW - 600)},
            ),
        )
    ),
    "pause": message(
        to(
            State.PAUSE,
            waiting=Waiting(3, 0, 0),
            blocked=SITE,
            until=NOW + 252,
            way=limited(paused_until=NOW + 252, learned={"pause": BUSY}),
        )
    ),
    "under_way": message(to(State.SENDING, doing=Doing("sending", HOST, NOW - 3), waiting=Waiting(0, 1, 1))),
    "under_way_in_doubt": message(
        to(State.SENDING, people=(Person("a@y.test", "?"),), doing=Doing("sending", HOST, NOW - 3))
    ),
    "waits_for_dns": message(to(State.RESOLVING, way=None)),
    "no_way": message(to(State.LOST, way=None, lost="451 4.4.3 y.test: the name servers failed")),
    "suppressed": message(
        to(
            State.TURN,
            waiting=Waiting(1, 0, 0, (), 0, 0, 0, 0),
            listed=(Listed("a@y.test", "invalid-recipient", "bounce", int(NOW) + 86_400 * 20),),
        )
    ),
    "report_owed": message(
        to(
            State.REPORT,
            people=(Person("a@y.test", "F"), Person("b@y.test", "F")),
            expires=None,
            way=None,
            failures=(Said("550 5.1.1 no such user", HOST, NOW - 20),),
        )
    ),
    "disk_trouble": message(
        to(State.DUE),
        trouble="stamps cannot be made durable",
        closed=True,
        priority=3,
        counts={"D": 2, "T": 1},
    ),
    "no_new_mail_is_taken": message(to(State.DUE), trouble="there is less free space than the reserve"),
    "draining": message(to(State.DUE), stopping=True),
    "after_a_restart": message(to(State.SCHEDULED, next_try=NOW + 140), started=NOW - 60),
    "a_report_by_a_smarthost": message(
        to(
            State.TURN,
            waiting=None,
            way=Way(
                "hub.test:465",
                True,
                "y.test",
                route="<> to *",
                tls="verify",
                implicit_tls=True,
                username="relay",
                knobs=(Knob("tls", "verify", "route"),),
                limits=(OWN, ALL),
            ),
        ),
        report=True,
        sender="",
        tenant="",
    ),
    "several": message(
        to(State.SCHEDULED, past=past(heard("450 4.2.0 later")), step=Step(1, 7, 60), **LATER),
        to(State.HELD, people=HELD, expires=None, way=None),
        hidden=31,
    ),
    "damaged": message(to(State.DUE), problem="the record of 01M8 does not verify"),
}


@pytest.mark.parametrize("name", CASES)
def test_it_says_what_the_golden_text_says(name: str) -> None:
    path = GOLDEN / f"{name}.txt"
    said = explain.text(CASES[name])
    if "BACKSTAMP_GOLDEN" in os.environ:
        path.write_text(said)
    assert said == path.read_text()


def test_every_golden_text_is_somebodys() -> None:
    theirs = {path.stem for path in GOLDEN.glob("*.txt") if not path.stem.startswith("route_")}
    assert theirs == {*CASES}


@pytest.mark.parametrize("name", CASES)
def test_it_fits_on_a_terminal_and_says_no_none(name: str) -> None:
    said = explain.text(CASES[name])
    assert max(map(len, said.splitlines())) < 80
    assert "None" not in said


def test_every_state_has_a_case() -> None:
    assert {one.state for facts in CASES.values() for one in facts.destinations} == {*State}


def test_what_is_not_in_the_queue() -> None:
    assert explain.absent(ID).startswith(f"{ID} is not in the queue")


@given(st.sampled_from([*State]), st.text(max_size=300), st.floats(NOW - 1e6, NOW + 1e6))
def test_whatever_strangers_say_gives_a_text(state: State, words: str, time: float) -> None:
    answer = Heard(Reply(450, words), words, words, False, 1, time, time, 1)
    facts = message(to(state, past=Past(time, time, (answer,)), until=time, next_try=time, blocked=SITE))
    assert explain.text(facts).startswith(f"{ID}\n")
