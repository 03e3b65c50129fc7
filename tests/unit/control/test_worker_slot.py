"""One worker slot, with a program in the worker's place that does nothing."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from typing import Any

import pytest

from weldr.control import worker
from weldr.control.statistics import Statistics
from weldr.control.worker import WorkerSlot

_LIMIT_S = 10.0


class Launches:
    """Stands for `asyncio.create_subprocess_exec`."""

    def __init__(self) -> None:
        self.processes: list[asyncio.subprocess.Process] = []
        self.environments: list[dict[str, str]] = []
        self.may_return = asyncio.Event()
        self.may_return.set()
        self.began = asyncio.Event()
        self._start = asyncio.create_subprocess_exec

    async def __call__(self, *command: str, **options: Any) -> asyncio.subprocess.Process:
        self.environments.append(options["env"])
        process = await self._start("sleep", "60", pass_fds=options["pass_fds"])
        self.processes.append(process)
        self.began.set()
        await self.may_return.wait()
        return process


@contextlib.asynccontextmanager
async def _running(slot: WorkerSlot, launches: Launches) -> AsyncIterator[asyncio.Task[None]]:
    running = asyncio.create_task(slot.run())
    try:
        async with asyncio.timeout(_LIMIT_S):
            await launches.began.wait()
        yield running
    finally:
        launches.may_return.set()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        for process in launches.processes:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


@pytest.fixture
async def launches(monkeypatch: pytest.MonkeyPatch) -> Launches:
    launches = Launches()
    monkeypatch.setattr(worker.asyncio, "create_subprocess_exec", launches)
    return launches


@pytest.fixture
def slot() -> WorkerSlot:
    return WorkerSlot(
        "0",
        [],
        [],
        lambda: None,
        Statistics(),
        dict,
        lambda: None,
        lambda name, sparing: None,
        lambda silent: None,
    )


async def test_a_worker_that_is_given_up_while_it_is_started_ends_at_once(
    slot: WorkerSlot, launches: Launches
) -> None:
    launches.may_return.clear()
    async with _running(slot, launches) as running:
        slot.give_up()
        launches.may_return.set()
        async with asyncio.timeout(_LIMIT_S):
            await running
        assert launches.processes[0].returncode is not None


async def test_a_worker_may_take_longer_for_its_first_sign_of_life_than_for_the_next(
    slot: WorkerSlot, launches: Launches, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As where a hundred of them start on one core.
    async with _running(slot, launches):
        await asyncio.sleep(0.1)
        (process,) = launches.processes
        monkeypatch.setattr(worker, "BEAT_LIMIT_S", 0.0)
        slot.check_alive(forgive=False)
        await asyncio.sleep(0.1)
        assert process.returncode is None
        monkeypatch.setattr(worker, "START_LIMIT_S", 0.0)
        slot.check_alive(forgive=False)
        async with asyncio.timeout(_LIMIT_S):
            await process.wait()


async def test_a_worker_that_may_not_be_killed_does_not_end_the_others(
    slot: WorkerSlot, launches: Launches, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As of another user, without CAP_KILL.
    async with _running(slot, launches) as running:
        await asyncio.sleep(0.1)
        (process,) = launches.processes

        def refuse() -> None:
            raise PermissionError(1, "Operation not permitted")

        with monkeypatch.context() as patch:
            patch.setattr(process, "kill", refuse)
            patch.setattr(worker, "START_LIMIT_S", 0.0)
            slot.check_alive(forgive=False)
        assert not running.done()


async def test_a_worker_is_not_told_how_to_get_into_etcd(
    slot: WorkerSlot, launches: Launches, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WELDR_PASSWORD", "secret")
    monkeypatch.setenv("ETCDCTL_PASSWORD", "secret")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "3")
    async with _running(slot, launches):
        (environment,) = launches.environments
        assert "secret" not in environment.values()
        assert environment["OTEL_EXPORTER_OTLP_TIMEOUT"] == "3"
        assert environment["PATH"] == os.environ["PATH"]
