"""Smarthosts: who this relay says it is, which of several takes the mail, and whose mail goes there."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.support.client import send
from tests.support.dns import DnsServer
from tests.support.operator import LATE, SOON, Host, configured, read, to, written
from tests.support.process import Process

from backstamp.telemetry import events

ME = 'username = "me"\npassword = "sesame!"'


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
@pytest.mark.parametrize(
    ("mechanism", "first"), [("plain", b"AUTH PLAIN AG1lAHNlc2FtZSE="), ("login", b"AUTH LOGIN")]
)
async def test_credentials_go_out_in_tls(tmp_path: Path, tls: Any, mechanism: str, first: bytes) -> None:
    more = f'{ME}\nauth = "{mechanism}"\n{"implicit_tls = true" if tls == "implicit" else ""}'
    async with (
        Host(tls=tls, auth=("me", "sesame!")) as host,
        configured(tmp_path, to(host, more=more)) as running,
    ):
        await send(running.address, ["r@y.test"])
        await running.until(events.Delivered)
        assert [(one.tls, one.line) for one in host.said if one.line.startswith(b"AUTH")] == [(True, first)]
        assert [message.user for message in host.taken] == ["me"]


async def test_refused_credentials_make_the_mail_wait_and_the_host_is_left_alone(tmp_path: Path) -> None:
    async with (
        Host(tls="starttls", auth=("me", "another")) as host,
        configured(tmp_path, to(host, more=ME), schedule=LATE) as running,
    ):
        await send(running.address, ["first@y.test"])
        await running.until(events.Deferred)
        for number in range(10):
            await send(running.address, [f"r{number}@y.test"])
        await running.until(events.Deferred, 11)
        assert len(host.lines(b"AUTH")) == 1
        assert len(host.lines(b"CONNECT")) == 1
        assert not host.lines(b"MAIL")
        assert not running.events(events.Failed)
        replies = {event.reply for event in running.events(events.Deferred)}
        assert replies == {"535 5.7.8 Credentials are not valid"}
        assert len(running.events(events.HostDown)) == 1


async def test_right_credentials_after_a_reload_let_the_mail_go(tmp_path: Path) -> None:
    async with (
        Host(tls="starttls", auth=("me", "another")) as host,
        configured(tmp_path, to(host, more=ME)) as running,
    ):
        await send(running.address, ["r@y.test"])
        await running.until(events.Deferred)
        running.relay.reload(read(tmp_path, to(host, more='username = "me"\npassword = "another"')))
        await running.until(events.Delivered)


async def test_the_second_smarthost_has_it_while_the_first_is_away(tmp_path: Path) -> None:
    async with Host() as second:
        first = Host()
        await first.start()
        async with configured(
            tmp_path, to(first, second), schedule=SOON, delivery='idle = "10ms"'
        ) as running:

            async def sent(count: int) -> list[str]:
                await send(running.address, ["r@y.test"])
                await running.until(events.Delivered, count)
                return [event.mx.rpartition(":")[2] for event in running.events(events.Delivered)]

            one, two = str(first.address[1]), str(second.address[1])
            assert await sent(1) == [one]
            await first.close()
            assert await sent(2) == [one, two]
            assert await sent(3) == [one, two, two]
            again = Host("127.0.0.1", first.address[1])
            await again.start()
            count = 4
            async with asyncio.timeout(20):
                while (await sent(count))[-1] != one:
                    count += 1
            assert not running.events(events.Deferred)
            assert len(running.events(events.HostDown)) == 1
            assert len(running.events(events.HostUp)) == 1
            await again.close()


async def test_a_smarthost_that_has_enough_hands_over_to_the_second(tmp_path: Path) -> None:
    async with (
        Host() as first,
        Host() as second,
        configured(tmp_path, to(first, second), schedule=LATE) as running,
    ):
        first.script.say("MAIL", 421, "4.3.2 shutting down")
        await send(running.address, ["r@y.test"])
        await running.until(events.Delivered)
        assert (len(first.taken), len(second.taken)) == (0, 1)
        assert not running.events(events.Deferred)


async def test_the_sender_decides_before_the_destination(tmp_path: Path) -> None:
    def route(host: Host, match: str, sender: str) -> str:
        return to(host, match=match, more=f'from = "{sender}"' if sender else "")

    async with (
        Host() as everybody,
        Host() as domain,
        Host() as below,
        Host() as address,
        Host() as null,
        configured(
            tmp_path,
            route(everybody, "*", "")
            + route(everybody, "special.test", "")
            + route(domain, "*", "shop.test")
            + route(below, "*", "*.shop.test")
            + route(address, "*", "boss@shop.test")
            + route(null, "*", "<>"),
        ) as running,
    ):
        for sender, recipient in [
            ("someone@else.test", "a@y.test"),
            ("someone@shop.test", "b@y.test"),
            ("Someone@SHOP.test", "c@special.test"),
            ("x@news.shop.test", "d@y.test"),
            ("Boss@shop.test", "e@y.test"),
            ("", "f@y.test"),
            ("someone@else.test", "g@special.test"),
        ]:
            await send(running.address, [recipient], sender=sender)
        await running.until(events.Delivered, 7)

        def got(host: Host) -> str:
            return "".join(sorted(message.recipients[0][:1].decode() for message in host.taken))

        assert [got(one) for one in (everybody, domain, below, address, null)] == ["ag", "bc", "d", "e", "f"]


async def test_a_sender_with_an_international_domain_has_its_route(tmp_path: Path) -> None:
    async with (
        Host() as everybody,
        Host() as own,
        configured(tmp_path, to(everybody) + to(own, more='from = "xn--bcher-kva.test"')) as running,
    ):
        for sender in ("a@xn--bcher-kva.test", "b@bücher.test", "c@BÜCHER.test"):
            await send(running.address, ["r@y.test"], sender=sender, options=["SMTPUTF8"])
        await running.until(events.Delivered, 3)
        assert (len(everybody.taken), len(own.taken)) == (0, 3)


@pytest.mark.parametrize("sender", ["bank@shop.test", "BANK@shop.test"])
async def test_a_route_for_a_sender_may_ask_for_at_most_once(tmp_path: Path, sender: str) -> None:
    async with (
        Host() as host,
        configured(
            tmp_path, to(host) + to(host, more='from = "bank@shop.test"\nsemantics = "at-most-once"')
        ) as running,
    ):
        host.script.do("DOT", close=True, times=1)
        await send(running.address, ["r@y.test"], sender=sender)
        await running.until(events.Held)
        await send(running.address, ["r@y.test"], sender="else@shop.test")
        await running.until(events.Delivered)
        assert [message.sender for message in host.taken] == [b"else@shop.test"]


async def test_reports_go_by_the_route_of_the_null_sender(tmp_path: Path) -> None:
    async with (
        Host() as host,
        Host() as reports,
        configured(tmp_path, to(host) + to(reports, more='from = "<>"')) as running,
    ):
        host.script.say("RCPT", 550, "5.1.1 no")
        await send(running.address, ["r@y.test"])
        await running.until(events.Delivered)
        assert [message.recipients for message in reports.taken] == [[b"sender@origin.test"]]


async def test_via_mx_is_an_exception_from_a_wider_route(tmp_path: Path) -> None:
    async with (
        Host() as smarthost,
        Host("127.0.0.2") as direct,
        DnsServer(
            {"partner.test": {"MX": ["10 mx.partner.test."]}, "mx.partner.test": {"A": ["127.0.0.2"]}}
        ) as names,
        configured(
            tmp_path,
            to(smarthost) + '[[route]]\nmatch = "partner.test"\nvia = "mx"',
            port=direct.address[1],
            nameservers=[names.address],
        ) as running,
    ):
        await send(running.address, ["a@partner.test", "b@y.test", "c@sub.partner.test"])
        await running.until(events.Delivered, 3)
        assert [message.recipients for message in direct.taken] == [[b"a@partner.test"]]
        got = [recipient for message in smarthost.taken for recipient in message.recipients]
        assert sorted(got) == [b"b@y.test", b"c@sub.partner.test"]


async def test_a_password_file_is_read_at_start_and_at_reload(tmp_path: Path) -> None:
    """The relay as a process, by its configuration file; a password is never in what it says."""
    secret = tmp_path / "secret"
    secret.write_text("wrong one\n")
    async with (
        Host(tls="starttls", auth=("me", "s3same opens")) as host,
        Process(tmp_path, host.address) as process,
    ):
        more = f'username = "me"\npassword_file = "{secret}"'
        written(tmp_path, to(host, more=more), listen=process.address[1], admin=process.admin)
        await process.start()
        await send(process.address, ["r@y.test"])
        await host.until(b"AUTH")
        assert not host.taken
        secret.write_text("s3same opens\n")
        process.reload()
        await host.until(b"DATA")
        assert await process.stop() == 0
        assert [message.user for message in host.taken] == ["me"]
        log = process.log.read_text()
        assert '"event":"delivered"' in log
        assert "TLSv1.3" in log
        assert "s3same" not in log
        assert "wrong one" not in log


async def test_credentials_that_are_refused_hold_up_nobody_with_others(tmp_path: Path) -> None:
    """Two senders with accounts of their own at one smarthost: a wrong password is one sender's trouble."""
    async with (
        Host(tls="starttls", auth=("me", "sesame!")) as host,
        configured(
            tmp_path,
            to(host, more=ME) + to(host, more='from = "old.test"\nusername = "me"\npassword = "changed"'),
            schedule=LATE,
        ) as running,
    ):
        await send(running.address, ["a@y.test"], sender="a@old.test")
        await running.until(events.Deferred)
        await send(running.address, ["b@y.test"], sender="a@else.test")
        await running.until(events.Delivered)
        assert len(running.events(events.Deferred)) == 1
        await send(running.address, ["c@y.test"], sender="a@old.test")
        await running.until(events.Deferred, 2)
        assert len(host.lines(b"AUTH")) == 2
