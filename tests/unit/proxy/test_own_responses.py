"""The responses that weldr makes itself are framed as their status asks for."""

from __future__ import annotations

import pytest

from weldr.proxy.own_responses import own_response


@pytest.mark.parametrize(
    ("status", "length", "body"),
    [(200, b"5", b"text\n"), (204, None, b""), (205, b"0", b""), (304, None, b""), (503, b"5", b"text\n")],
)
def test_a_status_without_content_has_none(status: int, length: bytes | None, body: bytes) -> None:
    response = own_response(status, "text", date=b"", connection=b"", request_id=b"1")
    head, _, rest = response.partition(b"\r\n\r\n")
    fields = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:])
    assert fields.get(b"Content-Length") == length
    assert rest == body
