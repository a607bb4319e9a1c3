"""The table of what was proven with which program: `docs/interop.md`, made by a run."""

from collections.abc import Iterable, Sequence

from tests.interop.access import ACCESSES

INTRODUCTION = """\
# Other programs

Made by `make interop REPORT=docs/interop.md` from what passed (`tests/interop/`).

`make interop-tools` installs what is missing (Debian, as root); what is absent is skipped.

Real programs, run on loopback. Octet-exact: the content that arrives at the server behind the relay is
the one the program sent, behind one Received field of the relay's; the bodies have 8-bit octets and
lines that begin with dots or are one.

`clear`, `starttls` and `implicit` are the listener's `tls`; the others are mechanisms of AUTH, by STARTTLS
but for `implicit-plain`. Certificates are verified for their name; the user was written by
`backstamp user add`, and an endpoint on loopback knows the token.
"""
ROLES = {
    "client": "Clients of the relay: what they hand in arrives",
    "command": "Programs that send by a command: `backstamp sendmail`",
    "server": "Servers the relay delivers to",
    "suite": "Test suites of others, run against the listener",
}


def written(rows: Iterable[Sequence[str]]) -> str:
    """Return the page for rows of role, program, version, what was proven and by which kind of access."""
    found: dict[str, dict[tuple[str, str], dict[str, set[str]]]] = {}
    for role, name, version, what, way in rows:
        found.setdefault(role, {}).setdefault((name, version), {}).setdefault(what, set()).add(way)
    text = INTRODUCTION
    for role, title in ROLES.items():
        if role not in found:
            continue
        by = role == "client"
        text += f"\n## {title}\n\n| program | version |{' by |' * by} proven |\n"
        text += f"| --- | --- |{' --- |' * by} --- |\n"
        for (name, version), proven in sorted(found[role].items(), key=lambda one: one[0][0].lower()):
            ways = set().union(*proven.values()) - {""}
            cells = [name, version, *([_listed(ways)] if by else [])]
            cells.append("; ".join(sorted(_told(what, those, ways) for what, those in proven.items())))
            text += f"| {' | '.join(cells)} |\n"
    return text


def _told(what: str, those: set[str], ways: set[str]) -> str:
    """Return what was proven, with the ways if they are not all."""
    return what if those in (ways, {""}) else f"{what} ({_listed(those - {''})})"


def _listed(ways: set[str]) -> str:
    return ", ".join(access.name for access in ACCESSES if access.name in ways)
