"""The command line of `sendmail`, as Postfix documents its own (sendmail(1), Postfix 3.x). Pure.

getopt's manner: letters may be joined, a value may stand in the same word or the next, the first word that
is no option or `--` ends them. Options of other mailers that change nothing here are taken and passed over;
what this relay cannot do is refused, never passed over in silence.
"""

import enum
from collections.abc import Sequence
from typing import Final, NamedTuple, NoReturn

from backstamp.queue import ids
from backstamp.sendmail.failure import UNAVAILABLE, USAGE, SendmailError

_VALUED: Final = "ABCFLNORVXbefhopqr"
_FLAGS: Final = "GIUcimntvx"
_NOTIFY: Final = ("NEVER", "SUCCESS", "FAILURE", "DELAY")
ENVELOPE_ID: Final = 100
"""Characters an ENVID may have (RFC 3461 §5.4)."""


class Mode(enum.Enum):
    """What is asked for."""

    DELIVER = "-bm: a message from standard input"
    SERVE = "-bs: SMTP on standard input and output"
    LIST = "-bp: what is queued"
    RETRY = "-qI: try one message now"
    NOTHING = "something this relay has no need of"


class Options(NamedTuple):
    """A command line; `sender` and `name` are None where none was given."""

    mode: Mode = Mode.DELIVER
    extract: bool = False
    dot_ends: bool = True
    sender: str | None = None
    name: str | None = None
    notify: str = ""
    ret: str = ""
    envelope_id: str = ""
    eight_bit: bool = False
    verbose: bool = False
    config: str | None = None
    queue_id: str = ""
    recipients: tuple[str, ...] = ()


def parse(program: str, arguments: Sequence[str]) -> Options:
    """Return what a command line asks for; `program` is the name it was called by.

    Raises:
        SendmailError: it is wrong (EX_USAGE), or asks for what this relay does not do (EX_UNAVAILABLE).
    """
    modes = {"mailq": Mode.LIST, "newaliases": Mode.NOTHING}
    options = Options(mode=modes.get(program, Mode.DELIVER))
    words = list(arguments)
    while words and words[0].startswith("-") and words[0] != "-":
        word = words.pop(0)
        if word == "--":
            break
        if word == "-q":
            raise SendmailError(
                UNAVAILABLE,
                "-q: mail is tried by its own schedule; backstamp queue retry QUEUE_ID tries it now",
            )
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            if name != "config":
                _usage(f"{word}: no such option")
            options = options._replace(config=value if equals else _value("--config", words))
            continue
        letters = word[1:]
        while letters:
            letter, letters = letters[0], letters[1:]
            if letter in _FLAGS:
                options = _flag(options, letter)
            elif letter in _VALUED:
                options = _valued(options, letter, letters or _value(f"-{letter}", words))
                break
            else:
                _usage(f"-{letter}: no such option")
    return _checked(options._replace(recipients=tuple(words)))


def _value(option: str, words: list[str]) -> str:
    if not words:
        _usage(f"{option} needs a value")
    return words.pop(0)


def _flag(options: Options, letter: str) -> Options:
    if letter == "t":
        return options._replace(extract=True)
    if letter == "i":
        return options._replace(dot_ends=False)
    if letter == "v":
        return options._replace(verbose=True)
    if letter == "I":
        return options._replace(mode=Mode.NOTHING)
    return options


def _valued(options: Options, letter: str, value: str) -> Options:
    if letter in "fr":
        return options._replace(sender=value)
    if letter == "F":
        return options._replace(name=value)
    if letter == "C":
        return options._replace(config=value)
    if letter == "o" and value == "i":
        return options._replace(dot_ends=False)
    if letter == "b":
        return options._replace(mode=_mode(value))
    if letter == "q":
        return _queue(options, value)
    if letter == "B":
        if value.upper() not in ("7BIT", "8BITMIME"):
            _usage("-B is 7BIT or 8BITMIME")
        return options._replace(eight_bit=value.upper() == "8BITMIME")
    if letter == "N":
        words = value.upper().replace(" ", "").split(",")
        if not set(words) <= set(_NOTIFY) or ("NEVER" in words and len(words) > 1):
            _usage("-N is never, or a list of success, failure and delay")
        return options._replace(notify=",".join(words))
    if letter == "R":
        if value.upper() not in ("FULL", "HDRS") and not value.isdecimal():
            _usage("-R is full or hdrs")
        return options if value.isdecimal() else options._replace(ret=value.upper())
    if letter == "V":
        if not value.isascii() or not value.isprintable() or len(value) > ENVELOPE_ID:
            _usage(f"-V is an envelope id of at most {ENVELOPE_ID} printable ASCII characters")
        return options._replace(envelope_id=value)
    if letter == "X" and value.startswith("V"):
        raise SendmailError(UNAVAILABLE, "-XV: variable return paths (VERP) are not to be had here")
    return options


def _mode(value: str) -> Mode:
    found = {"m": Mode.DELIVER, "s": Mode.SERVE, "p": Mode.LIST, "i": Mode.NOTHING, "h": Mode.NOTHING}.get(
        value[:1].lower() if value[:1] == "H" else value[:1]
    )
    if found is None:
        hints = {
            "d": "; backstamp serve runs the relay",
            "v": "; backstamp route shows the way of an address",
        }
        _usage(f"-b{value[:1]}: not supported{hints.get(value[:1], '')}")
    return found


def _queue(options: Options, value: str) -> Options:
    if value[:1].isdecimal():
        return options._replace(mode=Mode.NOTHING)
    if value[:1] == "I" and len(value) > 1:
        try:
            ids.parse(value[1:])
        except ValueError as error:  # told here: the command that becomes of it has other exit codes
            _usage(f"-qI: {error}")
        return options._replace(mode=Mode.RETRY, queue_id=value[1:])
    _usage(f"-q{value[:1]}: not supported")


def _checked(options: Options) -> Options:
    if options.mode is not Mode.DELIVER:
        if options.extract:
            _usage("-t means something only where a message is read")
        if options.recipients:
            _usage("recipients mean something only where a message is read")
    return options


def _usage(text: str) -> NoReturn:
    raise SendmailError(USAGE, text)


def xtext(value: str) -> str:
    """Return printable ASCII as xtext (RFC 3461 §4)."""
    return "".join(one if "!" <= one <= "~" and one not in "+=" else f"+{ord(one):02X}" for one in value)
