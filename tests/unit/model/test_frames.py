"""The channel's frames survive any way of cutting the stream, and garbage is refused."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weldr.model.frames import (
    Applied,
    Beat,
    Downward,
    Drain,
    FrameError,
    FrameReader,
    InFlight,
    Tallies,
    Update,
    Upward,
    encode_frame,
)
from weldr.model.tally import Tally
from weldr.model.traffic import ServiceDelta, TrafficDelta
from weldr.model.values import Backend, Route, Service, Settings, UpstreamTimeouts

UPDATE = Update(
    7,
    TrafficDelta(
        services={
            "s": ServiceDelta(
                policy=Service(timeouts=UpstreamTimeouts(connect_s=1.0)),
                put={"b": Backend(host="::1", port=80, weight=0, meta={"k": "v"})},
                removed=["c"],
            )
        },
        services_removed=["t"],
        routes={"r": Route(service="s", host="*.example", path="/x", priority=-1)},
        routes_removed=["q"],
        settings=Settings(),
    ),
)


@given(st.lists(st.sampled_from([UPDATE, Drain(1.5)]), max_size=4), st.data())
def test_frames_arrive_whole_however_the_stream_is_cut(frames: list[Downward], data: st.DataObject) -> None:
    stream = b"".join(map(encode_frame, frames))
    cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)), max_size=20)))
    assert in_pieces(stream, [0, *cuts, len(stream)]) == frames


def test_frames_arrive_whole_byte_by_byte() -> None:
    stream = encode_frame(UPDATE) + encode_frame(Drain(1.5))
    assert in_pieces(stream, list(range(len(stream) + 1))) == [UPDATE, Drain(1.5)]


def in_pieces(stream: bytes, cuts: list[int]) -> list[Downward]:
    reader: FrameReader[Downward] = FrameReader(Downward)
    return [frame for begin, end in itertools.pairwise(cuts) for frame in reader.feed(stream[begin:end])]


def test_each_direction_takes_only_its_own_frames() -> None:
    up: FrameReader[Upward] = FrameReader(Upward)
    for frame in (
        Applied(3, [("s", "b", 1)]),
        InFlight([]),
        Beat(1, 2, 3),
        Tallies([Tally("s", "b", {2: 1}, 5, 6, {"dns_error": 1}, {9: 1})], 7, ["r"]),
    ):
        assert up.feed(encode_frame(frame)) == [frame]
    with pytest.raises(FrameError, match="cannot be decoded"):
        up.feed(encode_frame(Drain(1)))


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"\xff\xff\xff\xff", "over the limit"), (b"\x00\x00\x00\x01\xc1", "cannot be decoded")],
)
def test_garbage_is_refused(data: bytes, reason: str) -> None:
    reader: FrameReader[Downward] = FrameReader(Downward)
    with pytest.raises(FrameError, match=reason):
        reader.feed(data)
