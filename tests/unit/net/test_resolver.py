"""The resolver against a name server of our own, on asyncio's loop and on uvloop."""

import asyncio
import contextlib
import errno
import sys
import timeit
from collections.abc import Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any

import dns.rcode
import dns.resolver
import pytest
import uvloop
from tests.support.dns import DnsServer, Zone
from tests.support.queues import TestClock

from backstamp.net import resolver as resolver_module
from backstamp.net.questions import Questions
from backstamp.net.resolver import Resolver
from backstamp.policy.mx import Addresses, DnsFault, DnsProblem, Exchanger, Exchangers

Run = Callable[[Coroutine[Any, Any, None]], None]
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
        yield runner.run


ZONE: Zone = {
    "example.test": {"MX": ["20 backup.example.test.", "10 MX.example.test."], "A": ["192.0.2.9"]},
    "mx.example.test": {"A": ["192.0.2.1"], "AAAA": ["2001:db8::1"]},
    "wide.test": {
        "A": ["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"],
        "AAAA": ["2001:db8::1", "2001:db8::2"],
    },
    "plain.test": {"A": ["192.0.2.5"]},
    "null.test": {"MX": ["0 ."]},
    "odd.test": {"MX": ["0 .", "10 mx.example.test.", r"5 sp\032ace.test.", "30 mx.example.test."]},
    "useless.test": {"MX": [r"5 sp\032ace.test."], "A": ["192.0.2.9"]},
    "literal.test": {"MX": ["10 127.0.0.1."], "A": ["192.0.2.9"]},
    "mixed.test": {"MX": ["5 192.0.2.1.", "5 2130706433.", "10 mx.example.test."]},
    "alias.test": {"CNAME": ["example.test."]},
    "chain.test": {"CNAME": ["alias.test."]},
    "host-alias.test": {"CNAME": ["mx.example.test."]},
    "astray.test": {"CNAME": ["missing.test."]},
    "loop-a.test": {"CNAME": ["loop-b.test."]},
    "loop-b.test": {"CNAME": ["loop-a.test."]},
    "many.test": {"MX": [f"{n} mx{n}.test." for n in range(100, 0, -1)]},
    "six.test": {"AAAA": ["2001:db8::6"]},
    "text.test": {"TXT": ["nothing else"]},
}
EXAMPLE = Exchangers((Exchanger(10, "mx.example.test"), Exchanger(20, "backup.example.test")))


def ask(
    run: Run,
    verb: str,
    name: str,
    expected: object,
    *,
    prepare: Callable[[DnsServer], None] = lambda server: None,
    timeout: float = 5.0,
) -> DnsServer:
    """Ask one question of a server prepared for it, and compare the answer."""
    server = DnsServer(ZONE)
    prepare(server)

    async def story() -> None:
        async with server:
            resolver = Resolver([server.address], clock=TestClock(), timeout=timeout)
            assert await getattr(resolver, verb)(name) == expected
            await resolver.close()

    run(story())
    return server


def fault(problem: DnsProblem, name: str) -> DnsFault:
    return DnsFault(problem, name)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("example.test", EXAMPLE),
        ("plain.test", Exchangers((Exchanger(0, "plain.test"),), implicit=True)),
        ("text.test", Exchangers((Exchanger(0, "text.test"),), implicit=True)),
        ("null.test", fault(DnsProblem.NULL_MX, "null.test")),
        ("odd.test", Exchangers((Exchanger(10, "mx.example.test"),))),
        ("useless.test", fault(DnsProblem.NO_ADDRESS, "useless.test")),
        ("literal.test", fault(DnsProblem.NO_ADDRESS, "literal.test")),
        ("mixed.test", Exchangers((Exchanger(10, "mx.example.test"),))),
        ("alias.test", EXAMPLE),
        ("chain.test", EXAMPLE),
        ("host-alias.test", Exchangers((Exchanger(0, "host-alias.test"),), implicit=True)),
        ("astray.test", fault(DnsProblem.NO_DOMAIN, "astray.test")),
        ("loop-a.test", fault(DnsProblem.ALIAS_LOOP, "loop-a.test")),
        ("missing.test", fault(DnsProblem.NO_DOMAIN, "missing.test")),
    ],
)
def test_what_dns_says_of_a_domain(run: Run, name: str, expected: object) -> None:
    """Security 19, RFC 7505, RFC 5321: `MX 0 .`, aliases in a circle, no name, no address."""
    server = ask(run, "exchangers", name, expected)
    assert server.transports == {"udp": 1}


def test_of_a_hundred_exchangers_the_best_fifty_are_kept(run: Run) -> None:
    """Security 19."""
    best = tuple(Exchanger(n, f"mx{n}.test") for n in range(1, 51))
    server = ask(run, "exchangers", "many.test", Exchangers(best))
    assert server.transports == {"udp": 1, "tcp": 1}


