"""Names of fields that no value in etcd may have weldr write."""

from __future__ import annotations

LOAD_BEARING = frozenset(
    (
        "connection",
        "content-length",
        "date",
        "expect",
        "forwarded",
        "host",
        "http2-settings",
        "keep-alive",
        "max-forwards",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "via",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-port",
        "x-forwarded-proto",
        "x-request-id",
    )
)
"""Fields that weldr itself reads and writes: framing, routing and trust rest on them."""
