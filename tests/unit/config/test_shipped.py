"""What is shipped about providers is sound, is there, and is what the relay looks up."""

import os
import re
from importlib import resources

import pytest

from backstamp.config.between import mistakes
from backstamp.config.load import parse
from backstamp.config.shipped import known
from backstamp.mail.reply import Reply
from backstamp.policy.adapt import Action, Adaptations
from backstamp.policy.destination import PolicyTable

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "..", ".."))
MINIMUM = b"""
hostname = "relay.example.org"
queue.directory = "queue"
[[listen]]
address = "127.0.0.1:2525"
"""
SETTINGS = parse(MINIMUM, "x.toml")
ADAPTATIONS = Adaptations(SETTINGS.adaptations)


def test_everything_says_where_it_is_from_and_of_when():
    for one in (*known().provider, *known().adapt):
        assert one.reference in ("common practice", "observed") or re.fullmatch(
            r"https?://[^ ]+", one.reference
        )
        assert one.date.year >= 2026


def test_no_two_providers_claim_a_name():
    names = [one.name for one in known().provider]
    claims = [match for one in known().provider for match in one.mx]
    assert len(names) == len(set(names))
    assert len(claims) == len(set(claims))


def test_it_keeps_what_a_file_must_keep():
    document = {
        "provider": [one.model_dump(exclude_unset=True) for one in known().provider],
        "adapt": [one.model_dump(exclude_unset=True) for one in known().adapt],
    }
    assert mistakes(document, known().by_name()) == []


def test_all_rules_compile_and_none_counts_groups():
    assert all(re.compile(rule.pattern).groups == 0 for rule in SETTINGS.adaptations)
    assert len(SETTINGS.adaptations) == len(known().adapt) > 20


def test_limits_stay_below_those_of_unknown_hosts():
    for one in known().provider:
        assert one.connections is not None and one.connections <= SETTINGS.destination.connections
        assert one.messages_per_connection is not None


@pytest.mark.parametrize(
    ("host", "provider"),
    [
        ("aspmx.l.google.com", "google"),
        ("alt1.gmail-smtp-in.l.google.com", "google"),
        ("aspmx2.googlemail.com", "google"),
        ("example-com.mail.protection.outlook.com", "microsoft"),
        ("example-com.n-v1.mx.microsoft", "microsoft"),
        ("hotmail-com.olc.protection.outlook.com", "outlook"),
        ("mta5.am0.yahoodns.net", "yahoo"),
        ("mx01.mail.icloud.com", "apple"),
        ("mxa-00000001.gslb.pphosted.com", "proofpoint"),
        ("mx1-us1.ppe-hosted.com", "proofpoint-essentials"),
        ("eu-smtp-inbound-1.mimecast.com", "mimecast"),
        ("d1.ess.barracudanetworks.com", "barracuda"),
        ("mx1.hc1.eu.iphmx.com", "cisco"),
        ("mx00.emig.gmx.net", "united-internet"),
        ("mx-ha02.web.de", "united-internet"),
        ("mx00.t-online.de", "t-online"),
        ("smtp-in.orange.fr", "orange"),
        ("mxs.mail.ru", "mail-ru"),
        ("mx1.mail.ovh.net", "ovh"),
        ("inbound-smtp.eu-west-1.amazonaws.com", "amazon"),
        ("ec2-192-0-2-1.compute-1.amazonaws.com", ""),
        ("mail.example.org", ""),
        ("google.com", ""),
    ],
)
def test_mail_exchangers_are_recognized(host, provider):
    table = PolicyTable(SETTINGS.destination, SETTINGS.rules, SETTINGS.providers)
    assert table.lookup("example.org", [host]).provider == provider


def reply(words):
    return Reply(int(words[:3]), words[4:])


