"""Asks every backend that is to be asked, for as long as the catalog holds it, and keeps what came of it.

What is known belongs to service, id and address: a catalog that is read anew, or that comes back with etcd,
leaves it as it is, and checks go on whatever becomes of etcd.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
from collections.abc import Callable, Collection, Mapping

import msgspec

from weldr.control.health.probe import OwnLimitError, probe
from weldr.control.health.record import CheckRecord
from weldr.control.health.schedule import Schedule
from weldr.model.health import BackendKey, HealthCheck, Standing
from weldr.model.traffic import ServiceTraffic, Traffic, difference

logger = logging.getLogger(__name__)

_MOST_AT_A_TIME = 2048
_DESCRIPTORS_FOR_OTHERS = 256
_OWN_LIMIT_TOLD_EVERY_S = 10.0
# How long a worker's word counts, beside the time that the check itself takes.
_SUSPICION_S = 2.0
# What falls due within it is asked together, ...
_TURN_S = 0.02
# ... but no more than this: to begin two thousand checks, when a worker suspects that many, takes 0.2 s, in
# which the manager could do nothing else. So it takes as many turns of the event loop.
_MOST_IN_A_TURN = 50
_CHECK_OF_EXPIRED = HealthCheck(type="tcp", interval_s=2.0, fall=1)


class _Target:
    """A backend that is asked."""

    __slots__ = ("check", "record", "suspected_until_s")

    def __init__(self, check: HealthCheck) -> None:
        self.check = check
        self.record = CheckRecord()
        self.suspected_until_s = 0.0


class HealthMonitor:
    """Owner of what the checks have shown."""

    def __init__(
        self, on_change: Callable[[], None], on_expired_failed: Callable[[str, str, str], None]
    ) -> None:
        """`on_change` is called when `standings` or `awaits_required` is another; `on_expired_failed` with the
        service, id and reason of an expired backend that does not answer.
        """
        self.standings: Mapping[BackendKey, Standing] = {}
        """Replaced, never edited. Who is up is not in it."""
        self._on_change = on_change
        self._on_expired_failed = on_expired_failed
        self._targets: dict[BackendKey, _Target] = {}
        self._schedule = Schedule()
        self._traffic = Traffic()
        self._expired: Collection[tuple[str, str]] = frozenset()
        self._running: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._changed: dict[BackendKey, Standing] = {}
        self._awaited: set[BackendKey] = set()
        self._own_limit_told_s = float("-inf")
        self._known_down: dict[BackendKey, str] = {}

    def assume_down(self, reasons: Mapping[BackendKey, str]) -> None:
        """Another manager has found these to be down. Before the first `follow`, which drops those that do not
        concern us."""
        self._known_down = dict(reasons)

    @property
    def awaits_required(self) -> bool:
        """Whether there are backends that have to pass a check and have not been asked yet."""
        return bool(self._awaited)

    def follow(self, traffic: Traffic, expired: Collection[tuple[str, str]]) -> list[BackendKey]:
        """Ask the backends of this catalog from now on; the `expired` are in it although their leases are
        not. Returns those that are gone.
        """
        delta = difference(self._traffic, traffic)
        touched = {service: set(change.put) | set(change.removed) for service, change in delta.services.items()}
        for service, change in delta.services.items():
            if change.policy is not None:
                touched[service].update(traffic.services[service].backends)
        for service in delta.services_removed:
            touched[service] = set(self._traffic.services[service].backends)
        for service, backend_id in set(expired) ^ set(self._expired):
            touched.setdefault(service, set()).add(backend_id)
        before, self._traffic, self._expired = self._traffic, traffic, frozenset(expired)
        fresh: list[BackendKey] = []
        gone: list[BackendKey] = []
        for service, ids in touched.items():
            old, new = before.services.get(service), traffic.services.get(service)
            for backend_id in ids:
                fresh += self._follow_one(service, backend_id, old, new, gone)
        if fresh:
            longest_s = max(self._targets[key].check.interval_s for key in fresh)
            self._schedule.begin(fresh, longest_s, asyncio.get_running_loop().time())
            self._wake.set()
        self._known_down = {}
        # At once, with the catalog that this is about: `on_change` would be too late for a required check.
        self._replace_standings()
        return gone

    def _follow_one(
        self,
        service: str,
        backend_id: str,
        old: ServiceTraffic | None,
        new: ServiceTraffic | None,
        gone: list[BackendKey],
    ) -> list[BackendKey]:
        """Bring one backend up to date; its key if it is to be asked at once. Adds to `gone` what it was."""
        before = old.backends.get(backend_id) if old else None
        after = new.backends.get(backend_id) if new else None
        if before is not None:
            key = (service, backend_id, before.host, before.port)
            if after is None or (after.host, after.port) != (before.host, before.port):
                self._forget(key)
                gone.append(key)
        if after is None or new is None:
            return []
        key = (service, backend_id, after.host, after.port)
        check = new.policy.health
        if (service, backend_id) in self._expired:
            check = _for_expired(check)
        if check is None:
            self._forget(key)
            return []
        target = self._targets.get(key)
        known = target is not None and target.check == check
        if target is None:
            target = self._targets[key] = _Target(check)
            if key in self._known_down:
                target.record.assume_down(self._known_down[key])
            if check.require_check:
                self._awaited.add(key)
        target.check = check
        self._note_standing(key, target)
        return [] if known else [key]

    def _forget(self, key: BackendKey) -> None:
        if self._targets.pop(key, None) is not None:
            self._schedule.discard(key)
            self._awaited.discard(key)
            self._changed[key] = Standing.UP

    def suspect(self, key: BackendKey) -> None:
        """A worker sees that requests to it fail, or are not answered: ask it now."""
        target = self._targets.get(key)
        if target is not None:
            now_s = asyncio.get_running_loop().time()
            target.suspected_until_s = now_s + target.check.timeout_s + _SUSPICION_S
            self._schedule.soon(key, now_s)
            self._wake.set()

    def reason(self, key: BackendKey) -> str:
        """Why its standing is what it is."""
        target = self._targets.get(key)
        return target.record.reason if target is not None else "it is not checked any more"

    async def run(self) -> None:
        """Ask for good."""
        most = min(_MOST_AT_A_TIME, max(16, _descriptors() - _DESCRIPTORS_FOR_OTHERS))
        loop = asyncio.get_running_loop()
        try:
            while True:
                self._wake.clear()
                now_s = loop.time()
                for _ in range(min(_MOST_IN_A_TURN, most - len(self._running))):
                    if (key := self._schedule.take(now_s)) is None:
                        break
                    self._start(key)
                next_s = self._schedule.next_s() if len(self._running) < most else float("inf")
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(
                        None if next_s == float("inf") else max(next_s, now_s + _TURN_S)
                    ):
                        await self._wake.wait()
        finally:
            for task in self._running:
                task.cancel()

    def _start(self, key: BackendKey) -> None:
        task = asyncio.get_running_loop().create_task(self._ask(key, self._targets[key]), name="health-check")
        self._running.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._wake.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("a health check failed by a defect of weldr", exc_info=error)

    async def _ask(self, key: BackendKey, target: _Target) -> None:
        check = target.check
        failure: str | None = None
        judged = False
        try:
            failure = await probe(check, key[2], key[3])
            judged = True
        except OwnLimitError as error:
            self._tell_own_limit(error)
        finally:
            # Of a check that is another by now nothing can be said, and the new one has its time already.
            if self._targets.get(key) is target and target.check == check:
                if judged:
                    self._judge(key, target, failure)
                if self._targets.get(key) is target and target.check == check:
                    pause_s = target.record.pause_s(target.check)
                    self._schedule.after(key, pause_s, asyncio.get_running_loop().time())

    def _tell_own_limit(self, error: OwnLimitError) -> None:
        now_s = asyncio.get_running_loop().time()
        if now_s - self._own_limit_told_s >= _OWN_LIMIT_TOLD_EVERY_S:
            self._own_limit_told_s = now_s
            logger.warning("health checks cannot be made", extra={"reason": str(error)})

    def _judge(self, key: BackendKey, target: _Target, failure: str | None) -> None:
        if failure is not None and key[:2] in self._expired:
            self._on_expired_failed(key[0], key[1], failure)
            return
        was_waiting = self.standings.get(key) is Standing.WAITING
        suspected = asyncio.get_running_loop().time() < target.suspected_until_s
        if target.record.note(failure, target.check, suspected=suspected) or was_waiting:
            self._note_standing(key, target)
        if key in self._awaited:
            self._awaited.discard(key)
            if not self._awaited:
                self._on_change()

    def _note_standing(self, key: BackendKey, target: _Target) -> None:
        standing = target.record.standing(target.check)
        if standing is self.standings.get(key, Standing.UP) and key not in self._changed:
            return
        if not self._changed:
            asyncio.get_running_loop().call_soon(self._tell)
        self._changed[key] = standing

    def _tell(self) -> None:
        """All that has changed in one turn of the event loop is one change."""
        if self._replace_standings():
            self._on_change()

    def _replace_standings(self) -> bool:
        changed, self._changed = self._changed, {}
        if not changed:
            return False
        standings = dict(self.standings)
        for key, standing in changed.items():
            if standing is Standing.UP:
                standings.pop(key, None)
            else:
                standings[key] = standing
        if standings == self.standings:
            return False
        self.standings = standings
        return True


def _for_expired(check: HealthCheck | None) -> HealthCheck:
    """The check of a backend whose lease is gone: often, and the first failure counts."""
    if check is None:
        return _CHECK_OF_EXPIRED
    return msgspec.structs.replace(
        check, interval_s=min(check.interval_s, _CHECK_OF_EXPIRED.interval_s), fall=_CHECK_OF_EXPIRED.fall
    )


def _descriptors() -> int:
    """How many descriptors this process may open, after asking for as many as it may ask for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = hard if hard != resource.RLIM_INFINITY else max(soft, _MOST_AT_A_TIME * 2)
    if soft < wanted:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            return wanted
    return soft
