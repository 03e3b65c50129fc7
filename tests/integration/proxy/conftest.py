"""A worker process for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from tests.support.worker import Worker, running_worker


@pytest_asyncio.fixture
async def worker(tmp_path: Path) -> AsyncIterator[Worker]:
    """A worker that has been sent nothing yet."""
    async with running_worker(tmp_path / "log") as running:
        yield running
        assert "unexpected error" not in running.log
        assert "Traceback" not in running.log
