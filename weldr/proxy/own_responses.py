"""The responses that weldr makes itself: one line of text, and an RFC 9209 `Proxy-Status` that says why."""

from __future__ import annotations

from weldr.proxy.response_head import BODILESS, standard_reason


def own_response(
    status: int,
    reason: str,
    *,
    date: bytes,
    connection: bytes,
    error: str | None = None,
    field_line: bytes | None = None,
    content_type: str | None = None,
    head_only: bool = False,
) -> bytes:
    """A whole response.

    `error` is a type from the registry of RFC 9209. `date` and `connection` are field lines with a CRLF before
    each, or empty. With a `content_type`, `reason` is the body as it stands, and not one line of text.
    """
    body = _one_line(reason) if content_type is None else reason.encode("utf-8")
    content_type = content_type or "text/plain; charset=utf-8"
    parts = [b"HTTP/1.1 %d %b" % (status, standard_reason(status)), date, connection]
    if status in BODILESS:
        body = b""
    else:
        parts.append(b"\r\nContent-Type: " + content_type.encode("utf-8"))
        parts.append(b"\r\nContent-Length: %d" % len(body))
    if error is not None:
        parts.append(b"\r\nProxy-Status: weldr; error=" + error.encode("ascii"))
    if field_line is not None:
        parts.append(b"\r\n" + field_line)
    parts.append(b"\r\n\r\n")
    return b"".join(parts) + (b"" if head_only else body)


def _one_line(reason: str) -> bytes:
    # The reason may quote a name that anybody wrote into a key.
    printable = "".join(character if character.isprintable() else "?" for character in reason)
    return printable.encode("utf-8", "replace") + b"\n"