def test_an_answer_cut_short_is_asked_for_by_tcp(run: Run) -> None:
    server = ask(
        run, "exchangers", "example.test", EXAMPLE, prepare=lambda server: server.cut.add("example.test")
    )
    assert server.transports == {"udp": 1, "tcp": 1}


def test_aliases_a_server_does_not_follow_are_followed(run: Run) -> None:
    def bare(server: DnsServer) -> None:
        server.bare.update({"chain.test", "alias.test"})

    server = ask(run, "exchangers", "chain.test", EXAMPLE, prepare=bare)
    assert set(server.questions) == {("chain.test", "MX"), ("alias.test", "MX"), ("example.test", "MX")}


def test_a_circle_of_aliases_a_server_does_not_follow(run: Run) -> None:
    def bare(server: DnsServer) -> None:
        server.bare.update({"loop-a.test", "loop-b.test"})

    server = ask(run, "exchangers", "loop-a.test", fault(DnsProblem.ALIAS_LOOP, "loop-a.test"), prepare=bare)
    assert server.questions.total() == 2


@pytest.mark.parametrize(
    "rcode", [dns.rcode.SERVFAIL, dns.rcode.REFUSED, dns.rcode.FORMERR, dns.rcode.NOTIMP]
)
@pytest.mark.parametrize("verb", ["exchangers", "addresses"])
def test_a_server_that_fails(run: Run, verb: str, rcode: dns.rcode.Rcode) -> None:
    """Security 19."""
    expected = fault(DnsProblem.SERVER_FAILURE, "example.test")
    ask(
        run,
        verb,
        "example.test",
        expected,
        prepare=lambda server: server.rcodes.update({"example.test": rcode}),
    )


@pytest.mark.parametrize("verb", ["exchangers", "addresses"])
def test_a_server_that_is_silent(run: Run, verb: str) -> None:
    expected = fault(DnsProblem.TIMEOUT, "example.test")
    ask(
        run,
        verb,
        "example.test",
        expected,
        prepare=lambda server: server.silent.add("example.test"),
        timeout=0.1,
    )


@pytest.mark.parametrize("verb", ["exchangers", "addresses"])
@pytest.mark.parametrize(
    "name",
    ["", ".", "a..b", ".a", "a" * 64 + ".test", "a." * 128 + "test", "a b.test", "\\097.test", "\\xfc.test",
     "ü.test", "[192.0.2.1]", "a\n.test", "a\0.test", "*.test", "127.1", "2130706433", "192.0.2.1.", "a.1"],
)  # fmt: skip
def test_names_that_cannot_be_asked_are_not(run: Run, verb: str, name: str) -> None:
    server = ask(run, verb, name, fault(DnsProblem.BAD_NAME, name))
    assert not server.questions


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mx.example.test", Addresses(("2001:db8::1", "192.0.2.1"))),
        ("MX.Example.TEST.", Addresses(("2001:db8::1", "192.0.2.1"))),
        ("host-alias.test", Addresses(("2001:db8::1", "192.0.2.1"))),
        ("plain.test", Addresses(("192.0.2.5",))),
        ("six.test", Addresses(("2001:db8::6",))),
        ("text.test", fault(DnsProblem.NO_ADDRESS, "text.test")),
        ("missing.test", fault(DnsProblem.NO_DOMAIN, "missing.test")),
        ("loop-b.test", fault(DnsProblem.ALIAS_LOOP, "loop-b.test")),
    ],
)
def test_what_dns_says_of_a_host(run: Run, name: str, expected: object) -> None:
    server = ask(run, "addresses", name, expected)
    assert server.questions.total() == 2


def test_an_address_is_no_domain(run: Run) -> None:
    server = ask(run, "exchangers", "192.0.2.1", fault(DnsProblem.BAD_NAME, "192.0.2.1"))
    assert not server.questions


def test_families_take_turns_and_the_newer_begins(run: Run) -> None:
    async def story() -> None:
        async with DnsServer(ZONE) as server:
            resolver = Resolver([server.address], clock=TestClock())
            found = await resolver.addresses("wide.test")
            assert not isinstance(found, DnsFault)
            assert [":" in one for one in found.known] == [True, False, True, False, False, False]
            assert set(found.known) == {*ZONE["wide.test"]["A"], *ZONE["wide.test"]["AAAA"]}
            await resolver.close()

    run(story())


@pytest.mark.parametrize("literal", ["192.0.2.7", "2001:db8::7", "127.0.0.1"])
def test_an_address_stands_for_itself(run: Run, literal: str) -> None:
    assert not ask(run, "addresses", literal, Addresses((literal,))).questions


