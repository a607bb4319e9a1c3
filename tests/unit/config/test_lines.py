"""The scanner against the standard parser: whatever tomllib reads, every key is on the line we say."""

import json
import tomllib
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backstamp.config import lines

DOCUMENT = '''\
# a comment with = and [brackets]
hostname = "relay"   # another
"quoted key" = 'literal'
a.b."c.d" = 1

[queue]
directory = """
many = 1
[lines]
"""
text = \'\'\'
x = 2\'\'\'
empty = ""

[[listen]]
address = "1"
allow = [
  "10.0.0.0/8",  # ten
  # nothing

  "fd00::/8",
  ["nested", {deep = 1}],
]
[[listen]]
address = "2"
[listen.tls]
key = "k"
[[listen.more]]
x = 1979-05-27 07:32:00
[[listen.more]]
x = {y = [1, 2], z.w = 3}
'''
EXPECTED = {
    ("hostname",): 2,
    ("quoted key",): 3,
    ("a", "b", "c.d"): 4,
    ("queue",): 6,
    ("queue", "directory"): 7,
    ("queue", "text"): 11,
    ("queue", "empty"): 13,
    ("listen",): 15,
    ("listen", 0): 15,
    ("listen", 0, "address"): 16,
    ("listen", 0, "allow", 0): 18,
    ("listen", 0, "allow", 1): 21,
    ("listen", 0, "allow", 2, 1, "deep"): 22,
    ("listen", 1): 24,
    ("listen", 1, "address"): 25,
    ("listen", 1, "tls", "key"): 27,
    ("listen", 1, "more", 0, "x"): 29,
    ("listen", 1, "more", 1, "x", "y", 1): 31,
    ("listen", 1, "more", 1, "x", "z", "w"): 31,
}


def leaves(value: object, path: lines.Path = ()) -> Iterator[tuple[lines.Path, object]]:
    if isinstance(value, dict) and value:
        for key, below in value.items():
            yield from leaves(below, (*path, key))
    elif isinstance(value, list) and value:
        for index, below in enumerate(value):
            yield from leaves(below, (*path, index))
    elif path:
        yield path, value


@pytest.mark.parametrize(("path", "line"), EXPECTED.items(), ids=str)
def test_every_kind_of_key(path, line):
    assert lines.line_of(lines.notes(DOCUMENT), path) == line


def test_the_document_has_no_other_leaves():
    noted = {path for path, _ in lines.notes(DOCUMENT)}
    assert {path for path, _ in leaves(tomllib.loads(DOCUMENT))} <= noted


def test_line_ends_of_another_system():
    assert lines.notes(DOCUMENT.replace("\n", "\r\n")) == lines.notes(DOCUMENT)


def test_what_is_missing_has_the_line_of_its_table():
    found = lines.notes(DOCUMENT)
    assert lines.line_of(found, ("queue", "partitions")) == 6
    assert lines.line_of(found, ("listen", 1, "auth")) == 24
    assert lines.line_of(found, ("nowhere",)) == 0


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ((), ""),
        (("a",), "a"),
        (("listen", 0, "address"), "listen[0].address"),
        (("a", 1, 2), "a[1][2]"),
        (("a\n", "b.c"), '"a\\n"."b.c"'),
    ],
)
def test_paths_as_people_write_them(path, text):
    assert lines.written(path) == text


# Generated documents. Every key and value is unique ("k17", "v18"), so that a line can only be right for one.

SHAPES = st.recursive(
    st.sampled_from(["basic", "literal", "block", "literal block", "number", "date"]),
    lambda shapes: st.one_of(
        st.tuples(st.just("array"), st.lists(shapes, max_size=3), st.booleans()),
        st.tuples(st.just("inline"), st.lists(shapes, max_size=3), st.just(False)),
    ),
    max_leaves=8,
)
KEYS = st.lists(st.sampled_from(["{}", '"{} q"', "'{}.l'", '"{}\\u00e9\\"#"']), min_size=1, max_size=3)
PAIRS = st.lists(st.tuples(KEYS, SHAPES), max_size=4)
TABLES = st.lists(
    st.tuples(st.sampled_from(["table", "list", "below list"]), st.booleans(), PAIRS), max_size=5
)
BETWEEN = st.sampled_from(["", "\n", '# [x] = "\n', "  # '''\n\n"])


