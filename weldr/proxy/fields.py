"""Field names that mean something to weldr itself, and the little grammar that is shared by both directions."""

from __future__ import annotations

from functools import lru_cache

MAX_FIELDS = 100
MAX_HEAD_BYTES = 64 * 1024

HOP_BY_HOP = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"http2-settings",
    )
)
"""Never forwarded as they came: RFC 9110, section 7.6.1, and what RFC 2616 counted among them."""

PROTECTED = frozenset((b"via", b"date"))
"""What `Connection` cannot have removed. Host, framing and the X-Forwarded fields are out of its reach anyway,
since they are not kept as fields but written anew."""

VIA_11 = b"Via: 1.1 weldr"
VIA_10 = b"Via: 1.0 weldr"

_MAX_REMEMBERED_BYTES = 64


def connection_options(value: bytes) -> frozenset[bytes]:
    """The options of a `Connection` field, in lower case."""
    if len(value) <= _MAX_REMEMBERED_BYTES:
        return _remembered_options(value)
    return _options(value)


def _options(value: bytes) -> frozenset[bytes]:
    return frozenset(option.strip(b" \t") for option in value.lower().split(b",")) - {b""}


_remembered_options = lru_cache(maxsize=256)(_options)


def without(lines: list[bytes], names: frozenset[bytes]) -> list[bytes]:
    """The field lines whose name, in lower case, is not among `names`."""
    return [line for line in lines if line.partition(b":")[0].lower() not in names]
