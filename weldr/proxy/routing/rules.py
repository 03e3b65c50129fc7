"""What a route does with a request that it takes, beside sending it to a service. Pure; time is passed in."""

from __future__ import annotations

import math
import random
import re
import zlib
from bisect import bisect_right
from collections.abc import Callable
from itertools import accumulate
from typing import NamedTuple

from weldr.model.patterns import written_path
from weldr.model.routes import FixedResponse, RateLimit, Redirect, Route, SplitBy
from weldr.model.timeouts import UpstreamTimeouts
from weldr.proxy.networks import NetworkSet, parsed_address
from weldr.proxy.request_head import RequestHead
from weldr.proxy.routing.conditions import Asked, field_pattern
from weldr.proxy.routing.field_edits import compiled_edits
from weldr.proxy.routing.paths import normal_path, query_of, route_path
from weldr.proxy.routing.token_bucket import TokenBuckets

_COOKIE = rb"(?:^|;)[ \t]*%b=([^;]*)"


class Verdict(NamedTuple):
    """An answer of weldr's own, in place of any backend's."""

    status: int
    reason: str
    error: str | None = None
    """A type of RFC 9209, where it is a refusal."""
    field_line: bytes | None = None
    """One more."""
    content_type: str | None = None
    """Of a fixed response, whose body is then `reason` as it stands."""


class RouteRules:
    """Of one route. Its token buckets are the only thing that changes."""

    __slots__ = (
        "_add_prefix",
        "_allow",
        "_buckets",
        "_choose",
        "_deny",
        "_fixed",
        "_key",
        "_limit",
        "_redirect",
        "_strip_prefix",
        "max_body_bytes",
        "mirror",
        "request_edits",
        "response_edits",
        "retries",
        "timeouts",
    )

    def __init__(self, route: Route, before: RouteRules | None = None) -> None:
        """`before` are the route's rules until now, whose buckets stay if the limit does."""
        self._allow = NetworkSet(route.allow) if route.allow else None
        self._deny = NetworkSet(route.deny) if route.deny else None
        self._fixed = None if route.response is None else _fixed(route.response)
        self._redirect = route.redirect
        self._strip_prefix = _prefix(route.strip_prefix)
        self._add_prefix = _prefix(route.add_prefix)
        self._choose = _split(route)
        limit = route.rate_limit
        self._limit = limit
        self._buckets = None if limit is None else TokenBuckets(limit.requests_per_s, _burst(limit))
        if before is not None and before._limit == limit:
            self._buckets = before._buckets
        self._key = _bucket_key(limit)
        self.max_body_bytes = math.inf if route.max_body_bytes is None else route.max_body_bytes
        self.mirror = route.mirror
        self.request_edits = compiled_edits(route.request_headers, look_alikes=True)
        self.response_edits = compiled_edits(route.response_headers)
        self.retries = route.retries
        self.timeouts = {
            name: value
            for name in UpstreamTimeouts.__struct_fields__
            if (value := getattr(route.timeouts, name)) is not None
        } or None
        """Those that it has, by name."""

    def verdict(self, asked: Asked, now_s: float, share: float) -> Verdict | None:
        """The answer, if the request goes no further. `share` is this worker's of the rate limit."""
        if self._deny is not None and asked.client in self._deny:
            return Verdict(403, "this client's network is denied", "http_request_denied")
        if self._allow is not None and asked.client not in self._allow:
            return Verdict(403, "this client's network is not among those allowed", "http_request_denied")
        if self._buckets is not None:
            wait_s = self._buckets.take(self._key(asked), now_s, share)
            if wait_s:
                after = b"Retry-After: %d" % math.ceil(wait_s)
                return Verdict(429, "there are too many requests", "http_request_denied", after)
        if (asked.head.fields.content_length or 0) > self.max_body_bytes:
            return body_too_large(self.max_body_bytes)
        if self._redirect is not None:
            return _redirected(self._redirect, asked.head)
        return self._fixed

    def choose(self, asked: Asked) -> tuple[str, bytes]:
        """The service that the request goes to, and a field line for its response, a cookie, or nothing."""
        return self._choose(asked)

    def service(self, asked: Asked) -> str:
        """The service that the request goes to."""
        return self._choose(asked)[0]

    def target(self, target: bytes) -> bytes:
        """The target as it is forwarded."""
        strip, add = self._strip_prefix, self._add_prefix
        if not (strip or add) or not target.startswith(b"/"):
            return target
        # Of the path that the route was found by: otherwise `/%61/x` would keep the prefix `/a`.
        path = normal_path(target)
        if strip and path.startswith(strip) and path[len(strip) : len(strip) + 1] in (b"", b"/"):
            path = path[len(strip) :]
        return (add + path or b"/") + query_of(target)


