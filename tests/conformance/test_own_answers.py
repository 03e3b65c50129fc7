"""Requests with a body that weldr answers without a backend: nothing of the body is ever taken for a request.

Where a server answers before it has read the body, and then goes on to read requests, a body is one (CL.0).
"""

from __future__ import annotations

import pytest

from tests.support.backends import ScriptedBackend
from tests.support.http import RawClient, get
from tests.support.worker import Worker, traffic
from weldr.model.routes import FixedResponse, Redirect, Route

pytestmark = pytest.mark.asyncio(loop_scope="module")

EVIL = b"GET /evil HTTP/1.1\r\nHost: a\r\n\r\n"
COUNTED = f"Content-Length: {len(EVIL)}"
CHUNKS = b"%x\r\n%b\r\n0\r\n\r\n" % (len(EVIL), EVIL)

ROUTES: dict[str, Route] = {
    "redirect": Route(path="/redirect", redirect=Redirect(host="b")),
    "fixed": Route(path="/fixed", response=FixedResponse(status=200, body="fixed")),
    "empty": Route(path="/empty", response=FixedResponse(status=204)),
    "small": Route(path="/small", service="default", max_body_bytes=3),
    "nobody": Route(path="/nobody", service="nobody"),
}
STATUS = {"redirect": 302, "fixed": 200, "empty": 204, "small": 413, "nobody": 503}

BODIES: dict[str, tuple[tuple[str, ...], bytes]] = {
    "Content-Length": ((COUNTED,), EVIL),
    "chunks": (("Transfer-Encoding: chunked",), CHUNKS),
    "an expectation": (("Expect: 100-continue", COUNTED), EVIL),
    "an upgrade": (("Connection: Upgrade", "Upgrade: foo", COUNTED), EVIL),
}


def post(route: str, *fields: str) -> bytes:
    return get(f"/{route}", "a", *fields).replace(b"GET", b"POST", 1)


@pytest.mark.parametrize("bytewise", [False, True], ids=["whole", "bytewise"])
@pytest.mark.parametrize("case", BODIES)
@pytest.mark.parametrize("route", ROUTES)
async def test_a_body_is_no_request_if_weldr_answers_itself(
    worker: Worker, recording_backend: ScriptedBackend, route: str, case: str, bytewise: bool
) -> None:
    fields, body = BODIES[case]
    await worker.serve(traffic(recording_backend.port, routes=ROUTES))
    recording_backend.received.clear()
    async with await RawClient.connect(worker.port) as client:
        await client.send(post(route, *fields))
        if route == "small" and case == "chunks":
            # Nobody knows yet how much it is.
            await client.send(body, bytewise=bytewise)
            assert (await client.receive()).status == 413
        else:
            # Before the body comes, and so nothing can follow: where it ends, if it comes at all, is not known.
            answer = await client.receive()
            assert answer.status == STATUS[route]
            assert answer.get("connection") == "close"
            await client.send(body, bytewise=bytewise)
            assert await client.is_closed()
    assert recording_backend.received == []


@pytest.mark.parametrize("case", BODIES)
@pytest.mark.parametrize("route", ROUTES)
async def test_a_request_behind_a_body_is_one_if_weldr_answers_itself(
    worker: Worker, recording_backend: ScriptedBackend, route: str, case: str
) -> None:
    fields, body = BODIES[case]
    await worker.serve(traffic(recording_backend.port, routes=ROUTES))
    recording_backend.received.clear()
    async with await RawClient.connect(worker.port) as client:
        await client.send(post(route, *fields) + body + get("/next", "a"))
        answer = await client.receive()
        assert answer.status == STATUS[route]
        assert answer.get("connection") is None
        assert (await client.receive()).status == 200
    assert [received.target for received in recording_backend.received] == ["/next"]
