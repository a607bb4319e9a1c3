"""Addresses out of lists as people and programs write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backstamp.sendmail.addresses import AddressListError, addresses, qualified


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", []),
        (" , ,", []),
        ("a@x.org", ["a@x.org"]),
        ("root", ["root@relay.example"]),
        ("a@x.org, (one, two) b@y.org (c (d))", ["a@x.org", "b@y.org"]),
        ("a@x.org,,b@y.org;c@z.org", ["a@x.org", "b@y.org", "c@z.org"]),
        ('Team: a@x.org, "B, C" <b@y.org>;, d@z.org', ["a@x.org", "b@y.org", "d@z.org"]),
        ("undisclosed-recipients:;", []),
        ("a@other.org <b@x.org>", ["b@x.org"]),
        ("=?utf-8?q?J=2C_x=40y?= <j@x.org>", ["j@x.org"]),
        ("J. R. Hacker <j@x.org> (at work)", ["j@x.org"]),
        ('"a b"@x.org', ['"a b"@x.org']),
        ('"a\\"> b"@x.org', ['"a\\"> b"@x.org']),
        ('"Quoted \\" (no comment" <q@x.org>', ["q@x.org"]),
        ("a . b @ x . org", ["a.b@x.org"]),
        ("a@[192.0.2.1]", ["a@[192.0.2.1]"]),
        ("Grün <grün@bücher.example>", ["grün@bücher.example"]),
        ("\r\n\ta@x.org,\r\n\tb@y.org", ["a@x.org", "b@y.org"]),
    ],
)
def test_who_is_meant(text: str, found: list[str]) -> None:
    """RFC 5322 §3.4: lists, groups, comments; RFC 2047 §5: an encoded word names nobody."""
    assert addresses(text, "relay.example") == found


@pytest.mark.parametrize(
    "text",
    [
        "a@b@c.org",
        "a@x.org b@y.org",
        "<>",
        "<a@x.org",
        "(a@x.org",
        "<a@x.org> <b@x.org>",
        "<a@x.org> b",
        "a@",
        "@x.org",
        "<@one.org,@two.org:a@x.org>",
        '"a@x.org',
        "a\x00@x.org",
        "<a@x.org\r\nRCPT TO:b@x.org>",
        "<a@x.org> NOTIFY=NEVER <b@y.org>",
        "x\udcfc@x.org",
        "a@x.org)b@y.org",
        '"a"b@x.org',
        "a\\ b@x.org",
    ],
)
def test_what_is_no_address(text: str) -> None:
    """Security 4: nothing comes out that could be more than one address in a command."""
    with pytest.raises(AddressListError):
        addresses(text, "relay.example")


@given(st.text(st.sampled_from('ab@.<>()[]",;:\\ \r\n\tü'), max_size=20))
def test_nothing_can_end_a_path_or_a_line(text: str) -> None:
    """Security 4: an address has no `>`, space or control character outside of a quotation."""
    try:
        found = addresses(text, "relay.example")
    except AddressListError:
        return
    for address in found:
        local, _, domain = address.rpartition("@")
        assert address.isprintable()
        assert local and domain
        assert not set(domain) & set('<>" ,')
        assert local[0] == local[-1] == '"' or not set(local) & set('<>" ,')


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        (" root", " root@h.example"),
        (" root \r\n", " root@h.example \r\n"),
        ("root (Cron Daemon)", "root@h.example (Cron Daemon)"),
        ('"(Cron Daemon)" < root > (c)', '"(Cron Daemon)" < root@h.example > (c)'),
        ("J. <a@x.org>, b, T: c;, <f(g)>", "J. <a@x.org>, b@h.example, T: c@h.example;, <f@h.example(g)>"),
        ('"d e"', '"d e"@h.example'),
        ("undisclosed-recipients:;", "undisclosed-recipients:;"),
        ("two words, root", "two words, root"),
        ("<>", "<>"),
        ("root <a@x.org", "root <a@x.org"),
        ("", ""),
    ],
)
def test_an_address_without_a_domain_gets_one(text: str, whole: str) -> None:
    assert qualified(text, "h.example") == whole


@given(st.text(st.sampled_from('ab@.<>()[]",;:\\ \r\n\tü'), max_size=20))
def test_who_is_meant_stays(text: str) -> None:
    try:
        found = addresses(text, "h.example")
    except AddressListError:
        assert qualified(text, "h.example") == text
        return
    whole = qualified(text, "h.example")
    assert addresses(whole, "other.example") == found
    assert whole.replace("@h.example", "") == text
