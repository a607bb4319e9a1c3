"""How `sendmail` ends when it does not end well, and what replies come to (sysexits(3)). Pure."""

from collections.abc import Sequence

USAGE = 64
DATA = 65
NO_USER = 67
NO_HOST = 68
UNAVAILABLE = 69
SOFTWARE = 70
SYSTEM = 71
TEMPORARY = 75
NOT_PERMITTED = 77
CONFIGURATION = 78


class SendmailError(Exception):
    """The mail was not taken; the text is one line for the caller, `code` the exit code."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


def code_of(reply: str) -> int:
    """Return the exit code of a refusal: by its enhanced status (RFC 3463) where that says more."""
    if reply[:1] != "5":
        return TEMPORARY
    status = reply[4:].partition(" ")[0]
    if status == "5.1.1":
        return NO_USER
    if status == "5.1.2":
        return NO_HOST
    return DATA if status.startswith(("5.6.", "5.1.3")) else UNAVAILABLE


def code_of_all(replies: Sequence[str], *, some_taken: bool) -> int:
    """Return the exit code where these recipients were refused and others, perhaps, were taken.

    Whoever reads "temporary" sends the whole message again. That is right where nobody has it, even if only
    one of the refusals is temporary; where somebody has it already he would get it twice.
    """
    codes = [code_of(reply) for reply in replies]
    if some_taken:
        return next((code for code in codes if code != TEMPORARY), UNAVAILABLE)
    return TEMPORARY if TEMPORARY in codes else codes[0]
