"""What a command line of `sendmail` asks for."""

import re
from pathlib import Path

import pytest

from backstamp.sendmail import options
from backstamp.sendmail.failure import UNAVAILABLE, USAGE, SendmailError
from backstamp.sendmail.options import Mode, Options, parse

DOCUMENT = (Path(__file__).resolve().parents[3] / "docs/sendmail.md").read_text()

ID = "01M851RQPP73GN3XVVNKKD3C5B"


@pytest.mark.parametrize(
    ("line", "asked"),
    [
        ("a@x.org", Options(recipients=("a@x.org",))),
        ("-t -i", Options(extract=True, dot_ends=False)),
        ("-ti", Options(extract=True, dot_ends=False)),
        ("-oi -bm a@x.org b@y.org", Options(dot_ends=False, recipients=("a@x.org", "b@y.org"))),
        ("-f me@x.org a@x.org", Options(sender="me@x.org", recipients=("a@x.org",))),
        ("-fme@x.org -t", Options(sender="me@x.org", extract=True)),
        ("-tifme@x.org", Options(sender="me@x.org", extract=True, dot_ends=False)),
        ("-r me@x.org -F Me", Options(sender="me@x.org", name="Me")),
        ("-N success,Delay -R hdrs -V id1", Options(notify="SUCCESS,DELAY", ret="HDRS", envelope_id="id1")),
        ("-N never -R FULL", Options(notify="NEVER", ret="FULL")),
        ("-R 5000", Options()),
        ("-B 8BITMIME", Options(eight_bit=True)),
        ("-B7bit", Options()),
        ("-v", Options(verbose=True)),
        ("-C x.toml --config=y.toml", Options(config="y.toml")),
        ("--config x.toml -bs", Options(config="x.toml", mode=Mode.SERVE)),
        ("-bp", Options(mode=Mode.LIST)),
        ("-bi", Options(mode=Mode.NOTHING)),
        ("-bH", Options(mode=Mode.NOTHING)),
        ("-I", Options(mode=Mode.NOTHING)),
        ("-q30m", Options(mode=Mode.NOTHING)),
        (f"-qI{ID}", Options(mode=Mode.RETRY, queue_id=ID)),
        (
            "-oem -oi -odb -O DeliveryMode=b -om -G -U -n -m -Am -h 5 -e m -p x -L x -Xlog",
            Options(dot_ends=False),
        ),
        ("-t -- -odd@x.org", Options(extract=True, recipients=("-odd@x.org",))),
        ("- a@x.org", Options(recipients=("-", "a@x.org"))),
    ],
)
def test_a_command_line_means(line: str, asked: Options) -> None:
    assert parse("sendmail", line.split()) == asked


@pytest.mark.parametrize("words", [["-b", ""], ["-tq", ""], ["-N", ""], ["-R", ""], ["-B", ""]])
def test_a_value_of_nothing_is_ex_usage_where_one_is_needed(words: list[str]) -> None:
    with pytest.raises(SendmailError) as caught:
        parse("sendmail", [*words, "a@x.org"])
    assert caught.value.code == USAGE


def test_an_empty_sender_is_not_a_missing_one() -> None:
    assert parse("sendmail", ["-f", "", "a@x.org"]).sender == ""


@pytest.mark.parametrize(
    "line",
    [
        "-Z",
        "-tZ",
        "--help",
        "-f",
        "-N",
        "-N sometimes",
        "-N never,delay",
        "-R some",
        "-V \u00fc",
        "-V " + "x" * 101,
        "-B BINARY",
        "-bd",
        "-bv",
        "-bt",
        "-qRexample.org",
        "-qS",
        "-qI",
        "-qIbogus",
        "-qI" + "!" * 26,
        "-bs -t",
        "-bp a@x.org",
        "--config",
    ],
)
def test_what_is_wrong_is_ex_usage(line: str) -> None:
    with pytest.raises(SendmailError) as caught:
        parse("sendmail", line.split())
    assert caught.value.code == USAGE
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("line", ["-q", "-XV", "-XV+="])
def test_what_this_relay_does_not_do_is_ex_unavailable(line: str) -> None:
    with pytest.raises(SendmailError) as caught:
        parse("sendmail", line.split())
    assert caught.value.code == UNAVAILABLE


def test_the_name_it_is_called_by_is_the_mode() -> None:
    assert parse("mailq", []).mode is Mode.LIST
    assert parse("newaliases", []).mode is Mode.NOTHING
    assert parse("mailq", ["-bs"]).mode is Mode.SERVE


def test_xtext_is_what_rfc_3461_says() -> None:
    """RFC 3461 §4: xtext writes `+`, `=` and what is no graphic character in hexadecimal."""
    assert options.xtext("a+b=c d") == "a+2Bb+3Dc+20d"


def test_the_document_has_every_letter_and_no_other() -> None:
    rows = re.findall(r"^\| (`-.*?) \|", DOCUMENT, re.MULTILINE)
    named = {letter for row in rows for letter in re.findall(r"`-(\w)", row)}
    assert named == set(options._VALUED + options._FLAGS)


def test_the_document_has_every_exit_code() -> None:
    from backstamp.sendmail import failure

    codes = {value for value in vars(failure).values() if isinstance(value, int)}
    assert {int(code) for code in re.findall(r"^\| (\d+) ", DOCUMENT, re.MULTILINE)} == codes | {0}
