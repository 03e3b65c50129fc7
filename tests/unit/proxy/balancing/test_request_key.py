"""What of a request its hash is made from."""

from __future__ import annotations

import pytest

from weldr.model.balancing import HashBy
from weldr.model.values import Limits
from weldr.proxy.balancing.request_key import cookie_finder, request_key
from weldr.proxy.request_head import RequestHead, read_head


def head(*fields: str, target: str = "/") -> RequestHead:
    lines = "".join(f"{line}\r\n" for line in (f"GET {target} HTTP/1.1", "Host: h", *fields))
    found = read_head((lines + "\r\n").encode(), 0, Limits(), b"h")
    assert found is not None
    return found[0]


@pytest.mark.parametrize(
    ("by", "same", "other"),
    [
        (HashBy(header="X-User"), [head("X-User: a"), head("Accept: b", "x-user:  a ")], head("X-User: b")),
        (HashBy(cookie="id"), [head("Cookie: id=a"), head("Cookie: x=1; id=a; y")], head("Cookie: id=b; x=a")),
        (HashBy(path=True), [head(target="/a"), head(target="/a?b")], head(target="/b")),
    ],
)
def test_it_goes_by_just_that(by: HashBy, same: list[RequestHead], other: RequestHead) -> None:
    key = request_key(by)
    assert len({key(each, str(number)) for number, each in enumerate(same)}) == 1
    assert key(other, "0") != key(same[0], "0")


def test_it_goes_by_the_clients_address() -> None:
    key = request_key(HashBy(client=True))
    assert key(head(), "10.0.0.1") == key(head("X: y", target="/z"), "10.0.0.1") != key(head(), "10.0.0.2")


def test_it_is_the_same_in_every_process_and_version() -> None:
    assert request_key(HashBy(client=True))(head(), "10.0.0.1") == 0x538EF646E14D03E6  # b2sum -l 64


def test_a_request_without_it_has_no_key() -> None:
    assert request_key(HashBy(header="X-User"))(head(), "c") is None
    assert request_key(HashBy(cookie="id"))(head("Cookie: xid=1; ID=2"), "c") is None


@pytest.mark.parametrize(
    ("fields", "value"),
    [
        (["Cookie: a=1"], b"1"),
        (["cookie: b=2; a=1"], b"1"),
        (["Cookie: a=1; a=2"], b"1"),
        (["Cookie: b=a=3;a=1 ; c=2"], b"1"),
        (["Cookie: b=2", "Cookie: c=4;  a=1"], b"1"),
        (["Cookie: a="], b""),
        (["Cookie: ba=1; xa=2"], None),
        (["X-Cookie: a=1"], None),
        (["X: Cookie: a=1"], None),
        ([], None),
    ],
)
def test_a_cookie_is_found_in_every_place_that_it_may_have(fields: list[str], value: bytes | None) -> None:
    assert cookie_finder("a")(head(*fields)) == value
