"""What a client may say, and what it should not: pieces of SMTP, each made from one number.

A session is a list of numbers, so that a failing one shrinks by leaving some out.
"""

import base64
import itertools
from collections.abc import Callable, Sequence
from random import Random

DOMAINS = [
    b"a.example",
    b"B.example",
    b"c.d.example",
    b"[192.0.2.1]",
    b"xn--bcher-kva.example",
    b"-bad",
    b"b\xc3\xbccher.example",
]
LOCALS = [
    b"u",
    b"v",
    b"first.last",
    b'"quoted > string"',
    b'"a@b"',
    b"percent%x",
    b"bang!x",
    b"x" * 64,
    b"x" * 65,
    b"\xc3\xbc",
    b'"\\\\\\""',
]
LINE_ENDS = [b"\n", b"\r", b"\r\r\n", b"\n\r", b"", b"\0\r\n", b" \r\n"]
MAIL_PARAMETERS = [
    b"SIZE=100", b"SIZE=0", b"SIZE=99999999999", b"SIZE=abc", b"BODY=8BITMIME", b"BODY=7BIT",
    b"BODY=BINARYMIME",
    b"SMTPUTF8", b"RET=HDRS", b"ENVID=a+2Bb", b"ENVID=+0D+0A", b"MT-PRIORITY=3", b"MT-PRIORITY=99",
    b"AUTH=<>",
    b"REQUIRETLS", b"HOLDFOR=10", b"BY=10;R", b"X=Y", b"=", b"SIZE", b"AUTH=a+20b", b"TENANT=x",
]  # fmt: skip
RCPT_PARAMETERS = [
    b"NOTIFY=NEVER", b"NOTIFY=SUCCESS,FAILURE", b"NOTIFY=NEVER,DELAY", b"ORCPT=rfc822;a+40b",
    b"ORCPT=rfc822;a>b",
    b"ORCPT=utf-8;\\x{FC}", b"X=Y", b"RRVS=2014-04-03T23:01:00Z", b"NOTIFY",
]  # fmt: skip
VERBS = [
    b"EHLO c.example", b"HELO c.example", b"EHLO", b"EHLO [192.0.2.9]", b"EHLO bad name", b"RSET",
    b"NOOP", b"NOOP x", b"QUIT x",
    b"VRFY u", b"VRFY", b"EXPN list", b"HELP", b"DATA", b"DATA x", b"RSET x", b"STARTTLS x",
    b"rset", b"TURN", b"ETRN x", b"XCLIENT ADDR=1.2.3.4",
    b"SEND FROM:<a@b.example>", b"MAIL", b"RCPT", b"BDAT", b"BDAT x", b"BDAT -1", b"BDAT 5 FIRST",
    b"AUTH", b"", b" ", b".", b"..",
]  # fmt: skip
ENDING = [b"QUIT", b"STARTTLS", b"GET / HTTP/1.1", b"POST / HTTP/1.1"]


def _any(random: Random, most: int) -> bytes:
    return random.randbytes(random.randint(0, most))


def _address(random: Random) -> bytes:
    if random.random() < 0.1:
        return random.choice(
            [
                b"",
                b"Postmaster",
                b"u",
                b"@a.example:u@b.example",
                b"u@@a.example",
                b"u@a.example.",
                b"=?utf-8?q?x?=@a.example",
            ]
        )
    good = random.random() < 0.8
    domain = random.choice(DOMAINS[:4] if good else DOMAINS)
    return random.choice(LOCALS[:6] if good else LOCALS) + b"@" + domain


def _parameters(random: Random, known: Sequence[bytes]) -> bytes:
    if random.random() < 0.75:
        return b""
    return b"".join(b" " + random.choice(known) for _ in range(random.randint(1, 2)))


def _end(random: Random) -> bytes:
    return b"\r\n" if random.random() < 0.99 else random.choice(LINE_ENDS)


