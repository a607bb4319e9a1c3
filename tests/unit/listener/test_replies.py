"""Every reply the front door can utter is of the grammar and carries its status.

Two looks, since neither sees all: at what the sources say (whatever stands there as a reply, however
seldom it is reached), and at what a conversation says to whatever it is told.
"""

import ast
import re
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import backstamp
from backstamp.listener.conversation import Conversation
from backstamp.listener.settings import ListenerSettings
from backstamp.mail.reply import Reply
from backstamp.policy import suppression
from backstamp.policy.bounce import BounceClass
from backstamp.policy.suppression import Match, Source
from backstamp.queue import health, local, operations, port, trouble

SOURCES = Path(backstamp.__file__).parent
FRONT = [*sorted((SOURCES / "listener").glob("*.py")), SOURCES / "mail/submission.py"]
LOOKS_LIKE_ONE = re.compile(r"[2-5][0-9]{2}(?:[ -]|\Z)")
WITH_STATUS = re.compile(r"([245])[0-9]{2}[ -]\1\.[0-9]{1,3}\.[0-9]{1,3} [ -~\r\n]*")
REGISTERED = {
    "0.0", "1.0", "1.1", "1.2", "1.3", "1.5", "1.7", "2.0", "2.1", "2.3", "3.0", "3.1", "3.2", "3.4", "3.6",
    "4.0", "4.2", "4.6", "5.0", "5.1", "5.2", "5.3", "5.4", "5.5", "5.6", "6.0", "6.1", "6.2", "6.3", "6.4",
    "6.5", "6.6", "6.7", "7.0", "7.1", "7.8", "7.11", "7.30",
}  # fmt: skip
"""Those of IANA's registry (RFC 3463, 4865, 4954, 5248, 6531, 6710, 8689) that are of use at a front door."""
INTERMEDIATE = re.compile(r"3[0-9]{2} ")
NAMED = {"220 ", "250-", "250 ", "401"}
"""Greeting, EHLO and HELO: what follows is a name or a keyword, and no status stands there (RFC 2034 §4);
and a status of HTTP, inside a challenge."""


def literals(path: Path) -> Iterator[str]:
    """Yield the literals of a module, of a formatted one what stands before the first value."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr) and isinstance(node.values[0], ast.Constant):
            yield str(node.values[0].value)
        elif isinstance(node, ast.Constant) and id(node) not in parts:
            if isinstance(node.value, str):
                yield node.value
            elif isinstance(node.value, bytes):
                yield node.value.decode("latin-1")


def spoken() -> list[tuple[str, str]]:
    return [(path.name, text) for path in FRONT for text in literals(path) if LOOKS_LIKE_ONE.match(text)]


def test_rfc_2034_every_reply_that_stands_in_the_sources_carries_its_status() -> None:
    """RFC 2034: each 2yz, 4yz and 5yz but those of greeting, HELO and EHLO has a status of its class."""
    found = spoken()
    assert {"conversation.py", "session.py", "intake.py", "transaction.py", "crowd.py"} <= {
        name for name, _ in found
    }
    bare = {
        (name, text)
        for name, text in found
        if WITH_STATUS.fullmatch(text) is None and text not in NAMED and not INTERMEDIATE.match(text)
    }
    assert bare == set()


def test_rfc_2034_every_refusal_of_a_parameter_carries_its_status() -> None:
    """RFC 2034: what `smtp.parameters` refuses begins with a status of its code's class."""
    tree = ast.parse((SOURCES / "smtp/parameters.py").read_text(encoding="utf-8"))
    calls = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "ParameterError"
    ]
    assert len(calls) > 10
    for call in calls:
        code, text = call.args
        assert isinstance(code, ast.Constant)
        said = text.values[0] if isinstance(text, ast.JoinedStr) else text
        assert isinstance(said, ast.Constant)
        assert WITH_STATUS.fullmatch(f"{code.value} {said.value}"), ast.unparse(call)


