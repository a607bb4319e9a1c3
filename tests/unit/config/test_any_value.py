"""Whatever a file holds, what reads a value gives it or says in one line what to write."""

import contextlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backstamp.config import ConfigurationError, names, units
from backstamp.config.complaints import keys_of, tables
from backstamp.config.load import parse
from backstamp.config.model import File


@pytest.mark.parametrize(
    "parse",
    [
        names.domain,
        names.match,
        names.below,
        names.sender,
        names.name,
        names.fingerprint,
        units.duration,
        units.size,
        units.next_hop,
        units.socket_address,
        units.nameserver,
        units.network,
        units.period,
        units.rate,
        units.host_address,
    ],
)
@given(value=st.one_of(st.text(), st.integers(), st.none(), st.booleans(), st.lists(st.text()), st.floats()))
def test_anything_gives_a_value_or_a_sentence(parse, value):
    try:
        parse(value)
    except ValueError as error:
        assert "; write" in str(error) or "ten years" in str(error)
        assert "\n" not in str(error)


ANYTHING = [
    "5", "-1", "1e400", "nan", "true", '""', '"x"', '"*"', '"a\\u0000b"', '"unix:/x"', '"starttls"', '"mx"',
    "2026-01-01", "[]", '["x"]', "[[]]", "[{}]", "{}", '{address = ["x"]}',
    '[{address = "127.0.0.1:25", tls = "starttls", certificate = "x", key = []}]',
]  # fmt: skip


@pytest.mark.parametrize("value", ANYTHING)
def test_every_key_with_every_kind_of_value_gives_settings_or_sentences(value):
    """Each alone in the shortest file that has its table."""
    for name, table in tables(File).items():
        for key in keys_of(table):
            inner = f"{{{key} = {value}}}"
            *outer, last = name.split(".") if name else [""]
            text = f"{key} = {value}" if not name else f"{last} = {inner}\n{last} = [{inner}]"
            for line in text.split("\n"):
                whole = line
                for one in reversed(outer):
                    whole = f"{one} = [{{{whole}}}]"
                base = {
                    "hostname": 'hostname = "a.example"',
                    "queue": 'queue = {directory = "q"}',
                    "listen": 'listen = [{address = "127.0.0.1:25"}]',
                }
                base.pop(re.match("[a-z]+", whole)[0], None)
                with contextlib.suppress(ConfigurationError):
                    parse("\n".join([*base.values(), whole]).encode(), "x.toml", starting=True)
