"""The manager: composes the parts of an instance, runs them, and ends them in the right order.

Data flows one way: follower -> catalog keeper -> worker pool -> presence. The end goes in this order: stop
accepting and finish what is in flight; only then leave etcd, so that whoever waits for this instance to have
finished with a backend is told until the last request.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import logging
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from prometheus_client.metrics_core import Metric

from weldr.control.admin.connections import ConnectionLimits
from weldr.control.admin.guard import Access, Guard
from weldr.control.admin.server import AdminParts, AdminServer
from weldr.control.catalog_keeper import CatalogKeeper
from weldr.control.descriptors import raise_hard_limit, raise_own_limit
from weldr.control.embedded import EmbeddedEtcd, find_etcd
from weldr.control.health.hub import HealthHub
from weldr.control.health.leases import LeaseInquiry
from weldr.control.health.reports import HealthReports
from weldr.control.listeners import ListenAddress, Listeners
from weldr.control.metrics.incidents import metrics_of_incidents
from weldr.control.metrics.instance import InstanceParts, metrics_of_instance
from weldr.control.metrics.lag import LoopLag
from weldr.control.metrics.processes import metrics_of_processes, metrics_of_workers
from weldr.control.metrics.requests import metrics_of_requests
from weldr.control.presence import Presence
from weldr.control.sticky_key import StickyKeyMaker
from weldr.control.vip.virtual_ips import VirtualIps
from weldr.control.worker_pool import WorkerPool
from weldr.etcd.client import EtcdClient
from weldr.etcd.config import EtcdConfig
from weldr.etcd.follow import Change, Follower
from weldr.model.catalog import Catalog
from weldr.model.keys import KeySpace, Kind
from weldr.model.values import Instance
from weldr.version import __version__

logger = logging.getLogger(__name__)

_PROBLEMS_IN_INSTANCE = 16
_RESTART_DELAY_S = 1.0


@dataclass(frozen=True, slots=True)
class ManagerConfig:
    """What `weldr run` was told. All else comes from etcd."""

    etcd: EtcdConfig | None
    """`None` starts an embedded one."""
    embedded_data: Path | None
    keys: KeySpace
    listen: list[ListenAddress]
    admin: ListenAddress
    access: Access
    workers: int
    instance: str | None
    zone: str
    """Where it is; empty if that is not known."""
    grace_s: float
    log_format: str
    log_level: str
    debug_networks: tuple[str, ...] = ()
    """Whose clients are told the way of their requests."""
    otlp_url: str = ""
    """Where spans go; empty for nowhere."""
    commands: Path | None = None
    """The directory of programs that virtual IPs may name."""


class Manager:
    """One instance of weldr."""

    def __init__(self, config: ManagerConfig) -> None:
        self._config = config
        self._started = datetime.now(UTC)
        self._stop = asyncio.Event()
        self._catalog: Catalog | None = None
        self._catalog_at_s = 0.0
        self._loaded_everywhere = False
        self._lag = LoopLag()
        self._end_at_once: Callable[[], None] = lambda: None

    async def run(self) -> None:
        """Run until SIGTERM, SIGINT or SIGHUP, then finish what is in flight.

        Raises `ListenError`, `AdminAddressError`, `TokenFileError` and `EmbeddedEtcdError`.
        """
        self._handle_signals()
        raise_hard_limit()
        limits = ConnectionLimits.within(raise_own_limit())
        config = self._config
        async with contextlib.AsyncExitStack() as stack:
            admin_listeners = Listeners([config.admin], 1, "--admin")
            stack.callback(admin_listeners.close)
            guard = Guard(config.access, admin_listeners.addresses)
            self._listeners = Listeners(config.listen, config.workers)
            stack.callback(self._listeners.close)
            etcd = config.etcd or await self._embedded(stack)
            client = await stack.enter_async_context(EtcdClient(etcd))
            self._compose(client, admin_listeners, guard, limits)
            await self._admin.start()
            stack.push_async_callback(self._admin.close)
            logger.info(
                "weldr is running",
                extra={
                    "version": __version__,
                    "instance": self.name,
                    "listen": self._listeners.addresses,
                    "admin": admin_listeners.addresses,
                    "workers": config.workers,
                    "etcd": [str(endpoint) for endpoint in etcd.endpoints],
                    "prefix": config.keys.prefix,
                },
            )
            self._admin_address = admin_listeners.addresses[0]
            await self._run_parts()
        logger.info("weldr has stopped")

    @property
    def name(self) -> str:
        """The instance's name: the same after a restart, and different for two on one machine."""
        if self._config.instance:
            return self._config.instance
        port = self._listeners.addresses[0].rpartition(":")[2]
        return f"{socket.gethostname()}-{port}"

    def _compose(
        self, client: EtcdClient, admin_listeners: Listeners, guard: Guard, limits: ConnectionLimits
    ) -> None:
        config = self._config
        arguments = ["--log-format", config.log_format, "--log-level", config.log_level]
        arguments += ["--grace", str(config.grace_s), "--of", str(config.workers), f"--zone={config.zone}"]
        arguments += [f"--debug-headers={','.join(config.debug_networks)}", f"--otlp={config.otlp_url}"]
        arguments += [f"--instance={self.name}"]
        self._follower = Follower(client, config.keys.prefix_bytes)
        self._pool = WorkerPool(
            config.workers,
            self._listeners,
            arguments,
            self._workers_changed,
            lambda worker, sparing: self._health.sparing_changed(worker, sparing),
            lambda silent: self._health.silent(silent.backends),
        )
        self._end_at_once = self._pool.kill
        self._reports = HealthReports(client, lambda: self._presence.lease_id, self._follower.expect)
        self._presence = Presence(
            client,
            config.keys.key(Kind.INSTANCE, self.name),
            self._describe,
            self._follower.expect,
            self._reports.lease_granted,
        )
        parts = AdminParts(
            client,
            config.keys,
            self.name,
            self._pool,
            self.not_ready,
            self._follower.expect,
            limits,
            lambda: self._presence.lease_id,
            lambda: self._health.standings,
            self._metrics,
        )
        self._admin = AdminServer(admin_listeners, guard, parts)
        self._keeper = CatalogKeeper(
            config.keys,
            self._follower,
            self._new_catalog,
            self._presence.observe,
            lambda: self._inquiry.ask(),
            self._take_changes,
        )
        self._virtual_ips = VirtualIps(
            client,
            config.keys,
            self.name,
            self._listeners.addresses,
            config.commands,
            self.not_ready,
            self._presence.changed,
            config.zone,
        )
        self._instance_parts = InstanceParts(
            name=self.name,
            client=client,
            follower=self._follower,
            virtual_ips=self._virtual_ips,
            lag=self._lag,
            catalog=lambda: self._catalog,
            catalog_at_s=lambda: self._catalog_at_s,
            applied_revision=lambda: self._pool.applied_revision,
            standings=lambda: self._health.standings,
            is_ready=lambda: self.not_ready() is None,
            lease_left_s=lambda: self._presence.lease_left_s,
            problems_of_parts=lambda: len(self._problems_of_parts()),
        )
        self._sticky_key = StickyKeyMaker(client, config.keys.key(Kind.STICKY_KEY))
        self._inquiry = LeaseInquiry(client, lambda: self._keeper.unjudged_leases, self._keeper.judge_leases)
        self._health = HealthHub(
            config.keys,
            self.name,
            self._reports,
            self._standings_changed,
            self._keeper.let_go,
            self._presence.changed,
        )

    async def _embedded(self, stack: contextlib.AsyncExitStack) -> EtcdConfig:
        etcd = EmbeddedEtcd(find_etcd(), self._config.embedded_data)
        stack.push_async_callback(etcd.close)
        await etcd.start()
        kept = self._config.embedded_data
        logger.info(
            "no etcd was named: started an embedded one for trying out",
            extra={"endpoint": etcd.endpoint, "data": str(kept) if kept else "lost when weldr stops"},
        )
        key = self._config.keys.key(Kind.BACKEND, "default", "b1").decode()
        logger.info(f"register a first backend: etcdctl --endpoints={etcd.endpoint} put {key} 127.0.0.1:9001")
        return EtcdConfig.from_text(etcd.endpoint)

    async def _run_parts(self) -> None:
        parts = [
            asyncio.create_task(_kept_running("catalog", self._keeper.run)),
            asyncio.create_task(_kept_running("presence", self._presence.run)),
            asyncio.create_task(_kept_running("health checks", self._health.monitor.run)),
            asyncio.create_task(_kept_running("health reports", self._reports.run)),
            asyncio.create_task(_kept_running("leases", self._inquiry.run)),
            asyncio.create_task(_kept_running("sticky key", self._sticky_key.run)),
            asyncio.create_task(_kept_running("event loop lag", self._lag.run)),
        ]
        virtual_ips = asyncio.create_task(_kept_running("virtual IPs", self._virtual_ips.run))
        pool = asyncio.create_task(self._pool.run())
        stop = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait({stop, pool}, return_when=asyncio.FIRST_COMPLETED)
            if not stop.done():
                # Without workers there is nothing to serve: whoever supervises this process starts it anew.
                await pool
            logger.info("stopping: finishing what is in flight", extra={"grace_s": self._config.grace_s})
            # First: as long as an address is here, new requests for it arrive here.
            virtual_ips.cancel()
            await self._virtual_ips.stop("weldr is stopping")
            await self._pool.drain(self._config.grace_s)
        finally:
            self._pool.kill()
            ending = [stop, pool, virtual_ips, *parts]
            for task in ending:
                task.cancel()
            await asyncio.gather(*ending, return_exceptions=True)
            await self._virtual_ips.stop("weldr has failed")

    def _take_changes(self, changes: list[Change]) -> None:
        self._admin.note(changes)
        self._virtual_ips.take(changes)

    def _new_catalog(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._catalog_at_s = time.time()
        self._health.follow(catalog, self._keeper.held)
        self._publish()
        self._health.update()
        self._sticky_key.follow(catalog)
        self._presence.changed()
        self._admin.take(catalog)

    def _publish(self) -> None:
        if self._catalog is not None:
            self._pool.publish(self._catalog, self._health.standings)

    def _standings_changed(self) -> None:
        self._publish()
        self._workers_changed()

    def _workers_changed(self) -> None:
        if not self._loaded_everywhere and self._pool.all_serving and not self._health.awaits_required:
            self._loaded_everywhere = True
            logger.info("ready: every worker serves the catalog")
        self._presence.changed()

    def not_ready(self) -> str | None:
        """Why this instance should get no traffic, in one line; `None` if it should."""
        if self._stop.is_set():
            return "it is stopping"
        if self._catalog is None:
            return "no catalog could be read from etcd yet"
        if not self._loaded_everywhere and self._health.awaits_required:
            return "not every backend that has to pass a check has been asked yet"
        if not self._loaded_everywhere:
            return "not every worker has the catalog yet"
        if not self._pool.any_serving:
            return "no worker is serving"
        return None

    def _problems_of_parts(self) -> list[str]:
        return [*self._health.problems, *self._virtual_ips.problems()]

    def _metrics(self) -> Iterator[Iterable[Metric]]:
        yield metrics_of_instance(self._instance_parts)
        yield metrics_of_workers(self._pool.slots)
        yield metrics_of_processes(self._pool.slots)
        yield metrics_of_requests(self._pool.statistics)
        yield metrics_of_incidents(self._pool.statistics.incidents, self._pool.sparings)

    def _describe(self) -> Instance:
        problems = self._catalog.problems if self._catalog else {}
        first = heapq.nsmallest(_PROBLEMS_IN_INSTANCE, problems)
        of_parts = self._problems_of_parts()
        return Instance(
            version=__version__,
            addresses=self._listeners.addresses,
            admin=self._admin_address,
            started=self._started,
            applied=self._pool.applied_revision,
            draining={f"{service}/{name}": count for (service, name), count in self._pool.in_flight.items()},
            problems=[*of_parts, *(str(problems[key]) for key in first)][:_PROBLEMS_IN_INSTANCE],
            problem_count=len(of_parts) + len(problems),
            peer=self._virtual_ips.peer,
            vips=self._virtual_ips.describe(),
        )

    def _handle_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for signal_number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(signal_number, self._stop_or_kill)

    def _stop_or_kill(self) -> None:
        if self._stop.is_set():
            logger.warning("asked to stop again: ending at once")
            self._end_at_once()
        self._stop.set()


async def _kept_running(name: str, run: Callable[[], Awaitable[None]]) -> None:
    """Run for good. A defect in one part must stop neither the traffic nor the part for ever."""
    while True:
        try:
            await run()
        except Exception:
            logger.exception("a part of the manager failed: it is started again", extra={"part": name})
        await asyncio.sleep(_RESTART_DELAY_S)


def default_workers() -> int:
    """One for each core that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
