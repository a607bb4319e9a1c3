"""ESMTP parameters on raw octets, and what EHLO offers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backstamp.mail.release import held_until
from backstamp.smtp import extensions, parameters
from backstamp.smtp.parameters import ParameterError


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (b"", b""),
        (b"SIZE=1000", b""),
        (b"size=0 body=7bit", b"BODY=7BIT"),
        (b"BODY=8BITMIME  SMTPUTF8", b"BODY=8BITMIME SMTPUTF8"),
        (b"ret=Full envid=Ab+2Bc+20d", b"RET=Full ENVID=Ab+2Bc+20d"),
        (b"MT-PRIORITY=9", b"MT-PRIORITY=9"),
        (b"mt-priority=-9", b"MT-PRIORITY=-9"),
        (b"MT-PRIORITY=0", b"MT-PRIORITY=0"),
        (b"ENVID=" + b"x" * 100, b"ENVID=" + b"x" * 100),
        (b"ENVID=" + b"+3D" * 100, b"ENVID=" + b"+3D" * 100),
    ],
)
def test_what_goes_with_the_message(text: bytes, kept: bytes) -> None:
    assert parameters.mail(text, message_size=1000) == (kept, None)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b"SIZE", 501),
        (b"SIZE=x", 501),
        (b"SIZE=1001", 552),
        (b"SIZE=999999999999999999999", 501),
        (b"BODY", 501),
        (b"BODY=BINARYMIME", 501),
        (b"SMTPUTF8=yes", 501),
        (b"SMTPUTF8 smtputf8", 501),
        (b"RET", 501),
        (b"RET=ALL", 501),
        (b"ENVID", 501),
        (b"ENVID=a+0D+0Ab", 501),
        (b"ENVID=a+0d", 501),
        (b"ENVID=" + b"x" * 101, 501),
        (b"MT-PRIORITY", 501),
        (b"MT-PRIORITY=+1", 501),
        (b"MT-PRIORITY=-0", 501),
        (b"MT-PRIORITY=10", 501),
        (b"TENANT=other", 555),
        (b"REPORTS=01:0", 555),
        (b"NOTIFY=NEVER", 555),
        (b"AUTH=<>", 555),
        (b"=x", 501),
        (b"A=b=c", 501),
        (b"X\tY", 501),
        (b"X=\xff", 501),
    ],
)
def test_what_is_refused(text: bytes, code: int) -> None:
    with pytest.raises(ParameterError) as refused:
        parameters.mail(text, message_size=1000)
    assert refused.value.code == code


@pytest.mark.parametrize(("said", "limit", "kept"), [(3, 4, None), (4, 4, None), (5, 4, 4), (0, -2, -2)])
def test_rfc_6710_a_priority_above_the_limit_is_lowered(said: int, limit: int, kept: int | None) -> None:
    """RFC 6710."""
    text = b"MT-PRIORITY=%d" % said
    expected = (text if kept is None else b"MT-PRIORITY=%d" % kept, kept)
    assert parameters.mail(text, message_size=1000, priority_limit=limit) == expected


NOW = 1_800_000_000.0  # 2027-01-15T08:00:00Z
DAY = 86_400.0


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (b"HOLDFOR=1", b"HOLDFOR=1 HOLDUNTIL=2027-01-15T08:00:01Z"),
        (b"holdfor=86400 BODY=7BIT", b"HOLDFOR=86400 HOLDUNTIL=2027-01-16T08:00:00Z BODY=7BIT"),
        (b"HOLDFOR=000060", b"HOLDFOR=60 HOLDUNTIL=2027-01-15T08:01:00Z"),
        (b"HOLDUNTIL=2027-01-16T08:00:00Z", b"HOLDUNTIL=2027-01-16T08:00:00Z"),
        (b"holduntil=2027-01-15t10:30:00.25+02:00", b"HOLDUNTIL=2027-01-15T08:30:01Z"),
        (b"HOLDUNTIL=2027-01-15T08:00:00-00:30", b"HOLDUNTIL=2027-01-15T08:30:00Z"),
        (b"HOLDUNTIL=2027-01-15T08:00:00Z", b""),
        (b"HOLDUNTIL=2027-01-15T07:55:00Z", b""),
    ],
)
def test_rfc_4865_a_time_to_leave_is_kept_in_utc(text: bytes, kept: bytes) -> None:
    """RFC 4865: HOLDFOR and HOLDUNTIL come to one time; one that is just gone means now."""
    assert parameters.mail(text, message_size=1000, hold=DAY, now=NOW) == (kept, None)


@pytest.mark.parametrize(
    "text",
    [
        b"HOLDFOR",
        b"HOLDFOR=0",
        b"HOLDFOR=-1",
        b"HOLDFOR=1.5",
        b"HOLDFOR=1000000000",
        b"HOLDFOR=86401",
        b"HOLDUNTIL",
        b"HOLDUNTIL=2027-01-16",
        b"HOLDUNTIL=2027-01-16T08:00:00",
        b"HOLDUNTIL=2027-01-16T08:00:00+24:00",
        b"HOLDUNTIL=2027-02-30T08:00:00Z",
        b"HOLDUNTIL=2027-01-15T08:00:60Z",
        b"HOLDUNTIL=20270116T080000Z",
        b"HOLDUNTIL=2027-01-16T08:00:01Z",
        b"HOLDUNTIL=2027-01-15T07:54:59Z",
        b"HOLDUNTIL=0001-01-01T00:00:00+23:59",
        b"HOLDUNTIL=9999-12-31T23:59:59-23:59",
        b"HOLDFOR=1 HOLDUNTIL=2027-01-15T08:00:01Z",
        b"HOLDFOR=1 HOLDFOR=1",
    ],
)
def test_rfc_4865_what_cannot_be_waited_for_is_refused(text: bytes) -> None:
    """RFC 4865: one hold parameter, of its grammar, within what was offered; else 501 5.5.4."""
    with pytest.raises(ParameterError, match=r"5\.5\.4 ") as refused:
        parameters.mail(text, message_size=1000, hold=DAY, now=NOW)
    assert refused.value.code == 501


@pytest.mark.parametrize("text", [b"HOLDFOR=1", b"HOLDUNTIL=2027-01-15T08:00:01Z"])
def test_rfc_4865_where_it_is_not_offered_it_is_not_known(text: bytes) -> None:
    with pytest.raises(ParameterError) as refused:
        parameters.mail(text, message_size=1000, now=NOW)
    assert refused.value.code == 555


@pytest.mark.parametrize("text", [b"AUTH=<>", b"auth=a@b.example", b"AUTH=e+3Dmc2@example.com"])
def test_rfc_4954_who_wrote_it_is_taken_and_not_kept(text: bytes) -> None:
    """RFC 4954: where AUTH is offered, MAIL's AUTH= must be taken; nobody is trusted with it."""
    assert parameters.mail(text, message_size=1000, auth=True) == (b"", None)


