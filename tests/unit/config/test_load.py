"""Files in, settings or every mistake out: the exact lines people read."""
# ruff: noqa: E501 - tables of whole messages read best with one message a line

import glob
import os
from ipaddress import ip_network

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st
from tests.support.certificates import written

from backstamp.config import ConfigurationError
from backstamp.config.address import Address
from backstamp.config.load import load, parse
from backstamp.listener.settings import Limits
from backstamp.policy.destination import DestinationPolicy, Rate, Timeouts
from backstamp.policy.retry import RetryPolicy
from backstamp.policy.route import NextHop, Route, Smarthost

MINIMUM = """\
hostname = "relay.example.org"
[queue]
directory = "queue"
[[listen]]
address = "127.0.0.1:2525"
"""
DESIGN = """\
hostname = "relay.example.org"

[queue]
directory = "/var/lib/backstamp/queue"
partitions = 1

[process]
listeners = 0

[[listen]]
address = "127.0.0.1:2525"
tls = "none"
auth = "off"
allow = ["127.0.0.0/8"]
submission = true

[limits]
message_size = "50MB"
recipients = 1000

[retry]
schedule = ["1m", "5m", "15m", "30m", "1h", "2h", "4h"]
lifetime = "5d"

[delivery]
port = 25
private_addresses = false

[[route]]
match = "*"
via = "127.0.0.1:2526"

[dns]
nameservers = ["127.0.0.1:53"]

[admin]
address = "127.0.0.1:8025"
"""


def problems(text: str | bytes) -> list[str]:
    with pytest.raises(ConfigurationError) as raised:
        parse(text if isinstance(text, bytes) else text.encode(), "x.toml")
    assert str(raised.value).splitlines() == [str(problem) for problem in raised.value.problems]
    return [str(problem) for problem in raised.value.problems]


def test_the_file_outside_checks_rely_on():
    settings = parse(DESIGN.encode(), "x.toml")
    assert settings.hostname == "relay.example.org"
    assert settings.queue_directory == "/var/lib/backstamp/queue"
    (listener,) = settings.listeners
    assert (listener.hostname, listener.host, listener.port) == ("relay.example.org", "127.0.0.1", 2525)
    assert listener.allow == (ip_network("127.0.0.0/8"),)
    assert listener.submission
    assert listener.limits == Limits()
    assert settings.destination == DestinationPolicy()
    assert settings.routes == (Route("*", Smarthost((NextHop("127.0.0.1", 2526),))),)
    assert settings.nameservers == (Address("127.0.0.1", 53),)
    assert settings.admin == ("127.0.0.1", 8025)
    assert not settings.log_attempts


def test_the_defaults_are_those_of_the_rooms():
    settings = parse(MINIMUM.encode(), "x.toml")
    assert settings.destination == DestinationPolicy()
    assert settings.listeners[0].limits == Limits()
    assert settings.listeners[0].allow == (ip_network("127.0.0.0/8"), ip_network("::1/128"))
    assert settings.listeners[0].submission
    assert (settings.routes, settings.nameservers, settings.admin) == ((), (), None)


