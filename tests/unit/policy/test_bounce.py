"""Bounce classes: what the replies of the field come to. Addresses, ids and hosts are shortened."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backstamp.mail.fault import Fault, Phase
from backstamp.mail.outcome import Outcome, Verdict
from backstamp.mail.reply import Reply
from backstamp.policy import bounce, classify
from backstamp.policy.bounce import BounceClass as B
from backstamp.policy.mx import DnsFault, DnsProblem

IN_THE_FIELD = {
    B.INVALID_RECIPIENT: [
        # Google
        "550 5.1.1 The email account that you tried to reach does not exist. Please try double-checking the "
        "recipient's email address for typos or unnecessary spaces. - gsmtp",
        # Exchange Online and Exchange
        "550 5.4.1 Recipient address rejected: Access denied. AS(201806281) "
        "[DB5EUR01.prod.protection.outlook.com]",
        "550 5.4.1 All recipient addresses rejected : Access denied. AS(201806281)",
        "550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found by SMTP address lookup",
        "550 5.1.1 RESOLVER.ADR.ExRecipNotFound; not found",
        # Outlook.com
        "550 5.5.0 Requested action not taken: mailbox unavailable (S2017062302). "
        "[eur.prod.protection.outlook.com]",
        # Yahoo, AOL
        "554 delivery error: dd This user doesn't have a yahoo.com account (a@yahoo.com) [0] - "
        "mta.bf1.yahoo.com",
        "552 1 Requested mail action aborted, mailbox not found",
        "550 MAILBOX NOT FOUND",
        # Apple
        "550 5.1.1 <a@icloud.com>: user does not exist",
        # Proofpoint, Mimecast, Barracuda, IronPort
        "550 5.1.1 User Unknown",
        "550 Invalid Recipient - https://community.mimecast.com/docs/DOC-1369#550 [x.uk1]",
        "550 5.1.1 <a@b.example>: Recipient address rejected: User unknown",
        "550 permanent failure for one or more recipients (a@b.example:550 No such user)",
        "550 #5.1.0 Address rejected.",
        # Postfix, Exim, qmail, Sendmail, Dovecot, Domino
        "550 5.1.1 <a@b.example>: Recipient address rejected: User unknown in virtual mailbox table",
        "450 4.1.1 <a@b.example>: Recipient address rejected: unverified address: User unknown",
        "550 5.1.1 <a@b.example>: Recipient address rejected: undeliverable address: host said: 550 no",
        "550 Unrouteable address",
        "550 unrouteable address",
        "550 sorry, no mailbox here by that name. (#5.1.1)",
        "550 5.1.1 <a@b.example>... User unknown",
        "550 5.1.1 <a@b.example> User doesn't exist: a@b.example",
        "550 a@b.example... No such user",
        "550 User a@b.example not listed in Domino Directory",
        # GMX, Web.de, T-Online, Freenet
        "550 Requested action not taken: mailbox unavailable\nFor explanation visit "
        "https://postmaster.gmx.net/",
        "550 <a@web.de> Unknown local part a in <a@web.de>",
        "550 5.1.1 user unknown",
        # Orange, Free
        "550 5.1.1 Adresse d au moins un destinataire invalide. Invalid recipient. OFR204_416 [416]",
        "550 5.1.1 <a@free.fr>: Recipient address rejected: User unknown in relay recipient table",
        # Comcast
        "550 5.1.1 Not our Customer",
        # Mail.ru, Yandex, QQ, 163
        "550 Message was not accepted -- invalid mailbox. Local mailbox a@mail.ru is unavailable: user not "
        "found",
        "550 5.7.1 No such user!",
        "550 Mailbox not found. http://service.exmail.qq.com/cgi-bin/help?id=20022",
        "550 User not found: a@163.com",
        "550 5.1.0 <a@b.example>: Address rejected",
        "550 5.1.6 recipient no longer on server",
    ],
    B.INACTIVE_MAILBOX: [
        "550 5.2.1 The email account that you tried to reach is disabled. - gsmtp",
        "550-5.2.1 The email account that you tried to reach is inactive. - gsmtp",
        "554 delivery error: dd Sorry your message to a@yahoo.com cannot be delivered. This account has been "
        "disabled or discontinued [#102]. - mta.ne1.yahoo.com",
        "550 5.1.1 <a@icloud.com>: inactive email address",
        "550 5.2.1 <a@gmx.net>... User is inactive",
        "550 5.7.1 Policy rejection on the target address",
        "554 5.2.1 Inactive user",
        "550 <a@b.example>: Recipient address rejected: Account Closed",
        "550 User suspended",
        "550 5.2.1 Mailbox not accepting messages",
    ],
    B.FULL_MAILBOX: [
        "452-4.2.2 The email account that you tried to reach is over quota. Please direct the recipient to "
        "...",
        "552-5.2.2 The email account that you tried to reach is over quota and inactive.",
        "552 5.2.2 Over STORAGE quota",
        "554 5.2.2 mailbox full; STOREDRV.Deliver.Exception:QuotaExceededException",
        "452 4.2.2 <a@b.example>: Mailbox is full / Blocks limit exceeded / Inode limit exceeded",
        "552 5.2.2 <a@icloud.com>: user is over quota",
        "550 Benutzer hat das Speichervolumen ueberschritten. / User has exhausted allowed storage space.",
        "550 Benutzer hat zuviele Mails auf dem Server. / User has too many messages on the server.",
        "451 qq trouble in home directory (#4.3.0)",
        "422 4.2.2 Quota limit exceeded (Speicherplatz des Kontos ueberschritten)",
        "452 4.1.1 <a@comcast.net> mailbox full",
        "552 Requested mail action aborted: exceeded storage allocation",
        "451 b.example prohibited. Disk quota exceeded",
    ],
    B.SPAM_BLOCK: [
        "550-5.7.1 [192.0.2.1      12] Our system has detected that this message is\n5.7.1 likely "
        "unsolicited mail. "
        "To reduce the amount of spam sent to Gmail,\n5.7.1 this message has been blocked.",
        "552-5.7.0 This message was blocked because its content presents a potential security issue.",
        "550 5.7.1 [CS01] Message rejected due to local policy. Please visit "
        "https://support.apple.com/en-us/HT204137",
        "554 5.7.1 [HM08] Message rejected due to local policy.",
        "550 spam detected",
        "550 spam message rejected. Please visit http://help.mail.ru/notspam-support/id?c=x",
        "554 5.7.1 [1] Message rejected under suspicion of SPAM; https://ya.cc/1IrBc 1700000000-x",
        "550 Mail content denied. http://service.mail.qq.com/cgi-bin/help?subtype=1&&id=20022",
        "451 DT:SPM ,please try again",
        "550 5.7.1 Message contains spam or virus. (GSmtp)",
        "554 5.7.1 The message was rejected because it contains prohibited virus or spam content",
        "554 Email rejected due to security policies - https://community.mimecast.com/docs/DOC-1369#554",
        "571 5.7.1 message classified as spam (Nachricht als Spam eingestuft)",
        "550 This message was classified as SPAM and may not be delivered",
        "554 rejected due to virus",
    ],
    B.REPUTATION: [
        "550 5.7.708 Service unavailable. Access denied, traffic not accepted from this IP.",
        "550 Blocked - see https://ipcheck.proofpoint.com/?ip=192.0.2.1",
        "421-4.7.0 [192.0.2.1      15] Our system has detected that this message is\n4.7.0 suspicious due "
        "to the very "
        "low reputation of the sending IP address.",
        "550 5.7.1 Unfortunately, messages from [192.0.2.1] weren't sent. Please contact your Internet "
        "service "
        "provider since part of their network is on our block list (S3150).",
        "550 5.7.606 Access denied, banned sending IP [192.0.2.1]. To request removal from this list please "
        "visit",
        "451 4.7.650 The mail server [192.0.2.1] has been temporarily rate limited due to IP reputation."
        " For e-mail delivery information see https://aka.ms/postmaster (S775)",
        "421 4.7.1 [TS03] All messages from 192.0.2.1 will be permanently deferred; Retrying will NOT "
        "succeed.",
        "553 5.7.1 [BL21] Connections will not be accepted from 192.0.2.1, because the ip is in Spamhaus's "
        "list",
        "554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.org; https://x",
        "554 Service unavailable; Client host [mx.example] blocked by b.barracudacentral.org",
        "554-mx.example\nYour access to this mail system has been rejected due to the sending MTA's poor "
        "reputation. If you believe that this failure is in error, please contact the intended recipient",
        "550 #5.7.1 Your access to submit messages to this e-mail system has been rejected.",
        "554 IP=192.0.2.1 - A problem occurred. (Ask your postmaster for help or to contact "
        "tosa@rx.t-online.de) (BL)",
        "554 IP=192.0.2.1 - None/bad reputation. Ask your postmaster for help. (NOWL)",
        "554-gmx.net (mxgmx104) Nemesis ESMTP Service not available\nNo SMTP service\nIP address is block "
        "listed.",
        "554 resimta-po-11v.sys.comcast.net 192.0.2.1 found on one or more DNSBLs, see "
        "http://postmaster.comcast.net",
        "550 csi.mimecast.org Poor Reputation Sender. - https://community.mimecast.com/docs/DOC-1369#550",
        "421 Too many spams from your IP (192.0.2.1), please visit http://postmaster.free.fr/",
        "550 192.0.2.1 blacklisted see http://www.spamhaus.org/query/bl?ip=192.0.2.1",
        "421 HL:REP 163 mx1,x 1700000000",
        "450 4.7.1 SFR_IN_101 Service refused due to bad behavior",
        "550 SC-001 (SNT) Unfortunately, messages from 192.0.2.1 weren't sent.",
    ],
    B.AUTHENTICATION: [
        "550-5.7.26 This mail has been blocked because the sender is unauthenticated.\n5.7.26 Gmail "
        "requires all "
        "senders to authenticate with either SPF or DKIM.",
        "550-5.7.1 Unauthenticated email from b.example is not accepted due to domain's DMARC policy.",
        "550 5.7.509 Access denied, sending domain b.example does not pass DMARC verification",
        "550 5.7.515 Access denied, sending domain b.example doesn't meet the required authentication level.",
        "554 5.7.9 Message not accepted for policy reasons. See https://postmaster.yahooinc.com/error-codes "
        "DMARC",
        "550 5.7.1 Your message was rejected due to b.example DMARC policy.",
        "550-5.7.25 [192.0.2.1] The IP address sending this message does not have a PTR record.",
        "450 4.7.25 Client host rejected: cannot find your hostname, [192.0.2.1]",
        "554 Bad DNS PTR resource record. For explanation visit http://postmaster.gmx.com",
        "550 <a@web.de>: Reject due to SPF policy. The originating IP of the message is not permitted",
        "421 - [Reverse DNS failure : Try again later]",
        "550 5.7.23 The message was rejected because of Sender Policy Framework violation",
        "550 DMARC check failed http://service.mail.qq.com/cgi-bin/help",
    ],
    B.RATE: [
        "421-4.7.28 Gmail has detected an unusual rate of unsolicited mail originating\n4.7.28 from your IP "
        "address.",
        "450-4.2.1 The user you are trying to contact is receiving email at a rate that\n4.2.1 prevents "
        "additional "
        "messages from being delivered.",
        "450-4.2.1 The user you are trying to contact is receiving email too quickly.",
        "451 4.7.500 Server busy. Please try again later from [192.0.2.1]. (S77719) "
        "[eur.prod.protection.outlook.com]",
        "432 4.3.2 STOREDRV.Deliver; recipient thread limit exceeded",
        "421 4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred due to unexpected volume or user "
        "complaints",
        "421 4.7.1 Messages to a@icloud.com deferred due to excessive volume. Try again later",
        "421 4.7.0 mx.example Error: too many connections from 192.0.2.1",
        "421 mwinf5c10 ME Trop de connexions, veuillez verifier votre configuration. Too many connections, "
        "slow down."
        " OFR004_104 [104]",
        "421 4.1.0 192.0.2.1 Throttled - try again later. Please see https://postmaster.comcast.net RL000001",
        "421 Too many sessions opened",
        "421 Rate limit reached. Please try again later",
        "450 4.2.1 The recipient has exceeded message rate limit. Try again later.",
        "550 Sender frequency limited. http://service.mail.qq.com",
        "421 HL:ICC 163 mx5,x 1700000000",
        "451 Ratelimit exceeded for mailbox. Try again later",
        "452 4.5.3 Error: too many recipients",
        "452 Too many recipients received this hour",
        "550 Too many invalid recipients",
        "421 Too many concurrent connections from this client (G2)",
        "421 4.4.2 Message submission rate for this client has exceeded the configured limit",
    ],
    B.GREYLIST: [
        "450 4.2.0 <a@b.example>: Recipient address rejected: Greylisted, see "
        "http://postgrey.schweikert.ch/help/b",
        "451 4.7.1 Greylisting in action, please come back in 00:04:59",
        "451 Greylisted for 5 minutes, please try again later",
        "421 4.7.1 Service unavailable; Client host [192.0.2.1] blocked using grey.rbl - Greylisting in "
        "action",
    ],
    B.TOO_LARGE: [
        "552-5.2.3 Your message exceeded Google's message size limits. Please visit",
        "552 5.3.4 Message size exceeds fixed limit",
        "552 5.3.4 Error: message file too big",
        "550 5.2.3 RESOLVER.RST.RecipSizeLimit; message too large for this recipient",
        "552 message size exceeds maximum value",
        "552 size limit exceeded",
    ],
    B.RELAYING: [
        "554 5.7.1 <a@b.example>: Relay access denied",
        "550 5.7.54 SMTP; Unable to relay recipient in non-accepted domain",
        "550 5.7.64 TenantAttribution; Relay Access Denied",
        "550 relay not permitted",
        "553 sorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)",
        "550 5.7.1 <a@b.example>... Relaying denied",
        "530 5.7.0 Authentication Required",
    ],
    B.POLICY: [
        "550 5.1.8 <a@c.example>: Sender address rejected: Domain not found",
        "550-5.7.1 The user or domain that you are sending to (or from) has a policy that prohibited the "
        "mail",
        "554 5.7.1 <a@b.example>: Recipient address rejected: Access denied",
        "550 Administrative prohibition",
        "550 Rejected by header based Anti-Spoofing policy: a@b.example - https://community.mimecast.com",
        "550 Sender verify failed",
        "550 5.1.0 sender rejected",
        "550 message sending for this account is disabled",
        "550 5.7.1 Rejected, the account you are sending from is disabled",
        "550 5.7.27 Sender address has null MX",
        "550 Your account has been suspended",
        "450 Reject due to policy violations.",
        "550-Requested action not taken: mailbox unavailable\n550 invalid DNS MX or A/AAAA resource record",
        "550 Requested action not taken: mailbox unavailable\nReject due to policy restrictions.\nFor "
        "explanation visit https://postmaster.gmx.net/",
        "501 5.1.7 Bad sender address syntax",
        "550 The domain c.example does not exist",
        "550 Invalid return address",
    ],
    B.TLS: [
        "530 5.7.0 Must issue a STARTTLS command first",
        "421 4.7.0 TLS required for RCPT domain, closing connection.",
        "454 4.7.0 TLS not available due to local problem",
        "550 5.7.10 Encryption required",
    ],
    B.LOOP: [
        "554 5.4.6 Hop count exceeded - possible mail loop",
        "550 5.4.14 Hop count exceeded - possible mail loop ATTR34",
        "554 5.4.0 Error: too many hops",
        "450 4.4.6 Routing loop detected (G16)",
    ],
    B.PROTOCOL: [
        # What is wrong with an address in the header is no recipient's fault.
        "550 Message headers fail syntax check: invalid address",
        "550 invalid address in From header",
        "554 5.6.0 'From:' header has an invalid address",
        "501 Syntax error in parameters or arguments",
        "550-5.7.1 [192.0.2.1] Messages missing a valid Message-ID header are not\n5.7.1 accepted.",
        "451 4.5.0 SMTP protocol violation, see RFC 2821",
        "504 5.5.2 <localhost>: Helo command rejected: need fully-qualified hostname",
        "421 4.7.0 me.com Error: too many errors",
        "503 5.5.1 Bad sequence of commands",
    ],
    B.SYSTEM: [
        "451 4.3.0 Temporary System Problem. Try again later",
        "452 4.3.1 Insufficient system resources",
        "451 Requested action aborted: local error in processing",
        "450 4.3.2 Service currently unavailable",
        "421 mx.example Service not available, closing transmission channel",
        "451 Internal resource temporarily unavailable - https://community.mimecast.com/docs/DOC-1369#451",
        "451 4.7.700 PFA agent busy, please try again.",
    ],
    B.CONNECTION: [
        "421 4.4.2 mx.example Error: timeout exceeded",
        "451 4.4.2 Timeout - closing connection.",
        "450 4.4.316 Connection refused [Message=Socket error code 10061]",
    ],
    B.BAD_DOMAIN: ["556 5.1.10 Recipient address has null MX", "521 b.example does not accept mail",
                   "550 5.1.2 Host unknown (Name server: b.example: host not found)"],
    B.DNS: ["450 4.1.2 <a@b.example>: Recipient address rejected: Domain lookup failed, name server timeout"],
    B.OTHER: ["554 Transaction failed", "550 ", "599 "],
}  # fmt: skip

CASES = [(kind, text) for kind, texts in IN_THE_FIELD.items() for text in texts]


def refused(words: str) -> Outcome:
    verdict = Verdict.FAILED if words.startswith("5") else Verdict.DEFERRED
    return Outcome(verdict, Reply(int(words[:3]), words[4:]))


@pytest.mark.parametrize(("kind", "words"), CASES, ids=[words[:60] for _, words in CASES])
def test_replies_of_the_field(kind: B, words: str) -> None:
    assert bounce.of(refused(words)) is kind


SESSION = Fault(Phase.CONNECT, "timeout", "no connection in 30 s")
OURS = {
    "no session": (classify.fault(SESSION, "mx"), B.CONNECTION),
    "broken": (classify.fault(Fault(Phase.FINAL, "disconnected", "the server closed the session"), "mx"),
               B.CONNECTION),
    "no handshake": (
        classify.fault(Fault(Phase.TLS, "handshake", "the server closed the connection: EOF"), "mx"), B.TLS),
    "not in TLS": (classify.fault(Fault(Phase.TLS, "protocol", "the server spoke out of turn"), "mx"), B.TLS),
    "no domain": (classify.dns(DnsFault(DnsProblem.NO_DOMAIN, "b.example")), B.BAD_DOMAIN),
    "null mx": (classify.dns(DnsFault(DnsProblem.NULL_MX, "b.example")), B.BAD_DOMAIN),
    "bad name": (classify.dns(DnsFault(DnsProblem.BAD_NAME, "b example")), B.BAD_DOMAIN),
    "no address": (classify.dns(DnsFault(DnsProblem.NO_ADDRESS, "b.example")), B.DNS),
    "servfail": (classify.dns(DnsFault(DnsProblem.SERVER_FAILURE, "b.example")), B.DNS),
    "dns timeout": (classify.dns(DnsFault(DnsProblem.TIMEOUT, "b.example")), B.DNS),
    "aliases": (classify.dns(DnsFault(DnsProblem.ALIAS_LOOP, "b.example")), B.DNS),
    "smarthost": (classify.lost_smarthost("relay.example"), B.DNS),
    "no source": (classify.no_source("mx.example"), B.DNS),
    "loop": (classify.loop("b.example"), B.LOOP),
    "private": (classify.forbidden("mx.example", "127.0.0.1", "loopback"), B.DNS),
    "address": (classify.no_smtputf8("mx", address=True), B.PROTOCOL),
    "header": (classify.no_smtputf8("mx", address=False), B.PROTOCOL),
    "8bit": (classify.no_8bitmime("mx"), B.PROTOCOL),
    "size": (classify.too_big("mx", 20, 10), B.TOO_LARGE),
    "bug": (classify.broken(), B.SYSTEM),
    "expired": (classify.expired(refused("451 4.7.1 greylisted")), B.EXPIRED),
    "suppressed": (refused("550 5.7.1 the recipient is on the suppression list"), B.SUPPRESSED),
}  # fmt: skip


@pytest.mark.parametrize("name", OURS)
def test_the_relays_own_words(name: str) -> None:
    outcome, kind = OURS[name]
    assert bounce.of(outcome) is kind


def test_every_class_has_an_example() -> None:
    assert set(IN_THE_FIELD) | {kind for _, kind in OURS.values()} == set(B)


def test_only_what_is_wrong_with_the_address_is_hard() -> None:
    hard = {kind for kind in B if bounce.hard(kind)}
    assert hard == {B.INVALID_RECIPIENT, B.BAD_DOMAIN, B.INACTIVE_MAILBOX}


@pytest.mark.parametrize(
    "words",
    [
        "550 Client IP address 192.0.2.1 not found in DNS",
        "550 5.7.1 Client host mx.example does not exist",
        "550 The host mx.example does not exist",
        "554 Recipient address rejected: connection closed",
        "550 5.7.1 your account is disabled",
        "550 Sender unknown",
        "550 5.1.8 Sender address <a@c.example> does not exist",
        "550 5.7.27 Sender domain c.example does not accept mail",
        "550 Too many unknown recipients",
        "550 Domain c.example not found",
        "550 user does not accept mail from you",
        "550 Recipient is not accepting mail from strangers",
        "554 Transaction failed",
        "550 5.7.1 refused",
        "550 5.2.0 refused",
    ],
)
def test_nobody_is_suppressed_for_what_the_sender_did(words: str) -> None:
    assert not bounce.hard(bounce.of(refused(words)))


def test_names_are_words_with_hyphens() -> None:
    assert all(kind.value.replace("-", "").isalpha() and kind.value.islower() for kind in B)


@given(st.integers(400, 599), st.text(max_size=2000))
def test_every_reply_has_a_class(code: int, text: str) -> None:
    assert isinstance(bounce.of(Outcome(Verdict.FAILED, Reply(code, text))), B)


def test_links_and_addresses_say_nothing() -> None:
    words = "554 Transaction failed <spam.full@unknown-user.example> see http://mx.example/spam/blacklist"
    assert bounce.of(refused(words)) is B.OTHER
