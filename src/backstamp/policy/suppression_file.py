"""The suppression list as a file: NDJSON as it is exported, or CSV as other services give it. Pure.

A file is taken whole or not at all, so reading gives an entry or a mistake a line, and
whoever writes them down decides at the end. NDJSON is one `Entry` a line; its `source` is kept,
so that a list that comes back is the same list. CSV has a first row of columns (fields of
`Entry`, `email` for `address`), or is only a column of addresses. `since` is now where it is missing.
"""

import csv
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from backstamp.policy.suppression import Entry, Source, class_name, in_time, tenant_name, wanted

NDJSON: Final = "application/x-ndjson"
CSV: Final = "text/csv"

LINE: Final = 64 * 1024
"""Characters a line of a file has at most."""

BLANK: Final = " \t\r\n"
"""What may stand around a cell; other white space may be part of an address (RFC 6531)."""

_COLUMNS: Final = Entry.__struct_fields__


class Mistake(msgspec.Struct, frozen=True):
    """A line that is no entry, and why. Lines count from 1."""

    line: int
    problem: str


class _Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An entry as a file has it: everything but the address may be missing."""

    address: str
    tenant: str = ""
    bounce_class: str = ""
    reply: str = ""
    since: float | None = None
    expires: float | None = None
    source: Source = Source.IMPORT


_decoder = msgspec.json.Decoder(_Line)
_encoder = msgspec.json.Encoder()


def export(entry: Entry) -> bytes:
    """Return an entry as a line of NDJSON."""
    return _encoder.encode(entry) + b"\n"


def entry(line: _Line, now: float) -> Entry:
    """Return the entry a line means.

    Raises:
        ValueError: a field does not say what it should; the text names it.
    """
    try:
        address = wanted(line.address)
    except ValueError as error:
        raise ValueError(f"address {line.address[:80]!r}: {error}") from None
    since = now if line.since is None else line.since
    for name, time in (("since", since), ("expires", line.expires)):
        in_time(name, time)
    return Entry(
        address,
        tenant_name(line.tenant),
        class_name(line.bounce_class),
        line.reply[:1000],
        int(since),
        None if line.expires is None else int(line.expires),
        line.source,
    )


def read(kind: str, lines: Iterable[bytes], now: float) -> Iterator[Entry | Mistake]:
    """Yield what each line of a file of a kind (`NDJSON`, `CSV`) is; empty lines are passed over."""
    return _ndjson(lines, now) if kind == NDJSON else _csv(lines, now)


def _ndjson(lines: Iterable[bytes], now: float) -> Iterator[Entry | Mistake]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            yield entry(_decoder.decode(line), now)
        except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as error:
            yield Mistake(number, str(error))


def _csv(lines: Iterable[bytes], now: float) -> Iterator[Entry | Mistake]:
    rows = csv.reader(_texts(lines), strict=True)
    columns: list[str] | None = None
    while True:
        try:
            row = next(rows, None)
        except csv.Error as error:
            # Where a quote is missing nobody knows where the next row begins.
            yield Mistake(rows.line_num, str(error))
            return
        if row is None:
            return
        if not any(cell.strip() for cell in row):
            continue
        if columns is None:
            columns, problem = _header(row)
            if problem:
                yield Mistake(rows.line_num, problem)
                return
            if "@" not in row[0]:
                continue
        try:
            yield _row(columns, row, now)
        except ValueError as error:
            yield Mistake(rows.line_num, str(error))


def _texts(lines: Iterable[bytes]) -> Iterator[str]:
    """Yield lines as text; what is not UTF-8 becomes what no address has."""
    for number, line in enumerate(lines):
        yield line.decode("utf-8-sig" if number == 0 else "utf-8", "backslashreplace")


def _header(row: list[str]) -> tuple[list[str], str]:
    """Return the columns a first row names, and what is wrong with them."""
    if "@" in row[0]:
        return ["address"], ""
    columns = [{"email": "address"}.get(name, name) for name in (cell.strip(BLANK).lower() for cell in row)]
    strange = [name for name in columns if name not in _COLUMNS]
    if strange:
        return columns, f"column {strange[0][:80]!r} is not known; there are {', '.join(_COLUMNS)}"
    if "address" not in columns or len({*columns}) < len(columns):
        return columns, "every column stands once, and one of them is address"
    return columns, ""


def _row(columns: list[str], row: list[str], now: float) -> Entry:
    if len(row) != len(columns):
        raise ValueError(f"{len(row)} columns where there should be {len(columns)}")
    cells = {name: cell.strip(BLANK) for name, cell in zip(columns, row, strict=True) if cell.strip(BLANK)}
    try:
        return entry(msgspec.convert({"address": "", **cells}, _Line, strict=False), now)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from None
