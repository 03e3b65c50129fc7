"""What differs between two sets of keys, and the order in which a large change may be written."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weldr.model.edits import (
    MAX_OPERATIONS,
    Action,
    Edit,
    Held,
    TooLargeError,
    action,
    difference,
    stages,
)
from weldr.model.keys import KeyName, KeySpace, Kind

keys = KeySpace()


def backend(service: str, number: int) -> KeyName:
    return KeyName(Kind.BACKEND, (service, f"b{number}"))


def route(name: str) -> KeyName:
    return KeyName(Kind.ROUTE, (name,))


def to(service: str) -> bytes:
    return msgspec.json.encode({"service": service})


def after(held: dict[KeyName, Held], edits: list[Edit]) -> dict[KeyName, bytes]:
    result = {name: key.value for name, key in held.items()}
    for edit in edits:
        if edit.value is None:
            del result[edit.name]
        else:
            result[edit.name] = edit.value
    return result


def test_writing_says_what_becomes_of_the_key() -> None:
    held = Held(b'{"a": 1}', 7)
    assert action(None, b"x") is Action.CREATE
    assert action(held, b'{"a":1}') is Action.KEEP
    assert action(held, b'{"a":2}') is Action.UPDATE
    assert action(held, None) is Action.DELETE
    assert action(None, None) is Action.KEEP


names = st.sampled_from([backend("a", 1), backend("a", 2), route("r"), KeyName(Kind.SERVICE, ("a",))])
values = st.sampled_from([b'{"a":1}', b'{"a":2}', b"text"])


@given(
    st.dictionaries(names, st.builds(Held, values, st.integers(1, 9), st.sampled_from([0, 0, 5]))),
    st.dictionaries(names, values),
)
def test_the_difference_leads_from_one_set_of_keys_to_the_other(
    held: dict[KeyName, Held], wanted: dict[KeyName, bytes]
) -> None:
    edits = difference(held, wanted, prune=[Kind.ROUTE, Kind.BACKEND])
    result = after(held, edits)
    for name in result.keys() | wanted.keys() | held.keys():
        if name in wanted:
            assert result[name] == wanted[name]
        elif name in held:
            kept = held[name].lease != 0 or name.kind is Kind.SERVICE
            assert (name in result) == kept
    for edit in edits:
        assert edit.expected == (held[edit.name].mod_revision if edit.name in held else 0)


def test_a_small_change_is_one_transaction() -> None:
    edits = [Edit(backend("default", number), b"127.0.0.1:80") for number in range(MAX_OPERATIONS)]
    assert stages({}, edits, keys) == [edits]
    assert stages({}, [], keys) == []


def test_a_large_change_of_what_is_unseen_goes_before_the_routes_that_show_it() -> None:
    held = {route("r"): Held(to("old"), 1), backend("old", 1): Held(b"127.0.0.1:80", 1)}
    edits = [Edit(route("r"), to("new"))]
    edits += [Edit(backend("new", number), b"127.0.0.1:81") for number in range(400)]
    edits += [Edit(backend("old", 1), None)]
    steps = stages(held, edits, keys)
    assert [len(step) for step in steps] == [128, 128, 128, 16, 1, 1]
    assert steps[4] == [Edit(route("r"), to("new"))]
    assert steps[5] == [Edit(backend("old", 1), None)]


def test_a_large_change_of_what_requests_see_is_refused_with_its_size() -> None:
    held = {route("r"): Held(to("shop"), 1)}
    edits = [Edit(backend("shop", number), b"127.0.0.1:80") for number in range(200)]
    with pytest.raises(TooLargeError, match="200 keys") as refused:
        stages(held, edits, keys)
    assert refused.value.count == 200
    with pytest.raises(TooLargeError):
        stages({}, [Edit(backend("default", number), b"127.0.0.1:80") for number in range(200)], keys)


def test_nothing_is_unseen_while_a_route_has_a_value_that_cannot_be_understood() -> None:
    held = {route("r"): Held(b'{"servic": "shop"}', 1)}
    edits = [Edit(backend("shop", number), b"127.0.0.1:80") for number in range(200)]
    with pytest.raises(TooLargeError):
        stages(held, edits, keys)


def test_a_change_of_many_bytes_is_staged_too() -> None:
    edits = [Edit(KeyName(Kind.SERVICE, (f"s{number}",)), b'"' + b"x" * 250_000 + b'"') for number in range(9)]
    assert [len(step) for step in stages({}, edits, keys)] == [4, 4, 1]


@given(st.data())
def test_between_the_stages_every_route_shows_all_of_the_old_or_all_of_the_new(data: st.DataObject) -> None:
    services = [f"s{number}" for number in range(6)]
    old = data.draw(st.dictionaries(st.sampled_from("xyz"), st.sampled_from(services)))
    new = data.draw(st.dictionaries(st.sampled_from("xyz"), st.sampled_from(services)))
    count = st.dictionaries(st.sampled_from(services), st.integers(0, 60))
    held_backends, wanted_backends = data.draw(count), data.draw(count)

    def keys_of(routes: dict[str, str], backends: dict[str, int]) -> dict[KeyName, bytes]:
        found = {route(name): to(service) for name, service in routes.items()}
        for service, number in backends.items():
            found |= {backend(service, index): b"127.0.0.1:80" for index in range(number)}
        return found

    before, wanted = keys_of(old, held_backends), keys_of(new, wanted_backends)
    held = {name: Held(value, 1) for name, value in before.items()}
    edits = difference(held, wanted, prune=[Kind.ROUTE, Kind.BACKEND])
    try:
        steps = stages(held, edits, keys)
    except TooLargeError:
        return

    def seen(state: dict[KeyName, bytes]) -> dict[str, tuple[str, set[KeyName]]]:
        return {
            name.names[0]: (
                value.decode(),
                {key for key in state if key.kind is Kind.BACKEND and to(key.names[0]) == value},
            )
            for name, value in state.items()
            if name.kind is Kind.ROUTE
        }

    state, allowed = dict(before), (seen(before), seen(wanted))
    for step in steps:
        assert len(step) <= MAX_OPERATIONS
        state = after({name: Held(value, 1) for name, value in state.items()}, step)
        assert seen(state) in allowed
    assert state == wanted
