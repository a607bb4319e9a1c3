"""In whose name a user may send."""

import pytest

from backstamp.policy.user import User, sender_allowed, sender_pattern


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("Example.ORG", "example.org"),
        ("*.Example.org", "*.example.org"),
        ("Ann.B@Example.org", "Ann.B@example.org"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("ann@bücher.example", "ann@xn--bcher-kva.example"),
        ("localhost", "localhost"),
    ],
)
def test_a_pattern_is_kept_with_its_domain_in_a_labels(written: str, kept: str) -> None:
    assert sender_pattern(written) == kept
    assert sender_pattern(kept) == kept


@pytest.mark.parametrize(
    "written",
    [
        "",
        "*",
        "*.",
        "<>",
        "@",
        "@example.org",
        "ann@",
        "a b@example.org",
        "*.a@example.org",
        "ann@*.example.org",
        "ann@[192.0.2.1]",
        "192.0.2.1",
        "-a.example",
        "example..org",
        "example.org\n",
        "a\rb@example.org",
        "a> SIZE=1@example.org",
        "a@b.example> SIZE=1@example.org",
        "\ud800@example.org",
        "\ud800.example",
        "x" * 64 + ".example",
        "x" * 65 + "@example.org",
    ],
)
def test_what_is_no_pattern_is_refused_with_a_hint(written: str) -> None:
    with pytest.raises(ValueError, match=r"is not a sender; write example\.org"):
        sender_pattern(written)


@pytest.mark.parametrize(
    ("senders", "path", "allowed"),
    [
        ((), b"anybody@anywhere.example", True),
        (("example.org",), b"", True),
        (("example.org",), b"ann@Example.Org", True),
        (("example.org",), b"ann@sub.example.org", False),
        (("example.org",), b"ann@notexample.org", False),
        (("example.org",), b"ann@example.org.evil.example", False),
        (("example.org",), b'"x@evil.example"@example.org', True),
        (("evil.example",), b'"x@evil.example"@example.org', False),
        (("*.example.org",), b"ann@a.B.example.org", True),
        (("*.example.org",), b"ann@example.org", False),
        (("*.example.org",), b"ann@notexample.org", False),
        (("ann@example.org",), b"ann@EXAMPLE.org", True),
        (("ann@example.org",), b"Ann@example.org", False),
        (("ann@example.org",), b"bob@example.org", False),
        (("ann@example.org", "b.example"), b"bob@b.example", True),
        (("xn--bcher-kva.example",), "ann@bücher.example".encode(), True),
        (("example.org",), b"ann@[192.0.2.1]", False),
        (("example.org",), b"ann@\xff.example.org", False),
    ],
)
def test_who_may_send_as_whom(senders: tuple[str, ...], path: bytes, allowed: bool) -> None:
    assert sender_allowed(User("ann", senders), path) is allowed
