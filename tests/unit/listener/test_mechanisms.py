"""Each mechanism's machine, against its RFC."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scramp import ScramClient, ScramMechanism

from backstamp.listener.accounts import Scram
from backstamp.listener.mechanisms import (
    MALFORMED,
    NOT_ANOTHER,
    REJECTED,
    Challenge,
    Check,
    Exchange,
    Failed,
    Password,
    Proof,
    Step,
    Token,
    start,
)
from backstamp.listener.offers import MECHANISMS, keyword, offered


def keys(name: str) -> Scram:
    salt, stored, server, count = ScramMechanism("SCRAM-SHA-256").make_auth_info(
        "pencil", iteration_count=4096, salt=b"s" * 16
    )
    return (
        Scram(count, salt, stored, server) if name == "ann" else Scram(count, b"f" * 16, b"x" * 32, b"y" * 32)
    )


def begin(mechanism: str, initial: bytes | None = None) -> tuple[Exchange, Step]:
    return start(mechanism, initial, verifier=keys, nonce=lambda: "nonce")


def test_what_is_offered() -> None:
    assert offered(MECHANISMS, users_present=True, token_endpoint=False) == (
        "SCRAM-SHA-256",
        "PLAIN",
        "LOGIN",
    )
    assert offered(["PLAIN", "XOAUTH2"], users_present=False, token_endpoint=True) == ("XOAUTH2",)
    assert offered(MECHANISMS, users_present=False, token_endpoint=False) == ()
    assert keyword(("SCRAM-SHA-256", "PLAIN")) == "AUTH SCRAM-SHA-256 PLAIN"
    assert keyword(()) == ""


def test_plain() -> None:
    """RFC 4616: one message, at once or when it is asked for."""
    claim = Check(Password("ann", "p\u00e4ss", "PLAIN"))
    message = "\0ann\0p\u00e4ss".encode()
    assert begin("PLAIN", message)[1] == claim
    exchange, step = begin("PLAIN")
    assert step == Challenge(b"")
    assert exchange.step(message) == claim
    assert exchange.accepted() is None
    assert exchange.refused(REJECTED) == Failed(REJECTED)


@pytest.mark.parametrize(
    ("message", "step"),
    [
        (b"ann\0ann\0pw", Check(Password("ann", "pw", "PLAIN"))),
        (b"bob\0ann\0pw", Failed(NOT_ANOTHER)),
        (b"", Failed(MALFORMED)),
        (b"\0ann", Failed(MALFORMED)),
        (b"\0ann\0", Failed(MALFORMED)),
        (b"\0\0pw", Failed(MALFORMED)),
        (b"\0ann\0pw\0", Failed(MALFORMED)),
        (b"\0\xff\0pw", Failed(MALFORMED)),
    ],
)
def test_plain_for_oneself_only(message: bytes, step: Step) -> None:
    """RFC 4616: authzid empty or the same; no NUL inside, UTF-8."""
    assert begin("PLAIN", message)[1] == step


def test_login() -> None:
    exchange, step = begin("LOGIN")
    assert step == Challenge(b"Username:")
    assert exchange.step(b"ann") == Challenge(b"Password:")
    assert exchange.step(b"pw") == Check(Password("ann", "pw", "LOGIN"))
    exchange, step = begin("LOGIN", b"ann")
    assert step == Challenge(b"Password:")
    for wrong in (b"", b"\xff", b"a\0b"):
        assert begin("LOGIN", wrong)[1] == Failed(MALFORMED)
        assert begin("LOGIN", b"ann")[0].step(wrong) == Failed(MALFORMED)


def scram(username: str, password: str, **changes: str) -> tuple[ScramClient, Exchange, Step]:
    client = ScramClient(["SCRAM-SHA-256"], username, password, c_nonce="client")
    exchange, step = begin("SCRAM-SHA-256", client.get_client_first().encode())
    assert isinstance(step, Challenge)
    client.set_server_first(step.text.decode())
    final = client.get_client_final()
    for old, new in changes.items():
        final = final.replace(f"{old}=", f"{old}={new}")
    return client, exchange, exchange.step(final.encode())


def test_scram_proves_both_sides() -> None:
    """RFC 5802: the client proves the password, then the server that it knows the keys."""
    client, exchange, step = scram("ann", "pencil")
    assert step == Check(Proof("ann", good=True))
    said = exchange.accepted()
    assert said is not None
    client.set_server_final(said.decode())


@pytest.mark.parametrize(("name", "password"), [("ann", "pen"), ("nobody", "pencil")])
def test_scram_with_a_wrong_password_or_name_is_judged_the_same(name: str, password: str) -> None:
    """Security 11: same text for unknown users."""
    assert scram(name, password)[2] == Check(Proof(name, good=False))


def test_scram_begins_when_it_is_asked_to() -> None:
    exchange, step = begin("SCRAM-SHA-256")
    assert step == Challenge(b"")
    assert isinstance(exchange.step(b"n,,n=ann,r=abc"), Challenge)


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"n",
        b"n,,",
        b"n,,n=ann",
        b"n,,n=,r=a",
        b"n,,n=a=b,r=a",
        b"n,a=bob,n=ann,r=a",
        b"p=tls-unique,,n=ann,r=a",
        b"p=tls-exporter,,n=ann,r=a",
        b"n,,m=x,n=ann,r=a",
        b"n,,n=\xff,r=a",
        b"n,,n=%b,r=a" % (b"x" * 300),
        b"z,,n=ann,r=a",
    ],
)
def test_scram_refuses_what_it_cannot_do(message: bytes) -> None:
    """RFC 5802: channel binding that is not offered, other identities, mandatory extensions, bad syntax."""
    assert begin("SCRAM-SHA-256", message)[1] == Failed(MALFORMED)


def test_scram_takes_a_client_that_thinks_there_is_no_channel_binding() -> None:
    """RFC 5802: `y` is fine where no -PLUS is offered."""
    assert isinstance(begin("SCRAM-SHA-256", b"y,,n=ann,r=abc")[1], Challenge)


@pytest.mark.parametrize("flag", ["n", "y"])
def test_scram_takes_the_users_own_authorization_identity(flag: str) -> None:
    """RFC 5802 §7: the last message repeats the header, identity and all, and both prove that."""

    class Header:
        def __str__(self) -> str:
            return f"{flag},a=ann,"

        def make_cbind_input(self, _: object) -> bytes:
            return str(self).encode()

    for header, step in ((Header(), Check(Proof("ann", good=True))), (None, Failed(MALFORMED))):
        client = ScramClient(["SCRAM-SHA-256"], "ann", "pencil", c_nonce="client")
        before = client.gs2_header
        client.gs2_header = Header()
        exchange, asked = begin("SCRAM-SHA-256", client.get_client_first().encode())
        assert isinstance(asked, Challenge)
        client.gs2_header = header or before
        client.set_server_first(asked.text.decode())
        assert exchange.step(client.get_client_final().encode()) == step
        if header is not None:
            said = exchange.accepted()
            assert said is not None
            client.set_server_final(said.decode())


@pytest.mark.parametrize("changes", [{"c": "x"}, {"r": "x"}, {"p": "!"}])
def test_scram_with_another_nonce_or_binding_is_malformed(changes: dict[str, str]) -> None:
    assert scram("ann", "pencil", **changes)[2] == Failed(MALFORMED)


def test_oauthbearer() -> None:
    """RFC 7628: a GS2 header, pairs, and the token in `auth`."""
    message = b"n,a=ann@example.org,\1host=relay.example.org\1port=587\1auth=Bearer vF9dft4qmT.~+/=\1\1"
    assert begin("OAUTHBEARER", message)[1] == Check(
        Token("ann@example.org", "vF9dft4qmT.~+/=", "OAUTHBEARER")
    )
    assert begin("OAUTHBEARER", b"y,,\1auth=bearer abc\1\1")[1] == Check(Token("", "abc", "OAUTHBEARER"))
    assert begin("OAUTHBEARER", b"n,a=a=2Cb=3D,\1auth=Bearer abc\1\1")[1] == Check(
        Token("a,b=", "abc", "OAUTHBEARER")
    )


def test_oauthbearer_tells_why_and_waits_for_the_client() -> None:
    """RFC 7628: a JSON error first, the failure after the client's dummy response."""
    exchange, _ = begin("OAUTHBEARER", b"n,,\1auth=Bearer abc\1\1")
    told = exchange.refused(REJECTED)
    assert isinstance(told, Challenge)
    assert json.loads(told.text)["status"] == "invalid_token"
    assert exchange.step(b"\1") == Failed(REJECTED)


