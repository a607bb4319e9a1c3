"""What a refusal is about: a class for every reply, for events, metrics and the suppression list.

Verdict and scope (`policy.classify`) say what is to be done with the mail; the class says why,
in one word a person can count. One ordered table decides, the first row that fits: what the
text says stands before what the enhanced status says, because providers use one status for
many things (5.7.1) or the wrong one; the bare codes stand last. Texts are facts seen in the
field, collected in the test. Pure.
"""

import enum
import re
from functools import lru_cache
from typing import Final, NamedTuple

from backstamp.mail.outcome import Outcome

_LOOKED_AT: Final = 600
"""Characters of a reply that are read; what comes behind is links and advice."""


class BounceClass(enum.Enum):
    """Why a recipient was refused or put off."""

    INVALID_RECIPIENT = "invalid-recipient"
    """No such mailbox."""
    BAD_DOMAIN = "bad-domain"
    """No such domain, or one that takes no mail."""
    INACTIVE_MAILBOX = "inactive-mailbox"
    """The mailbox is closed or disabled."""
    FULL_MAILBOX = "full-mailbox"
    SPAM_BLOCK = "spam-block"
    """The content: spam, a virus, a link."""
    REPUTATION = "reputation"
    """This relay's address or the sender's domain, on a list or of poor reputation."""
    AUTHENTICATION = "authentication"
    """DMARC, SPF, DKIM, or the name of this relay's address."""
    POLICY = "policy"
    """A rule of the other side, of no narrower class."""
    TOO_LARGE = "too-large"
    RELAYING = "relaying"
    """The other side does not take mail for this domain, or not from us."""
    RATE = "rate"
    """Too much or too many at a time."""
    GREYLIST = "greylist"
    DNS = "dns"
    """The destination's names led nowhere this time."""
    CONNECTION = "connection"
    """No session, or one that broke."""
    TLS = "tls"
    LOOP = "loop"
    EXPIRED = "expired"
    """The lifetime is over; the last reply is told in the words."""
    PROTOCOL = "protocol"
    """One side does not understand the other, or the mail's form."""
    SYSTEM = "system"
    """Trouble of the other side's own: storage, load, maintenance."""
    SUPPRESSED = "suppressed"
    """The recipient is on the suppression list; nobody was asked."""
    OTHER = "other"


_HARD: Final = {BounceClass.INVALID_RECIPIENT, BounceClass.BAD_DOMAIN, BounceClass.INACTIVE_MAILBOX}


class _Row(NamedTuple):
    """`code` and `enhanced` (subject.detail) match whole, `text` anywhere in lower case; empty fits all."""

    kind: BounceClass
    code: str = ""
    enhanced: str = ""
    text: str = ""


_B: Final = BounceClass
_WHO: Final = r"(?<!ip )(?<!host )(?:user|recipient|mailbox|address|account|addressee|local part|customer)"

