"""One check of one real server: what it is sent, and what becomes of each answer."""

from __future__ import annotations

import asyncio
import resource
import socket

import pytest

from tests.support.backends import BackendConnection, response, scripted_backend
from tests.support.ports import free_port
from weldr.control.health.probe import OwnLimitError, probe
from weldr.model.health import HealthCheck
from weldr.version import __version__

HOST = "127.0.0.1"
CHECK = HealthCheck(timeout_s=30)


async def test_a_check_is_one_plain_request_on_a_connection_of_its_own() -> None:
    async def script(connection: BackendConnection) -> None:
        received = await connection.request()
        assert received is not None
        backend.received.append(received)
        await connection.send(response())

    check = HealthCheck(method="HEAD", path="/health?deep=1%20", host="shop.example", timeout_s=30)
    async with scripted_backend(script) as backend:
        assert await probe(check, HOST, backend.port) is None
        assert await probe(CHECK, HOST, backend.port) is None
        first, second = backend.received
        assert first.line == "HEAD /health?deep=1%20 HTTP/1.1"
        assert first.fields == [
            ("Host", "shop.example"),
            ("User-Agent", f"weldr/{__version__} (health check)"),
            ("Accept", "*/*"),
            ("Connection", "close"),
        ]
        assert second.get("host") == f"{HOST}:{backend.port}"
        assert len(backend.connections) == 2


async def test_another_port_can_be_asked() -> None:
    async def script(connection: BackendConnection) -> None:
        await connection.request()
        await connection.send(response())

    async with scripted_backend(script) as backend:
        assert await probe(HealthCheck(port=backend.port, timeout_s=30), HOST, free_port()) is None


async def test_a_redirect_passes_and_is_not_followed() -> None:
    async def script(connection: BackendConnection) -> None:
        await connection.request()
        await connection.send(response(b"", f"Location: http://{HOST}:1/", status="302 Found"))

    async with scripted_backend(script) as backend:
        assert await probe(CHECK, HOST, backend.port) is None
        assert len(backend.connections) == 1


async def test_each_failure_has_its_reason() -> None:
    async def hang(connection: BackendConnection) -> None:
        await connection.request()
        await asyncio.sleep(60)

    async def drip(connection: BackendConnection) -> None:
        await connection.request()
        while True:
            await connection.send(b"H")
            await asyncio.sleep(0.01)

    async def close(connection: BackendConnection) -> None:
        await connection.request()

    async def reset(connection: BackendConnection) -> None:
        await connection.request()
        connection.reset()

    quick = HealthCheck(timeout_s=0.2)
    for script, check, failure in (
        (hang, quick, "it did not answer within 0.2 s"),
        (drip, quick, "it did not answer within 0.2 s"),
        (close, CHECK, "it closed the connection without an answer"),
        (reset, CHECK, "it broke the connection"),
    ):
        async with scripted_backend(script) as backend:
            assert await probe(check, HOST, backend.port) == failure
    assert await probe(CHECK, HOST, free_port()) == "it refused the connection"
    assert await probe(CHECK, "no-such-host.invalid", 80) == "its name has no address"


async def test_a_connection_that_is_not_taken_fails_after_the_time() -> None:
    with socket.socket() as full:
        full.bind((HOST, 0))
        full.listen(0)
        address = full.getsockname()
        waiting = [socket.create_connection(address)]
        check = HealthCheck(type="tcp", timeout_s=0.2)
        try:
            assert await probe(check, *address) == "it took no connection within 0.2 s"
        finally:
            for each in waiting:
                each.close()


@pytest.mark.parametrize(
    ("listen", "host", "authority"), [("::1", "::1", "[::1]"), ("127.0.0.1", "localhost", "localhost")]
)
async def test_a_name_and_an_ipv6_address_can_be_asked(listen: str, host: str, authority: str) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        seen.append(head.partition("Host: ")[2].partition("\r\n")[0])
        writer.write(response())
        writer.close()

    seen: list[str] = []
    server = await asyncio.start_server(answer, listen, 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        assert await probe(CHECK, host, port) is None
    assert seen == [f"{authority}:{port}"]


async def test_a_lack_of_our_own_says_nothing_of_the_backend() -> None:
    held = []
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(limits[0], 1000), limits[1]))
        while True:
            try:
                held.append(socket.socket())
            except OSError:
                break
        with pytest.raises(OwnLimitError):
            await probe(CHECK, HOST, 80)
    finally:
        for each in held:
            each.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
