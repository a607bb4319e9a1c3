"""The table of what was proven with which program: `docs/interop.md`, made by a run."""

from collections.abc import Iterable, Sequence

INTRODUCTION = """\
# Other programs

Made by `make interop REPORT=docs/interop.md` from what passed (`tests/interop/`).

`make interop-tools` installs what is missing (Debian, as root); what is absent is skipped.

Real programs, run on loopback. Octet-exact: the content that arrives at the server behind the relay is
the one the program sent, behind one Received field of the relay's; the bodies have 8-bit octets and
lines that begin with dots or are one.
"""
ROLES = {
    "client": "Clients of the relay: what they hand in arrives",
    "command": "Programs that send by a command: `backstamp sendmail`",
    "server": "Servers the relay delivers to",
    "suite": "Test suites of others, run against the listener",
}


def written(rows: Iterable[Sequence[str]]) -> str:
    """Return the page for rows of role, program, version and what was proven."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for role, name, version, what in rows:
        proven = found.setdefault((role, name, version), [])
        if what not in proven:
            proven.append(what)
    text = INTRODUCTION
    for role, title in ROLES.items():
        table = {
            key: what
            for key, what in sorted(found.items(), key=lambda one: one[0][1].lower())
            if key[0] == role
        }
        if not table:
            continue
        text += f"\n## {title}\n\n| program | version | proven |\n| --- | --- | --- |\n"
        text += "".join(
            f"| {key[1]} | {key[2]} | {'; '.join(sorted(what))} |\n" for key, what in table.items()
        )
    return text
