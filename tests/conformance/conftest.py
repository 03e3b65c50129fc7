"""One worker and one well-behaved backend for all cases of a module."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.support.backends import ScriptedBackend, answering_backend
from tests.support.worker import Worker, running_worker, traffic


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def worker(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Worker]:
    """A worker; the test says where it sends requests to."""
    async with running_worker(tmp_path_factory.mktemp("worker") / "log") as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def recording_backend(worker: Worker) -> AsyncIterator[ScriptedBackend]:
    """A backend that answers `ok` to everything, in rotation, and keeps what it was sent."""
    async with answering_backend() as backend:
        await worker.serve(traffic(backend.port))
        yield backend
