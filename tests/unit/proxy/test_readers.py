"""The readers see the same in any cut of the bytes, and stop exactly where a message ends."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weldr.model.values import Limits, Settings
from weldr.proxy.chunked import ChunkedDecoder
from weldr.proxy.forwarding import Forwarding, ForwardingPolicy
from weldr.proxy.request_fields import RequestRefusedError
from weldr.proxy.request_head import RequestHead
from weldr.proxy.request_reader import RequestReader
from weldr.proxy.response_fields import ResponseInvalidError
from weldr.proxy.response_head import ResponseHead, status_line
from weldr.proxy.response_reader import ResponseReader

ORIGIN = Forwarding(ForwardingPolicy(Settings()), "192.0.2.1", 80)


def forwarded(head: RequestHead) -> bytes:
    """Just as it came."""
    return head.forwarded(ORIGIN, b"", head.target, head.fields.lines)


@dataclass
class Seen:
    """Requests as they came out: the forwarded head and the body."""

    requests: list[tuple[bytes, bytes]] = field(default_factory=list)
    refused: int = 0


def read_requests(pieces: list[bytes]) -> Seen:
    """What a connection would do with these reads."""
    reader = RequestReader(b"localhost", Limits())
    seen = Seen()
    body = b""
    for piece in pieces:
        position = 0
        while position < len(piece):
            try:
                position = reader.feed(piece, position)
            except RequestRefusedError as refusal:
                seen.refused = refusal.status
                return seen
            body += b"".join(reader.take_body())
            if reader.complete:
                assert reader.head is not None
                seen.requests.append((forwarded(reader.head), body))
                reader.reset()
                body = b""
    return seen


def test_a_body_of_very_small_chunks_takes_hardly_more_memory_than_its_bytes() -> None:
    decoder, body = ChunkedDecoder(1000, 10), list[bytes]()
    data = b"2\r\nab\r\n" * 30_000
    decoder.feed(data, 0, body)
    assert b"".join(body) == b"ab" * 30_000
    assert sum(map(sys.getsizeof, body)) < len(data)


def test_what_has_been_taken_of_a_chunked_body_is_held_by_nobody_else() -> None:
    for reader in (RequestReader(b"localhost", Limits()), ResponseReader()):
        if isinstance(reader, RequestReader):
            reader.feed(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", 0)
        else:
            reader.method = b"GET"
            reader.begin(Limits())
            reader.feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        body = reader.take_body()
        assert body == [b"hello"]
        # This name's, and that of the call that counts.
        assert sys.getrefcount(body) == 2


def test_a_request_like_the_one_before_is_read_in_one_go_and_means_the_same() -> None:
    fields = b"\r\nHost: h\r\nX: 1\r\n\r\n"
    for target in (b"/", b"/b?q=%23", b"/~!$&'()*+,;=:@{}|\"<>\\^`"):
        data = b"GET " + target + b" HTTP/1.1" + fields
        reader = RequestReader(b"localhost", Limits())
        assert reader.whole(data) is None
        for _ in range(2):
            assert reader.feed(b"GET /a HTTP/1.1" + fields, 0) > 0
            reader.reset()
            head = reader.whole(data)
            assert head is not None
            assert reader.complete
            expected = read_requests([data]).requests
            assert [(forwarded(head), b"")] == expected
            assert (head.route_host, head.idempotent, head.has_body) == (b"h", True, False)
            reader.reset()
    reader.forget()
    assert reader.whole(data) is None


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: h\r\n\r\n",  # other fields
        b"GET / HTTP/1.0\r\nHost: h\r\nX: 1\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: 1\r\nHost: h\r\nX: 1\r\n\r\n",
        b"\r\nGET / HTTP/1.1\r\nHost: h\r\nX: 1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nX: 1\r\n\r\nG",
        b"GET / HTTP/1.1\r\nHost: h\r\nX: 1\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\nX: 1\r\n\r\n",
        b"GET /#a HTTP/1.1\r\nHost: h\r\nX: 1\r\n\r\n",
        b"GET http://a/ HTTP/1.1\r\nHost: h\r\nX: 1\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: h\r\nX: 1\r\n\r\n",
        b"TRACE / HTTP/1.1\r\nHost: h\r\nX: 1\r\n\r\n",
        b"CONNECT / HTTP/1.1\r\nHost: h\r\nX: 1\r\n\r\n",
        b"GET  / HTTP/1.1\r\nHost: h\r\nX: 1\r\n\r\n",
        b"GET /\r HTTP/1.1\r\nHost: h\r\nX: 1\r\n\r\n",
        b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: h\r\nX: 1\r\n\r\n",
    ],
)
def test_any_other_request_is_left_to_a_closer_look(data: bytes) -> None:
    reader = RequestReader(b"localhost", Limits())
    reader.feed(b"GET /a HTTP/1.1\r\nHost: h\r\nX: 1\r\n\r\n", 0)
    reader.reset()
    assert reader.whole(data) is None


def test_other_limits_are_in_force_for_a_request_like_the_one_before() -> None:
    data = b"GET / HTTP/1.1\r\nHost: h\r\nX: 1\r\n\r\n"
    for limits in (Limits(head_fields=1), Limits(request_line_bytes=64), Limits(head_bytes=1024)):
        reader = RequestReader(b"localhost", Limits())
        reader.feed(data, 0)
        reader.reset()
        reader.adopt(limits)
        assert reader.whole(data) is None


def cut(data: bytes, places: list[int]) -> list[bytes]:
    bounds = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(bounds) if end > start]


chunk_data = st.binary(max_size=30) | st.sampled_from([b"\r\n", b"\r\n\r\n", b"0\r\n\r\n", b"\n\r\n\r"])


@st.composite
def one_request(draw: st.DrawFn) -> bytes:
    method = draw(st.sampled_from([b"GET", b"POST", b"HEAD", b"PUT"]))
    fields = draw(
        st.lists(
            st.sampled_from([b"X: 1", b"Y:", b"Connection: keep-alive", b"Upgrade: h2c", b"Z: \t b"]),
            max_size=4,
        )
    )
    if draw(st.booleans()):
        fields += [b"Connection: upgrade", b"Upgrade: websocket"]
    body = b""
    framing = draw(st.integers(0, 2))
    if framing == 1:
        body = draw(chunk_data)
        fields.append(b"Content-Length: %d" % len(body))
    elif framing == 2:
        chunks = [chunk for chunk in draw(st.lists(chunk_data, max_size=4)) if chunk]
        body = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n"
        body += draw(st.sampled_from([b"", b"T: 1\r\n", b"T: 1\r\nU:\r\n"])) + b"\r\n"
        fields.append(b"Transfer-Encoding: chunked")
    return b"\r\n".join([method + b" / HTTP/1.1", b"Host: h", *fields, b"", b""]) + body


@given(st.lists(one_request(), min_size=1, max_size=4), st.lists(st.integers(0, 2000), max_size=12))
def test_requests_are_the_same_in_any_cut(requests: list[bytes], places: list[int]) -> None:
    data = b"".join(requests)
    whole = read_requests([data])
    assert len(whole.requests) == len(requests)
    assert read_requests(cut(data, places)) == whole
    assert read_requests([data[i : i + 1] for i in range(len(data))]) == whole
    alone = [read_requests([request]).requests[0] for request in requests]
    assert whole.requests == alone


@given(st.lists(one_request(), min_size=1, max_size=2), st.integers(0, 500), st.binary(min_size=1, max_size=2))
def test_damaged_requests_are_the_same_in_any_cut(requests: list[bytes], place: int, damage: bytes) -> None:
    data = bytearray(b"".join(requests))
    place %= len(data)
    data[place : place + len(damage)] = damage
    whole = read_requests([bytes(data)])
    assert read_requests([bytes(data[i : i + 1]) for i in range(len(data))]) == whole


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    read_requests([data])
    read_requests([b"GET / HTTP/1.1\r\n" + data])
    read_requests([b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" + data])


def test_a_pipelined_request_is_left_unread() -> None:
    reader = RequestReader(b"localhost", Limits())
    first = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    data = first + b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
    assert reader.feed(data, 0) == len(first)
    assert reader.complete


def check_plain(reader: ResponseReader, head: ResponseHead, body: bytes) -> None:
    """The reader was fed what it had called a whole response."""
    assert reader.head is head
    assert reader.complete
    assert reader.reusable
    assert not body or reader.take_body() == [body]
    length = b"\r\nContent-Length: %d" % len(body)
    assert head.plain + b"\r\n\r\n" == b"".join(head.final(length, b"", b""))


def read_response(pieces: list[bytes], method: bytes = b"GET") -> tuple[object, ...]:
    reader = ResponseReader()
    reader.method = method
    reader.begin(Limits())
    body = b""
    interim: list[int] = []
    try:
        for piece in pieces:
            plain = reader.whole(piece)
            reader.feed(piece)
            if plain is not None:
                check_plain(reader, *plain)
                body += plain[1]
            body += b"".join(reader.take_body())
            interim += [head.status for head in reader.take_interim()]
        reader.end()
    except ResponseInvalidError as error:
        return "invalid", error.error
    assert reader.head is not None
    return b"".join(reader.head.final(b"", b"", b"")), body, interim, reader.reusable


@st.composite
def one_response(draw: st.DrawFn) -> bytes:
    interim = draw(
        st.sampled_from([b"", b"HTTP/1.1 103 Early\r\nLink: a\r\n\r\n", b"HTTP/1.1 100 C\r\n\r\n" * 2])
    )
    status = draw(st.sampled_from([b"200 OK", b"204 No", b"304 Not", b"404", b"500 \xe9"]))
    version = draw(st.sampled_from([b"1.1", b"1.0"]))
    fields = draw(
        st.lists(st.sampled_from([b"X: 1", b"Y:", b"Connection: close", b"Connection: keep-alive"]), max_size=3)
    )
    framing = draw(st.integers(0, 2))
    body = draw(chunk_data)
    if framing == 1:
        fields.append(b"Content-Length: %d" % len(body))
    elif framing == 2:
        fields.append(b"Transfer-Encoding: chunked")
        body = (b"%x;e=f\r\n%b\r\n" % (len(body), body) if body else b"") + b"0\r\nT: 1\r\n\r\n"
    return interim + b"\r\n".join([b"HTTP/%b %b" % (version, status), *fields, b"", b""]) + body


@given(one_response(), st.lists(st.integers(0, 1000), max_size=8), st.sampled_from([b"GET", b"HEAD"]))
def test_a_response_is_the_same_in_any_cut(data: bytes, places: list[int], method: bytes) -> None:
    whole = read_response([data], method)
    assert read_response(cut(data, places), method) == whole
    assert read_response([data[i : i + 1] for i in range(len(data))], method) == whole


@given(st.binary(max_size=200))
def test_any_bytes_are_a_response_or_invalid(data: bytes) -> None:
    read_response([data])
    read_response([b"HTTP/1.1 200 OK\r\n" + data])


@pytest.mark.parametrize(
    ("data", "method", "reusable"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na", b"GET", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab", b"GET", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" * 2, b"GET", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\na", b"GET", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na", b"GET", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\nConnection: keep-alive\r\n\r\na", b"GET", True),
        (b"HTTP/1.1 200 OK\r\n\r\na", b"GET", False),
        (b"HTTP/1.1 200 OK\r\n\r\n", b"HEAD", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n", b"HEAD", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na", b"HEAD", False),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"HEAD", False),
        (b"HTTP/1.1 304 Not\r\nContent-Length: 9\r\n\r\n", b"GET", True),
        (b"HTTP/1.1 204 No\r\n\r\nx", b"GET", False),
    ],
)
def test_a_connection_is_reusable_only_after_exactly_one_complete_response(
    data: bytes, method: bytes, reusable: bool
) -> None:
    reader = ResponseReader()
    reader.method = method
    reader.begin(Limits())
    reader.feed(data)
    assert reader.reusable is reusable


def test_a_reader_goes_on_with_the_next_response_after_a_head_request() -> None:
    reader = ResponseReader()
    for _ in range(3):
        reader.method = b"HEAD"
        reader.begin(Limits())
        reader.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
        assert reader.reusable
        reader.method = b"GET"
        reader.begin(Limits())
        reader.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        assert reader.reusable
        assert reader.take_body() == [b"ok"]


def test_a_response_like_the_one_before_is_read_in_one_go_within_the_limits_of_now() -> None:
    data = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: 1\r\n\r\nok"
    reader = ResponseReader()
    reader.method = b"GET"
    limits = Limits()
    reader.begin(limits)
    for _ in range(2):
        plain = reader.whole(data)
        assert plain is not None
        assert plain[1] == b"ok"
        reader.begin(limits)
        for other in (data + b"!", data[:-1], data.replace(b": 2", b": 3")):
            assert reader.whole(other) is None
    reader.begin(Limits(head_fields=1))
    assert reader.whole(data) is None


@pytest.mark.parametrize("reason", [b"\xe9", b"a\tb", b"x" * 100])
def test_an_unusual_reason_phrase_is_replaced_by_the_standard_one(reason: bytes) -> None:
    assert status_line(b"HTTP/1.1 200 " + reason).forwarded == b"HTTP/1.1 200 OK"
    assert status_line(b"HTTP/1.0 200 Fine").forwarded == b"HTTP/1.1 200 Fine"
