"""What people write, as values; what they must not write, with the sentence they read."""

import re
from ipaddress import ip_network

import pytest

from backstamp.config import units
from backstamp.config.address import Address
from backstamp.policy.destination import Rate


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30),
        ("5m", 300),
        ("2h", 7200),
        ("1d", 86400),
        ("1w", 604800),
        ("1h30m", 5400),
        ("1d2h3m4s500ms", 86400 + 7200 + 180 + 4.5),
        ("500ms", 0.5),
        ("90m", 5400),
    ],
)
def test_durations(text, seconds):
    assert units.duration(text) == seconds


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("5 parsecs", '"5 parsecs" is not a duration; write 30s, 5m, 2h or 1d'),
        ("", '"" is not a duration; write 30s, 5m, 2h or 1d'),
        ("30", '"30" is not a duration; write 30s, 5m, 2h or 1d'),
        ("30m1h", '"30m1h" is not a duration; write 30s, 5m, 2h or 1d'),
        ("-5m", '"-5m" is not a duration; write 30s, 5m, 2h or 1d'),
        ("1.5h", '"1.5h" is not a duration; write 30s, 5m, 2h or 1d'),
        ("٣s", '"٣s" is not a duration; write 30s, 5m, 2h or 1d'),
        (30, "30 is not a duration; write 30s, 5m, 2h or 1d"),
        (True, "true is not a duration; write 30s, 5m, 2h or 1d"),
        ("0s", '"0s" is no time at all; write 30s, 5m, 2h or 1d'),
        ("999999999w", '"999999999w" is more than ten years'),
    ],
)
def test_bad_durations(value, message):
    with pytest.raises(ValueError) as raised:
        units.duration(value)
    assert str(raised.value) == message


@pytest.mark.parametrize(
    ("text", "octets"),
    [
        ("512B", 512),
        ("64kB", 64_000),
        ("64KB", 64_000),
        ("50MB", 50_000_000),
        ("50 MB", 50_000_000),
        ("1GB", 10**9),
        ("64KiB", 65_536),
        ("20MiB", 20_971_520),
        ("1GiB", 2**30),
    ],
)
def test_sizes(text, octets):
    assert units.size(text) == octets


@pytest.mark.parametrize("value", ["50", "50M", "50mb", "MB", "-1MB", "1.5MB", "", 50, None, ["50MB"]])
def test_bad_sizes(value):
    with pytest.raises(ValueError, match="is not a size; write 64kB, 50MB or 20MiB"):
        units.size(value)


@pytest.mark.parametrize(
    ("parse", "text", "address"),
    [
        (units.next_hop, "127.0.0.1:2526", Address("127.0.0.1", 2526)),
        (units.next_hop, "[::1]:2526", Address("::1", 2526)),
        (units.next_hop, "SMTP.example.net:25", Address("smtp.example.net", 25)),
        (units.next_hop, "sink:2526", Address("sink", 2526)),
        (units.socket_address, "0.0.0.0:0", Address("0.0.0.0", 0)),
        (units.socket_address, "[0:0:0:0:0:0:0:1]:25", Address("::1", 25)),
        (units.nameserver, "127.0.0.1:5353", Address("127.0.0.1", 5353)),
        (units.nameserver, "192.0.2.53", Address("192.0.2.53", 53)),
        (units.nameserver, "2001:db8::53", Address("2001:db8::53", 53)),
        (units.nameserver, "[2001:db8::53]:53", Address("2001:db8::53", 53)),
    ],
)
def test_addresses(parse, text, address):
    assert parse(text) == address


BAD_EVERYWHERE = [
    "",
    ":25",
    "127.0.0.1:",
    "::1:25",
    "[127.0.0.1]:25",
    "[::1]",
    "[x]:1",
    "1.2.3.4:65536",
    "fe80::1%eth0",
    25,
]


@pytest.mark.parametrize("value", [*BAD_EVERYWHERE, "smtp.example.net", "127.0.0.1:0", "a_b:25", "1.2.3:25"])
def test_bad_next_hops(value):
    with pytest.raises(ValueError, match=r"is not a host and a port; write|names no host; write"):
        units.next_hop(value)