@pytest.mark.parametrize(
    "text", [b"AUTH", b"AUTH=a", b"AUTH=+3C+3E", b"AUTH=a@b+20x", b"AUTH=a@b.example>+20X", b"AUTH=<a@b>"]
)
def test_rfc_4954_what_names_nobody_is_refused(text: bytes) -> None:
    with pytest.raises(ParameterError) as refused:
        parameters.mail(text, message_size=1000, auth=True)
    assert refused.value.code == 501


LONG = b"ORCPT=rfc822;" + b"x" * 493


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (b" ", b""),
        (b"notify=Never", b"NOTIFY=Never"),
        (b"NOTIFY=SUCCESS,failure,DELAY", b"NOTIFY=SUCCESS,failure,DELAY"),
        (b"ORCPT=rfc822;A+2Bb@X.test notify=DELAY", b"ORCPT=rfc822;A+2Bb@X.test NOTIFY=DELAY"),
        (b"ORCPT=x-odd;anything", b"ORCPT=x-odd;anything"),
        (b"ORCPT=UTF-8;j\\x{FC}rgen@x.test", b"ORCPT=UTF-8;j\\x{FC}rgen@x.test"),
        (LONG, LONG),
    ],
)
def test_rfc_3461_what_goes_with_the_recipient(text: bytes, kept: bytes) -> None:
    assert parameters.rcpt(text) == kept


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b"\x01", 501),
        (b"NOTIFY", 501),
        (b"NOTIFY=,", 501),
        (b"NOTIFY=NEVER,DELAY", 501),
        (b"NOTIFY=NEVER,NEVER", 501),
        (b"NOTIFY=DELAY,DELAY", 501),
        (b"NOTIFY=DELAY NOTIFY=DELAY", 501),
        (b"ORCPT", 501),
        (b"ORCPT=a@b.test", 501),
        (b"ORCPT=;a@b.test", 501),
        (b"ORCPT=rfc 822;a", 501),
        (b"ORCPT=rfc(822;a@b.test", 501),
        (b"ORCPT=rfc822;", 501),
        (b"ORCPT=rfc822;a+0D+0Ab", 501),
        (b"ORCPT=utf-8;a\\x{D}b", 501),
        (b"ORCPT=utf-8;a+2Bb", 501),
        (b"ORCPT=utf-8;\xc3\xbc", 501),
        (LONG + b"x", 501),
        (b"ENVID=x", 555),
        (b"MT-PRIORITY=1", 555),
    ],
)
def test_rfc_3461_what_is_refused_of_a_recipient(text: bytes, code: int) -> None:
    with pytest.raises(ParameterError) as refused:
        parameters.rcpt(text)
    assert refused.value.code == code