def test_one_family_is_enough(run: Run) -> None:
    """Some name servers deny a name when asked for AAAA: that is no trouble of theirs."""

    def broken(server: DnsServer) -> None:
        server.rcodes["mx.example.test/AAAA"] = dns.rcode.NXDOMAIN

    ask(run, "addresses", "mx.example.test", Addresses(("192.0.2.1",)), prepare=broken)


@pytest.mark.parametrize(
    ("kind", "problem"),
    [("A", DnsProblem.SERVER_FAILURE), ("AAAA", DnsProblem.SERVER_FAILURE), ("A", DnsProblem.TIMEOUT)],
)
def test_a_failure_beside_addresses_is_told(run: Run, kind: str, problem: DnsProblem) -> None:
    """Whoever uses the other family only must not take silence for an answer."""

    def broken(server: DnsServer) -> None:
        if problem is DnsProblem.TIMEOUT:
            server.silent.add(f"mx.example.test/{kind}")
        else:
            server.rcodes[f"mx.example.test/{kind}"] = dns.rcode.SERVFAIL

    failed = fault(problem, "mx.example.test")
    expected = (
        Addresses(("2001:db8::1",), four=failed) if kind == "A" else Addresses(("192.0.2.1",), six=failed)
    )
    ask(run, "addresses", "mx.example.test", expected, prepare=broken, timeout=2.0)


def test_a_failure_beside_a_denial_is_a_failure(run: Run) -> None:
    def broken(server: DnsServer) -> None:
        server.rcodes["mx.example.test/AAAA"] = dns.rcode.NXDOMAIN
        server.rcodes["mx.example.test/A"] = dns.rcode.SERVFAIL

    expected = fault(DnsProblem.SERVER_FAILURE, "mx.example.test")
    ask(run, "addresses", "mx.example.test", expected, prepare=broken)