def test_every_key_arrives_in_its_room():
    text = """
    hostname = "Relay.Example.org"
    queue.directory = "var/queue"
    [[listen]]
    address = "127.0.0.1:25"
    [[listen]]
    address = "[::]:25"
    allow = ["fd00::/8"]
    submission = false
    [limits]
    message_size = "20MiB"
    recipients = 5
    connections = 7
    hops = 30
    command_timeout = "6m"
    data_timeout = "2h"
    data_block_timeout = "4m"
    min_data_rate = "1kB"
    header_size = "64kB"
    line_length = 998
    content_memory = "64MiB"
    connections_per_client = 8
    connections_per_network = 9
    messages_per_connection = 10
    connection_rate = "11/1m"
    message_rate = "12/1m"
    recipient_rate = "13/1h"
    exempt = ["10.0.0.0/8"]
    [retry]
    schedule = ["2s", "1m30s"]
    lifetime = "10m"
    [delivery]
    port = 2626
    private_addresses = true
    connections = 3
    messages_per_connection = 4
    recipients_per_transaction = 50
    idle = "500ms"
    [delivery.timeouts]
    connect = "1s"
    greeting = "2s"
    mail = "3s"
    rcpt = "4s"
    data = "5s"
    block = "6s"
    final = "7s"
    quit = "8s"
    [[route]]
    match = "*.Example.org"
    via = "[::1]:2526"
    [dns]
    nameservers = ["127.0.0.1:5353", "::1"]
    [log]
    attempts = true
    """
    settings = parse(text.encode(), "x.toml")
    assert settings.hostname == "relay.example.org"
    assert settings.queue_directory == "var/queue"
    first, second = settings.listeners
    assert (first.host, first.port, first.submission) == ("127.0.0.1", 25, True)
    assert (second.host, second.port, second.submission) == ("::", 25, False)
    limits = Limits(
        message_size=20 * 2**20,
        recipients=5,
        connections=7,
        hops=30,
        idle=360,
        message=7200,
        block=240,
        min_data_rate=1000,
        header_size=64_000,
        line_length=998,
        content_memory=64 * 2**20,
        connections_per_client=8,
        connections_per_network=9,
        messages_per_connection=10,
        connection_rate=Rate(11, 60),
        message_rate=Rate(12, 60),
        recipient_rate=Rate(13, 3600),
        exempt=(ip_network("10.0.0.0/8"),),
    )
    assert first.limits == second.limits == limits
    assert settings.destination == DestinationPolicy(
        retry=RetryPolicy(schedule=(2, 90), lifetime=600),
        timeouts=Timeouts(connect=1, greeting=2, mail=3, rcpt=4, data=5, block=6, final=7, quit=8),
        connections=3,
        messages_per_connection=4,
        recipients_per_transaction=50,
        idle=0.5,
        port=2626,
        private_addresses=True,
    )
    assert settings.routes == (Route("*.example.org", Smarthost((NextHop("::1", 2526),))),)
    assert settings.nameservers == (Address("127.0.0.1", 5353), Address("::1", 53))
    assert settings.log_attempts


def test_all_mistakes_at_once_in_the_order_of_the_file():
    text = """\
hostnam = "relay.example.org"

[queue]
partitions = 3

[[listen]]
address = "0.0.0.0:2525"
tls = "starttls"
auth = true
allow = ["0.0.0.0/0", "10.0.0.0/8"]

[[listen]]
address = "localhost:25"
key = "privkey.pem"

[retry]
schedule = [
  "1m",
  # a comment
  "5 parsecs",
]
liftime = "5d"

[limits]
message_size = "lots"
recipients = 100000
hops = "many"
schedule = ["1m"]

[[route]]
match = "*"
via = "127.0.0.1"

[[route]]
match = "*"
via = "sink:25"
colour = "blue"

[admin]
address = "0.0.0.0:2525"
"""
    assert problems(text) == [
        "x.toml:1: hostname: missing; it has no default",
        "x.toml:1: hostnam: unknown key; did you mean hostname?",
        "x.toml:3: queue.directory: missing; it has no default",
        "x.toml:4: queue.partitions: 3 is not supported yet; this release has 1 partition",
        "x.toml:8: listen[0].tls: starttls needs a certificate; write certificate = a file in PEM",
        "x.toml:8: listen[0].tls: starttls needs a key; write key = a file in PEM",
        "x.toml:9: listen[0].auth: true is not one of off, optional or required",
        'x.toml:10: listen[0].allow[0]: "0.0.0.0/0" on 0.0.0.0:2525 is an open relay; write your own networks',
        'x.toml:13: listen[1].address: "localhost:25" is not an IP address and a port;'
        " write 127.0.0.1:2525 or [::1]:2525",
        "x.toml:14: listen[1].key: means something only with tls = starttls or implicit",
        'x.toml:20: retry.schedule[1]: "5 parsecs" is not a duration; write 30s, 5m, 2h or 1d',
        "x.toml:22: retry.liftime: unknown key; did you mean lifetime?",
        'x.toml:25: limits.message_size: "lots" is not a size; write 64kB, 50MB or 20MiB',
        "x.toml:26: limits.recipients: 100000 is too large; write 65000 or less",
        'x.toml:27: limits.hops: "many" is not a whole number',
        "x.toml:28: limits.schedule: unknown key here; it belongs in [retry]",
        'x.toml:32: route[0].via: "127.0.0.1" is not a host and a port; write smtp.example.net:25 or [::1]:2526',
        'x.toml:35: route[1].match: "*" is route[0].match already',
        "x.toml:37: route[1].colour: unknown key; known are match, from, via, tls, implicit_tls,"
        " username, password, password_file, auth, source, priority, semantics",
        'x.toml:40: admin.address: "0.0.0.0:2525" is listen[0].address already',
    ]


