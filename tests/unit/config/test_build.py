"""What is written arrives in the rooms' records, and nothing else does."""

from datetime import date

import pytest

from backstamp.config import build
from backstamp.config.load import parse
from backstamp.config.model import File
from backstamp.config.shipped import Known
from backstamp.policy.adapt import Action, Adaptation
from backstamp.policy.destination import (
    DestinationPolicy,
    Family,
    PolicyTable,
    Provider,
    Rate,
    Rule,
    Timeouts,
    Tls,
)
from backstamp.policy.retry import RetryPolicy
from backstamp.policy.route import Credentials, NextHop, Route, Smarthost
from backstamp.policy.source import PoolAddress, SourcePool
from backstamp.policy.suppression import At, SuppressionPolicy

MINIMUM = """
hostname = "relay.example.org"
queue.directory = "queue"
[[listen]]
address = "127.0.0.1:2525"
"""
KEYS = """
connections = 3
initial_connections = 2
messages_per_connection = 4
recipients_per_transaction = 50
connection_rate = "10/1m"
message_rate = "5/1s"
idle = "9s"
tls = "verify"
family = "ipv6"
source = "bulk"
"""
FIELDS = {
    "connections": 3,
    "initial_connections": 2,
    "messages_per_connection": 4,
    "recipients_per_transaction": 50,
    "connection_rate": Rate(10, 60),
    "message_rate": Rate(5, 1),
    "idle": 9,
    "tls": Tls.VERIFY,
    "family": Family.IPV6,
    "source": "bulk",
}
POOL = """
[[source]]
name = "bulk"
addresses = [{address = "192.0.2.1"}]
"""


def settings(text):
    return parse((MINIMUM + text).encode(), "x.toml")


def built(tables, known):
    file = {"hostname": "a.b", "queue": {"directory": "q"}, "listen": [{"address": "127.0.0.1:25"}], **tables}
    return build.settings(File.model_validate(file), Known.model_validate(known), {})


def provider(name, **keys):
    return {"name": name, "mx": [f"*.{name}.example"], "reference": "x", "date": date(2026, 1, 1), **keys}


def test_listeners():
    text = """
    [[listen]]
    address = "127.0.0.1:2526"
    tenant = "shop"
    tenant_header = false
    priority = -4
    priority_limit = 2
    line_endings = "normalize"
    """
    plain, made = settings(text).listeners
    assert (made.tenant, made.tenant_header, made.priority, made.priority_limit) == ("shop", False, -4, 2)
    assert (plain.line_endings, made.line_endings) == ("reject", "normalize")
    assert (plain.tenant, plain.tenant_header, plain.priority, plain.priority_limit) == ("", True, None, 9)


def test_delivery():
    made = settings("[delivery]\ntotal_connections = 7\n" + KEYS + POOL)
    assert made.destination == DestinationPolicy(**FIELDS)
    assert made.connections == 7
    assert settings("").connections == 2000


@pytest.mark.parametrize("level", list(Tls))
def test_every_level_of_tls(level):
    assert settings(f'[delivery]\ntls = "{level.name.lower()}"\n').destination.tls == level


@pytest.mark.parametrize("family", list(Family))
def test_every_family(family):
    assert settings(f'[delivery]\nfamily = "{family.value}"\n').destination.family == family


def test_a_destination_has_only_what_is_written():
    text = f"""
    [[destination]]
    match = "*.Example.org"
    {KEYS}
    [[destination]]
    match = "a.example"
    source = ""
    [[destination]]
    match = "b.example"
    {POOL}
    """
    assert settings(text).rules == (
        Rule("*.example.org", FIELDS),
        Rule("a.example", {"source": ""}),
        Rule("b.example", {}),
    )


def test_parts_of_a_record_are_filled_up_from_the_default():
    made = settings(
        """
        [retry]
        lifetime = "3d"
        [delivery.timeouts]
        mail = "1m"
        [[destination]]
        match = "a.example"
        timeouts = {final = "20m"}
        [destination.retry]
        schedule = ["7m", "1h"]
        [[destination]]
        match = "b.example"
        retry = {lifetime = "1h"}
        """
    )
    assert made.rules[0].changes == {
        "timeouts": Timeouts(mail=60, final=1200),
        "retry": RetryPolicy((420, 3600), 3 * 86400),
    }
    assert made.rules[1].changes == {"retry": RetryPolicy(lifetime=3600)}


def test_a_provider_of_the_file_replaces_a_shipped_one_key_by_key():
    known = {
        "provider": [
            provider("one", connections=5, idle="9s", timeouts={"mail": "1m", "data": "1m"}),
            provider("two", connections=6),
            provider("three"),
            provider("four", connections=4),
        ],
        "adapt": [],
    }
    own = [
        {"name": "one", "connections": 7, "timeouts": {"mail": "2m"}},
        {"name": "two", "enabled": False},
        {"name": "new", "mx": ["mx.four.example"], "tls": "none"},
        {"name": "three", "mx": ["mx.three.example"]},
        {"name": "off", "mx": ["mx.off.example"], "enabled": False},
    ]
    assert built({"provider": own}, known).providers == (
        Provider(
            "one", ("*.one.example",), {"connections": 7, "idle": 9, "timeouts": Timeouts(mail=120, data=60)}
        ),
        Provider("new", ("mx.four.example",), {"tls": Tls.NONE}),
        Provider("three", ("mx.three.example",), {}),
        Provider("four", ("*.four.example",), {"connections": 4}),
    )


