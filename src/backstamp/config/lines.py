"""Where a key stands in a TOML text: the line numbers the standard parser does not give. Pure.

`tomllib` judges and reads; this scanner only follows along and notes the line of every
table, key and array element. It stops quietly at the first thing it cannot follow, so for
a text that is not TOML its last note says which key was being read when it went wrong.

It leaves out values: what a string means, whether a number is one.
"""

import contextlib
import json
import re
from collections.abc import Iterator

Path = tuple[str | int, ...]

_BLANK = re.compile(r"(?:[ \t\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_BASIC = re.compile(r'"(?:[^"\\\n]|\\[^\n])*"')
_LITERAL = re.compile(r"'[^'\n]*'")
_BASIC_BLOCK = re.compile(r'"""(?:[^\\]|\\.)*?"{3,5}(?!")', re.DOTALL)
_LITERAL_BLOCK = re.compile(r"'''.*?'{3,5}(?!')", re.DOTALL)
_SCALAR = re.compile(r"[^\s,\]}#\"'\[{=][^,\]}#\n]*")
_STRINGS = (_BASIC_BLOCK, _LITERAL_BLOCK, _BASIC, _LITERAL)


class _LostError(Exception):
    """The text cannot be followed any further."""


def notes(text: str) -> list[tuple[Path, int]]:
    """Return every key path with the line it stands on (from 1), in the order of the text.

    Elements of arrays are `(…, "schedule", 2)`, tables of arrays of tables `(…, "listen", 0)`.
    """
    scanner = _Scanner(text.replace("\r\n", "\n"))
    with contextlib.suppress(_LostError, RecursionError):
        scanner.document()
    return scanner.found


def line_of(found: list[tuple[Path, int]], path: Path) -> int:
    """Return the line of a path, or of the nearest table or key around it; 0 where there is none."""
    lines: dict[Path, int] = {}
    for known, line in found:
        lines.setdefault(known, line)
    for length in range(len(path), 0, -1):
        if path[:length] in lines:
            return lines[path[:length]]
    return 0


def reading_at(found: list[tuple[Path, int]], line: int) -> Path:
    """Return the path that was being read at a line: the last one noted there or above."""
    path: Path = ()
    for known, at in found:
        if at <= line:
            path = known
    return path


def written(path: Path) -> str:
    """Return a path as people write it: `listen[0].address`, `a."b.c"`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            name = part if _BARE.fullmatch(part) else json.dumps(part, ensure_ascii=False)
            text += f".{name}" if text else name
    return text


class _Scanner:
    """One walk over one text; `found` grows on the way."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.found: list[tuple[Path, int]] = []
        self._counted = (0, 1)
        self._tables: dict[Path, int] = {}

    def document(self) -> None:
        table: Path = ()
        while self._skip(_BLANK) < len(self.text):
            if self.text.startswith("[[", self.at):
                table = self._header(2)
            elif self.text.startswith("[", self.at):
                table = self._header(1)
            else:
                self._pair(table)
            self._skip(_SPACE)
            if self.at < len(self.text) and self.text[self.at] not in "\n#":
                raise _LostError

    def _header(self, brackets: int) -> Path:
        """Read `[a.b]` or `[[a.b]]`; what stands in an array of tables belongs to its last table."""
        self.at += brackets
        keys = list(self._keys())
        path: Path = ()
        for key in keys[:-1]:
            path = self._last((*path, key))
        path = (*path, keys[-1])
        if brackets == 2:
            self._tables[path] = self._tables.get(path, -1) + 1
            self._note(path)
            path = self._last(path)
        self._note(path)
        self._expect("]" * brackets)
        return path

    def _last(self, path: Path) -> Path:
        return (*path, self._tables[path]) if path in self._tables else path

    def _pair(self, table: Path) -> None:
        path = table
        for key in self._keys():
            path = (*path, key)
            self._note(path)
        self._expect("=")
        self._skip(_SPACE)
        self._value(path)

    def _keys(self) -> Iterator[str]:
        """Read a dotted key, part by part."""
        while True:
            self._skip(_SPACE)
            if found := _BARE.match(self.text, self.at):
                yield self._take(found)
            elif found := _LITERAL.match(self.text, self.at):
                yield self._take(found)[1:-1]
            elif found := _BASIC.match(self.text, self.at):
                yield _unescaped(self._take(found))
            else:
                raise _LostError
            self._skip(_SPACE)
            if not self.text.startswith(".", self.at):
                return
            self.at += 1

    def _value(self, path: Path) -> None:
        if self.text.startswith("[", self.at):
            self._array(path)
        elif self.text.startswith("{", self.at):
            self._inline(path)
        else:
            for kind in _STRINGS:
                if found := kind.match(self.text, self.at):
                    break
            else:
                found = _SCALAR.match(self.text, self.at)
            if not found:
                raise _LostError
            self._take(found)

    def _array(self, path: Path) -> None:
        self.at += 1
        index = 0
        while self._skip(_BLANK) < len(self.text) and self.text[self.at] != "]":
            self._note((*path, index))
            self._value((*path, index))
            self._skip(_BLANK)
            if not self.text.startswith(",", self.at):
                break
            self.at += 1
            index += 1
        self._expect("]")

    def _inline(self, path: Path) -> None:
        self.at += 1
        self._skip(_SPACE)
        while not self.text.startswith("}", self.at):
            self._pair(path)
            self._skip(_SPACE)
            if not self.text.startswith(",", self.at):
                break
            self.at += 1
        self._expect("}")

    def _note(self, path: Path) -> None:
        position, line = self._counted
        line += self.text.count("\n", position, self.at)
        self._counted = (self.at, line)
        self.found.append((path, line))

    def _skip(self, pattern: re.Pattern[str]) -> int:
        found = pattern.match(self.text, self.at)
        if found:
            self.at = found.end()
        return self.at

    def _take(self, found: re.Match[str]) -> str:
        self.at = found.end()
        return found[0]

    def _expect(self, token: str) -> None:
        if not self.text.startswith(token, self.at):
            raise _LostError
        self.at += len(token)


def _unescaped(quoted: str) -> str:
    """Return what a basic string says; TOML's escapes are JSON's and `\\UXXXXXXXX`."""

    def escape(found: re.Match[str]) -> str:
        return json.dumps(chr(int(found[1], 16)))[1:-1] if found[1] else found[0]

    try:
        return str(json.loads(re.sub(r"\\(?:\\|U([0-9A-Fa-f]{8}))", escape, quoted), strict=False))
    except (ValueError, OverflowError):
        return quoted[1:-1]
