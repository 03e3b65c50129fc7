"""The key layout: what each key means, and that names survive the way to etcd and back."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weldr.model.keys import KeyLayoutError, KeyName, KeySpace, Kind, name_from_bytes, name_to_bytes

keys = KeySpace()


@pytest.mark.parametrize("prefix", ["/weldr/", "/weldr", "/weldr//"])
def test_a_prefix_is_matched_with_exactly_one_trailing_slash(prefix: str) -> None:
    assert KeySpace(prefix).prefix_bytes == b"/weldr/"


def test_a_key_is_taken_apart_into_its_kind_and_names() -> None:
    assert keys.parse(b"/weldr/backends/default/b1") == KeyName(Kind.BACKEND, ("default", "b1"))
    assert keys.parse(b"/weldr/settings") == KeyName(Kind.SETTINGS, ())
    assert keys.parse(b"/weldr/health/i/s/b") == KeyName(Kind.HEALTH, ("i", "s", "b"))


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        (b"/weldr/backends/b1", "too few segments: expected /weldr/backends/<service>/<id>"),
        (b"/weldr/backends/a/b/c", "too many segments: expected /weldr/backends/<service>/<id>"),
        (b"/weldr/settings/x", "too many segments"),
        (b"/weldr/backends//b1", "empty segment"),
        (b"/weldr/backends/a/", "empty segment"),
        (b"/weldr/backend/a/b", "did you mean 'backends'?"),
        (b"/weldr/backends/a/" + b"x" * 1025, "a segment of more than 1024 bytes"),
        (b"/weldr/", "no keys under ''"),
        (b"/weldrx/backends/a/b", "outside the prefix /weldr/"),
    ],
)
def test_a_key_outside_the_layout_is_refused_with_what_was_expected(key: bytes, reason: str) -> None:
    with pytest.raises(KeyLayoutError) as refused:
        keys.parse(key)
    assert reason in refused.value.reason
    assert "\n" not in refused.value.reason


@given(st.binary())
def test_any_name_turns_into_text_and_back_into_the_same_bytes(raw: bytes) -> None:
    text = name_from_bytes(raw)
    text.encode("utf-8")
    assert name_to_bytes(text) == raw


@given(st.binary(), st.binary())
def test_two_names_never_become_the_same_text(one: bytes, other: bytes) -> None:
    assert (name_from_bytes(one) == name_from_bytes(other)) == (one == other)


@given(st.binary(min_size=1).filter(lambda raw: b"/" not in raw), st.binary(min_size=1))
def test_a_key_made_of_names_is_taken_apart_into_the_same_names(service: bytes, raw_id: bytes) -> None:
    names = (name_from_bytes(service), name_from_bytes(raw_id.replace(b"/", b"_")))
    assert keys.parse(keys.key(Kind.BACKEND, *names)) == KeyName(Kind.BACKEND, names)


@given(st.binary())
def test_any_key_is_either_understood_or_refused(raw: bytes) -> None:
    with contextlib.suppress(KeyLayoutError):
        keys.parse(b"/weldr/" + raw)


@pytest.mark.parametrize(
    "names",
    [("a",), ("a", "b", "c"), ("", "b"), ("a/b", "c"), (r"a\x2fb", "c"), ("\udcff", "b"), ("a", "b" * 1025)],
)
def test_no_key_is_made_of_names_that_do_not_fit(names: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r"takes 2 names|holds a slash|is no text|is longer than"):
        keys.key(Kind.BACKEND, *names)


def test_instances_own_keys_are_told_from_configuration() -> None:
    assert keys.is_reported(b"/weldr/instances/a")
    assert keys.is_reported(b"/weldr/elections/vip/1f")
    assert not keys.is_reported(b"/weldr/instancesx/a")
    assert not keys.is_reported(b"/weldr/backends/default/b1")
