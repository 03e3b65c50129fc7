"""The manager: composes the parts of an instance, runs them, and ends them in the right order.

Data flows one way: follower -> catalog keeper -> worker pool -> presence. The end goes in this order: stop
accepting and finish what is in flight; only then leave etcd, so that whoever waits for this instance to have
finished with a backend is told until the last request. `life.py` has its states.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import logging
import os
import socket
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from weldr.control.admin.connections import ConnectionLimits
from weldr.control.admin.guard import AdminAddressError, Guard
from weldr.control.admin.server import AdminParts, AdminServer
from weldr.control.admin.tokens import TokenFileError
from weldr.control.catalog_keeper import CatalogKeeper
from weldr.control.control_socket import ControlSocket, control_name
from weldr.control.descriptors import raise_own_limit
from weldr.control.embedded import EmbeddedEtcd, EmbeddedEtcdError, find_etcd
from weldr.control.health.hub import HealthHub
from weldr.control.health.leases import LeaseInquiry
from weldr.control.health.reports import HealthReports
from weldr.control.life import Life, Parts, StoppedEarlyError
from weldr.control.listeners import ListenError, Listeners
from weldr.control.manager_config import ManagerConfig
from weldr.control.metrics.exposition import Part
from weldr.control.metrics.incidents import metrics_of_incidents
from weldr.control.metrics.instance import InstanceParts, metrics_of_instance
from weldr.control.metrics.lag import LoopLag
from weldr.control.metrics.processes import metrics_of_processes, metrics_of_workers
from weldr.control.metrics.requests import metrics_of_requests
from weldr.control.presence import Presence
from weldr.control.service_manager import ADMIN_NAME, activated
from weldr.control.sticky_key import StickyKeyMaker
from weldr.control.upgrade.estate import Estate
from weldr.control.upgrade.succession import Upgrades
from weldr.control.upgrade.taking import TakeoverError, Taker
from weldr.control.vip.virtual_ips import VirtualIps
from weldr.control.worker_pool import WorkerPool
from weldr.etcd.client import EtcdClient
from weldr.etcd.config import EtcdConfig
from weldr.etcd.follow import Change, Follower
from weldr.model.catalog import Catalog
from weldr.model.keys import Kind
from weldr.model.values import Instance
from weldr.version import __version__

logger = logging.getLogger(__name__)

_PROBLEMS_IN_INSTANCE = 16
_ONE_LINE = (ListenError, AdminAddressError, TokenFileError, EmbeddedEtcdError, TakeoverError)


class Manager:
    """One instance of weldr."""

    def __init__(self, config: ManagerConfig) -> None:
        self._config = config
        self._life = Life(config)
        self._started = datetime.now(UTC)
        self._catalog: Catalog | None = None
        self._catalog_at_s = 0.0
        self._lag = LoopLag()
        self._drained_since_s: float | None = None

    async def run(self) -> None:
        """Run until SIGTERM, SIGINT or SIGHUP, or until another manager has taken over, then finish what is in
        flight.

        Raises `ListenError`, `AdminAddressError`, `TokenFileError`, `EmbeddedEtcdError` and `TakeoverError`.
        """
        self._life.handle_signals()
        taker = await Taker.open()
        try:
            async with contextlib.AsyncExitStack() as stack:
                await self._run(stack, taker)
        except StoppedEarlyError:
            logger.info("told to stop before anything was served")
        except Exception as error:
            if taker is not None:
                told = isinstance(error, _ONE_LINE)
                await taker.refuse(str(error) if told else f"{type(error).__name__}: {error}")
            raise
        finally:
            if taker is not None:
                await taker.close()
        self._life.ignore_signals()
        logger.info("weldr has stopped")

    async def _run(self, stack: contextlib.AsyncExitStack, taker: Taker | None) -> None:
        config = self._config
        if taker is not None:
            self._check_identity(taker)
        self._instance = config.instance or (taker.instance if taker is not None else None)
        admin_listeners, self._listeners = self._open_listeners(stack, taker)
        guard = Guard(config.access, admin_listeners.addresses)
        etcd = config.etcd or await self._embedded(stack)
        client = await stack.enter_async_context(EtcdClient(etcd))
        self._admin_address = admin_listeners.addresses[0]
        limits = ConnectionLimits.within(raise_own_limit())
        parts = self._compose(client, admin_listeners, guard, limits)
        logger.info(
            "weldr is running",
            extra={
                "version": __version__,
                "pid": os.getpid(),
                "instance": self.name,
                "listen": self._listeners.addresses,
                "admin": admin_listeners.addresses,
                "workers": config.workers,
                "etcd": [str(endpoint) for endpoint in etcd.endpoints],
                "prefix": config.keys.prefix,
            },
        )
        config.rights.tell()
        await self._life.run(parts, taker)

    def _check_identity(self, taker: Taker) -> None:
        config = self._config
        if config.instance not in (None, taker.instance):
            raise TakeoverError(f"an upgrade cannot rename {taker.instance} to {config.instance}: restart it")
        if config.keys.prefix != taker.prefix:
            raise TakeoverError(f"an upgrade cannot go from the prefix {taker.prefix} to another: restart it")
        if config.etcd is None:
            raise TakeoverError("an embedded etcd ends with the weldr that started it: restart it")

    def _open_listeners(
        self, stack: contextlib.AsyncExitStack, taker: Taker | None
    ) -> tuple[Listeners, Listeners]:
        config = self._config
        if taker is not None:
            admin, listen = taker.admin, taker.listen
        else:
            admin, listen = list(activated(ADMIN_NAME)), list(activated(None))
        opened = []
        for addresses, asked, given, workers, option in (
            ([config.admin], config.admin_was_asked, admin, 1, "--admin"),
            (config.listen, config.listen_was_asked, listen, config.workers, "--listen"),
        ):
            if not asked and any(group.activated for group in given):
                addresses = []
            listeners = Listeners(addresses, workers, option, given=given, at_once=taker is None)
            stack.callback(listeners.close)
            opened.append(listeners)
        if taker is not None:
            taker.close_untaken([group for listeners in opened for group in listeners.groups])
        return opened[0], opened[1]

    @property
    def name(self) -> str:
        """The instance's name: the same after a restart, and different for two on one machine."""
        if self._instance:
            return self._instance
        port = self._listeners.addresses[0].rpartition(":")[2]
        return f"{socket.gethostname()}-{port}"

    def _compose(
        self, client: EtcdClient, admin_listeners: Listeners, guard: Guard, limits: ConnectionLimits
    ) -> Parts:
        config = self._config
        arguments = ["--log-format", config.log_format, "--log-level", config.log_level]
        arguments += ["--grace", str(config.grace_s), "--of", str(config.workers), f"--zone={config.zone}"]
        arguments += [f"--debug-headers={','.join(config.debug_networks)}", f"--otlp={config.otlp_url}"]
        arguments += [f"--instance={self.name}"]
        if (user := config.rights.worker) is not None:
            arguments += ["--become", str(user.uid), str(user.gid)]
        self._follower = Follower(client, config.keys.prefix_bytes)
        self._pool = WorkerPool(
            config.workers,
            self._listeners,
            arguments,
            self._workers_changed,
            lambda worker, sparing: self._health.sparing_changed(worker, sparing),
            lambda silent: self._health.silent(silent.backends),
        )
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
            lambda: self._follower.connected,
        )
        self._admin = AdminServer(admin_listeners, guard, parts)
        self._keeper = CatalogKeeper(
            config.keys,
            self._follower,
            self._new_catalog,
            self._presence.observe,
            lambda: self._inquiry.ask(),
            self._take_changes,
            self._admin.tell_left,
        )
        self._virtual_ips = VirtualIps(
            client,
            config.keys,
            self.name,
            self._listeners.reached_by,
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
        self._retired_presence = Presence(
            client,
            config.keys.key(Kind.INSTANCE, f"{self.name}~{os.getpid()}"),
            self._describe_retired,
            self._follower.expect,
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
        self._control = ControlSocket(
            control_name(self._admin_address), lambda *call: upgrades.handle(*call), self._presence.changed
        )
        estate = Estate(
            self.name,
            config.keys.prefix,
            self._listeners,
            admin_listeners,
            self._control,
            self._virtual_ips,
            self._presence,
            self._retired_presence,
            self._health,
        )
        upgrades = Upgrades(estate, self._life.stop, config.shutdown_delay_s, embedded=config.etcd is None)
        return Parts(
            listeners=self._listeners,
            admin_listeners=admin_listeners,
            pool=self._pool,
            checks=self._health.monitor,
            virtual_ips=self._virtual_ips,
            presence=self._presence,
            admin=self._admin,
            control=self._control,
            upgrades=upgrades,
            not_ready=self.not_ready,
            always=[
                ("catalog", self._keeper.run),
                ("health checks", self._health.monitor.run),
                ("leases", self._inquiry.run),
                ("event loop lag", self._lag.run),
            ],
            acting=[
                ("presence", self._presence.run),
                ("health reports", self._reports.run),
                ("sticky key", self._sticky_key.run),
            ],
        )

    async def _embedded(self, stack: contextlib.AsyncExitStack) -> EtcdConfig:
        etcd = EmbeddedEtcd(find_etcd(), self._config.embedded_data)
        stack.push_async_callback(etcd.close)
        await self._life.unless_stopped(etcd.start())
        kept = self._config.embedded_data
        logger.info(
            "no etcd was named: started an embedded one for trying out",
            extra={"endpoint": etcd.endpoint, "data": str(kept) if kept else "lost when weldr stops"},
        )
        key = self._config.keys.key(Kind.BACKEND, "default", "b1").decode()
        logger.info(f"register a first backend: etcdctl --endpoints={etcd.endpoint} put {key} 127.0.0.1:9001")
        return EtcdConfig.from_text(etcd.endpoint)

    def _take_changes(self, changes: list[Change]) -> None:
        self._admin.note(changes)
        if self._config.vips:
            self._virtual_ips.take(changes)

    def _new_catalog(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._catalog_at_s = time.time()
        self._note_drained(catalog.is_drained(self.name))
        self._health.follow(catalog, self._keeper.held)
        self._publish()
        self._health.update()
        self._sticky_key.follow(catalog)
        self._presence.changed()
        self._admin.take(catalog)

    def _note_drained(self, drained: bool) -> None:
        if not drained:
            if self._drained_since_s is not None:
                logger.info("this instance is in service again")
            self._drained_since_s = None
        elif self._drained_since_s is None:
            self._drained_since_s = asyncio.get_running_loop().time()
            logger.warning("this instance was taken out of service: it is not ready, and serves what comes")

    def _publish(self) -> None:
        if self._catalog is not None:
            self._pool.publish(self._catalog, self._health.standings)

    def _standings_changed(self) -> None:
        self._publish()
        self._workers_changed()

    def _workers_changed(self) -> None:
        if self._pool.all_serving and not self._health.awaits_required:
            self._life.note_loaded()
        self._presence.changed()
        self._retired_presence.changed()

    def not_ready(self) -> str | None:
        """Why this instance should get no traffic, in one line; `None` if it should."""
        if self._life.retired:
            # Who asks now has come by a socket that both managers have.
            return None
        if self._life.stopping:
            return "it is stopping"
        if self._catalog is None:
            return "no catalog could be read from etcd yet"
        if not self._life.loaded and self._health.awaits_required:
            return "not every backend that has to pass a check has been asked yet"
        if not self._life.loaded:
            return "not every worker has the catalog yet"
        if not self._pool.any_serving:
            return "no worker is serving"
        if self._drained_since_s is not None:
            return f"an operator has drained it: instance_overrides/{self.name} says so"
        return None

    def _problems_of_parts(self) -> list[str]:
        own = [self._control.problem] if self._control.problem else []
        return [*own, *self._health.problems, *self._virtual_ips.problems()]

    def _metrics(self) -> Iterator[Iterable[Part]]:
        yield metrics_of_instance(self._instance_parts)
        yield metrics_of_workers(self._pool.slots)
        yield metrics_of_processes(self._pool.slots)
        yield metrics_of_requests(self._pool.statistics)
        yield metrics_of_incidents(self._pool.statistics.incidents, self._pool.sparings)

    def _describe(self) -> Instance:
        problems = self._catalog.problems if self._catalog else {}
        first = heapq.nsmallest(_PROBLEMS_IN_INSTANCE, problems)
        of_parts = self._problems_of_parts()
        since_s = self._drained_since_s
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
            drained=since_s is not None,
            in_flight=None if since_s is None else self._pool.requests_since(since_s),
        )

    def _describe_retired(self) -> Instance:
        """While another manager acts for this instance: what is still in flight here."""
        return Instance(
            version=__version__,
            addresses=[],
            admin="",
            started=self._started,
            applied=self._pool.applied_revision,
            draining={f"{service}/{name}": count for (service, name), count in self._pool.in_flight.items()},
        )
