"""Tells the event streams how backends left. Asked once for all streams, by one task, and not without bound."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from weldr.control.admin.mirror import News
from weldr.control.departures import departure
from weldr.etcd.client import EtcdClient
from weldr.etcd.errors import EtcdError
from weldr.model.collections import path_of
from weldr.model.events import KeyValue
from weldr.model.keys import KeyName, Kind

logger = logging.getLogger(__name__)

_MOST_WAITING = 1000


class DepartureEvents:
    """Looks into each departure of a backend; `tell` is given the words of an event."""

    def __init__(self, client: EtcdClient, tell: Callable[[str, object], None]) -> None:
        self._client = client
        self._tell = tell
        self._waiting: asyncio.Queue[tuple[int, KeyName, KeyValue]] = asyncio.Queue(_MOST_WAITING)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._run(), name="departures")

    async def close(self) -> None:
        """End."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def take(self, news: News) -> None:
        """Note who left. Beyond the bound nobody is told why."""
        if news.restarted:
            return
        for moment in news.moments:
            for change in moment.changes:
                if change.name.kind is Kind.BACKEND and change.after is None and change.before is not None:
                    if self._waiting.full():
                        return
                    self._waiting.put_nowait((moment.revision, change.name, change.before))

    async def _run(self) -> None:
        while True:
            revision, name, before = await self._waiting.get()
            try:
                reason = await departure(self._client, before)
            except EtcdError as error:
                logger.debug("why a backend left is not known", extra={"reason": str(error)})
                continue
            self._tell("departure", {"key": path_of(name), "revision": revision, "reason": reason.value})
