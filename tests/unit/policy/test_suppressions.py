"""The list in memory."""

from hypothesis import given
from hypothesis import strategies as st

from backstamp.policy.suppression import Entry, Match, Source
from backstamp.policy.suppressions import SIZE, Classes, Suppressions, _find

NOW = 1_764_000_000.0


def table(*entries: Entry) -> Suppressions:
    made = Suppressions()
    for entry in entries:
        made.add(entry)
    return made


def match(made: Suppressions, address: bytes, tenant: bytes = b"", *, learned: bool = True) -> Match | None:
    return made.match(address, tenant, now=NOW, learned=learned)


def test_an_address_matches_in_any_case_with_its_class_and_end() -> None:
    made = table(Entry("joe@example.org", "", "invalid-recipient", "550 no", 1, int(NOW) + 1, Source.BOUNCE))
    expected = Match("invalid-recipient", Source.BOUNCE, int(NOW) + 1)
    assert match(made, b"Joe@EXAMPLE.org") == expected
    assert match(made, b"Joe@EXAMPLE.org", b"anybody") == expected
    assert match(made, b"jo@example.org") is None
    assert match(Suppressions(), b"joe@example.org") is None


def test_a_tenants_entry_is_nobody_elses() -> None:
    made = table(Entry("joe@example.org", "one"))
    assert match(made, b"joe@example.org", b"one") is not None
    assert match(made, b"joe@example.org", b"two") is None
    assert match(made, b"joe@example.org") is None


def test_a_whole_domain() -> None:
    made = table(Entry("@example.org", "one", source=Source.OPERATOR), Entry("@all.example"))
    assert match(made, b"joe@example.org", b"one") == Match("", Source.OPERATOR, None)
    assert match(made, b"joe@sub.example.org", b"one") is None
    assert match(made, b"joe@example.org", b"two") is None
    assert match(made, b'"a@b"@all.example', b"two") is not None


def test_an_entry_ends_by_itself_and_another_may_hold() -> None:
    made = table(Entry("joe@example.org", "", expires=int(NOW)))
    assert match(made, b"joe@example.org", b"one") is None
    made.add(Entry("joe@example.org", "one", "other"))
    assert match(made, b"joe@example.org", b"one") == Match("other", Source.IMPORT, None)


def test_what_was_learned_holds_only_while_the_policy_says_so() -> None:
    made = table(Entry("joe@example.org", "", "learned", source=Source.BOUNCE))
    assert match(made, b"joe@example.org", b"one", learned=False) is None
    made.add(Entry("joe@example.org", "one", source=Source.OPERATOR))
    assert match(made, b"joe@example.org", b"one", learned=False) == Match("", Source.OPERATOR, None)


def test_an_end_beyond_all_numbers_is_the_latest_there_is() -> None:
    made = table(Entry("joe@example.org", expires=2**40), Entry("ann@example.org", expires=-5))
    found = match(made, b"joe@example.org")
    assert found is not None
    assert found.expires == 2**32 - 1
    assert match(made, b"ann@example.org") is None


def test_from_the_256th_class_on_none_is_told() -> None:
    classes = Classes()
    numbers = [classes.number(f"class-{index}") for index in range(300)]
    assert numbers[:255] == list(range(1, 256))
    assert set(numbers[255:]) == {0}
    assert classes.number("class-7") == 8
    assert classes.name(8) == "class-7"
    assert classes.name(0) == ""


def test_a_key_is_found_only_where_a_record_begins() -> None:
    key = b"k" * 16
    other = b"o" * 16
    shard = bytearray(other + key[:6] + key + b"\1" * 6)
    assert shard.find(key) % SIZE, "the octets stand across two records"
    assert _find(shard, key) == SIZE
    assert _find(shard[:SIZE], key) == -1
    assert _find(bytearray(other + b"\0" + key + b"\0" * 11), key) == -1


_KEYS = st.sampled_from([f"u{number}@example.org" for number in range(8)])


@given(st.lists(st.tuples(st.booleans(), _KEYS, st.sampled_from(["", "t"]), st.integers(0, 3))))
def test_it_is_a_dictionary(steps: list[tuple[bool, str, str, int]]) -> None:
    made, model = Suppressions(), dict[tuple[str, str], Entry]()
    for adding, address, tenant, number in steps:
        if adding:
            model[address, tenant] = Entry(address, tenant, f"class-{number}", expires=int(NOW) + number + 1)
            made.add(model[address, tenant])
        else:
            model.pop((address, tenant), None)
            made.remove([(address, tenant)])
    assert len(made) == len(model)
    for number in range(8):
        address = f"u{number}@example.org"
        expected = model.get((address, "")) or model.get((address, "t"))
        found = match(made, address.encode(), b"t")
        assert (found and found.bounce_class) == (expected and expected.bounce_class)
