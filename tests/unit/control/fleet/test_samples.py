"""Frames of numbers: only who has the key can make one, and each is good for its place alone."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weldr.control.fleet.samples import LENGTH_BYTES, SampleError, seal, unseal
from weldr.control.fleet.telling import Viewer, viewer_of

KEY, NONCE = b"k" * 32, b"n" * 16


@given(st.binary(max_size=100), st.integers(0, 2**40))
def test_what_is_sealed_can_be_unsealed(body: bytes, number: int) -> None:
    frame = seal(KEY, NONCE, number, body)
    assert int.from_bytes(frame[:LENGTH_BYTES], "big") == len(frame) - LENGTH_BYTES
    assert unseal(KEY, NONCE, number, frame[LENGTH_BYTES:]) == body


@pytest.mark.parametrize(
    ("key", "nonce", "number", "changed"),
    [
        (b"x" * 32, NONCE, 3, b""),
        (KEY, b"m" * 16, 3, b""),
        (KEY, NONCE, 4, b""),
        (KEY, NONCE, 3, b"!"),
    ],
    ids=["another key", "another connection", "another place", "another body"],
)
def test_a_frame_is_good_for_its_place_alone(key: bytes, nonce: bytes, number: int, changed: bytes) -> None:
    frame = seal(KEY, NONCE, 3, b"body")[LENGTH_BYTES:] + changed
    with pytest.raises(SampleError):
        unseal(key, nonce, number, frame)


@pytest.mark.parametrize(
    "raw", [b"", b"{}", b"7", b'{"address": "h:1", "key": "zz"}', b'{"address": "h:1", "key": "00"}']
)
def test_a_key_that_names_no_viewer_is_passed_over(raw: bytes) -> None:
    assert viewer_of(raw) is None


@pytest.mark.parametrize("address", ["h", ":1", "h:0", "h:65536", "h:x", "h:"])
def test_a_viewer_that_nobody_could_connect_to_is_passed_over(address: str) -> None:
    raw = msgspec.json.encode({"address": address, "key": KEY.hex()})
    assert viewer_of(raw) is None
    assert viewer_of(raw.replace(msgspec.json.encode(address), b'"[::1]:65535"')) is not None


def test_a_viewer_s_key_is_in_no_text() -> None:
    assert "abc" not in repr(Viewer("h:1", "abc"))