def mail(random: Random) -> bytes:
    return b"MAIL FROM:<%b>%b" % (_address(random), _parameters(random, MAIL_PARAMETERS)) + _end(random)


def rcpt(random: Random) -> bytes:
    return b"RCPT TO:<%b>%b" % (_address(random), _parameters(random, RCPT_PARAMETERS)) + _end(random)


def verb(random: Random) -> bytes:
    return random.choice(VERBS) + _end(random)


def ending(random: Random) -> bytes:
    return random.choice(ENDING) + _end(random)


def hello(random: Random) -> bytes:
    return (
        random.choice([b"EHLO c.example", b"EHLO c.example", b"ehlo [192.0.2.9]", b"HELO c.example"])
        + b"\r\n"
    )


def text(random: Random) -> bytes:
    lines = random.choices(
        [
            b"Subject: x",
            b"",
            b"body",
            b".",
            b"..",
            b".leading",
            b"x" * 70,
            b"Received: x",
            b"\xc3\xbc",
            b"QUIT",
            b"RSET",
        ],
        weights=[4, 4, 8, 0.3, 1, 1, 2, 1, 1, 1, 1],
        k=random.randint(0, 12),
    )
    octets = b"".join(line + (_end(random) if random.random() < 0.1 else b"\r\n") for line in lines)
    if random.random() < 0.02:
        octets += _any(random, 300)
    if random.random() < 0.01:
        octets = (octets or b"x\r\n") * random.choice([100, 2000, 20_000])
        octets = octets[: random.choice([200_000, 1_300_000, 1_600_000])]
    return octets


def stuffed(random: Random) -> bytes:
    octets = text(random)
    if random.random() < 0.8:
        octets = b"\r\n".join(
            b"." + line if line.startswith(b".") else line for line in octets.split(b"\r\n")
        )
    if octets and not octets.endswith(b"\r\n"):
        octets += b"\r\n"
    return octets + b".\r\n"


def chunk(random: Random) -> bytes:
    octets = text(random)
    size = len(octets)
    if random.random() < 0.06:
        size = max(0, size + random.choice([-3, -1, 1, 2, 100, 10_000_000, 9_999_999_999]))
    last = random.choice([b"", b" LAST", b" LAST", b" last", b"  LAST"])
    return b"BDAT %d%b" % (size, last) + _end(random) + octets


def transaction(random: Random) -> bytes:
    """Return a whole one, of which now and then a part is missing, doubled or out of its place."""
    parts = [mail(random), *(rcpt(random) for _ in range(random.randint(1, 4)))]
    if random.random() < 0.6:
        parts += [b"DATA\r\n", stuffed(random)]
    else:
        parts += [chunk(random) for _ in range(random.randint(1, 3))]
    if random.random() < 0.2:
        at = random.randrange(len(parts))
        match random.randrange(4):
            case 0:
                del parts[at]
            case 1:
                parts.insert(at, parts[at])
            case 2:
                parts.insert(at, random.choice(parts))
            case 3:
                parts.insert(
                    at, random.choice([b"RSET\r\n", b"EHLO c.example\r\n", b"NOOP\r\n", b"DATA\r\n"])
                )
    return b"".join(parts)


def many(random: Random) -> bytes:
    return b"MAIL FROM:<s@a.example>\r\n" + b"".join(
        b"RCPT TO:<u%d@%b>\r\n" % (random.randrange(100), random.choice(DOMAINS[:4]))
        for _ in range(random.randint(40, 70))
    )