@pytest.mark.parametrize("verb", ["exchangers", "addresses"])
def test_a_network_that_fails(run: Run, verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise OSError("no file descriptors left")

    monkeypatch.setattr("dns.asyncresolver.Resolver.resolve", broken)
    ask(run, verb, "example.test", fault(DnsProblem.SERVER_FAILURE, "example.test"))


@pytest.mark.parametrize(
    ("configuration", "expected"),
    [
        (None, ["Do53:127.0.0.1@53"]),
        ("nameserver 127.0.0.7\nnameserver 127.0.0.8\n", ["Do53:127.0.0.7@53", "Do53:127.0.0.8@53"]),
    ],
)
def test_where_none_are_named_the_systems_servers_are_meant(
    configuration: str | None, expected: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "resolv.conf"
    if configuration is not None:
        path.write_text(configuration)
    read = dns.resolver.BaseResolver.read_resolv_conf
    monkeypatch.setattr(dns.resolver.BaseResolver, "read_resolv_conf", lambda self, _: read(self, str(path)))
    servers = Questions((), timeout=5.0)._resolver.nameservers
    # dnspython makes a server of a bare address when it asks; here nothing is asked.
    assert [str(one) if not isinstance(one, str) else f"Do53:{one}@53" for one in servers] == expected


def test_the_second_name_server_is_asked_where_the_first_fails(run: Run) -> None:
    async def story() -> None:
        async with DnsServer(ZONE) as bad, DnsServer(ZONE, "127.0.0.2") as good:
            bad.rcodes["example.test"] = dns.rcode.SERVFAIL
            resolver = Resolver([bad.address, good.address], clock=TestClock())
            assert await resolver.exchangers("example.test") == EXAMPLE
            await resolver.close()

    run(story())


@pytest.mark.parametrize(
    ("name", "seconds", "prepare"),
    [
        ("example.test", 60, {}),
        ("missing.test", 7, {}),
        ("plain.test", 7, {}),
        ("plain.test", 5, {"without_soa": {"plain.test"}}),
        ("missing.test", 5, {"without_soa": {"missing.test"}}),
        ("loop-a.test", 10, {}),
        ("example.test", 10, {"rcodes": {"example.test": dns.rcode.SERVFAIL}}),
    ],
)
def test_how_long_an_answer_is_believed(run: Run, name: str, seconds: float, prepare: dict[str, Any]) -> None:
    believed(run, name, seconds, prepare)


@pytest.mark.parametrize(("ttl", "seconds"), [(0, 5), (1, 5), (600, 600), (3601, 3600), (604800, 3600)])
def test_the_time_to_live_is_kept_within_bounds(run: Run, ttl: int, seconds: float) -> None:
    believed(run, "example.test", seconds, {}, ttl=ttl)


def believed(run: Run, name: str, seconds: float, prepare: dict[str, Any], ttl: int = 60) -> None:
    async def story() -> None:
        clock = TestClock()
        async with DnsServer(ZONE, ttl=ttl) as server:
            for attribute, value in prepare.items():
                getattr(server, attribute).update(value)
            resolver = Resolver([server.address], clock=clock)
            first = await resolver.exchangers(name)
            clock.advance(seconds - 0.01)
            assert await resolver.exchangers(name) == first
            assert server.questions[name, "MX"] == 1
            clock.advance(0.01)
            assert await resolver.exchangers(name) == first
            assert server.questions[name, "MX"] == 2
            await resolver.close()

    run(story())


def test_many_askers_share_one_question(run: Run) -> None:
    async def story() -> None:
        async with DnsServer(ZONE) as server:
            server.delay = 0.02
            resolver = Resolver([server.address], clock=TestClock())
            async with asyncio.TaskGroup() as group:
                askers = [group.create_task(resolver.exchangers("example.test")) for _ in range(50)]
            assert {asker.result() for asker in askers} == {EXAMPLE}
            assert server.questions.total() == 1
            await resolver.close()

    run(story())


def test_an_asker_who_goes_away_takes_nothing_along(run: Run) -> None:
    async def story() -> None:
        async with DnsServer(ZONE) as server:
            server.delay = 0.05
            resolver = Resolver([server.address], clock=TestClock())
            first = asyncio.create_task(resolver.exchangers("example.test"))
            second = asyncio.create_task(resolver.exchangers("example.test"))
            await asyncio.sleep(0.01)
            first.cancel()
            assert await second == EXAMPLE
            assert first.cancelled()
            assert server.questions.total() == 1
            await resolver.close()

    run(story())


def test_closing_ends_what_is_under_way(run: Run) -> None:
    async def story() -> None:
        async with DnsServer(ZONE) as server:
            server.silent.add("example.test")
            resolver = Resolver([server.address], clock=TestClock())
            both: Sequence[asyncio.Task[Any]] = [
                asyncio.create_task(resolver.exchangers("example.test")),
                asyncio.create_task(resolver.addresses("example.test")),
            ]
            await asyncio.sleep(0.01)
            await resolver.close()
            await asyncio.wait(both)
            assert all(one.cancelled() for one in both)

    run(story())


def test_what_is_known_costs_next_to_nothing(run: Run) -> None:
    async def story() -> None:
        async with DnsServer(ZONE) as server:
            resolver = Resolver([server.address], clock=TestClock())
            await resolver.exchangers("example.test")
            await resolver.addresses("mx.example.test")

            def step(question: Coroutine[Any, Any, object]) -> None:
                with pytest.raises(StopIteration):
                    question.send(None)

            # No turn of the loop is taken: one step of the coroutine has the answer.
            step(resolver.exchangers("example.test"))
            step(resolver.addresses("mx.example.test"))

            def hit() -> None:
                with contextlib.suppress(StopIteration):
                    resolver.addresses("mx.example.test").send(None)

            # A microsecond by rights; the limit is loose for machines that are busy.
            assert min(timeit.repeat(hit, number=1000, repeat=20)) / 1000 < 20e-6
            await resolver.close()

    run(story())


def test_what_asks_is_loaded_with_the_first_question_and_not_before(run: Run) -> None:
    program = (
        "import asyncio, sys\n"
        "from backstamp.clock import SystemClock\n"
        "from backstamp.net.resolver import Resolver\n"
        "resolver = Resolver([('127.0.0.1', {port})], clock=SystemClock())\n"
        "async def ask(host): print(await resolver.addresses(host), 'dns' in sys.modules)\n"
        "for host in ('192.0.2.1', 'no name', 'plain.test'): asyncio.run(ask(host))\n"
    )

    async def story() -> None:
        async with DnsServer(ZONE) as server:
            child = await asyncio.create_subprocess_exec(
                sys.executable, "-c", program.format(port=server.address[1]), stdout=asyncio.subprocess.PIPE
            )
            said, _ = await child.communicate()
        loaded = [line.rpartition(" ")[2] for line in said.decode().splitlines()]
        assert loaded == ["False", "False", "True"], said
        assert b"192.0.2.5" in said

    run(story())


def test_where_it_cannot_be_loaded_mail_waits_and_it_is_tried_again(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = TestClock()
    whole = resolver_module._load

    def starved(nameservers: Sequence[tuple[str, int]], timeout: float) -> Questions:
        raise OSError(errno.EMFILE, "Too many open files")

    async def story() -> None:
        async with DnsServer(ZONE) as server:
            resolver = Resolver([server.address], clock=clock)
            monkeypatch.setattr(resolver_module, "_load", starved)
            assert await resolver.addresses("plain.test") == fault(DnsProblem.SERVER_FAILURE, "plain.test")
            monkeypatch.setattr(resolver_module, "_load", whole)
            clock.advance(resolver_module.UNLOADED + 1)
            assert await resolver.addresses("plain.test") == Addresses(("192.0.2.5",))
            await resolver.close()

    run(story())
