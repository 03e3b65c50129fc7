"""What the guard bounds; who it lets in is tested over HTTP."""

from __future__ import annotations

from http import HTTPStatus

import pytest
from aiohttp.test_utils import make_mocked_request

from weldr.control.admin.guard import Access, AdminAddressError, Guard
from weldr.control.admin.problem import ProblemError
from weldr.control.admin.rates import BURST
from weldr.control.admin.tokens import Role


def test_a_client_that_asks_too_often_is_told_when_to_come_back() -> None:
    guard = Guard(Access(), ["127.0.0.1:8687"])
    request = make_mocked_request("GET", "/", {"Host": "localhost"})
    for _ in range(int(BURST)):
        guard.admit(request, Role.READ, 1.0)
    with pytest.raises(ProblemError) as refused:
        guard.admit(request, Role.READ, 1.0)
    assert refused.value.status is HTTPStatus.TOO_MANY_REQUESTS
    assert int(refused.value.headers["Retry-After"]) >= 1
    guard.admit(request, Role.READ, 2.0)


def test_what_is_refused_does_not_use_up_what_others_may_send() -> None:
    guard = Guard(Access(), ["127.0.0.1:8687"])
    hostile = make_mocked_request("GET", "/", {"Host": "localhost", "Origin": "http://evil.example"})
    statuses = []
    for _ in range(int(BURST) + 1):
        with pytest.raises(ProblemError) as refused:
            guard.admit(hostile, Role.READ, 1.0)
        statuses.append(refused.value.status)
    assert statuses[0] is HTTPStatus.FORBIDDEN
    assert statuses[-1] is HTTPStatus.TOO_MANY_REQUESTS
    guard.admit(make_mocked_request("GET", "/", {"Host": "localhost"}), Role.READ, 1.0)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1"])
def test_loopback_needs_no_token(address: str) -> None:
    assert not Guard(Access(), [address]).has_tokens


@pytest.mark.parametrize("address", ["0.0.0.0:1", "[::]:1", "10.0.0.1:1", "[fe80::1]:1"])
def test_any_other_address_does(address: str) -> None:
    with pytest.raises(AdminAddressError, match="--admin-token-file"):
        Guard(Access(), ["127.0.0.1:1", address])
    assert not Guard(Access(insecure=True), [address]).has_tokens