@pytest.mark.parametrize("module", [health, local, operations, port, trouble])
def test_rfc_2034_every_reply_of_the_queue_carries_its_status(module: object) -> None:
    """RFC 2034: what the queue says to a client, and what recipients fail with."""
    for one in vars(module).values():
        if isinstance(one, Reply):
            assert WITH_STATUS.fullmatch(str(one)), one


@pytest.mark.parametrize("bounce_class", ["", *(one.value for one in BounceClass)])
def test_rfc_2034_every_refusal_of_the_suppression_list_carries_its_status(bounce_class: str) -> None:
    assert WITH_STATUS.fullmatch(suppression.refusal(Match(bounce_class, Source.BOUNCE, None)))


def test_rfc_5248_every_status_is_a_registered_one() -> None:
    """RFC 5248: what follows the class of each status is in IANA's registry."""
    said = {found[1] for _, text in spoken() if (found := re.match(r"[245][0-9]{2}[ -]([0-9.]+) ", text))}
    assert len(said) > 15
    assert {status[2:] for status in said} <= REGISTERED


# ---- what is said ----

SETTINGS = ListenerSettings(
    "relay.example.org", "127.0.0.1", 25, (ip_network("127.0.0.0/8"),), submission=True, future_release=60.0
)
LINE = re.compile(rb"([2-5][0-9]{2})([ -])([ -~]*)\r\n")
STATUS = re.compile(rb"([245])\.[0-9]{1,3}\.[0-9]{1,3} ")

long = st.integers(1, 2000).map(lambda count: b"x" * count)
KEYWORDS = b"SIZE BODY RET ENVID MT-PRIORITY HOLDFOR HOLDUNTIL AUTH NOTIFY ORCPT".split()
keywords = st.sampled_from(KEYWORDS)
values = st.one_of(st.sampled_from([b"7BIT", b"<>", b"1", b"FULL", b"HDRS", b"NEVER"]), long)
given_ones = st.builds(lambda keyword, value: keyword + b"=" + value, st.one_of(keywords, long), values)
ADDRESSES = b"<a@b.example> <> <b> <postmaster> <a@[127.0.0.1]> <\xff@b>".split()
NAMING = [b"EHLO ", b"HELO ", b"VRFY ", b"NOOP ", b""]
OTHERS = [b"DATA", b"RSET", b"NOOP", b"QUIT", b"HELP", b"EXPN x", b"GET / HTTP/1.1", b"EHLO c.example"]
commands = st.one_of(
    st.builds(
        lambda verb, address, more: b" ".join([verb + address, *more]),
        st.sampled_from([b"MAIL FROM:", b"RCPT TO:"]),
        st.sampled_from(ADDRESSES),
        st.lists(given_ones, max_size=3),
    ),
    st.builds(lambda verb, name: verb + name, st.sampled_from(NAMING), long),
    st.sampled_from(OTHERS),
    st.binary(max_size=40),
)


@given(st.lists(commands, max_size=30), st.booleans())
def test_rfc_5321_every_reply_is_of_the_grammar_and_short_enough(said: list[bytes], allowed: bool) -> None:
    """RFC 5321: lines of 512 octets at most, CRLF, one code for all lines; RFC 2034: status of its class."""
    settings = SETTINGS if allowed else msgspec.structs.replace(SETTINGS, allow=())
    conversation = Conversation(settings, "127.0.0.1", wall=lambda: 1_800_000_000.0)
    for command in [b"EHLO c.example", *said]:
        reply, _ = conversation.command(command + b"\r\n")
        lines = [LINE.fullmatch(line) for line in reply.splitlines(keepends=True)]
        assert lines and all(lines), reply
        found = [line.groups() for line in lines if line is not None]
        assert max(map(len, reply.splitlines(keepends=True))) <= 512
        assert len({code for code, _, _ in found}) == 1
        assert [mark for _, mark, _ in found] == [b"-"] * (len(found) - 1) + [b" "]
        code, _, text = found[-1]
        greeting = code == b"250" and command[:4].upper() in {b"EHLO", b"HELO"}
        if not greeting and code[:1] != b"3":
            status = STATUS.match(text)
            assert status is not None and status[1] == code[:1], reply