def auth(random: Random) -> bytes:
    def b64(octets: bytes) -> bytes:
        return base64.b64encode(octets)

    right = b"\0ann\0s3cret"
    plain = b64(
        random.choice([right, right, right, b"\0ann\0wrong", b"\0nobody\0x", b"x", b"", _any(random, 40)])
    )
    first = b64(b"n,,n=ann,r=" + b"fyko+d2lbbFgONRv9qkxdawL")
    return random.choice(
        [
            b"AUTH PLAIN " + plain + b"\r\n",
            b"AUTH PLAIN\r\n" + plain + b"\r\n",
            b"AUTH LOGIN\r\n" + b64(b"ann") + b"\r\n" + b64(b"s3cret") + b"\r\n",
            b"AUTH LOGIN " + b64(b"ann") + b"\r\n*\r\n",
            b"AUTH SCRAM-SHA-256 " + first + b"\r\n" + b64(b"c=biws,r=x,p=y") + b"\r\n",
            b"AUTH SCRAM-SHA-256\r\n" + first + b"\r\n",
            b"AUTH PLAIN =\r\n",
            b"AUTH PLAIN %\r\n",
            b"AUTH PLAIN " + b"A" * random.choice([2000, 3000, 12_288, 12_320, 20_000]) + b"\r\n",
            b"AUTH PLAIN\r\n" + b"A" * random.choice([2048, 12_290, 20_000]) + b"\r\n",
            b"AUTH\r\n",
            b"AUTH GSSAPI\r\n",
            b"AUTH OAUTHBEARER " + plain + b"\r\n",
        ]
    )


def long(random: Random) -> bytes:
    octets = random.choice([b"NOOP ", b"MAIL FROM:<", b"RCPT TO:<", b"", b"BDAT ", b"AUTH PLAIN ", b"\xff"])
    return (
        octets
        + random.choice([b"x", b" ", b"\0", b"1", b"@"])
        * random.choice([2041, 2042, 2043, 5000, 13_000, 70_000])
        + _end(random)
    )


def garbage(random: Random) -> bytes:
    return _any(random, random.choice([1, 5, 50, 500]))


def line_end(random: Random) -> bytes:
    return random.choice(
        [*LINE_ENDS, b"\r\n", b".\r\n", b"\r\n.\r\n", b"\n.\n", b"\r\n.\n", b"\n.\r\n", b"\r.\r"]
    )


def bent(random: Random) -> bytes:
    """Return a transaction with octets of it changed, lost or doubled."""
    octets = bytearray(transaction(random)[:3000])
    for _ in range(random.randint(1, 4)):
        at = random.randrange(len(octets))
        match random.randrange(4):
            case 0:
                octets[at] = random.randrange(256)
            case 1:
                del octets[at]
            case 2:
                octets[at:at] = octets[at : at + random.randint(1, 40)]
            case 3:
                octets[at:at] = random.choice(LINE_ENDS)
        octets = octets or bytearray(b"\n")
    return bytes(octets)


Fragment = Callable[[Random], bytes]
WEIGHTS: dict[Fragment, float] = {
    hello: 6, mail: 4, rcpt: 6, verb: 5, transaction: 14, chunk: 3, stuffed: 1.5, many: 0.5,
    auth: 2, long: 0.7, garbage: 1,
    line_end: 1, bent: 2, ending: 0.4,
}  # fmt: skip
_FRAGMENTS = list(WEIGHTS)
_CUMULATED = list(itertools.accumulate(WEIGHTS.values()))


def fragment(number: int) -> bytes:
    """Return the fragment that has this number."""
    random = Random(number)
    return random.choices(_FRAGMENTS, cum_weights=_CUMULATED)[0](random)


def session(numbers: Sequence[int]) -> bytes:
    """Return what a client says: mostly it greets first."""
    octets = b"".join(map(fragment, numbers))
    return octets if numbers and numbers[0] % 8 == 0 else b"EHLO c.example\r\n" + octets


def cut(octets: bytes, random: Random) -> list[bytes]:
    """Return the pieces in which it comes."""
    longest = random.choice([1, 7, 100, 1460, 65_536, len(octets) + 1])
    if len(octets) > 20_000 and longest < 1460:
        longest = 1460
    pieces, at = [], 0
    while at < len(octets):
        end = at + random.randint(1, longest)
        pieces.append(octets[at:end])
        at = end
    return pieces
