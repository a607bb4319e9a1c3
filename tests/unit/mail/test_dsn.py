"""Reports: golden files, read back by the standard library's parser; nothing a stranger sends breaks one."""

import email
import email.policy
import quopri
from collections.abc import AsyncIterator
from email.message import Message
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backstamp.mail import dsn
from backstamp.mail.content import Content
from backstamp.mail.dsn import Action, Fate
from backstamp.mail.reply import Reply

GOLDEN = Path(__file__).parents[2] / "golden" / "dsn"
NOW = 1_800_000_000.0
REPORT = "01JX0000000000000000000000"
ORIGINAL = "01JW0000000000000000000000"
HEADER = b"Received: from a\r\n\tby b; Thu, 14 Jan 2027\r\nSubject: Hello\r\nFrom: alice@example.org"
CONTENT = HEADER + b"\r\n\r\nThe body is private.\r\n"
UNKNOWN = Reply(550, "5.1.1 <bob@example.net>: Recipient address rejected:\nUser unknown")
BOB = Fate(b"bob@example.net", b"", UNKNOWN, "mx.example.net", NOW)


def make(
    *failures: Fate,
    sender: bytes = b"alice@example.org",
    parameters: bytes = b"",
    original: Content = CONTENT,
    action: Action = Action.FAILED,
) -> bytes:
    return dsn.report(
        failures or (BOB,),
        hostname="relay.example.org",
        report_id=REPORT,
        now=NOW,
        sender=sender,
        original_id=ORIGINAL,
        original_parameters=parameters,
        arrival=NOW - 86400,
        original=original,
        action=action,
    )


def parts(report: bytes) -> list[Message]:
    parsed = email.message_from_bytes(report)
    assert not parsed.defects
    found = parsed.get_payload()
    assert isinstance(found, list)
    return [part for part in found if isinstance(part, Message)]


def blocks(part: Message) -> list[Message]:
    """Return the groups of fields of the second part."""
    if part.get_content_type() == "message/delivery-status":
        found = part.get_payload()
        assert isinstance(found, list)
        groups = [group for group in found if isinstance(group, Message) and group.keys()]
    else:
        groups = [email.message_from_bytes(group) for group in body(part).rstrip().split(b"\r\n\r\n")]
    return groups


def body(part: Message) -> bytes:
    """Return a part's octets; the parser takes `message/*` apart, and decodes none of it."""
    octets = part.as_bytes(policy=email.policy.SMTP.clone(refold_source="none")).partition(b"\r\n\r\n")[2]
    return quopri.decodestring(octets) if part["Content-Transfer-Encoding"] == "quoted-printable" else octets


CASES = {
    "refused": make(),
    "several": make(
        Fate(
            b"bob@example.net",
            b"NOTIFY=FAILURE ORCPT=rfc822;bob+2Bx@example.net",
            UNKNOWN,
            "mx.example.net",
            NOW,
        ),
        Fate(
            b"carol@nowhere.example",
            b"",
            Reply(550, "5.1.2 nowhere.example: the domain does not exist"),
            "",
            NOW,
        ),
        Fate(
            b"dave@example.com",
            b"",
            Reply(
                554,
                "5.4.7 delivery time expired; the last answer was: 451 4.7.1 Greylisted, see\nhttps://example.com",
            ),
            "mx1.example.com",
            NOW - 60,
        ),
        parameters=b"RET=HDRS ENVID=QQ+2B314159",
    ),
    "no_header": make(original=b""),
    "whole": make(parameters=b"RET=FULL"),
    "relayed": make(
        Fate(
            b"bob@example.net",
            b"NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;Bob+2Bx@example.net",
            Reply(250, "2.0.0 Ok: queued as 4F2"),
            "mx.example.net[192.0.2.1]:25",
            NOW,
        ),
        parameters=b"RET=FULL ENVID=QQ314159",
        action=Action.RELAYED,
    ),
    "utf8_address": make(
        Fate("jürgen@bücher.example".encode(), b"", Reply(550, "5.1.1 unbekannt: jürgen"), "mx.example", NOW),
        BOB,
        sender="алиса@example.org".encode(),
    ),
    "utf8_recipient": make(
        Fate("jürgen@bücher.example".encode(), b"", Reply(550, "5.1.1 unbekannt: jürgen"), "mx.example", NOW)
    ),
    "utf8_header": make(original="Subject: Grüße\r\nFrom: alice@example.org\r\n\r\nbody\r\n".encode()),
    "latin1_header": make(original=b"Subject: Gr\xfc\xdfe\r\nFrom: alice@example.org\r\n\r\nbody\r\n"),
}


