"""Who may relay: judged by the connection alone."""

from ipaddress import ip_network

import pytest

from backstamp.listener import admission

ALLOW = (ip_network("127.0.0.0/8"), ip_network("10.1.0.0/16"), ip_network("2001:db8::/32"))


@pytest.mark.parametrize(
    ("peer", "may"),
    [
        ("127.0.0.1", True),
        ("10.1.2.3", True),
        ("10.2.0.1", False),
        ("2001:db8::1", True),
        ("2001:db9::1", False),
        ("::ffff:10.1.0.1", True),
        ("::ffff:10.2.0.1", False),
        ("2001:db8::1%eth0", True),
        ("", False),
        ("/run/socket", False),
    ],
)
def test_who_may_relay(peer: str, may: bool) -> None:
    assert admission.may_relay(peer, ALLOW) is may


def test_nobody_may_where_nobody_is_allowed() -> None:
    assert not admission.may_relay("127.0.0.1", ())


def test_recipients() -> None:
    assert admission.recipient(b"a@b.example", allowed=True) is None
    assert admission.recipient(b"a@[192.0.2.1]", allowed=True) == admission.LITERAL
    assert admission.recipient(b"a@b.example", allowed=False) == admission.DENIED


@pytest.mark.parametrize(
    ("peer", "shown"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::1"),
        ("2001:db8::1", "2001:db8::1"),
        ("no:address", "no:address"),
    ],
)
def test_the_address_that_logs_and_trace_lines_show(peer: str, shown: str) -> None:
    assert admission.plain(peer) == shown


def test_who_came_by_a_socket_file_is_local_whatever_its_socket_is_called() -> None:
    """Security 10: a name a client chose for its socket is no address."""
    assert admission.peer(("127.0.0.1", 5), local=True) == "local"
    assert admission.peer("\0chosen", local=True) == "local"
    assert admission.peer(("::ffff:192.0.2.1", 5, 0, 0), local=False) == "192.0.2.1"
    assert admission.peer(None, local=False) == ""
    assert admission.may_relay("local", ())
