"""The trace line, the loop count, the repairs of a submission, the date."""

from email.utils import formatdate, parsedate_to_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backstamp.mail import headers

REPAIR = {"queue_id": "01ABC", "hostname": "relay.example.org", "seconds": 1_700_000_000.0}


@given(st.integers(0, 2**34))
def test_dates_are_those_of_the_calendar(seconds: int) -> None:
    assert headers.date(seconds) == formatdate(seconds).replace("-0000", "+0000")


@pytest.mark.parametrize("peer", ["192.0.2.1", "2001:db8::1"])
def test_received(peer: str) -> None:
    field = headers.received(
        helo="client.example", peer=peer, hostname="relay.example.org", protocol="ESMTP", queue_id="01ABC",
        seconds=1_700_000_000.9,
    ).decode()  # fmt: skip
    literal = f"IPv6:{peer}" if ":" in peer else peer
    assert field.startswith(
        f"Received: from client.example ([{literal}])\r\n\tby relay.example.org with ESMTP id 01ABC;"
    )
    assert field.endswith("\r\n")
    assert parsedate_to_datetime(field.rpartition("\t")[2]).timestamp() == 1_700_000_000


@pytest.mark.parametrize("bad", ["a\r\nX: y", "a\nb", "a\0b"])
def test_a_received_field_is_never_two(bad: str) -> None:
    with pytest.raises(ValueError, match="control character"):
        headers.received(helo=bad, peer="192.0.2.1", hostname="h", protocol="SMTP", queue_id="Q", seconds=0)


@pytest.mark.parametrize(
    ("content", "block"),
    [
        (b"A: b\r\n\r\nbody", b"A: b"),
        (b"A: b\r\nC: d\r\n", b"A: b\r\nC: d\r\n"),
        (b"\r\nbody", b""),
        (b"", b""),
    ],
)
def test_the_header_block(content: bytes, block: bytes) -> None:
    assert headers.block(content) == block


@pytest.mark.parametrize(
    ("header", "count"),
    [
        (b"", 0),
        (b"Received: a", 1),
        (b"received: a\r\nRECEIVED : b\r\nX-Received: c\r\n Received: folded", 2),
        (b"Subject: Received: no", 0),
        (b"Received\t: a", 1),
    ],
)
def test_hops(header: bytes, count: int) -> None:
    assert headers.hops(headers.normal(header)) == count


@pytest.mark.parametrize(
    ("header", "added"),
    [
        (b"", {b"Date", b"Message-ID"}),
        (b"Date: then", {b"Message-ID"}),
        (b"date : then\r\nMESSAGE-id: <a@b>", set()),
        (b"X-Date: then\r\nSubject: Message-ID: no", {b"Date", b"Message-ID"}),
    ],
)
def test_repairs(header: bytes, added: set[bytes]) -> None:
    lines = headers.repairs(headers.normal(header), **REPAIR)  # type: ignore[arg-type]
    assert {line.partition(b":")[0] for line in lines.split(b"\r\n") if line} == added
    if b"Message-ID" in added:
        assert b"Message-ID: <01ABC@relay.example.org>\r\n" in lines


@pytest.mark.parametrize(
    ("content", "separator"),
    [
        (b"Subject: x\r\n", b""),
        (b"Subject : x\r\n", b""),
        (b"\r\nbody", b""),
        (b"", b""),
        (b"just words\r\n", b"\r\n"),
        (b" folded\r\n", b"\r\n"),
        (b": no name\r\n", b"\r\n"),
    ],
)
def test_added_fields_never_swallow_a_body(content: bytes, separator: bytes) -> None:
    assert headers.separator(content) == separator


@pytest.mark.parametrize(
    ("content", "without", "named"),
    [
        (b"A: b\r\n\r\nbody", b"A: b\r\n\r\nbody", []),
        (b"A: b\r\nBackstamp-Tenant: Acme\r\nC: d\r\n\r\nbody", b"A: b\r\nC: d\r\n\r\nbody", [b"Acme"]),
        (b"backstamp-TENANT \t:x\r\nA: b\r\n\r\nbody", b"A: b\r\n\r\nbody", [b"x"]),
        (b"A: b\r\nBackstamp-Tenant: x\r\n\r\nbody", b"A: b\r\n\r\nbody", [b"x"]),
        (b"Backstamp-Tenant: x\r\n\r\nbody", b"\r\nbody", [b"x"]),
        (b"Backstamp-Tenant: x\r\n", b"", [b"x"]),
        (b"Backstamp-Tenant:\r\n x\r\n\ty\r\nA: b\r\n", b"A: b\r\n", [b"x\ty"]),
        (b"Backstamp-Tenant: x\r\nBackstamp-Tenant: y\r\nA: b\r\n", b"A: b\r\n", [b"x", b"y"]),
        (b"A: b\r\n\r\nBackstamp-Tenant: x\r\n", b"A: b\r\n\r\nBackstamp-Tenant: x\r\n", []),
        (b"\r\nBackstamp-Tenant: x\r\n", b"\r\nBackstamp-Tenant: x\r\n", []),
        (b"X-Backstamp-Tenant: x\r\n", b"X-Backstamp-Tenant: x\r\n", []),
        (b"A: b\r\n Backstamp-Tenant: x\r\n", b"A: b\r\n Backstamp-Tenant: x\r\n", []),
    ],
)
def test_the_tenant_is_taken_out(content: bytes, without: bytes, named: list[bytes]) -> None:
    assert headers.without_ours(content) == (without, (named, []))
    assert headers.names_ours(headers.normal(headers.block(content))) is bool(named)


lines = st.sampled_from(
    [
        b"Backstamp-Tenant: a\r\n",
        b"backstamp-tenant :b\r\n",
        b" folded\r\n",
        b"A: b\r\n",
        b"\r\n",
        b"junk\r\n",
    ]
)


@given(st.lists(lines, max_size=8).map(b"".join))
def test_whatever_the_header_nothing_of_a_tenant_stays_and_nothing_else_goes(content: bytes) -> None:
    without, (named, _) = headers.without_ours(content)
    assert headers.without_ours(without) == (without, ([], []))
    assert without.count(b"A: b") == content.count(b"A: b")
    if not named:
        assert without == content
    body = content.partition(b"\r\n\r\n")[2]
    assert without.endswith(body)
