"""Folds what etcd says into the catalog and hands every new one on.

It takes all revisions that have already arrived in one go, so that a burst of changes costs the workers one
update and not one each. What an operator would want to read of a change is logged here: who came, who went,
which value cannot be understood.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from weldr.control.health.departures import Deletion, Departures, Left
from weldr.etcd.follow import Change, Follower, Snapshot
from weldr.model.catalog import Catalog
from weldr.model.departure import Departure
from weldr.model.events import Event, KeyValue, Revision
from weldr.model.keys import KeySpace
from weldr.model.traffic import TrafficDelta, difference

logger = logging.getLogger(__name__)

_LOGGED_CHANGES = 20
_CLOCK_LOOK_S = 5.0
# For each of thousands of dead backends by itself, the manager would be busy for minutes.
_LET_GO_TOGETHER_S = 0.05
_REASONS = {
    Departure.DRAINED: "it had been drained",
    Departure.EXPIRED: "its lease ran out or was revoked",
    Departure.REMOVED: "its key was deleted",
}


class CatalogKeeper:
    """Owns the catalog. `on_catalog` is called with each new one."""

    def __init__(
        self,
        keys: KeySpace,
        follower: Follower,
        on_catalog: Callable[[Catalog], None],
        on_event: Callable[[Event], None],
        on_departures: Callable[[], None],
        on_changes: Callable[[list[Change]], None] = lambda changes: None,
        on_left: Callable[[list[Left]], None] = lambda left: None,
    ) -> None:
        """`on_event` sees every change of a key, those that are no configuration too. `on_departures` is called
        when keys went of whose leases it is not known whether they live. `on_changes` sees all that arrived
        together, snapshots too, before the catalog does. `on_left` is told how backends left, when the catalog
        without them is in force.
        """
        self.catalog: Catalog | None = None
        """`None` until the first snapshot."""
        self._empty = Catalog(keys)
        self._follower = follower
        self._on_catalog = on_catalog
        self._on_event = on_event
        self._on_departures = on_departures
        self._departures = Departures()
        self._departure_timer: asyncio.TimerHandle | None = None
        self._silent: dict[tuple[str, str], str] = {}
        """Those that are to go, and why."""
        self._on_changes = on_changes
        self._on_left = on_left
        self._override_timer: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        """Follow etcd for good."""
        async for changes in self._follower.batches():
            self._on_changes(changes)
            catalog, left = self._fold(changes)
            self._replace(catalog)
            self._tell_left(left)

    def _fold(self, changes: list[Change]) -> tuple[Catalog, list[Left]]:
        before = catalog = self.catalog or self._empty
        deleted: dict[bytes, Deletion] = {}
        put: dict[bytes, KeyValue] = {}
        # A snapshot makes whatever came before it in the same batch pointless.
        for index in reversed(range(len(changes))):
            change = changes[index]
            if isinstance(change, Snapshot):
                catalog = catalog.resync(change.revision, change.key_values)
                gone = before.entries.keys() - catalog.entries.keys()
                deleted |= dict.fromkeys(gone, Deletion(change.revision))
                changes = changes[index + 1 :]
                break
        revisions = [change for change in changes if isinstance(change, Revision)]
        for revision in revisions:
            for event in revision.events:
                self._on_event(event)
                key = event.key_value.key
                if event.deleted:
                    deleted[key] = Deletion(revision.revision, put.pop(key, None))
                else:
                    put[key] = event.key_value
        catalog = catalog.fold(revisions)
        left = self._departures.observe(before, catalog, deleted, time.monotonic())
        return catalog, left

    # Backends whose leases are gone.

    @property
    def held(self) -> Mapping[tuple[str, str], bool]:
        """The backends, by service and id, that stay although their keys are gone; whether their leases are,
        too."""
        return self._departures.held_backends()

    @property
    def unjudged_leases(self) -> set[int]:
        """The leases of which somebody has to find out whether they live."""
        return self._departures.unjudged_leases()

    def judge_leases(self, alive: Mapping[int, bool]) -> None:
        """Whether they live."""
        judged = self._departures.judge(alive, time.monotonic())
        self._held_changed()
        self._tell_left(judged)

    def _tell_left(self, left: list[Left]) -> None:
        for each in left[:_LOGGED_CHANGES]:
            service, name = each.name.names
            extra = {"service": service, "backend": name, "reason": _REASONS[each.how]}
            logger.info("why a backend left", extra=extra)
        if left:
            self._on_left(left)

    def let_go(self, service: str, name: str, reason: str) -> None:
        """A backend that stayed without a lease does not answer."""
        if not self._silent:
            asyncio.get_running_loop().call_later(_LET_GO_TOGETHER_S, self._let_all_go)
        self._silent[service, name] = reason

    def _let_all_go(self) -> None:
        silent, self._silent = self._silent, {}
        for service, name in list(silent)[:_LOGGED_CHANGES]:
            extra = {"service": service, "backend": name, "reason": silent[service, name]}
            logger.warning("a backend without a lease does not answer: it goes", extra=extra)
        if len(silent) > _LOGGED_CHANGES:
            more = len(silent) - _LOGGED_CHANGES
            logger.warning("more backends without leases do not answer", extra={"backends": more})
        self._departures.drop(silent)
        self._held_changed()

    def _held_changed(self) -> None:
        if self.catalog is not None:
            self._replace(self.catalog)

    def _departures_over(self) -> None:
        self._departures.tick(time.monotonic())
        self._held_changed()

    def _replace(self, catalog: Catalog) -> None:
        catalog = catalog.end_overrides(datetime.now(UTC)).hold(self._departures.held)
        before = self.catalog or self._empty
        first = self.catalog is None
        self.catalog = catalog
        self._on_catalog(catalog)
        if self._departures.unjudged_leases():
            self._on_departures()
        self._wait_for_override_end(catalog)
        self._wait_for_departures()
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
        if not catalog.override_ends:
            return
        end, delay_s = catalog.next_override_end(), _CLOCK_LOOK_S
        if end is not None:
            delay_s = min(max(0.0, (end - datetime.now(UTC)).total_seconds()), delay_s)
        # Never one long timer: the wall clock, which `until` is written in, may be set meanwhile, either way.
        self._override_timer = asyncio.get_running_loop().call_later(delay_s, self._end_overrides)

    def _wait_for_departures(self) -> None:
        if self._departure_timer is not None:
            self._departure_timer.cancel()
            self._departure_timer = None
        if (over_s := self._departures.next_s()) is not None:
            delay_s = max(0.0, over_s - time.monotonic())
            self._departure_timer = asyncio.get_running_loop().call_later(delay_s, self._departures_over)

    def _end_overrides(self) -> None:
        if self.catalog is None:
            return
        if self.catalog.end_overrides(datetime.now(UTC)) is self.catalog:
            self._wait_for_override_end(self.catalog)
        else:
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
    appeared = [(key, problem) for key, problem in new.items() if old.get(key) != problem]
    for key, problem in appeared[:_LOGGED_CHANGES]:
        logger.warning(
            "a key cannot be understood" if key in after.faults else "a key cannot mean what it says",
            extra={
                "key": problem.key,
                "revision": problem.revision,
                "place": problem.place,
                "reason": problem.reason,
            },
        )
    if len(appeared) > _LOGGED_CHANGES:
        logger.warning("more keys have problems", extra={"keys": len(appeared) - _LOGGED_CHANGES})
    for key in [key for key in old if key not in new][:_LOGGED_CHANGES]:
        logger.info("a key is understood again, or gone", extra={"key": old[key].key})