@pytest.mark.parametrize(
    ("replaced", "by", "line"),
    [
        ('directory = "queue"', "directory = 5", "3: queue.directory: 5 is not a string; write it in double quotes"),
        ('directory = "queue"', 'directory = ""', '3: queue.directory: "" is empty'),
        ('directory = "queue"', 'directory = "a\\u0000b"', '3: queue.directory: "a\\u0000b" is not the name of a file'),
        ("[[listen]]", '[[listen]]\ntls = ["starttls"]', '5: listen[0].tls: ["starttls"] is not one of none, starttls or implicit'),
        ("[[listen]]", "[listen]", '4: listen: {"address": "127.0.0.1:2525"} is not a list; write […], for a table [[…]]'),
        ("[queue]\n", "[queues]\n", "1: queue: missing; it has no default\n2: queues: unknown key; did you mean queue?"),
        ("[[listen]]", "submission = true\n[[listen]]", "4: queue.submission: unknown key here; it belongs in [listen]"),
        ("[[listen]]", "[[listen]]\nsubmission = 1", "5: listen[0].submission: 1 is neither true nor false"),
        ("[[listen]]", "[[listen]]\nallow = 1", "5: listen[0].allow: 1 is not a list; write […], for a table [[…]]"),
        ("[queue]\n", "log = 1\n[queue]\n", "2: log: 1 is not a table; write it as a table of its own, with [ ] around its name"),
        ("[queue]\n", "[retry]\nschedule = []\n[queue]\n", "3: retry.schedule: is empty; write at least one"),
        ("[queue]\n", "[limits]\nrecipients = 0\n[queue]\n", "3: limits.recipients: 0 is too small; write 1 or more"),
        ("[queue]\n", "[limits]\nrecipients = true\n[queue]\n", "3: limits.recipients: true is not a whole number"),
        ("[queue]\n", '[limits]\nmessage_size = "1B"\n[queue]\n', "3: limits.message_size: 1 octets are out of bounds; write 1kB to 2GB"),
        ("[queue]\n", '[limits]\nheader_size = "9kB"\n[queue]\n', "3: limits.header_size: 9000 octets are out of bounds; write 10kB to 1MB"),
        ("[queue]\n", '[limits]\nheader_size = "1MiB"\n[queue]\n', "3: limits.header_size: 1048576 octets are out of bounds; write 10kB to 1MB"),
        ("[queue]\n", "[limits]\nline_length = 997\n[queue]\n", "3: limits.line_length: 997 octets are out of bounds; write 998 or more, or 0 for no limit"),
        ("[queue]\n", '[limits]\ncontent_memory = "7MB"\n[queue]\n', "3: limits.content_memory: 7000000 octets are out of bounds; write 8MB to 100GB"),
        ("[queue]\n", '[limits]\ncontent_memory = "101GB"\n[queue]\n', "3: limits.content_memory: 101000000000 octets are out of bounds; write 8MB to 100GB"),
        ("[queue]\n", '[limits]\nmin_data_rate = "1MB"\n[queue]\n', "3: limits.min_data_rate: 1000000 octets a second are out of bounds; write up to 100kB"),
        ("[queue]\n", "[limits]\nconnections_per_client = -1\n[queue]\n", "3: limits.connections_per_client: -1 is too small; write 0 or more"),
        ("[queue]\n", '[limits]\nexempt = ["10.0.0.1/8"]\n[queue]\n', '3: limits.exempt[0]: "10.0.0.1/8" has bits set beyond its prefix; write 10.0.0.0/8, or one address'),
        ("[queue]\n", '[limits]\nmessage_rate = "0/1m"\n[queue]\n', '3: limits.message_rate: "0/1m" lets nothing through; write 1/1h or more'),
        ("[[listen]]", '[[listen]]\nline_endings = "fix"', '5: listen[0].line_endings: "fix" is not one of reject or normalize'),
        ("[queue]\n", "[process]\nlisteners = 2\n[queue]\n", "3: process.listeners: 2 is not supported yet; in this release the delivery process listens itself: write 0"),
        ("[[listen]]", '[[listen]]\ncertificate = "c"', "5: listen[0].certificate: means something only with tls = starttls or implicit"),
        ('"relay.example.org"', '"192.0.2.1"', '1: hostname: "192.0.2.1" is not a domain name; write relay.example.org'),
        ("[queue]\n", "delivery.timeouts.finl = 1\n[queue]\n", "2: delivery.timeouts.finl: unknown key; did you mean final?"),
        ("[queue]\n", "delivery.timeouts = {final = 1}\n[queue]\n", "2: delivery.timeouts.final: 1 is not a duration; write 30s, 5m, 2h or 1d"),
    ],
)  # fmt: skip
def test_one_mistake(replaced, by, line):
    assert problems(MINIMUM.replace(replaced, by)) == [f"x.toml:{part}" for part in line.split("\n")]


