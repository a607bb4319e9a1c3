"""What is shipped about providers is sound, is there, and is what the relay looks up."""

import os
import re
from importlib import resources

import pytest

from backstamp.config import parse
from backstamp.config.between import mistakes
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


def test_everything_says_where_it_is_from_and_of_when():
    for one in (*known().provider, *known().adapt):
        assert one.reference == "common practice" or re.fullmatch(r"https?://[^ ]+", one.reference)
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


def test_all_patterns_compile_together():
    Adaptations(SETTINGS.adaptations)
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


@pytest.mark.parametrize(
    ("provider", "code", "text", "action"),
    [
        ("google", 421, "4.7.28 Gmail has detected an unusual rate of unsolicited mail", Action.SLOWER),
        ("google", 421, "4.7.0 Try again later, closing connection.", Action.FEWER),
        ("yahoo", 421, "4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred", Action.PAUSE),
        ("yahoo", 421, "4.7.0 [TS01] Messages from 192.0.2.1 temporarily deferred", Action.SLOWER),
        (
            "outlook",
            451,
            "4.7.650 The mail server [192.0.2.1] has been temporarily rate limited",
            Action.SLOWER,
        ),
        ("orange", 421, "mwinf5c04 ME Trop de connexions, OFR_104", Action.FEWER),
        ("", 421, "4.7.0 Too many concurrent SMTP connections", Action.FEWER),
        ("", 452, "4.5.3 Too many recipients", None),
        ("", 550, "5.1.1 No such user: throttle@example.org", None),
        ("google", 452, "4.2.2 The recipient's inbox is out of storage space", None),
    ],
)
def test_refusals_say_what_they_mean_for_the_pace(provider, code, text, action):
    change = Adaptations(SETTINGS.adaptations).decide(provider, Reply(code, text))
    assert (None if change is None else change.action) == action


def test_the_file_people_read_is_the_file_the_relay_reads():
    link = os.path.join(ROOT, "conf", "providers.toml")
    assert os.path.islink(link)
    with open(link, encoding="utf-8") as stream:
        shipped = resources.files("backstamp.config").joinpath("providers.toml")
        assert stream.read() == shipped.read_text(encoding="utf-8")