_BY_TEXT: Final = (
    # The relay's own words (policy.classify), which may quote a peer's.
    _Row(_B.EXPIRED, "554", r"4\.7", r"delivery time expired"),
    _Row(_B.SUPPRESSED, "", "", r"suppression list"),
    _Row(_B.BAD_DOMAIN, "55.", r"1\.2", r"the domain does not exist|not a domain name"),
    _Row(_B.TLS, "450", r"7\.5", r"the server (?:closed the connection|spoke out of turn)"),
    _Row(_B.DNS, "", r"4\.4", r"has the address|cannot be found|has an address"),
    # A host that does not take mail, unless it speaks of the sender's (RFC 7504, RFC 7505).
    _Row(_B.POLICY, "", "", r"sender.{0,60}(?:null ?mx|accept mail)"),
    _Row(_B.BAD_DOMAIN, "", "", r"null ?mx|does(?: not|n't) (?:accept|receive) (?:e-?)?mail\b(?! from)"),
    # What names itself.
    _Row(_B.GREYLIST, "", "", r"gr[ae]y-?list|\bgr[ae]y\.rbl"),
    _Row(_B.LOOP, "", "", r"\bloop(?:s|ing)?\b|too many hops|hop count|too many received"),
    _Row(_B.TLS, "", "",
         r"starttls|requiretls|\bssl\b|\btls (?:is |must|connection|required|support|handshake|not )|"
         r"(?:over|requires?|needs?) tls\b|encryption (?:is )?(?:required|needed)|"
         r"certificate (?:verif|is|has|does|expired|un)"),
    _Row(_B.AUTHENTICATION, "", "",
         r"dmarc|\bspf\b|\bdkim\b|sender policy framework|unauthenticated|\bptr\b|"
         r"reverse[- ](?:dns|hostname|lookup|name)|\brdns\b|cannot find your (?:reverse )?host ?name"),
    _Row(_B.FULL_MAILBOX, "", r"2\.2", r"quota|full|storage|space"),
    _Row(_B.FULL_MAILBOX, "", "", r"(?:user|mailbox) has too many messages"),
    _Row(_B.REPUTATION, "", "", r"(?:ip|low|poor|bad) reputation|spams from your ip"),
    # How much, how fast, how many at a time.
    _Row(_B.RATE, "", "",
         r"too many (?:\w+ )?(?:connections|sessions|messages|mails?|e-?mails|requests|clients|"
         r"recipients)\b|"
         r"too (?:fast|quickly|frequent)|slow(?:ing)? down|concurrent|throttl|rate[- ]?limit|"
         r"frequency limited|trop de connexions|at a rate that|rate of unsolicited|"
         r"(?:excessive|unexpected|high) volume|volume limit|"
         r"(?:message|connection|mail|sending|submission|hourly|daily|relay|queue) ?(?:rate|limit|"
         r"quota)\b.{0,60}(?:exceed|reach)|"
         r"(?:per|this) hour\b|thread limit exceeded|server busy|connection limit|hl:i[cf]c"),
    # This relay's address, or a domain, on a list.
    _Row(_B.REPUTATION, "", "",
         r"reputation|spamhaus|spamcop|sorbs|barracudacentral|\bdnsbls?\b|\b[a-z]*rbls?\b|black-? ?list|"
         r"block-? ?list|blocked (?:using|by \S+\.)|is listed (?:in|on|at|by)|listed at |banned send|"
         r"(?:sender|sending|client|your) ip\b.{0,40}(?:block|bann|list|reject)|"
         r"\bip (?:address )?(?:is |has been |was )?(?:temporarily |currently )?(?:blocked|banned|"
         r"rejected|refused)|"
         r"messages from .{4,60} (?:weren't|were not) sent|ip=.{7,45} a problem occurred|"
         r"permanently deferred|bad behaviou?r|hl:rep|not in whitelist|"
         r"access to (?:submit|this mail).{0,40} has been rejected|dynamic.{0,30}\bip\b|dial-?up|"
         r"residential|not allowed to connect|traffic not accepted from this ip|"
         r"(?:ipcheck|support)\.proofpoint\.com"),
    # What was said.
    _Row(_B.SPAM_BLOCK, "", "",
         r"\bspam|unsolicited|\bjunk|virus|malware|phish|malicious|suspicious|bulk mail|dt:spm|"
         r"\[(?:hm|cs)\d\d\]|content (?:denied|reject|blocked|filter)|because (?:of )?its content|"
         r"potential security issue|security policies|(?:prohibited|forbidden) (?:content|attachment)|"
         r"attachment (?:type )?(?:is )?not (?:allowed|permitted)"),
    # Whether there is room, and how big it is.
    _Row(_B.FULL_MAILBOX, "", "",
         r"over ?quota|quota.{0,20}(?:exceed|full)|exceed.{0,20}(?:quota|storage)|mailbox size|"
         r"(?:mailbox|inbox|mail box|account|maildir).{0,20}\bfull\b|out of (?:disk )?(?:space|storage)|"
         r"(?:no|not enough|insufficient) (?:disk |mailbox |storage )+?(?:space|room|storage)|"
         r"exhausted .{0,20}storage|trouble in home directory"),
    _Row(_B.TOO_LARGE, "", "",
         r"(?:message|mail|size|content|attachment).{0,30}(?:too (?:large|big|long)|exceed)|size limit|"
         r"too large|max(?:imum)? (?:message )?size"),
    # Whose mail is taken.
    _Row(_B.RELAYING, "", "",
         r"relay(?:ing)?\b.{0,25}(?:denied|not (?:permitted|allowed|accepted)|prohibited|refused)|"
         r"(?:unable|not permitted|not allowed|cannot|won't|do not|don't) (?:to )?relay|rcpthosts|"
         r"authentication (?:is )?required|must (?:be )?authenticat|not authenticated to send"),
    # The sender, before anybody takes that for the recipient: a suppression list hangs on it.
    _Row(_B.POLICY, "", "",
         r"(?:sender|mail from|return[- ]path)\b.{0,40}(?:reject|refused|not exist|verif|invalid|unknown|"
         r"denied|callout|blocked)|"
         r"domain of sender|(?:sender|return|from|originator|envelope)(?:'s)? (?:address|domain|account)|"
         r"your (?:\w+ ){0,2}(?:account|access|subscription)|sending for this account|"
         r"account you are sending from"),
    # GMX, WEB.DE and IONOS say "mailbox unavailable" in front of it.
    _Row(_B.POLICY, "", "", r"invalid dns (?:mx|a\b|aaaa)|reject due to policy"),
    _Row(_B.POLICY, "", r"(?!1\.[12]$).*",
         r"(?:domain|host ?(?:name)?) (?:\S+ )?(?:does not exist|doesn't exist|not found|unknown)"),
    # An address in the header, which is no recipient's.
    _Row(_B.PROTOCOL, "", "",
         r"\bheaders? fail|(?:invalid|bad|malformed|illegal)\b.{0,40}\bheaders?\b|"
         r"\b(?:from|to|cc|reply-to|sender)\W{0,2} headers?\b.{0,40}(?:invalid|bad|malformed|illegal)"),
    # The recipient.
    _Row(_B.INVALID_RECIPIENT, "", r"1\.6"),
    _Row(_B.INACTIVE_MAILBOX, "5..", "", r"policy rejection on the target address"),
    _Row(_B.INACTIVE_MAILBOX, "", "",
         rf"{_WHO}\b.{{0,60}}\b(?:disabled|inactive|deactivated|suspended|not active|no longer (?:active|"
         r"valid|in use|available|accept\w*))|"
         r"(?:account|mailbox) (?:is |has been |was )?(?:closed|terminated|discontinued|expired)|"
         rf"(?:disabled|inactive|expired|closed) (?:e-?mail )?{_WHO}"),
    _Row(_B.INVALID_RECIPIENT, "", "",
         rf"(?:unknown|no such|invalid|bad|nonexistent) (?:e-?mail |local |virtual |destination )?{_WHO}\b|"
         rf"{_WHO} (?:\S+ |is |was |name ){{0,2}}(?:unknown|not found|invalid|undeliverable|not exist|"
         r"not known|does not exist|doesn't exist|not (?:a )?valid)|"
         r"no mailbox here|doesn't have an? .{0,30}account|unrout(?:e)?able|recip\w*notfound|"
         r"recipient not found|rejected: undeliverable|not our customer|not listed in .{0,10}directory|"
         r"marked as invalid"),
    _Row(_B.INVALID_RECIPIENT, "", "(?!7).*", r"does(?: not|n't) exist"),
    _Row(_B.INVALID_RECIPIENT, "5..", r"4\.1", r"recipient address(?:es)? rejected ?: access denied"),
    _Row(_B.INVALID_RECIPIENT, "5..", r"1\.0", r"address rejected"),
    _Row(_B.INVALID_RECIPIENT, "55[03]", "(?!7).*",
         r"mailbox unavailable(?! or access denied)|mailbox name not allowed"),
    # How it was said.
    _Row(_B.PROTOCOL, "", "",
         r"syntax|bad sequence|command (?:not|un)|unrecogni[sz]ed command|smtputf8|8bitmime|"
         r"protocol (?:error|violation)|not rfc|bare lf|line too long|not implemented|helo command|"
         r"too many errors|fully[- ]qualified|missing.{0,20}(?:header|message-id)"),
    # Trouble that passes.
    _Row(_B.DNS, "4..", "", r"name ?servers?\b|\bdns\b|domain lookup|(?:host|domain) not found"),
    _Row(_B.CONNECTION, "", "", r"timed? ?out|connection (?:lost|refused|reset|closed)|no route|unreachable"),
    _Row(_B.SYSTEM, "4..", "",
         r"\bbusy\b|temporary \w* ?problem|local error|internal (?:error|resource)|insufficient"),
)  # fmt: skip
"""The first row that fits decides; the order is the point."""