def test_no_listener_at_all():
    assert problems('listen = []\nhostname = "a.b"\nqueue.directory = "q"') == [
        "x.toml:1: listen: is empty; write at least one"
    ]


def test_an_empty_file():
    assert problems("") == [
        f"x.toml:1: {key}: missing; it has no default" for key in ("hostname", "queue", "listen")
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a = 1\nhostname = relay.example.org\n", "2: hostname: not TOML: invalid value, column 12; strings stand in double quotes"),
        ("[[listen]]\naddress = \n", "2: listen[0].address: not TOML: invalid value, column 11; strings stand in double quotes"),
        ("[[listen]]\n[[listen]]\naddress 5\n", "3: listen[1].address: not TOML: expected '=' after a key in a key/value pair, column 9; write key = value"),
        ('[retry]\nschedule = ["1m", 5 parsecs]\n', "2: retry.schedule[1]: not TOML: unclosed array, column 21"),
        ('[retry]\nschedule = ["1m"\nlifetime = "5d"\n', "3: retry.schedule[0]: not TOML: unclosed array, column 1"),
        ('[queue]\ndirectory = "q\n', "2: queue.directory: not TOML: illegal character '\\n', column 15"),
        ("[queue]\ndirectory = '''q\n", "2: queue.directory: not TOML: expected \"'''\", at the end of the file"),
        ("[queue\na = 1", "1: queue: not TOML: expected ']' at the end of a table declaration, column 7"),
        ("[queue]\na = 1\n[queue]\n", "3: queue: not TOML: cannot declare ('queue',) twice, column 7"),
        ("[queue]\na = 1\na = 2\n", "3: queue.a: not TOML: cannot overwrite a value, column 6"),
        ("a = {b = 1", "1: a.b: not TOML: unclosed inline table, at the end of the file"),
        ("a = 2024-02-31\n", "1: a: not TOML: invalid date or datetime, column 5"),
        ("=\n", "1: not TOML: invalid statement, column 1"),
    ],
)  # fmt: skip
def test_syntax_errors_name_file_line_and_key(text, line):
    assert problems(text) == [f"x.toml:{line}"]


def test_what_is_not_utf_8():
    assert problems(MINIMUM.encode() + b"\n# caf\xe9") == [
        "x.toml:7: octet 0xe9 is not UTF-8, as TOML must be"
    ]


def test_depth_and_huge_numbers_are_sentences_too():
    assert problems("a = " + "[" * 100_000) == ["x.toml: not TOML: nested too deeply"]
    (huge,) = problems("a = " + "9" * 10_000)
    assert huge.startswith("x.toml:1: a: not TOML: exceeds the limit")


def test_a_byte_order_mark_is_no_mistake():
    assert parse(b"\xef\xbb\xbf" + MINIMUM.encode(), "x.toml").hostname == "relay.example.org"


