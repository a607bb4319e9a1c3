"""Whatever a file holds, what reads a value gives it or says in one line what to write."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backstamp.config import names, units


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