@pytest.mark.parametrize("value", [*BAD_EVERYWHERE, "localhost:25", "127.0.0.1"])
def test_bad_socket_addresses(value):
    with pytest.raises(ValueError, match="is not an IP address and a port; write"):
        units.socket_address(value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("[::ffff:127.0.0.1]:25", "is an IPv4 address; write 127.0.0.1:25"),
        ("[fe80::1]:25", "is another one on every link; write"),
        ("224.0.0.1:25", "is no address of one host; write"),
        ("[ff02::1]:25", "is no address of one host; write"),
    ],
)
def test_what_the_system_lets_nobody_listen_on(value, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        units.socket_address(value)


# "::1:25" is left out: without a port it is an address, and a name server needs no port.
@pytest.mark.parametrize(
    "value", [*(value for value in BAD_EVERYWHERE if value != "::1:25"), "dns.example.net:53", "127.0.0.1:0"]
)
def test_bad_nameservers(value):
    with pytest.raises(ValueError, match="is not a name server; write"):
        units.nameserver(value)


def test_an_address_is_written_as_it_is_read():
    for text in ("127.0.0.1:25", "[::1]:25", "smtp.example.net:25"):
        assert str(units.next_hop(text)) == text


@pytest.mark.parametrize("text", ["192.168.0.0/16", "fd00::/8", "0.0.0.0/0"])
def test_networks(text):
    assert units.network(text) == ip_network(text)


def test_a_single_address_is_a_network():
    assert units.network("192.0.2.1") == ip_network("192.0.2.1/32")


@pytest.mark.parametrize("value", ["", "10.0.0.0/33", "ten", "10.0.0.0/8/8", 10, True, 3232235777])
def test_bad_networks(value):
    with pytest.raises(ValueError, match="is not a network; write"):
        units.network(value)


def test_a_host_with_a_prefix_is_never_guessed():
    with pytest.raises(ValueError) as raised:
        units.network("10.1.2.3/8")
    assert (
        str(raised.value) == '"10.1.2.3/8" has bits set beyond its prefix; write 10.0.0.0/8, or one address'
    )


def test_long_values_are_cut():
    with pytest.raises(ValueError) as raised:
        units.duration("x" * 10_000)
    assert len(str(raised.value)) < 150


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("100/1m", Rate(100, 60)),
        ("10/1s", Rate(10, 1)),
        ("3600/1h", Rate(3600, 3600)),
        ("1/500ms", Rate(1, 0.5)),
        ("5/1d", Rate(5, 86400)),
        ("1/1h30m", Rate(1, 5400)),
    ],
)
def test_rates(text, rate):
    assert units.rate(text) == rate


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("100", '"100" is not a rate; write 100/1m, 10/1s or 3600/1h'),
        ("100/m", '"100/m" is not a rate; write 100/1m, 10/1s or 3600/1h'),
        ("100/60", '"100/60" is not a rate; write 100/1m, 10/1s or 3600/1h'),
        ("/1m", '"/1m" is not a rate; write 100/1m, 10/1s or 3600/1h'),
        ("-1/1m", '"-1/1m" is not a rate; write 100/1m, 10/1s or 3600/1h'),
        ("1.5/1m", '"1.5/1m" is not a rate; write 100/1m, 10/1s or 3600/1h'),
        ("1/0s", '"1/0s" is not a rate; write 100/1m, 10/1s or 3600/1h'),
        ("1/1m\n", '"1/1m\\n" is not a rate; write 100/1m, 10/1s or 3600/1h'),
        (100, "100 is not a rate; write 100/1m, 10/1s or 3600/1h"),
        ("0/1m", '"0/1m" lets nothing through; write 1/1h or more'),
        ("100/1d1s", '"100/1d1s" counts over more than a day; write 100/1d or a shorter time'),
    ],
)
def test_bad_rates(value, message):
    with pytest.raises(ValueError) as raised:
        units.rate(value)
    assert str(raised.value) == message


def test_periods():
    assert units.period("never") is None
    assert units.period("30d") == 30 * 86400
    with pytest.raises(ValueError, match="is not a duration"):
        units.period("for ever")


def test_addresses_to_send_from():
    assert units.host_address("192.0.2.1") == "192.0.2.1"
    assert units.host_address("2001:DB8:0::1") == "2001:db8::1"
    for value in ("mta.example.org", "192.0.2.1:25", "192.0.2.0/24", "fe80::1%eth0", 5):
        with pytest.raises(ValueError, match="is not an IP address; write"):
            units.host_address(value)
    for value in ("0.0.0.0", "::", "224.0.0.1", "ff02::1"):
        with pytest.raises(ValueError, match="is no address of one host"):
            units.host_address(value)


@pytest.mark.parametrize(
    "text", ["unix:/run/backstamp/smtp.sock", "unix:/" + "x" * 106, "127.0.0.1:25", "[::1]:0"]
)
def test_where_to_listen_is_a_socket_file_too(text):
    """unix(7): a path of up to 107 octets."""
    assert str(units.listen_address(text)) == text


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("unix:run/x.sock", "is not the path of a socket; write unix:/run/backstamp/smtp.sock"),
        ("unix:", "is not the path of a socket"),
        ("unix:/run/", "is not the path of a socket"),
        ("unix:/run/a\nb", "is not the path of a socket"),
        ("unix:/" + "ü" * 54, "is too long; a socket's path has at most 107 octets"),
        ("/run/x.sock", "is not an IP address and a port"),
        (5, "is not an IP address and a port"),
    ],
)
def test_bad_places_to_listen(value, message):
    with pytest.raises(ValueError, match=message):
        units.listen_address(value)


def test_a_socket_file_has_one_spelling():
    assert units.listen_address("unix://run/.//x/./y..z") == Address("/run/x/y..z", 0)
    assert units.listen_address("unix:/run/x/../y") == Address("/run/x/../y", 0)


def test_the_admin_side_has_no_socket_file():
    with pytest.raises(ValueError, match="is not an IP address and a port"):
        units.socket_address("unix:/run/x.sock")


def test_modes():
    assert (units.mode("0660"), units.mode("666")) == (0o660, 0o666)


@pytest.mark.parametrize("value", [660, "0o660", "668", "66", "1777", "", None])
def test_bad_modes(value):
    with pytest.raises(ValueError, match="is not a mode; write"):
        units.mode(value)
