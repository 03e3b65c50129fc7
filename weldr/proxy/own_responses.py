"""The responses that weldr makes itself: one line of text, and an RFC 9209 `Proxy-Status` that says why."""

from __future__ import annotations

import re
from http import HTTPStatus

from weldr.proxy.response_head import BODILESS, standard_reason

_MOST_DETAILS = 256
_MOST_REQUEST_ID = 128
_UNPRINTABLE = re.compile(rb"[^ -~]")


def own_response(
    status: int,
    reason: str,
    *,
    date: bytes,
    connection: bytes,
    request_id: bytes,
    error: str | None = None,
    field_line: bytes | None = None,
    content_type: str | None = None,
    head_only: bool = False,
    debug: bytes = b"",
) -> bytes:
    """A whole response.

    `error` is a type from the registry of RFC 9209. `date`, `connection` and `debug` are field lines with a
    CRLF before each, or empty. With a `content_type`, `reason` is the body as it stands, and no line of text.
    """
    body = _one_line(reason) if content_type is None else reason.encode("utf-8")
    details = body[:-1] if content_type is None else b""
    if status == HTTPStatus.RESET_CONTENT:
        # RFC 9110, section 15.3.6: no content, but the message is framed as if it could have some.
        body = b""
    content_type = content_type or "text/plain; charset=utf-8"
    parts = [b"HTTP/1.1 %d %b" % (status, standard_reason(status)), date, connection]
    if status in BODILESS:
        body = b""
    else:
        parts.append(b"\r\nContent-Type: " + content_type.encode("utf-8"))
        parts.append(b"\r\nContent-Length: %d" % len(body))
    parts.append(b"\r\nProxy-Status: weldr")
    if error is not None:
        parts.append(b"; error=" + error.encode("ascii"))
        parts.append(b"; details=" + _string(details, _MOST_DETAILS))
    parts.append(b"; request-id=" + _string(request_id, _MOST_REQUEST_ID))
    parts.append(debug)
    if field_line is not None:
        parts.append(b"\r\n" + field_line)
    parts.append(b"\r\n\r\n")
    return b"".join(parts) + (b"" if head_only else body)


def _string(text: bytes, most: int) -> bytes:
    """As structured fields have strings (RFC 8941, section 3.3.3): printable ASCII only."""
    printable = _UNPRINTABLE.sub(b"?", text[:most])
    return b'"' + printable.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'


def _one_line(reason: str) -> bytes:
    # The reason may quote a name that anybody wrote into a key.
    printable = "".join(character if character.isprintable() else "?" for character in reason)
    return printable.encode("utf-8", "replace") + b"\n"