@pytest.mark.parametrize("name", CASES)
def test_reports_are_as_the_golden_files_have_them(name: str) -> None:
    assert CASES[name] == (GOLDEN / f"{name}.eml").read_bytes()


def test_there_is_no_golden_file_too_many() -> None:
    assert {path.stem for path in GOLDEN.glob("*.eml")} == set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_a_strict_parser_finds_nothing_wrong(name: str) -> None:
    parsed = email.message_from_bytes(CASES[name], policy=email.policy.default)
    assert not [*parsed.defects, *(defect for part in parsed.walk() for defect in part.defects)]


def test_the_header_says_who_to_whom_and_that_a_machine_wrote() -> None:
    parsed = email.message_from_bytes(make())
    assert parsed.items() == [
        ("From", "Mail Delivery System <MAILER-DAEMON@relay.example.org>"),
        ("To", "<alice@example.org>"),
        ("Subject", "Undelivered Mail Returned to Sender"),
        ("Date", "Fri, 15 Jan 2027 08:00:00 +0000"),
        ("Message-ID", f"<{REPORT}@relay.example.org>"),
        ("Auto-Submitted", "auto-replied"),
        ("MIME-Version", "1.0"),
        ("Content-Type", f'multipart/report; report-type=delivery-status;\r\n\tboundary="{REPORT}=0"'),
        ("Content-Transfer-Encoding", "7bit"),
    ]
    assert parsed.get_content_type() == "multipart/report"
    assert parsed.get_param("report-type") == "delivery-status"


def test_three_parts_of_the_right_kind() -> None:
    assert [part.get_content_type() for part in parts(make())] == [
        "text/plain",
        "message/delivery-status",
        "text/rfc822-headers",
    ]


def test_fields_of_the_message_and_of_the_recipient() -> None:
    message, recipient = blocks(parts(CASES["several"])[1])[:2]
    assert message.items() == [
        ("Original-Envelope-Id", "QQ+314159"),
        ("Reporting-MTA", "dns; relay.example.org"),
        ("X-Backstamp-Queue-ID", ORIGINAL),
        ("Arrival-Date", "Thu, 14 Jan 2027 08:00:00 +0000"),
    ]
    said = "550 5.1.1 <bob@example.net>: Recipient address\r\n rejected: User unknown"
    assert recipient.items() == [
        ("Original-Recipient", "rfc822; bob+x@example.net"),
        ("Final-Recipient", "rfc822; bob@example.net"),
        ("Action", "failed"),
        ("Status", "5.1.1"),
        ("Remote-MTA", "dns; mx.example.net"),
        ("Diagnostic-Code", f"smtp; {said}"),
        ("Last-Attempt-Date", "Fri, 15 Jan 2027 08:00:00 +0000"),
    ]


def test_what_nobody_told_is_left_out() -> None:
    message, recipient = blocks(parts(make(Fate(b"a@b.test", b"", Reply(550), "", NOW)))[1])
    assert "Original-Envelope-Id" not in message
    assert "Original-Recipient" not in recipient
    assert "Remote-MTA" not in recipient
    assert recipient["Status"] == "5.0.0"
    assert recipient["Diagnostic-Code"] == "smtp; 550"


@pytest.mark.parametrize("code", [250, 354, 0, 999])
def test_the_status_is_one_that_can_stand_beside_failed(code: int) -> None:
    assert (
        blocks(parts(make(Fate(b"a@b.test", b"", Reply(code, "2.0.0 ok"), "", NOW)))[1])[1]["Status"]
        == "5.0.0"
    )


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        (b"rfc822;a+2Bb@x.test", "rfc822; a+b@x.test"),
        (b"rfc822;a+0D+0AX-Evil:1@x.test", "rfc822; a+0D+0AX-Evil:1@x.test"),
        (b"utf-8;a\\x{FC}@x.test", "utf-8; a\\x{FC}@x.test"),
        (b"rfc822;", None),
        (b"nonsense", None),
    ],
)
def test_the_original_recipient_is_decoded_unless_it_would_break_the_line(
    written: bytes, shown: str | None
) -> None:
    failure = Fate(b"a@x.test", b"ORCPT=" + written, UNKNOWN, "", NOW)
    assert blocks(parts(make(failure))[1])[1]["Original-Recipient"] == shown


