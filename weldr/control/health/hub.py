"""Where all words on health come together: told on to the workers, the log, `health/` and the instance's
problems.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime

from weldr.control.health.changes import Change, Changes
from weldr.control.health.monitor import HealthMonitor
from weldr.control.health.reports import HealthReports
from weldr.model.catalog import Catalog
from weldr.model.frames import Sparing
from weldr.model.health import BackendKey, HealthChange, Standing
from weldr.model.keys import KeySpace, Kind

logger = logging.getLogger(__name__)

_LOGGED_CHANGES = 20
_MESSAGES = {
    "up": "a backend is healthy again",
    "down": "a backend is down",
    "ejected": "a backend is ejected",
    "resting": "a backend asks for rest",
    "expired": "a backend stays without a lease",
}


class HealthHub:
    """Owner of what this instance holds for true about the health of each backend."""

    def __init__(
        self,
        keys: KeySpace,
        instance: str,
        reports: HealthReports,
        on_standings: Callable[[], None],
        on_expired_failed: Callable[[str, str, str], None],
        on_problems: Callable[[], None],
    ) -> None:
        """`on_standings` is called when the workers are to be told other `standings`, `on_problems` when
        `problems` are others; for `on_expired_failed` see `HealthMonitor`.
        """
        self.monitor = HealthMonitor(self._standings_changed, on_expired_failed)
        self.problems: list[str] = []
        self._keys = keys
        self._instance = instance
        self._reports = reports
        self._on_standings = on_standings
        self._on_problems = on_problems
        self._changes = Changes()
        self._catalog: Catalog | None = None
        self._expired: list[tuple[str, str]] = []
        self._gone: list[BackendKey] = []
        """Since the last `update`."""
        self._sparing: dict[str, Sparing] = {}
        self._reported: dict[BackendKey, bytes] = {}
        self._log = _LimitedLog()

    @property
    def awaits_required(self) -> bool:
        """Whether there are backends that have to pass a check and have not been asked yet."""
        return self.monitor.awaits_required

    @property
    def standings(self) -> Mapping[BackendKey, Standing]:
        """For the workers."""
        return self.monitor.standings

    def follow(self, catalog: Catalog, held: Mapping[tuple[str, str], bool]) -> None:
        """Today's catalog, and the backends in it, by service and id, that have no key any more; whether it is
        certain that they have no lease either. From here on `standings` are for this catalog; when it is
        published there is time for `update`.
        """
        self._catalog = catalog
        self._expired = [names for names, certain in held.items() if certain]
        self._gone += self.monitor.follow(catalog.traffic, held.keys())

    def sparing_changed(self, worker: str, sparing: Sparing | None) -> None:
        """Whom a worker spares; `None` if it is gone."""
        before = self._sparing.pop(worker, None)
        if sparing is not None:
            self._sparing[worker] = sparing
            known = {each.key for each in before.spared} if before is not None else set()
            for each in sparing.spared:
                if each.key not in known:
                    self.monitor.suspect(each.key)
        self.update()

    def silent(self, backends: Iterable[BackendKey]) -> None:
        """A worker gets no answer from these."""
        for key in backends:
            self.monitor.suspect(key)

    def _standings_changed(self) -> None:
        self._on_standings()
        self.update()

    def update(self) -> None:
        """Tell what has changed."""
        if self._catalog is None:
            return
        spared = [each for sparing in self._sparing.values() for each in sparing.spared]
        changes = self._changes.update(
            self._expired_keys(), self.standings, self.monitor.reason, spared, self._exists
        )
        for key in self._gone:
            if key in self._reported and not self._exists(key):
                self._reports.forget(self._reported.pop(key))
        self._gone.clear()
        now = datetime.now(UTC)
        for change in changes:
            self._report(change, now)
        self._log.tell(changes)
        self._set_problems()

    def _expired_keys(self) -> Iterable[BackendKey]:
        services = self._catalog.traffic.services if self._catalog is not None else {}
        for name, backend_id in self._expired:
            backend = services[name].backends.get(backend_id) if name in services else None
            if backend is not None:
                yield name, backend_id, backend.host, backend.port

    def _exists(self, key: BackendKey) -> bool:
        service = self._catalog.traffic.services.get(key[0]) if self._catalog is not None else None
        backend = service.backends.get(key[1]) if service is not None else None
        return backend is not None and (backend.host, backend.port) == key[2:]

    def _report(self, change: Change, now: datetime) -> None:
        service, backend_id, _, _ = change.key
        key = self._reported.setdefault(
            change.key, self._keys.key(Kind.HEALTH, self._instance, service, backend_id)
        )
        self._reports.report(
            key, HealthChange(state=change.state, reason=change.reason, address=_address(change.key), at=now)
        )

    def _set_problems(self) -> None:
        problems = [
            f"most leases of the service {name} ran out at once: {count} of its backends stay "
            "for as long as they answer, but not for long"
            for name, count in sorted(Counter(name for name, _ in self._expired).items())
        ]
        panicking = {name for sparing in self._sparing.values() for name in sparing.panicking}
        problems += [
            f"too few backends of the service {name} are healthy: all are used" for name in sorted(panicking)
        ]
        if problems != self.problems:
            for problem in [each for each in problems if each not in self.problems][:_LOGGED_CHANGES]:
                logger.warning(problem)
            self.problems = problems
            self._on_problems()


def _address(key: BackendKey) -> str:
    _, _, host, port = key
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class _LimitedLog:
    """Many backends may come and go at once, again and again: so many lines a second are told, and how many
    not."""

    def __init__(self) -> None:
        self._second = 0
        self._lines = 0
        self._untold = 0

    def tell(self, changes: list[Change]) -> None:
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._lines = second, 0
            if self._untold:
                logger.warning("the health of more backends changed", extra={"changes": self._untold})
                self._untold = 0
        room = max(0, _LOGGED_CHANGES - self._lines)
        for change in changes[:room]:
            _tell_one(change)
        self._lines += len(changes[:room])
        self._untold += len(changes[room:])


def _tell_one(change: Change) -> None:
    service, backend_id, _, _ = change.key
    logger.log(
        logging.INFO if change.state == "up" else logging.WARNING,
        _MESSAGES[change.state],
        extra={
            "service": service,
            "backend": backend_id,
            "address": _address(change.key),
            "reason": change.reason,
        },
    )
