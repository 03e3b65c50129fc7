"""One request, and its answer compared with the origin's to the last byte."""

from __future__ import annotations

import http.client
import socket

from benchmarks.peers.works import MARK, Work

_LIMIT_S = 10.0


class WrongAnswerError(Exception):
    """Something else came than the origin sent."""


def check(port: int, work: Work) -> None:
    """Ask the proxy on a new connection. Raises `WrongAnswerError`, or `OSError` where nothing answers."""
    with socket.create_connection(("127.0.0.1", port), timeout=_LIMIT_S) as connection:
        connection.sendall(work.request().replace(MARK, b"00000000"))
        answer = http.client.HTTPResponse(connection)
        try:
            answer.begin()
            body = answer.read()
            stays = work.new_connection and connection.recv(1) != b""
        except http.client.HTTPException as error:
            raise WrongAnswerError(f"no answer: {error!r}") from error
    if answer.status != 200 or body != work.answer or answer.headers["ETag"] != '"1"':
        raise WrongAnswerError(f"status {answer.status} and {len(body)} bytes, not what the origin sent")
    if stays:
        raise WrongAnswerError("the connection that was to be closed goes on")