def test_rfc_6533_an_original_recipient_may_be_beyond_ascii_with_smtputf8() -> None:
    text = "ORCPT=utf-8;jürgen@x.test".encode()
    assert parameters.rcpt(text, utf8=True) == text
    for wrong in (b"ORCPT=utf-8;\xfc", "ORCPT=rfc822;jürgen@x.test".encode(), "NOTIFY=ü".encode()):
        with pytest.raises(ParameterError) as refused:
            parameters.rcpt(wrong, utf8=True)
        assert refused.value.code == 501


words = st.sampled_from(
    [
        b"BODY=8BITMIME",
        b"SMTPUTF8",
        b"RET=",
        b"ENVID=",
        b"MT-PRIORITY=",
        b"NOTIFY=",
        b"ORCPT=utf-8;",
        b"TENANT=",
        b"HOLDFOR=",
        b"HOLDUNTIL=2027-01-15T08:00:00",
        b"AUTH=",
        b" ",
    ]
)
texts = st.lists(st.one_of(words, st.binary(max_size=9)), max_size=6).map(b"".join)


@given(texts)
def test_any_octets_are_taken_or_refused(text: bytes) -> None:
    try:
        kept, _ = parameters.mail(text, message_size=1000, hold=DAY, now=NOW, auth=True)
    except ParameterError as error:
        assert error.code in {501, 552, 555}
        str(error).encode("ascii")
    else:
        ours = {b"HOLDFOR", b"HOLDUNTIL"}
        said = [item for item in kept.split(b" ") if item and item.partition(b"=")[0] not in ours]
        known = {b"BODY", b"SMTPUTF8", b"RET", b"ENVID", b"MT-PRIORITY"}
        assert {item.partition(b"=")[0] for item in said} <= known
        assert parameters.mail(b" ".join(said), message_size=1000) == (b" ".join(said), None)
        assert held_until(kept) == 0 or NOW < held_until(kept) <= NOW + DAY


@given(texts, st.booleans())
def test_any_octets_are_taken_or_refused_of_a_recipient(text: bytes, utf8: bool) -> None:
    try:
        kept = parameters.rcpt(text, utf8=utf8)
    except ParameterError as error:
        assert error.code in {501, 555}
        str(error).encode("ascii")
    else:
        assert len(kept.splitlines()) <= 1
        assert parameters.rcpt(kept, utf8=utf8) == kept


def test_what_is_offered() -> None:
    assert extensions.keywords(1000) == (
        "SIZE 1000",
        "8BITMIME",
        "SMTPUTF8",
        "PIPELINING",
        "ENHANCEDSTATUSCODES",
        "CHUNKING",
        "DSN",
        "MT-PRIORITY",
    )


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (b"", None),
        (b"SMTPUTF8", None),
        (b"BODY=8BITMIME", None),
        (b"size=17 BODY=8BITMIME", 17),
        (b"BODY=8BITMIME  SIZE=0", 0),
    ],
)
def test_the_size_a_client_declares(text: bytes, size: int | None) -> None:
    """RFC 1870: what it says, for who must make room for it."""
    assert parameters.declared_size(text) == size


def test_rfc_4865_what_is_offered_names_the_longest_wait_and_the_last_time() -> None:
    """RFC 4865: FUTURERELEASE has the longest interval, and the time it comes to now."""
    assert extensions.keywords(1000, hold=DAY, now=NOW)[-1] == "FUTURERELEASE 86400 2027-01-16T08:00:00Z"


def test_rfc_8689_tls_all_the_way_is_kept_where_it_is_offered() -> None:
    """RFC 8689: REQUIRETLS has no value, and stands in the envelope; elsewhere it is not known."""
    assert parameters.mail(b"requiretls", message_size=1000, requiretls=True) == (b"REQUIRETLS", None)
    for text, offered, code in ((b"REQUIRETLS=yes", True, 501), (b"REQUIRETLS", False, 555)):
        with pytest.raises(ParameterError) as refused:
            parameters.mail(text, message_size=1000, requiretls=offered)
        assert refused.value.code == code
    assert extensions.keywords(1000, requiretls=True)[-1] == "REQUIRETLS"
    assert "REQUIRETLS" not in extensions.keywords(1000)


def test_an_orcpt_as_postfix_makes_it_of_an_internationalized_address_is_mended() -> None:
    """RFC 6533: an address beyond ASCII is of type utf-8; Postfix 3.7 says rfc822."""
    asked = b"ORCPT=rfc822;j+C3+BCrgen@one.test"
    assert parameters.rcpt(asked, utf8=True) == b"ORCPT=utf-8;j\\x{FC}rgen@one.test"
    for text, utf8 in ((asked, False), (b"ORCPT=rfc822;j+FC@one.test", True), (b"ORCPT=rfc822;a+0Ab", True)):
        with pytest.raises(ParameterError) as refused:
            parameters.rcpt(text, utf8=utf8)
        assert refused.value.code == 501
