"""Dry runs, word for word: one golden text a case (`tests/golden/explain/route_*`)."""

import os
from pathlib import Path

import msgspec
import pytest

from backstamp.delivery import directions
from backstamp.delivery.facts import (
    Address,
    Directions,
    Fit,
    Host,
    Knob,
    Limit,
    Listed,
    Reason,
    Share,
    Waiting,
    Way,
)

GOLDEN = Path(__file__).resolve().parents[2] / "golden/explain"
NOW = 1_800_000_000.0
KNOBS = (
    Knob("retry.schedule", "1m, 5m, 15m", "default"),
    Knob("timeouts", "connect 30s", "default"),
    Knob("connections", "10", "provider"),
    Knob("idle", "5s", "rule"),
    Knob("tls", "may", "default"),
)
LIMIT = Limit("mx1.y.test", "destination", 5, 20, 0)
WAY = Way(
    "mx1.y.test,mx2.y.test", False, "y.test", rule="y.test", provider="google", knobs=KNOBS, limits=(LIMIT,)
)
HOSTS = (
    Host("mx1.y.test", 25, 10, (Address("2001:db8::1"), Address("192.0.2.1", clear=True))),
    Host("mx2.y.test", 25, 10, (Address("10.0.0.1", "a private address"),)),
    Host("gone.y.test", 25, 20, (), "its name leads nowhere (NXDOMAIN)"),
)

CASES = {
    "by_mx": Directions("a@y.test", None, "y.test", NOW, hosts=HOSTS, way=WAY),
    "no_mx": Directions(
        "a@y.test",
        "",
        "y.test",
        NOW,
        implicit=True,
        hosts=(Host("y.test", 25, 0, (Address("192.0.2.1"),)),),
        way=WAY,
    ),
    "to_hosts_that_take_little": Directions(
        "a@y.test",
        None,
        "y.test",
        NOW,
        hosts=HOSTS[:1],
        way=msgspec.structs.replace(
            WAY,
            limits=(
                msgspec.structs.replace(
                    LIMIT,
                    recipients=2,
                    messages=1,
                    learned={
                        "recipients": Reason("mx1.y.test[192.0.2.1]:25 said 452 4.5.3 too many", NOW - 7200),
                        "messages": Reason("mx1.y.test[192.0.2.1]:25 said 421 4.7.0 enough", NOW - 60),
                    },
                ),
            ),
        ),
    ),
    "null_mx": Directions(
        "a@y.test",
        None,
        "y.test",
        NOW,
        lost="556 5.1.10 y.test: the domain accepts no mail (null MX)",
        final=True,
    ),
    "dns_half_fails": Directions(
        "a@y.test",
        None,
        "y.test",
        NOW,
        hosts=(
            Host(
                "mx1.y.test",
                25,
                10,
                (Address("2001:db8::1", "of a family that is not used (ipv4)"),),
                unanswered="IPv4: SERVFAIL",
            ),
        ),
        way=WAY,
    ),
    "dns_fails": Directions("a@y.test", None, "y.test", NOW, lost="451 4.4.3 y.test: servers failed"),
    "to_nobody_who_may_be_tried": Directions("a@y.test", None, "y.test", NOW, hosts=HOSTS[1:], way=WAY),
    "by_a_smarthost_and_suppressed": Directions(
        "a@y.test",
        "shop@origin.test",
        "y.test",
        NOW,
        routes=(
            Fit(
                "from origin.test to *",
                "hub.test:465",
                True,
                "it decides: the most specific that fits",
            ),
            Fit(
                "from * to y.test",
                "mx",
                True,
                "outweighed: its sender is less specific",
            ),
            Fit("from * to z.test", "mx", False, "it does not cover y.test"),
        ),
        others=7,
        hosts=(Host("hub.test", 465, None, (Address("127.0.0.1"),)),),
        way=Way(
            "hub.test:465",
            True,
            "y.test",
            route="origin.test to *",
            tls="verify",
            implicit_tls=True,
            username="relay",
            knobs=(Knob("tls", "verify", "route"), Knob("port", "25", "default")),
            limits=(LIMIT,),
        ),
        pool="bulk",
        shares=(Share("192.0.2.7", "mta7.test", 0.75), Share("192.0.2.8", "", 0.25)),
        waiting=Waiting(12, 3, 2),
        listed=Listed("a@y.test", "invalid-recipient", "bounce", int(NOW) + 86_400),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_it_says_what_the_golden_text_says(name: str) -> None:
    path = GOLDEN / f"route_{name}.txt"
    said = directions.text(CASES[name])
    if "BACKSTAMP_GOLDEN" in os.environ:
        path.write_text(said)
    assert said == path.read_text()
    assert max(map(len, said.splitlines())) < 80
    assert "None " not in said.replace("None fits", "")


def test_every_golden_text_is_somebodys() -> None:
    assert {path.stem for path in GOLDEN.glob("route_*.txt")} == {f"route_{name}" for name in CASES}


def test_the_document_shows_texts_as_they_are() -> None:
    document = (GOLDEN.parents[2] / "docs/explain.md").read_text()
    for name in (
        "deferred_as_asked_and_paused",
        "permit_of_a_provider",
        "route_by_a_smarthost_and_suppressed",
    ):
        assert (GOLDEN / f"{name}.txt").read_text() in document