_BY_STATUS: Final = (
    _Row(_B.INVALID_RECIPIENT, "", r"1\.[1345]|7\.17"),
    _Row(_B.BAD_DOMAIN, "", r"1\.2|1\.10|7\.18"),
    _Row(_B.POLICY, "", r"1\.[789]"),
    _Row(_B.INACTIVE_MAILBOX, "5..", r"2\.1"),
    _Row(_B.FULL_MAILBOX, "", r"2\.2"),
    _Row(_B.TOO_LARGE, "", r"2\.3|3\.4"),
    _Row(_B.SYSTEM, "", r"2\.4|3\.[0-35]|4\.5"),
    _Row(_B.CONNECTION, "", r"4\.[12]"),
    _Row(_B.DNS, "", r"4\.[34]"),
    _Row(_B.LOOP, "", r"4\.(?:6|14)"),
    _Row(_B.EXPIRED, "", r"4\.7"),
    _Row(_B.RATE, "", r"5\.3|7\.28"),
    _Row(_B.PROTOCOL, "", r"[56]\..*"),
    _Row(_B.TLS, "", r"7\.(?:4|1[01]|29|30)"),
    _Row(_B.AUTHENTICATION, "", r"7\.(?:5|7|2[0-7]|509|515)"),
    _Row(_B.POLICY, "", r"7\..*"),
    _Row(_B.PROTOCOL, "50[0-4]|555"),
    _Row(_B.RELAYING, "530|551"),
    _Row(_B.FULL_MAILBOX, "552"),
    _Row(_B.BAD_DOMAIN, "556|521"),
    _Row(_B.POLICY, "", "", r"polic"),
    _Row(_B.POLICY, "5..", "", r"reject|denied|refused|prohibit|not (?:allowed|permitted|accept)|block|"
         r"forbidden"),
    _Row(_B.SYSTEM, "4.."),
    _Row(_B.OTHER),
)  # fmt: skip
"""What is left by the enhanced status (RFC 3463 and its registry), then by the code (RFC 5321 §4.2.2)."""


