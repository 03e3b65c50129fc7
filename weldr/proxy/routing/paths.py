"""The path of a request as routes are compared with it.

Backends take `/%61`, `/x/../a` and `//a` for `/a`, so a route that guards `/a` has to, too: otherwise anybody
could walk around it. What is forwarded stays as it came, unless the route rewrites it. So `/a//../b`, which is
`/b` for backends that merge empty segments and `/a/b` by RFC 3986, section 5.2.4, is refused.
"""

from __future__ import annotations

import re
from functools import lru_cache

from weldr.proxy.request_fields import RequestRefusedError

_PERCENT = ord("%")
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_MOST_REMEMBERED_BYTES = 512


def normal_path(target: bytes) -> bytes:
    """The path of a target in normal form (RFC 3986, section 6.2.2), with no empty segments but the last.

    Raises `RequestRefusedError` for one that is another by that section alone.
    """
    query = target.find(b"?")
    path = target if query < 0 else target[:query]
    # To look for bytes with `in` takes longer, except for one as a number.
    if _PERCENT not in path and path.find(b"//") < 0 and path.find(b"/.") < 0:
        return path
    return _remembered(path) if len(path) <= _MOST_REMEMBERED_BYTES else _normalised(path)


def first_segments(path: bytes, count: int) -> bytes:
    """So many of them, or all if there are fewer."""
    end = 0
    for _ in range(count):
        end = path.find(b"/", end + 1)
        if end < 0:
            return path
    return path[:end]


def query_of(target: bytes) -> bytes:
    """The query of a target, with its question mark; empty without one."""
    _, mark, query = target.partition(b"?")
    return mark + query


def route_path(path: bytes) -> bytes:
    """A route's path in normal form: there is no backend that could understand it otherwise."""
    return _normalised(path, strictly=False)


def _normalised(path: bytes, *, strictly: bool = True) -> bytes:
    path = _ESCAPE.sub(_unescaped, path)
    segments: list[bytes] = []
    with_empty: list[bytes] = []
    last = b""
    for last in path.split(b"/")[1:]:
        if last == b"..":
            del segments[-1:], with_empty[-1:]
        elif last != b".":
            with_empty.append(last)
            if last:
                segments.append(last)
    if strictly and [each for each in with_empty if each] != segments:
        raise RequestRefusedError(400, "the path has a .. behind an empty segment")
    end = b"/" if last in (b"", b".", b"..") and segments else b""
    return b"/" + b"/".join(segments) + end


def _unescaped(found: re.Match[bytes]) -> bytes:
    octet = int(found[1], 16)
    return bytes((octet,)) if octet in _UNRESERVED else found[0].upper()


_remembered = lru_cache(maxsize=1024)(_normalised)
