"""AUTH of a session: what is said, and who the client is then."""

from base64 import b64decode, b64encode

from scramp import ScramClient
from tests.unit.listener.test_mechanisms import keys

from backstamp.listener import authentication
from backstamp.listener.accounts import Scram
from backstamp.listener.authentication import Ask, Authentication, End, Judge, Refusal
from backstamp.listener.mechanisms import REJECTED, Password
from backstamp.policy.user import User

OFFERED = ("SCRAM-SHA-256", "PLAIN", "LOGIN", "OAUTHBEARER")
ANN = User("ann")
PLAIN = b"PLAIN " + b64encode(b"\0ann\0pw")
NO = Refusal(REJECTED)


def made(**more: int) -> Authentication:
    return Authentication(OFFERED, verifier=keys, nonce=lambda: "nonce", **more)


def test_success() -> None:
    """RFC 4954: 235 2.7.0, and the name of the mechanism is whatever its case."""
    session = made()
    assert session.keyword == "AUTH SCRAM-SHA-256 PLAIN LOGIN OAUTHBEARER"
    assert session.command(PLAIN.replace(b"PLAIN", b"plain")) == Judge(Password("ann", "pw", "PLAIN"))
    assert session.user is None
    assert session.judged(ANN) == End(b"235 2.7.0 Authentication succeeded\r\n")
    assert session.user == ANN


def test_only_once() -> None:
    """RFC 4954: after a success AUTH is 503."""
    session = made()
    session.command(PLAIN)
    session.judged(ANN)
    answer = session.command(PLAIN)
    assert isinstance(answer, End)
    assert answer.reply.startswith(b"503 5.5.1 ")


def test_asked_line_by_line() -> None:
    """RFC 4954: 334 and base64."""
    session = made()
    assert session.command(b"LOGIN") == Ask(b"334 " + b64encode(b"Username:") + b"\r\n")
    assert session.line(b64encode(b"ann")) == Ask(b"334 " + b64encode(b"Password:") + b"\r\n")
    assert session.line(b64encode(b"pw")) == Judge(Password("ann", "pw", "LOGIN"))


def test_cancelled_and_begun_again() -> None:
    """RFC 4954: `*` ends the exchange with 501, and another may follow."""
    session = made()
    session.command(b"PLAIN")
    answer = session.line(b"*")
    assert isinstance(answer, End)
    assert answer.reply.startswith(b"501 5.7.0 ")
    assert isinstance(session.command(PLAIN), Judge)


def test_syntax_and_unknown_mechanisms() -> None:
    """RFC 4954: 501 5.5.4, 504 5.5.4; neither is a failure to prove something."""
    session = made()
    for argument in (b"", b"PLAIN ", b"PLAIN A B", b" PLAIN"):
        answer = session.command(argument)
        assert isinstance(answer, End)
        assert answer.reply.startswith(b"501 5.5.4 ")
    for argument in (b"CRAM-MD5", b"XOAUTH2 AA==", b"\xff"):
        answer = session.command(argument)
        assert isinstance(answer, End)
        assert answer.reply.startswith(b"504 5.5.4 ")
    assert session.failures == 0


def test_sent_away_after_three_failures() -> None:
    """Security 11: close after 3 (421), over all AUTH commands of the connection."""
    session = made()
    session.command(PLAIN)
    assert session.judged(NO) == End(REJECTED)
    answer = session.command(b"PLAIN !!!")
    assert isinstance(answer, End)
    assert answer.reply.startswith(b"501 5.5.2 ")
    later = made(failures=session.failures)
    later.command(b"PLAIN")
    assert later.too_long() == End(authentication.TOO_MANY, close=True)
    assert authentication.TOO_MANY.startswith(b"421 4.7.0 ")


def test_trouble_of_the_relays_own_is_not_the_clients() -> None:
    session = made()
    for _ in range(5):
        session.command(PLAIN)
        assert session.judged(Refusal(b"454 4.7.0 Later\r\n")) == End(b"454 4.7.0 Later\r\n")


def scram(session: Authentication, password: str) -> tuple[ScramClient, authentication.Next]:
    client = ScramClient(["SCRAM-SHA-256"], "ann", password, c_nonce="client")
    asked = session.command(b"SCRAM-SHA-256 " + b64encode(client.get_client_first().encode()))
    assert isinstance(asked, Ask)
    client.set_server_first(b64decode(asked.reply[4:]).decode())
    return client, session.line(b64encode(client.get_client_final().encode()))


def test_scram_is_acknowledged() -> None:
    """RFC 4954: what comes with a success is a challenge, answered by an empty line."""
    session = made()
    client, step = scram(session, "pencil")
    assert isinstance(step, Judge)
    told = session.judged(ANN)
    assert isinstance(told, Ask)
    assert session.user is None
    client.set_server_final(b64decode(told.reply[4:]).decode())
    assert session.line(b"") == End(authentication.SUCCESS)
    assert session.user == ANN


def test_scram_not_acknowledged_is_no_success() -> None:
    for line in (b"*", b64encode(b"more")):
        session = made()
        scram(session, "pencil")
        session.judged(ANN)
        answer = session.line(line)
        assert isinstance(answer, End)
        assert answer.reply.startswith(b"501 ")
        assert session.user is None


def test_who_is_locked_out_does_not_learn_that_a_guess_was_right() -> None:
    """Security 11: a lock-out says the same to a right proof as to a wrong one."""
    said = []
    for password in ("pencil", "wrong"):
        session = made()
        _, step = scram(session, password)
        assert isinstance(step, Judge)
        said.append(session.judged(Refusal(b"454 4.7.0 Later\r\n")))
    assert said[0] == said[1]


def test_a_refused_token() -> None:
    """RFC 7628: the error as a challenge, 535 after the dummy response."""
    session = made()
    assert isinstance(session.command(b"OAUTHBEARER " + b64encode(b"n,,\1auth=Bearer abc\1\1")), Judge)
    told = session.judged(NO)
    assert isinstance(told, Ask)
    assert b"invalid_token" in b64decode(told.reply[4:])
    assert session.line(b64encode(b"\1")) == End(REJECTED)


def test_a_verifier_never_shows() -> None:
    """Security 11: log redaction."""
    assert "stored" not in repr(Scram(4096, b"salt" * 4, b"stored" * 5, b"server"))
