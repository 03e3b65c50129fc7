"""What of a request `consistent_hash` goes by, as 64 bits that are the same in every process."""

from __future__ import annotations

import re
from collections.abc import Callable
from hashlib import blake2b

from weldr.model.balancing import HashBy
from weldr.proxy.request_head import RequestHead
from weldr.proxy.routing.conditions import field_pattern

RequestKey = Callable[[RequestHead, str], int | None]
"""From a request and its client's address. `None` if it has nothing of the kind."""

_KEY_BYTES = 8


def request_key(by: HashBy) -> RequestKey:
    """What finds it."""
    if by.header is not None:
        field = field_pattern(by.header)
        return lambda head, _: _of_match(field.search(head.fields.lines))
    if by.cookie is not None:
        find = cookie_finder(by.cookie)
        return lambda head, _: _of_value(find(head))
    if by.path:
        return lambda head, _: _key(head.target.partition(b"?")[0])
    return lambda _, client: _key(client.encode("utf-8", "replace"))


def cookie_finder(name: str) -> Callable[[RequestHead], bytes | None]:
    """The value of the first cookie of this name (RFC 6265, section 4.2)."""
    # There may be several lines: HTTP/2 has them split (RFC 9113, section 8.2.3).
    pattern = re.compile(
        rb"\r\n[Cc][Oo][Oo][Kk][Ii][Ee]: (?:[^\r]*?;)??[ \t]*"
        + re.escape(name.encode("ascii"))
        + rb"=([^;\r]*+)"
    )

    def find(head: RequestHead) -> bytes | None:
        found = pattern.search(head.fields.lines)
        return None if found is None else found[1].strip(b" \t")

    return find


def _of_match(found: re.Match[bytes] | None) -> int | None:
    return None if found is None else _key(found[1])


def _of_value(value: bytes | None) -> int | None:
    return None if value is None else _key(value)


def _key(value: bytes) -> int:
    return int.from_bytes(blake2b(value, digest_size=_KEY_BYTES).digest(), "big")