def test_a_provider_of_the_file_takes_a_name_from_a_shipped_one():
    known = {"provider": [provider("shipped")], "adapt": []}
    made = built({"provider": [{"name": "own", "mx": ["*.shipped.example"]}]}, known)
    table = PolicyTable(made.destination, made.rules, made.providers)
    assert table.lookup("a.example", ["mx.shipped.example"]).provider == "own"


def test_adaptations_of_the_file_come_first():
    shipped = {"pattern": "c", "action": "fewer", "for": "1m", "reference": "x", "date": date(2026, 1, 1)}
    own = [
        {"provider": "a", "pattern": "A", "action": "pause", "for": "1h"},
        {"pattern": "b", "action": "slower", "for": "2h", "factor": 0.25},
    ]
    assert built({"adapt": own}, {"provider": [], "adapt": [shipped]}).adaptations == (
        Adaptation("a", "A", Action.PAUSE, 3600),
        Adaptation("*", "b", Action.SLOWER, 7200, 0.25),
        Adaptation("*", "c", Action.FEWER, 60),
    )


def test_sources():
    made = settings(
        """
        [[source]]
        name = "bulk"
        senders = ["Shop.example", "*.x.example", "A@b.example", "<>"]
        addresses = [
          {address = "192.0.2.1", helo = "MTA1.example.org", weight = 3},
          {address = "2001:db8:0::1"},
        ]
        """
    )
    assert made.sources == (
        SourcePool(
            "bulk",
            (PoolAddress("192.0.2.1", "mta1.example.org", 3), PoolAddress("2001:db8::1")),
            ("shop.example", "*.x.example", "a@b.example", "<>"),
        ),
    )


def test_routes():
    made = settings(
        POOL
        + """
        [[route]]
        match = "*"
        from = "Shop.example"
        via = ["a.example:25", "[::1]:26"]
        tls = "verify"
        implicit_tls = true
        username = "u"
        password = "s3cret"
        auth = "xoauth2"
        source = "bulk"
        priority = -3
        semantics = "at-most-once"
        [[route]]
        match = "b.example"
        via = "mx"
        source = ""
        tls = "none"
        """
    )
    hosts = (NextHop("a.example", 25), NextHop("::1", 26))
    assert made.routes == (
        Route(
            "*",
            Smarthost(hosts, True, Credentials("u", "s3cret", "xoauth2")),
            sender="shop.example",
            at_most_once=True,
            tls=Tls.VERIFY,
            source="bulk",
            priority=-3,
        ),
        Route("b.example", None, source="", tls=Tls.NONE),
    )
    assert "s3cret" not in repr(made)


AUTH = 'username = "u"\npassword = "p"'


@pytest.mark.parametrize(
    ("keys", "default", "level"),
    [
        ('via = "a.example:25"', "may", None),
        (f'via = "a.example:25"\n{AUTH}', "may", Tls.ENCRYPT),
        (f'via = "a.example:25"\n{AUTH}', "none", Tls.ENCRYPT),
        (f'via = "a.example:25"\n{AUTH}', "verify", Tls.VERIFY),
        (f'via = "a.example:25"\n{AUTH}\ntls = "encrypt"', "verify", Tls.ENCRYPT),
        ('via = "a.example:465"\nimplicit_tls = true', "may", Tls.ENCRYPT),
        (f'via = "127.0.0.1:25"\n{AUTH}', "may", None),
        (f'via = ["127.0.0.1:25", "192.0.2.1:25"]\n{AUTH}', "may", Tls.ENCRYPT),
        (f'via = "127.0.0.1:25"\n{AUTH}\ntls = "none"', "may", Tls.NONE),
        ('via = "mx"', "may", None),
    ],
)
def test_a_password_demands_tls(keys, default, level):
    made = settings(f'[delivery]\ntls = "{default}"\n[[route]]\nmatch = "*"\n{keys}\n')
    assert made.routes[0].tls == level


def test_a_password_from_a_file(tmp_path):
    (tmp_path / "one").write_text("s3cret\n")
    text = f"""
    [[route]]
    match = "*"
    via = "mx"
    [[route]]
    match = "a.example"
    via = "smtp.example.net:587"
    username = "u"
    password_file = "{tmp_path}/one"
    """
    assert settings(text).routes[1].via.credentials == Credentials("u", "s3cret")


def test_suppression():
    assert settings("").suppression == SuppressionPolicy()
    text = """
    [suppression]
    enabled = true
    at = "send"
    classes = ["full-mailbox"]
    after = 3
    within = "2d"
    expiry = "never"
    """
    assert settings(text).suppression == SuppressionPolicy(
        enabled=True, classes=frozenset({"full-mailbox"}), after=3, within=2 * 86400, expiry=None, at=At.SEND
    )
