"""Folds what etcd says into the catalog and hands every new one on.

It takes all revisions that have already arrived in one go, so that a burst of changes costs the workers one
update and not one each. What an operator would want to read of a change is logged here: who came, who went,
which value cannot be understood.
"""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Callable
from datetime import UTC, datetime

from weldr.etcd.follow import Change, Follower, Snapshot
from weldr.model.catalog import Catalog
from weldr.model.events import Event, Revision
from weldr.model.keys import KeySpace
from weldr.model.traffic import TrafficDelta, difference

logger = logging.getLogger(__name__)

_LOGGED_CHANGES = 20
_MAX_TIMER_S = 3600.0


class CatalogKeeper:
    """Owns the catalog. `on_catalog` is called with each new one."""

    def __init__(
        self,
        keys: KeySpace,
        follower: Follower,
        on_catalog: Callable[[Catalog], None],
        on_event: Callable[[Event], None],
    ) -> None:
        """`on_event` sees every change of a key, those that are no configuration too."""
        self.catalog: Catalog | None = None
        """`None` until the first snapshot."""
        self._empty = Catalog(keys)
        self._follower = follower
        self._on_catalog = on_catalog
        self._on_event = on_event
        self._override_timer: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        """Follow etcd for good."""
        async for changes in self._follower.batches():
            self._replace(self._fold(changes))

    def _fold(self, changes: list[Change]) -> Catalog:
        catalog = self.catalog or self._empty
        # A snapshot makes whatever came before it in the same batch pointless.
        for index in reversed(range(len(changes))):
            change = changes[index]
            if isinstance(change, Snapshot):
                catalog = catalog.resync(change.revision, change.key_values)
                changes = changes[index + 1 :]
                break
        revisions = [change for change in changes if isinstance(change, Revision)]
        for revision in revisions:
            for event in revision.events:
                self._on_event(event)
        return catalog.fold(revisions)

    def _replace(self, catalog: Catalog) -> None:
        catalog = catalog.end_overrides(datetime.now(UTC))
        before = self.catalog or self._empty
        first = self.catalog is None
        self.catalog = catalog
        self._on_catalog(catalog)
        self._wait_for_override_end(catalog)
        if first:
            _log_first(catalog)
            # A big catalog is many objects, nearly all of which stay: looking through them again and again
            # would hold up changes by tens of milliseconds.
            gc.collect()
            gc.freeze()
        else:
            _log_changes(catalog, difference(before.traffic, catalog.traffic))
        _log_problems(before, catalog)

    def _wait_for_override_end(self, catalog: Catalog) -> None:
        if self._override_timer is not None:
            self._override_timer.cancel()
            self._override_timer = None
        end = catalog.next_override_end()
        if end is not None:
            # Never one long timer: the wall clock, which `until` is written in, may be set meanwhile.
            delay_s = min(max(0.0, (end - datetime.now(UTC)).total_seconds()), _MAX_TIMER_S)
            self._override_timer = asyncio.get_running_loop().call_later(delay_s, self._end_overrides)

    def _end_overrides(self) -> None:
        if self.catalog is not None:
            self._replace(self.catalog)


def _log_first(catalog: Catalog) -> None:
    traffic = catalog.traffic
    logger.info(
        "catalog loaded",
        extra={
            "revision": catalog.revision,
            "services": len(traffic.services),
            "backends": sum(len(service.backends) for service in traffic.services.values()),
            "routes": len(traffic.routes),
        },
    )


def _log_changes(catalog: Catalog, delta: TrafficDelta) -> None:
    lines: list[tuple[str, dict[str, object]]] = []
    for service, change in delta.services.items():
        for name, backend in change.put.items():
            word = "backend is draining" if backend.draining else "backend is in rotation"
            lines.append((word, {"service": service, "backend": name, "address": backend.authority}))
        lines += [("backend left", {"service": service, "backend": name}) for name in change.removed]
    lines += [("service left, with its backends", {"service": name}) for name in delta.services_removed]
    lines += [("route is in force", {"route": name}) for name in delta.routes]
    lines += [("route left", {"route": name}) for name in delta.routes_removed]
    if delta.settings is not None:
        lines.append(("settings are in force", {}))
    for line, fields in lines[:_LOGGED_CHANGES]:
        logger.info(line, extra={"revision": catalog.revision, **fields})
    if len(lines) > _LOGGED_CHANGES:
        more = len(lines) - _LOGGED_CHANGES
        logger.info("more changes at this moment", extra={"revision": catalog.revision, "changes": more})


def _log_problems(before: Catalog, after: Catalog) -> None:
    old, new = before.problems, after.problems
    appeared = [problem for key, problem in new.items() if old.get(key) != problem]
    for problem in appeared[:_LOGGED_CHANGES]:
        logger.warning(
            "a key cannot be understood",
            extra={
                "key": problem.key,
                "revision": problem.revision,
                "place": problem.place,
                "reason": problem.reason,
            },
        )
    if len(appeared) > _LOGGED_CHANGES:
        logger.warning("more keys cannot be understood", extra={"keys": len(appeared) - _LOGGED_CHANGES})
    for key in [key for key in old if key not in new][:_LOGGED_CHANGES]:
        logger.info("a key is understood again, or gone", extra={"key": old[key].key})
