"""The monitor by itself, with a real backend."""

from __future__ import annotations

import asyncio

from tests.support.backends import BackendConnection, response, scripted_backend
from tests.support.tries import until_ended
from tests.support.worker import traffic
from weldr.control.health.monitor import HealthMonitor
from weldr.model.health import HealthCheck
from weldr.model.values import Service


async def test_the_answer_to_a_check_that_is_another_by_now_says_nothing() -> None:
    old_came, new_came, gate = asyncio.Event(), asyncio.Event(), asyncio.Event()
    old: list[BackendConnection] = []

    async def script(connection: BackendConnection) -> None:
        received = await connection.request()
        assert received is not None
        if received.target == "/old":
            old.append(connection)
            old_came.set()
            await gate.wait()
            await connection.send(response(status="500 No"))
            await connection.reader.read()
        else:
            await connection.send(response())
            new_came.set()

    def checked(path: str) -> Service:
        return Service(health=HealthCheck(path=path, interval_s=60.0, timeout_s=30.0, fall=1))

    monitor = HealthMonitor(lambda: None, lambda *_: None)
    async with scripted_backend(script) as backend, asyncio.timeout(30):
        monitor.follow(traffic(backend.port, policy=checked("/old")), ())
        running = asyncio.create_task(monitor.run())
        await old_came.wait()
        monitor.follow(traffic(backend.port, policy=checked("/new")), ())
        await new_came.wait()
        gate.set()
        await until_ended(old[0])
        assert not monitor.standings
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_the_backends_that_are_gone_are_named() -> None:
    monitor = HealthMonitor(lambda: None, lambda *_: None)
    assert monitor.follow(traffic(1, 2), ()) == []
    assert monitor.follow(traffic(1, 3), ()) == [("default", "b2", "127.0.0.1", 2)]
    assert monitor.follow(traffic(1), ()) == [("default", "b2", "127.0.0.1", 3)]
    assert monitor.follow(traffic(), ()) == [("default", "b1", "127.0.0.1", 1)]
