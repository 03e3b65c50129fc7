"""The responses that weldr makes itself: one line of text, and an RFC 9209 `Proxy-Status` that says why."""

from __future__ import annotations

from weldr.proxy.response_head import standard_reason


def own_response(
    status: int,
    reason: str,
    *,
    date: bytes,
    error: str | None = None,
    field_line: bytes | None = None,
    connection: bytes | None = None,
    head_only: bool = False,
) -> bytes:
    """A whole response. `error` is a type from the registry of RFC 9209; `connection` a field line."""
    body = _one_line(reason)
    lines = [
        b"HTTP/1.1 %d %b" % (status, standard_reason(status)),
        b"Content-Type: text/plain; charset=utf-8",
        b"Content-Length: %d" % len(body),
        date,
    ]
    if error is not None:
        lines.append(b"Proxy-Status: weldr; error=" + error.encode("ascii"))
    if field_line is not None:
        lines.append(field_line)
    if connection is not None:
        lines.append(connection)
    lines.append(b"\r\n")
    return b"\r\n".join(lines) + (b"" if head_only else body)


def _one_line(reason: str) -> bytes:
    # The reason may quote a name that anybody wrote into a key.
    printable = "".join(character if character.isprintable() else "?" for character in reason)
    return printable.encode("utf-8", "replace") + b"\n"