@pytest.mark.parametrize(
    ("provider", "words", "action", "seconds"),
    [
        ("google", "421 4.7.28 Gmail has detected an unusual rate of mail from 192.0.2.1",
         Action.SLOWER, 3600),
        ("google", "421 4.7.0 This message is suspicious due to the very low reputation\n4.7.0 of the IP",
         Action.SLOWER, 3600),
        ("google", "421 4.7.0 Try again later, closing connection.", Action.FEWER, 300),
        ("google", "421 4.4.5 Server busy, try again later.", Action.FEWER, 300),
        ("microsoft", "421 RP-001 (SNT) Unfortunately, some messages from 192.0.2.1 weren't sent.",
         Action.PAUSE, 900),
        ("microsoft", "451 4.7.650 192.0.2.1 has been temporarily rate limited due to IP reputation.",
         Action.SLOWER, 3600),
        ("microsoft", "451 4.7.500 Server busy. Please try again later from [192.0.2.1].",
         Action.SLOWER, 900),
        ("microsoft", "451 4.7.652 The mail server [192.0.2.1] exceeded the maximum number of connections.",
         Action.FEWER, 3600),
        ("outlook", "451 4.7.650 The mail server [192.0.2.1] has been temporarily rate limited",
         Action.SLOWER, 3600),
        ("yahoo", "421 4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred", Action.PAUSE, 1800),
        ("yahoo", "421 4.7.1 [TS03] All messages from 192.0.2.1 will be permanently deferred",
         Action.PAUSE, 14400),
        ("apple", "421 4.7.1 Messages to a@icloud.com deferred due to excessive volume.", Action.SLOWER, 900),
        ("comcast", "421 4.1.0 192.0.2.1 Throttled - try again later. RL000001", Action.SLOWER, 3600),
        ("comcast", "421 Too many sessions opened", Action.FEWER, 1800),
        ("orange", "421 mwinf5c10 ME Trop de connexions, veuillez verifier. OFR004_104 [104]",
         Action.FEWER, 3600),
        ("orange", "421 mwinf5c10 ME Service refuse. Veuillez essayer plus tard. OFR_999 [999]",
         Action.PAUSE, 3600),
        ("united-internet", "421 Rate limit reached. Please try again later", Action.PAUSE, 3600),
        ("united-internet", "421 Reject due to policy restrictions", Action.PAUSE, 7200),
        ("t-online", "554 IP=192.0.2.1 - A problem occurred. (BL)", Action.PAUSE, 3600),
        ("t-online", "421 too many connections from your host", Action.FEWER, 3600),
        ("free", "421 Too many spams from your IP (192.0.2.1)", Action.PAUSE, 3600),
        ("mail-ru", "451 Ratelimit exceeded for mailbox. Try again later", Action.SLOWER, 1800),
        ("yandex", "451 4.7.1 Sorry, the service is currently unavailable. Please come back later.",
         Action.PAUSE, 600),
        ("apple", "421 [HCM1] Your mail was deferred.", Action.PAUSE, 900),
        ("yahoo-japan", "553 Mail from 192.0.2.1 not allowed - VS98-IP0 deferred", Action.PAUSE, 3600),
        ("godaddy", "421 Connection refused, too many sessions. IB007", Action.FEWER, 3600),
        ("qq", "550 Ip frequency limited", Action.PAUSE, 3600),
        ("netease", "554 HL:ITC 163 smtp1", Action.FEWER, 3600),
        ("netease", "550 RP:ORQ 163 smtp1", Action.PAUSE, 3600),
        ("netease", "451 DT:SPM 163 smtp1", Action.SLOWER, 900),
        ("", "421 4.7.0 mx.example Error: too many connections from 192.0.2.1", Action.FEWER, 600),
        ("google", "421 Too many concurrent SMTP connections", Action.FEWER, 600),
        ("", "450 4.7.1 Error: too many messages from 192.0.2.1", Action.SLOWER, 900),
        ("", "421 4.4.2 Message submission rate for this client has exceeded the limit", Action.SLOWER, 900),
    ],
)  # fmt: skip
def test_the_rules_that_come_with_the_relay(provider, words, action, seconds):
    change = ADAPTATIONS.decide(provider, reply(words))
    assert change is not None
    assert (change.action, change.seconds) == (action, seconds)


@pytest.mark.parametrize("provider", ["", *sorted({rule.provider for rule in SETTINGS.adaptations})])
@pytest.mark.parametrize(
    "words",
    [
        "250 2.0.0 Ok: queued as 4.7.28 too many connections",
        "550 5.1.1 <a@b.example>: Recipient address rejected: User unknown",
        "451 4.3.0 Temporary System Problem",
        "450 4.2.0 <a@b.example>: Recipient address rejected: Greylisted",
        "450 4.2.0 <throttle-alerts@b.example>: Recipient address rejected: Greylisted",
        "450 4.1.1 <too-fast@ratelimit.example>: Recipient address rejected: later",
        "452 4.2.2 The email account that you tried to reach is over quota.",
        "452 4.5.3 Error: too many recipients",
        "450 4.2.1 The recipient has exceeded message rate limit. Try again later.",
        "450-4.2.1 The user you are trying to contact is receiving email at a rate that prevents delivery",
        "554 5.7.1 Message rejected as spam",
        "421 4.4.2 connection timeout exceeded",
        "421 4.7.0 mx.example Error: too many errors in this session",
    ],
)
def test_an_ordinary_refusal_changes_nothing(provider, words):
    assert ADAPTATIONS.decide(provider, reply(words)) is None


def test_the_file_people_read_is_the_file_the_relay_reads():
    link = os.path.join(ROOT, "conf", "providers.toml")
    assert os.path.islink(link)
    with open(link, encoding="utf-8") as stream:
        shipped = resources.files("backstamp.config").joinpath("providers.toml")
        assert stream.read() == shipped.read_text(encoding="utf-8")
