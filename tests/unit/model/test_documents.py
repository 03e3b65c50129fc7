"""Values as JSON and back, and merge patches."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weldr.model.collections import COLLECTIONS
from weldr.model.documents import (
    MAX_DEPTH,
    DocumentError,
    depth_of,
    document_of,
    merged,
    parse_json,
    patched,
    raw_of,
    raw_of_body,
    same,
    shown,
)

backends = COLLECTIONS["backends"]
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


# RFC 7396, appendix A.
@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_a_merge_patch_does_what_its_rfc_says(target: Any, patch: Any, result: Any) -> None:
    assert merged(target, patch) == result


@given(st.dictionaries(st.text(max_size=5), json_values, max_size=4))
def test_an_object_survives_being_written_and_shown(document: dict[str, Any]) -> None:
    assert document_of(raw_of(document)) == document


@given(st.text().filter(lambda text: not text.lstrip().startswith("{")))
def test_text_survives_being_written_and_shown(text: str) -> None:
    assert document_of(raw_of(text)) == text


@given(st.binary())
def test_whatever_a_key_holds_can_be_shown(raw: bytes) -> None:
    raw_of(document_of(raw))
    raw_of_body(raw)


def test_a_body_is_the_value_and_json_text_is_what_it_quotes() -> None:
    assert raw_of_body(b'"127.0.0.1:80"\n') == b"127.0.0.1:80"
    assert raw_of_body(b" 127.0.0.1:80 ") == b"127.0.0.1:80"
    assert raw_of_body(b'{"url": "x"}') == b'{"url": "x"}'
    assert raw_of_body(b'"unfinished') == b'"unfinished'


def test_an_address_alone_can_be_patched() -> None:
    assert document_of(patched(backends, b"127.0.0.1:80", {"weight": 3})) == {
        "url": "127.0.0.1:80",
        "weight": 3,
    }


def test_what_is_secret_is_never_shown() -> None:
    certs = COLLECTIONS["certs"]
    chain = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
    key = "-----BEGIN PRIVATE KEY-----\nMIIC\n-----END PRIVATE KEY-----\n"
    assert shown(certs, raw_of({"cert": chain * 2, "key": key})) == {"cert": chain * 2}
    # People keep both in one file.
    assert shown(certs, raw_of({"cert": chain + key + chain})) == {"cert": chain * 2}
    assert shown(certs, raw_of({"cert": [key]})) == {"cert": ""}
    assert shown(COLLECTIONS["secrets"], b'{"key": "k"}') == {}
    assert shown(certs, b"a private key pasted by mistake") is None
    assert shown(certs, b'{"key": "k"') is None


def test_two_values_are_the_same_if_they_say_the_same() -> None:
    assert same(b'{"a":1,"b":2}', b'{ "b": 2, "a": 1 }')
    assert not same(b'{"a":1}', b'{"a":2}')


def test_a_number_is_not_the_same_as_a_truth_value() -> None:
    assert not same(b'{"drain":1}', b'{"drain":true}')
    assert not same(b'{"a":[{"b":false}]}', b'{"a":[{"b":0}]}')


@pytest.mark.parametrize(
    ("text", "place"), [(b"{", "\\$"), (b'{"a": nope}', "byte 10"), (b'"\xff"', "byte"), (b"[" * 10_000, "\\$")]
)
def test_what_is_no_json_is_refused_with_its_place(text: bytes, place: str) -> None:
    with pytest.raises(DocumentError, match=place):
        parse_json(text)


def test_depth_is_counted_and_bounded() -> None:
    assert depth_of(1) == 0
    assert depth_of({"a": [1]}) == 2
    nested = parse_json(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH)
    assert depth_of(nested) == MAX_DEPTH
    with pytest.raises(DocumentError, match="deeply"):
        parse_json(b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1))