def test_only_the_header_comes_back() -> None:
    part = parts(make())[2]
    assert part.get_payload() == HEADER.decode() + "\r\n"
    assert b"private" not in make()


@pytest.mark.parametrize("original", [b"", b"\r\nonly a body\r\n"])
def test_without_a_header_there_is_no_third_part(original: bytes) -> None:
    report = make(original=original)
    assert len(parts(report)) == 2
    assert b"attached" not in report


def test_a_large_header_is_cut_behind_a_whole_line() -> None:
    line = b"X-Line: " + b"x" * 90 + b"\r\n"
    payload = parts(make(original=line * 2000 + b"\r\nbody"))[2].get_payload()
    assert isinstance(payload, str)
    assert payload.encode() == line * (dsn.HEADER_LIMIT // len(line))


@pytest.mark.parametrize("mark", [b"x", "ü".encode(), b"\xfc"])
def test_a_line_too_long_is_cut(mark: bytes) -> None:
    report = make(original=b"Subject: " + mark * 2000 + b"\r\nTo: a\r\n\r\nbody")
    assert max(map(len, report.split(b"\r\n"))) <= 998
    # 998 octets less the field's name, and no half character.
    expected = b"Subject: " + mark * (989 // len(mark)) + b"\r\nTo: a\r\n"
    assert parts(report)[2].get_payload(decode=True) == expected


def test_a_guessed_boundary_ends_nothing() -> None:
    evil = f"Subject: x\r\n\t\r\n--{REPORT}=0--\r\nX: --{REPORT}=1".encode()
    report = make(Fate(b"a@b.test", b"", Reply(550, f"x\n--{REPORT}=0"), "", NOW), original=evil)
    assert f'boundary="{REPORT}=2"'.encode() in report
    assert len(parts(report)) == 3


def test_internationalized_mail_takes_the_types_of_rfc_6533() -> None:
    found = parts(CASES["utf8_address"])
    assert [part.get_content_type() for part in found] == [
        "text/plain",
        "message/global-delivery-status",
        "text/rfc822-headers",
    ]
    report = CASES["utf8_address"].decode()
    assert "\r\nFinal-Recipient: utf-8; jürgen@bücher.example\r\n" in report
    assert "\r\nFinal-Recipient: rfc822; bob@example.net\r\n" in report
    assert "\r\nTo: <алиса@example.org>\r\n" in report


@pytest.mark.parametrize(
    ("name", "word"), [("utf8_header", "Grüße".encode()), ("latin1_header", b"Gr\xfc\xdfe")]
)
def test_a_header_beyond_ascii_goes_through_any_server(name: str, word: bytes) -> None:
    assert CASES[name].isascii()
    part = parts(CASES[name])[2]
    assert part.get_content_type() == "text/rfc822-headers"
    assert part.get_payload(decode=True) == b"Subject: " + word + b"\r\nFrom: alice@example.org\r\n"


def test_a_recipient_beyond_ascii_goes_through_any_server() -> None:
    assert CASES["utf8_recipient"].isascii()
    words, fields, header = parts(CASES["utf8_recipient"])
    assert "<jürgen@bücher.example>".encode() in body(words)
    assert fields.get_content_type() == "message/global-delivery-status"
    assert "\r\nFinal-Recipient: utf-8; jürgen@bücher.example\r\n".encode() in body(fields)
    assert header.get_content_type() == "text/rfc822-headers"


@pytest.mark.parametrize(
    ("original", "kind", "encoding"),
    [
        (CONTENT, "text/rfc822-headers", "7bit"),
        ("Subject: Grüße\r\n".encode(), "message/global-headers", "8bit"),
        (b"Subject: Gr\xfc\xdfe\r\n", "text/rfc822-headers", "quoted-printable"),
    ],
)
def test_a_sender_beyond_ascii_gets_the_header_as_it_was(original: bytes, kind: str, encoding: str) -> None:
    header = parts(make(sender="алиса@example.org".encode(), original=original))[2]
    assert (header.get_content_type(), header["Content-Transfer-Encoding"]) == (kind, encoding)
    assert body(header).rstrip() == original.partition(b"\r\n\r\n")[0].rstrip()


@pytest.mark.parametrize("said", [b"RET=FULL", b"ret=full"])
def test_rfc_3461_the_whole_mail_comes_back_where_its_sender_asked(said: bytes) -> None:
    words, _, whole = parts(make(parameters=said))
    assert whole.get_content_type() == "message/rfc822"
    assert body(whole) == CONTENT
    assert b"Your message is attached." in body(words)


@pytest.mark.parametrize(
    ("said", "original"),
    [
        (b"RET=HDRS", CONTENT),
        (b"", CONTENT),
        (b"ENVID=RET=FULL", CONTENT),
        (b"RET=FULL", HEADER + b"\r\n\r\n" + b"x\r\n" * (dsn.FULL_LIMIT // 3)),
        (b"RET=FULL", CONTENT + b"x" * 999 + b"\r\n"),
        (b"RET=FULL", CONTENT + b"bare\nbare\r"),
        (b"RET=FULL", CONTENT + "Grüße\r\n".encode()),
        (b"RET=FULL", CONTENT + b"Gr\xfc\xdfe\r\n"),
    ],
)
def test_rfc_3461_else_the_header_alone_does(said: bytes, original: bytes) -> None:
    """A whole mail that is large, or needs more than every server takes, would cost the report."""
    words, _, header = parts(make(parameters=said, original=original))
    assert header.get_content_type() == "text/rfc822-headers"
    assert header.get_payload() == HEADER.decode() + "\r\n"
    assert b"The header of your message is attached." in body(words)


@pytest.mark.parametrize("size", [dsn.FULL_LIMIT, dsn.FULL_LIMIT + 1])
def test_the_largest_mail_that_comes_back_whole(size: int) -> None:
    line = b"x" * 98 + b"\r\n"
    original = HEADER + b"\r\n\r\n" + line * (size // 100)
    original = original[: size - 2] + b"\r\n"
    kind = parts(make(parameters=b"RET=FULL", original=original))[2].get_content_type()
    assert kind == ("message/rfc822" if size == dsn.FULL_LIMIT else "text/rfc822-headers")


@pytest.mark.parametrize(
    ("original", "kind"),
    [
        (CONTENT, "message/rfc822"),
        (CONTENT + "Grüße\r\n".encode(), "message/rfc822"),
        ("Subject: Grüße\r\n\r\nbody\r\n".encode(), "message/global"),
        (CONTENT + b"Gr\xfc\xdfe\r\n", "text/rfc822-headers"),
    ],
)
def test_rfc_6533_a_sender_beyond_ascii_gets_eight_bits_back(original: bytes, kind: str) -> None:
    whole = parts(make(sender="алиса@example.org".encode(), parameters=b"RET=FULL", original=original))[2]
    assert whole.get_content_type() == kind
    if kind != "text/rfc822-headers":
        assert body(whole) == original


def test_a_stored_content_gives_its_header() -> None:
    """It is large, or it would not be stored."""

    class Kept:
        size = 10
        ascii = True
        header = HEADER

        def pieces(self) -> AsyncIterator[bytes]:
            raise AssertionError("a report reads nothing")

    header = parts(make(parameters=b"RET=FULL", original=Kept()))[2]
    assert header.get_payload() == HEADER.decode() + "\r\n"


def test_rfc_3461_a_relayed_report() -> None:
    """Its status says that the next server tells no more (RFC 3886); only the header comes back (§4.3)."""
    report = CASES["relayed"]
    words, fields, header = parts(report)
    message, recipient = blocks(fields)
    assert email.message_from_bytes(report)["Subject"] == "Mail Relayed"
    assert b"could not be delivered" not in body(words)
    assert message["Original-Envelope-Id"] == "QQ314159"
    assert recipient.items() == [
        ("Original-Recipient", "rfc822; Bob+x@example.net"),
        ("Final-Recipient", "rfc822; bob@example.net"),
        ("Action", "relayed"),
        ("Status", "2.1.9"),
        ("Remote-MTA", "dns; mx.example.net"),
        ("Diagnostic-Code", "smtp; 250 2.0.0 Ok: queued as 4F2"),
        ("Last-Attempt-Date", "Fri, 15 Jan 2027 08:00:00 +0000"),
    ]
    assert header.get_content_type() == "text/rfc822-headers"


@pytest.mark.parametrize("name", CASES)
def test_rfc_3464_every_report_has_what_must_be_there(name: str) -> None:
    """RFC 6522 §3: words, then fields, then the mail; RFC 3464 §2.2, §2.3; RFC 3834 §5."""
    top = email.message_from_bytes(CASES[name])
    assert (top.get_content_type(), top.get_param("report-type")) == ("multipart/report", "delivery-status")
    assert top["Auto-Submitted"] == "auto-replied"
    found = parts(CASES[name])
    kinds = [part.get_content_type() for part in found]
    assert kinds[0] == "text/plain"
    assert kinds[1] in {"message/delivery-status", "message/global-delivery-status"}
    assert {*kinds[2:]} <= {
        "message/rfc822",
        "message/global",
        "text/rfc822-headers",
        "message/global-headers",
    }
    message, *recipients = blocks(found[1])
    assert message["Reporting-MTA"] == "dns; relay.example.org"
    assert recipients
    for recipient in recipients:
        assert str(recipient["Final-Recipient"]).partition("; ")[0] in {"rfc822", "utf-8"}
        classes = {"failed": "5", "relayed": "2"}
        assert recipient["Status"].partition(".")[0] == classes[recipient["Action"]]


octets = st.one_of(st.binary(max_size=60), st.text(max_size=1200).map(str.encode), st.just(b"\xff" * 2000))
contents = st.one_of(
    st.binary(max_size=3000),
    st.lists(
        st.one_of(st.text(max_size=40).map(str.encode), st.just(f"--{REPORT}=0".encode())), max_size=20
    ).map(b"\r\n".join),
)
failures = st.lists(
    st.builds(
        Fate,
        octets,
        octets.map(lambda value: b"ORCPT=rfc822;" + value),
        st.builds(Reply, st.integers(200, 599), st.text(max_size=1500)),
        st.text(max_size=300),
        st.floats(0, 4e9),
    ),
    min_size=1,
    max_size=4,
)


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.large_base_example])
@given(failures, octets, octets, contents, st.sampled_from(Action))
def test_whatever_strangers_send_a_report_stays_one(
    made: list[Fate], sender: bytes, envelope_id: bytes, original: bytes, action: Action
) -> None:
    parameters = b"RET=FULL ENVID=" + envelope_id
    report = make(*made, sender=sender, parameters=parameters, original=original, action=action)
    lines = report.split(b"\r\n")
    assert max(map(len, lines)) <= 998
    assert not any(b"\r" in line or b"\n" in line or b"\0" in line for line in lines)
    report.decode("utf-8")
    found = parts(report)
    assert len(found) in {2, 3}
    assert report.isascii() or not sender.isascii()
    recipients = [block["Final-Recipient"] for block in blocks(found[1])]
    assert len(recipients) - recipients.count(None) == len(made)
    assert [block["Action"] for block in blocks(found[1])] == [None] + [action.value] * len(made)
    expected = make().split(b"\r\n")
    assert [line.partition(b":")[0] for line in lines[:8]] == [
        line.partition(b":")[0] for line in expected[:8]
    ]


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        (b"", None),
        (b"HOLDUNTIL=2027-01-15T07:00:00Z", "until; 2027-01-15T07:00:00Z"),
        (b"HOLDFOR=3600 HOLDUNTIL=2027-01-15T07:00:00Z", "for; 3600"),
    ],
)
def test_rfc_4865_a_report_tells_what_was_to_wait(parameters: bytes, told: str | None) -> None:
    """RFC 4865: Future-Release-Request, a field of the message."""
    assert blocks(parts(make(parameters=parameters))[1])[0]["Future-Release-Request"] == told


def test_rfc_8689_of_mail_that_demanded_tls_only_the_header_comes_back() -> None:
    """RFC 8689: even where RET=FULL asks for all of it."""
    kinds = [part.get_content_type() for part in parts(make(parameters=b"RET=FULL REQUIRETLS"))]
    assert kinds[-1] == "text/rfc822-headers"
    assert parts(make(parameters=b"RET=FULL"))[-1].get_content_type() == "message/rfc822"