def of(outcome: Outcome) -> BounceClass:
    """Return the class of an outcome that is no delivery."""
    words = _LINK.sub(r"\1", outcome.reply.text[:_LOOKED_AT].lower())
    return _of(outcome.reply.code, _SPACE.sub(" ", without_addresses(words)))


def without_addresses(words: str) -> str:
    """Return a reply's words with each address in them as `@`: what stands in an address says nothing."""
    return _ADDRESS.sub("@", words)


def hard(kind: BounceClass) -> bool:
    """Tell whether a class says that the address itself is bad: mail to it will never arrive.

    Only with a failure: a 4yz "user unknown" may be a server that does not know its users yet.
    """
    return kind in _HARD


class _Compiled(NamedTuple):
    kind: BounceClass
    code: re.Pattern[str]
    enhanced: re.Pattern[str]
    text: re.Pattern[str]


def _compile(row: _Row) -> _Compiled:
    return _Compiled(
        row.kind, re.compile(row.code or ".*"), re.compile(row.enhanced or ".*"), re.compile(row.text)
    )


_TABLE: Final = tuple(map(_compile, (*_BY_TEXT, *_BY_STATUS)))
_STATUS: Final = re.compile(r"(?<![0-9.])[45]\.([0-7])\.([0-9]{1,3})(?![0-9]|\.[0-9])")
_SPACE: Final = re.compile(r"\s+")
_LINK: Final = re.compile(r"(https?://[^/\s]*)\S*")
_ADDRESS: Final = re.compile(r"[^\s<>@:]+@[^\s<>@]+")


@lru_cache(4096)
def _of(code: int, words: str) -> BounceClass:
    """Walk the table. Cached: without their addresses, the refusals of a host read the same."""
    status = _STATUS.search(words)
    digits, enhanced = str(code), f"{status[1]}.{int(status[2])}" if status else ""
    for row in _TABLE:
        if row.code.fullmatch(digits) and row.enhanced.fullmatch(enhanced) and row.text.search(words):
            return row.kind
    return BounceClass.OTHER