def test_trouble_is_told_at_once() -> None:
    exchange, _ = begin("OAUTHBEARER", b"n,,\1auth=Bearer abc\1\1")
    assert exchange.refused(b"454 4.7.0 Later\r\n") == Failed(b"454 4.7.0 Later\r\n")


def test_xoauth2() -> None:
    exchange, step = begin("XOAUTH2", b"user=ann@example.org\1auth=Bearer abc\1\1")
    assert step == Check(Token("ann@example.org", "abc", "XOAUTH2"))
    told = exchange.refused(REJECTED)
    assert isinstance(told, Challenge)
    assert json.loads(told.text)["status"] == "401"
    assert exchange.step(b"") == Failed(REJECTED)


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\1",
        b"n,,",
        b"n,,\1\1",
        b"n,,\1auth=\1\1",
        b"n,,\1auth=Basic abc\1\1",
        b"n,,\1auth=Bearer a b\1\1",
        b"n,,\1auth=Bearer abc\1",
        b"p=x,,\1auth=Bearer abc\1\1",
        b"n,a=\xff,\1auth=Bearer abc\1\1",
        b"n,a=a\nb,\1auth=Bearer abc\1\1",
        b"n,a=%b,\1auth=Bearer abc\1\1" % (b"x" * 300),
    ],
)
def test_what_is_no_bearer_message(message: bytes) -> None:
    """RFC 7628: what cannot be parsed is refused."""
    assert begin("OAUTHBEARER", message)[1] == Failed(MALFORMED)


@pytest.mark.parametrize("claim", [Password("ann", "s3cret"), Token("ann", "s3cret")])
def test_no_claim_shows_its_secret(claim: Password | Token) -> None:
    """Security 11: log redaction."""
    assert "s3cret" not in f"{claim} {claim!r} {Check(claim)!r}"
    assert "ann" in repr(claim)


@given(
    st.sampled_from(MECHANISMS),
    st.lists(
        st.binary(max_size=60)
        | st.sampled_from(
            [b"n,,n=ann,r=abc", b"c=biws,r=abcnonce,p=AAAA", b"ann", b"n,,\1auth=Bearer abc\1\1"]
        )
        | st.text("nyp,=arcs\1 ", max_size=20).map(str.encode),
        max_size=4,
    ),
)
def test_any_octets_get_an_answer(mechanism: str, messages: list[bytes]) -> None:
    exchange, step = begin(mechanism)
    for message in messages:
        if not isinstance(step, Challenge):
            break
        step = exchange.step(message)
        if isinstance(step, Failed):
            assert step.reply[:1] in b"45"
            assert step.reply.endswith(b"\r\n")