def test_files_that_cannot_be_read(tmp_path):
    for name, reason in (("missing.toml", "no such file or directory"), ("", "is a directory")):
        path = os.path.join(tmp_path, name)
        with pytest.raises(ConfigurationError) as raised:
            load(path)
        assert str(raised.value) == f"{path}: cannot be read: {reason}"


ROOT = os.path.join(os.path.dirname(__file__), "..", "..", "..")
SHIPPED = sorted(set(glob.glob("*.toml", root_dir=os.path.join(ROOT, "conf"))) - {"providers.toml"})


@pytest.mark.parametrize("name", SHIPPED)
def test_the_shipped_files_are_good(name, tmp_path):
    """With a certificate where one is meant: that it is missing here is no mistake of the file."""
    certificate, key = written(trustme.CA(), tmp_path, "relay.example.org")
    with open(os.path.join(ROOT, "conf", name), encoding="utf-8") as file:
        text = file.read()
    text = text.replace("/etc/backstamp/fullchain.pem", certificate).replace(
        "/etc/backstamp/privkey.pem", key
    )
    # Files that are named relative to the configuration stay so.
    path = os.path.join(ROOT, "conf", name)
    parse(text.encode(), path)


def test_the_shipped_files_are_all_there():
    assert SHIPPED == [
        "backstamp.toml", "bulk.toml", "compose.toml", "dev.toml", "docker.toml", "smarthost.toml", "submission.toml"
    ]  # fmt: skip