def body_too_large(most_bytes: float) -> Verdict:
    """The answer to a request whose body is larger than its route takes."""
    return Verdict(413, f"the body of the request has more than {most_bytes:.0f} bytes", "http_request_denied")


def _prefix(path: str | None) -> bytes:
    return b"" if path is None else route_path(written_path(path)).rstrip(b"/")


def _fixed(response: FixedResponse) -> Verdict:
    return Verdict(response.status, response.body, content_type=response.content_type)


def _redirected(redirect: Redirect, head: RequestHead) -> Verdict:
    scheme = redirect.scheme or "http"
    host = head.host if redirect.host is None else redirect.host.encode("ascii")
    if redirect.host is None and redirect.scheme is not None:
        # The port belongs to the scheme that was asked for.
        host = re.sub(rb":[0-9]*\Z", b"", host)
    target = head.target if redirect.path is None else redirect.path.encode("ascii")
    location = scheme.encode("ascii") + b"://" + host + (b"/" if target == b"*" else target)
    reason = f"see {location.decode('latin-1')}"
    return Verdict(redirect.status, reason, field_line=b"Location: " + location)


def _burst(limit: RateLimit) -> float:
    return max(1.0, limit.requests_per_s if limit.burst is None else limit.burst)


def _bucket_key(limit: RateLimit | None) -> Callable[[Asked], bytes]:
    if limit is not None and limit.by_header is not None:
        pattern = field_pattern(limit.by_header)

        def by_header(asked: Asked) -> bytes:
            found = pattern.search(asked.head.fields.lines)
            return found[1][:256] if found else b""

        return by_header
    if limit is not None and limit.by == "client":
        return lambda asked: client_key(asked.client)
    return lambda asked: b""


def client_key(address: str) -> bytes:
    """What stands for a client: its address, of IPv6 the /64, in which its owner can choose any address."""
    version, number = parsed_address(address)
    return b"%d:%x" % (version, number >> _IPV6_HOST_BITS if version == 6 else number)


_IPV6_HOST_BITS = 64


def _split(route: Route) -> Callable[[Asked], tuple[str, bytes]]:
    if not route.services:
        only = route.service or "", b""
        return lambda asked: only
    # In the order of their names: an object's members have none, and all instances have to choose alike.
    weights = sorted((name, weight) for name, weight in route.services.items() if weight)
    bounds = list(accumulate(weight for _, weight in weights))
    place = _place(route.split_by, bounds[-1])

    def choose(asked: Asked) -> tuple[str, bytes]:
        at, line = place(asked)
        return weights[bisect_right(bounds, at)][0], line

    return choose


def _place(by: SplitBy | None, total: int) -> Callable[[Asked], tuple[int, bytes]]:
    """Where in the sum of the weights a request stands, the same for the same cookie or field, and a field line
    for the response by which it gets a cookie.
    """
    if by is None:
        return lambda asked: (random.randrange(total), b"")
    if by.header is not None:
        return _place_by_header(by.header, total)
    return _place_by_cookie((by.cookie or "").encode("ascii"), by.set_cookie, total)


def _place_by_header(name: str, total: int) -> Callable[[Asked], tuple[int, bytes]]:
    pattern = field_pattern(name)

    def place(asked: Asked) -> tuple[int, bytes]:
        found = pattern.search(asked.head.fields.lines)
        return (random.randrange(total) if found is None else _lot(found[1], total)), b""

    return place


def _place_by_cookie(name: bytes, set_cookie: bool, total: int) -> Callable[[Asked], tuple[int, bytes]]:
    cookies, cookie = field_pattern("Cookie"), re.compile(_COOKIE % re.escape(name))

    def place(asked: Asked) -> tuple[int, bytes]:
        # There may be several lines: HTTP/2 has them split (RFC 9113, section 8.2.3).
        found = cookie.search(b";".join(cookies.findall(asked.head.fields.lines)))
        if found is not None:
            return _lot(found[1], total), b""
        if not set_cookie:
            return random.randrange(total), b""
        value = b"%016x" % random.getrandbits(64)
        line = b"\r\nSet-Cookie: " + name + b"=" + value + b"; Path=/; HttpOnly; SameSite=Lax"
        return _lot(value, total), line

    return place


def _lot(value: bytes, total: int) -> int:
    """A place from 0 to `total`, in proportion: so a change of weights moves as few clients as it can."""
    return zlib.crc32(value) * total >> 32