class Writer:
    def __init__(self, between):
        self.number = 0
        self.between = between

    def name(self, letter):
        self.number += 1
        return f"{letter}{self.number}x"

    def key(self, kinds):
        return " . ".join(kind.format(self.name("k")) for kind in kinds)

    def value(self, shape, inline):
        name = self.name("v")
        match shape:
            case "basic":
                return f'"{name} # \\" ] \\\\"'
            case "literal":
                return f"'{name} = [\"'"
            case "block":
                return f'"{name}"' if inline else f'"""{name}\nk = "\\"""\n\n[x]""""'
            case "literal block":
                return f"'{name}'" if inline else f"'''{name}\n\"k\" = ''\n'''"
            case "number":
                return f"{self.number}"
            case "date":
                return "1979-05-27 07:32:00Z"
            case ("inline", shapes, _):
                return "{ " + ", ".join(self.pair((["{}"], one), inline=True) for one in shapes) + " }"
            case (_, shapes, many) if many and not inline:
                return "[ # [\n" + "".join(f"\t{self.value(one, False)} # ,\n\n , " for one in shapes) + "\n]"
            case (_, shapes, _):
                return "[" + ", ".join(self.value(one, inline) for one in shapes) + "]"

    def pair(self, pair, inline=False):
        kinds, shape = pair
        return f"{self.key(kinds)} = {self.value(shape, inline)}"

    def document(self, pairs, tables):
        text = "".join(f"{self.pair(pair)}\n{self.between}" for pair in pairs)
        array = None
        for kind, again, inside in tables:
            if kind == "below list" and array:
                text += f"[{array}.{self.name('k')}]\n"
            elif kind == "list":
                array = array if again and array else self.name("k")
                text += f"[[ {array} ]] # ]\n"
            else:
                text += f"[{self.key(['{}', '{}'])}]\n"
            text += "".join(f"  {self.pair(pair)}\n{self.between}" for pair in inside)
        return text


@settings(max_examples=300)
@given(pairs=PAIRS, tables=TABLES, between=BETWEEN)
def test_every_leaf_of_any_document_is_on_its_line(pairs, tables, between):
    text = Writer(between).document(pairs, tables)
    source = text.split("\n")
    noted = dict(reversed(lines.notes(text)))
    for path, value in leaves(tomllib.loads(text)):
        assert path in noted, (path, text)
        line = source[noted[path] - 1]
        last = path[-1]
        if isinstance(last, str):
            assert last.split("x")[0] + "x" in line
        if isinstance(value, str):
            assert value.split("x")[0] + "x" in line


@given(st.text())
def test_any_text_can_be_scanned(text):
    lines.notes(text)


@given(st.integers(0, len(DOCUMENT)), st.sampled_from(["", "\x00", "=", "]", '"', "{", "\n"]))
def test_any_cut_of_a_document_can_be_scanned(cut, junk):
    found = lines.notes(DOCUMENT[:cut] + junk + DOCUMENT[cut:])
    assert [line for _, line in found] == sorted(line for _, line in found)


def test_depth_is_no_trap():
    lines.notes("a = " + "[" * 100_000)


@given(st.text())
def test_quoted_keys_say_what_tomllib_says(name):
    text = json.dumps(name)
    try:
        (key,) = tomllib.loads(f"{text} = 1")
    except tomllib.TOMLDecodeError:
        return
    assert lines.notes(f"{text} = 1") == [((key,), 1)]


def test_long_escapes():
    text = '"\\U0001F4EE \\U00000022 \\\\U0001F4EE" = 1'
    (key,) = tomllib.loads(text)
    assert lines.notes(text) == [((key,), 1)]