DELIVERY = [
    ('tenant = "a b"', '6: listen[0].tenant: "a b" is not a name; write letters, digits, dots, - and _, at most 64'),
    ("priority = 3\npriority_limit = 2", "6: listen[0].priority: 3 is more than priority_limit, 2"),
    ('[delivery]\nmessage_rate = "100"', '7: delivery.message_rate: "100" is not a rate; write 100/1m, 10/1s or 3600/1h'),
    ('[delivery]\ntls = "starttls"', '7: delivery.tls: "starttls" is not one of none, may, encrypt or verify'),
    ('[delivery]\nfamily = "ipv5"', '7: delivery.family: "ipv5" is not one of both, ipv6-first, ipv4-first, ipv6 or ipv4'),
    ('[delivery]\nsource = "bulk"', '7: delivery.source: "bulk" is no pool; write a [[source]] of that name'),
    ("[delivery]\ntotal_connections = 0", "7: delivery.total_connections: 0 is too small; write 1 or more"),
    ("[delivery]\nconnections = 2\ninitial_connections = 3", "8: delivery.initial_connections: 3 is more than connections, 2"),
    ('[[destination]]\nconnections = 1', "6: destination[0].match: missing; it has no default"),
    ('[[destination]]\nmatch = "a.b"\nport = 26', "8: destination[0].port: unknown key here; it belongs in [delivery]"),
    ('[[destination]]\nmatch = "a.b"\n[destination.timeouts]\nfinl = "1s"', "9: destination[0].timeouts.finl: unknown key; did you mean final?"),
    ('[[destination]]\nmatch = "a.b"\nretry.schedule = []', "8: destination[0].retry.schedule: is empty; write at least one"),
    ('[[destination]]\nmatch = "a.b"\n[[destination]]\nmatch = "A.b"', '9: destination[1].match: "a.b" is destination[0].match already'),
    ('[[provider]]\nname = "gogle"', '7: provider[0].name: "gogle" is not known yet; did you mean google?'),
    ('[[provider]]\nname = "x"\nmx = ["*"]', '8: provider[0].mx[0]: "*" covers every mail exchanger; write mx.example.net or *.example.net'),
    ('[[provider]]\nname = "google"\nmx = []', "8: provider[0].mx: is empty; write at least one"),
    ('[[adapt]]\nprovider = "yaho"\npattern = "x"\naction = "pause"\nfor = "1m"', '7: adapt[0].provider: "yaho" is no provider; did you mean yahoo?'),
    ('[[adapt]]\npattern = "("\naction = "pause"\nfor = "1m"', '7: adapt[0].pattern: "(" is not a regular expression: missing ), unterminated subpattern at position 0'),
    ('[[adapt]]\npattern = "x"\naction = "stop"', '6: adapt[0].for: missing; it has no default\n8: adapt[0].action: "stop" is not one of pause, slower or fewer'),
    ('[[adapt]]\npattern = "x"\naction = "slower"\nfor = "1m"\nfactor = 0', "10: adapt[0].factor: 0 is too small; write more than 0.0"),
    ('[[adapt]]\npattern = "x"\naction = "slower"\nfor = "1m"\nfactor = 1.5', "10: adapt[0].factor: 1.5 is too large; write less than 1.0"),
    ('[[adapt]]\npattern = "x"\naction = "slower"\nfor = "1m"\nfactor = "half"', '10: adapt[0].factor: "half" is not a number'),
    ('[[adapt]]\npattern = "x"\naction = "pause"\nseconds = "1m"', "6: adapt[0].for: missing; it has no default\n9: adapt[0].seconds: unknown key; known are provider, pattern, action, for, factor"),
    ('[[source]]\nname = "a b"\naddresses = []', '7: source[0].name: "a b" is not a name; write letters, digits, dots, - and _, at most 64\n8: source[0].addresses: is empty; write at least one'),
    ('[[source]]\nname = "a"\naddresses = [{address = "192.0.2.1", weight = 0}]', "8: source[0].addresses[0].weight: 0 is too small; write 1 or more"),
    ('[[source]]\nname = "a"\naddresses = [\n{address = "192.0.2.1"},\n{adress = "192.0.2.1"}]', "10: source[0].addresses[1].address: missing; it has no default\n10: source[0].addresses[1].adress: unknown key; did you mean address?"),
    ('[[source]]\nname = "a"\naddresses = [{address = "mta"}]\nsenders = ["*"]', '8: source[0].addresses[0].address: "mta" is not an IP address; write 192.0.2.1 or 2001:db8::1\n9: source[0].senders[0]: "*" is not a sender; write shop.example, *.shop.example, a@b.example or <>'),
    ('[suppression]\nclasses = ["spam"]\nexpiry = "0s"', '7: suppression.classes[0]: "spam" is not a class of bounces; known are invalid-recipient, bad-domain, inactive-mailbox, full-mailbox, spam-block, reputation, authentication, policy, too-large, relaying, rate, greylist, dns, connection, tls, loop, expired, protocol, system, other\n8: suppression.expiry: "0s" is no time at all; write 30s, 5m, 2h or 1d'),
]  # fmt: skip
ROUTES = [
    ('via = "a.b:25"\nsource = "x"', '9: route[0].source: "x" is no pool; write a [[source]] of that name'),
    ('via = ["a.b:25",\n"mx"]', '9: route[0].via[1]: "mx" is not a host and a port; write smtp.example.net:25 or [::1]:2526'),
    ("via = []", "8: route[0].via: is empty; write at least one"),
    ('via = "a.b:25"\npriority = 10', "9: route[0].priority: 10 is too large; write 9 or less"),
    ('via = "a.b:25"\nfrom = "a b"', '9: route[0].from: "a b" is not a sender; write shop.example, *.shop.example, a@b.example or <>'),
    ('via = "a.b:25"\nsender = "a.b"', "9: route[0].sender: unknown key; known are match, from, via, tls, implicit_tls, username, password, password_file, auth, source, priority, semantics"),
    ('via = "a.b:25"\nusername = "u"', "9: route[0].username: has no password; write password_file or password"),
    ('via = "a.b:25"\ntls = "may"\nusername = "u"\npassword = "s3cret"', "9: route[0].tls: may would send the password in clear text; write encrypt or verify"),
    ('via = "a.b:25"\ntls = "none"\nimplicit_tls = true', "9: route[0].tls: none cannot be with implicit_tls; write encrypt or verify"),
    ('via = "mx"\nauth = "plain"', "9: route[0].auth: means nothing with via = mx; it is about a smarthost"),
    ('via = "a.b:25"\nauth = "cram-md5"\nusername = "u"\npassword = "s3cret"', '9: route[0].auth: "cram-md5" is not one of plain, login or xoauth2'),
    ('via = "a.b:25"\nusername = "u"\npassword_file = "/nowhere/at/all"', '10: route[0].password_file: "/nowhere/at/all" cannot be read: no such file or directory'),
    ('via = "a.b:25"\nusername = "u"\npassword = 5', "10: route[0].password: not a string; write it in double quotes"),
    ('via = "a.b:25"\nusername = "a\\u0000b"\npassword = "x"', '9: route[0].username: "a\\u0000b" is not a user name: it has control characters'),
    ('via = "a.b:25"\nusername = "u"\npassword = ""', "10: route[0].password: not a password: it is empty or has control characters"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "lines"), DELIVERY)
def test_mistakes_about_sending(text, lines):
    assert problems(f"{MINIMUM}{text}\n") == [f"x.toml:{line}" for line in lines.split("\n")]


@pytest.mark.parametrize(("text", "line"), ROUTES)
def test_mistakes_in_routes(text, line):
    assert problems(f'{MINIMUM}[[route]]\nmatch = "*"\n{text}\n') == [f"x.toml:{line}"]


@pytest.mark.parametrize(
    "text",
    [
        '[route]\nmatch = "*"\npassword = "s3cret"',
        '[route]\nmatch = "*"\npasword = "s3cret"',
        '[[route]]\nmatch = "*"\nvia = "a:25"\nusername = "u"\npassword = ["s3cret"]',
        '[[route]]\nmatch = "*"\nvia = "a:25"\nusername = {password = "s3cret"}',
        '[[route]]\nmatch = "*"\nvia = "a:25"\npasword = "s3cret"',
        '[[route]]\nmatch = "*"\nvia = "a:25"\npassword = "s3cret',
        'route = [{match = "*", via = "a:25", password = "s3cret", tls = 5}]',
    ],
)
def test_no_mistake_tells_a_password(text):
    assert "s3cret" not in "\n".join(problems(f"{MINIMUM}{text}\n"))


@given(
    st.text()
    | st.builds(lambda cut, junk: MINIMUM[:cut] + junk + MINIMUM[cut:], st.integers(0, 120), st.text())
)
def test_any_text_gives_settings_or_problems_of_one_line(text):
    try:
        parse(text.encode("utf-8", "surrogatepass"), "x.toml")
    except ConfigurationError as error:
        assert error.problems
        assert all("\n" not in str(problem) for problem in error.problems)


def test_a_socket_file_to_listen_on():
    text = DESIGN.replace('address = "127.0.0.1:2525"', 'address = "unix:/run/x.sock"\nmode = "0660"')
    text = "\n".join(line for line in text.splitlines() if not line.startswith("allow"))
    (listener,) = parse(text.encode(), "x.toml").listeners
    assert (listener.host, listener.port, listener.mode, listener.local) == ("/run/x.sock", 0, 0o660, True)
    assert listener.place == "unix:/run/x.sock"


def test_mail_by_http():
    assert parse(MINIMUM.encode(), "x.toml").http is None
    text = (
        MINIMUM
        + """
    [http]
    address = "127.0.0.1:8026"
    allow = ["127.0.0.1"]
    requests = 7
    memory = "1MB"
    semantics = "at-most-once"
    tenant = "shop"
    tenant_header = false
    priority = 1
    priority_limit = 2
    """
    )
    http = parse(text.encode(), "x.toml").http
    assert http is not None
    assert (http.requests, http.memory) == (7, 1_000_000)
    listener = http.listener
    assert (listener.hostname, listener.host, listener.port) == ("relay.example.org", "127.0.0.1", 8026)
    assert (listener.tenant, listener.tenant_header, listener.priority, listener.priority_limit) == (
        "shop",
        False,
        1,
        2,
    )
    assert listener.allow == (ip_network("127.0.0.1"),)
    assert listener.submission
    assert listener.at_most_once
    found = problems(
        MINIMUM
        + """
    [http]
    address = "0.0.0.0:8026"
    allow = ["0.0.0.0/0"]
    auth = "required"
    priority = 3
    priority_limit = 2
    """
    )
    assert [one.partition(": ")[2] for one in found] == [
        'http.allow[0]: "0.0.0.0/0" on 0.0.0.0:8026 is an open relay; write your own networks',
        "http.auth: required has nobody to ask; write users or token_endpoint in [auth]",
        "http.auth: required without tls would take passwords in clear text; listen on a loopback address",
        "http.priority: 3 is more than priority_limit, 2",
    ]
