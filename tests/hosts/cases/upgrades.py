"""Upgrades of the holder under load."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator

from tests.hosts.cases.terms import Value
from tests.hosts.site import PORT, Site, Trial
from tests.support.steady_load import SteadyLoad, echo_backend, steady_load


def upgrading(site: Site, value: Value, *, times: int = 10, rate: int = 2000) -> None:
    """Upgrades of the holder, one after the other, under load: nobody notices, and the address stays."""
    with _upgradable(site, value) as (trial, holder), _steady(site, trial, rate) as load:
        weldr, began_s = trial.instances[holder], time.monotonic()
        pid = weldr.pid
        for number in range(1, times + 1):
            os.kill(pid, signal.SIGUSR2)
            pid = int(weldr.wait_logged("this manager has taken over", count=number)["pid"])
        tally = load.stop()
        print({name: what for name, what in tally.items() if name != "bad"})
        assert tally["bad"] == []
        assert tally["tunnels_cut"] == []
        # A machine so busy that a manager does not run for as long as an address lasts would lose it, too.
        assert {span.holders for span in trial.spans(began_s)} == {(holder,)}


def upgrade_cut_short(site: Site, value: Value) -> None:
    """The old manager is killed in the middle of an upgrade: the new one has its sockets, and its place in the
    queue, and so the address, before that lapses."""
    with _upgradable(site, value) as (trial, holder), _steady(site, trial, 200) as load:
        weldr, began_s = trial.instances[holder], time.monotonic()
        weldr.signal(signal.SIGUSR2)
        weldr.wait_logged("ready: every worker serves the catalog", count=2)
        os.kill(weldr.pid, signal.SIGKILL)
        weldr.wait_logged("this manager has taken over")
        trial.watcher.wait(trial.address, holder)
        trial.watcher.wait(trial.address, holder)
        tally = load.stop()
        # A machine that is busy may take longer than the address lasts. Without the place in the queue it
        # would have to wait for a lease of 3 s.
        gap_s = trial.watcher.longest_without(trial.address, began_s)
        assert gap_s < 2.0
        assert gap_s > 0 or tally["bad"] == []


def upgrade_cut_short_and_stopped(site: Site, value: Value) -> None:
    """The old manager is killed in the middle of an upgrade, and the new one is stopped at that moment, as by
    systemd: the address is in the kernel yet, and nobody may take it before it is gone."""
    with _upgradable(site, value) as (trial, holder):
        weldr = trial.instances[holder]
        weldr.signal(signal.SIGUSR2)
        new = int(weldr.wait_logged("a new manager was started")["pid"])
        weldr.wait_logged("ready: every worker serves the catalog", count=2)
        os.kill(weldr.pid, signal.SIGKILL)
        weldr.wait_logged("the old manager has died")
        os.kill(new, signal.SIGTERM)
        trial.watcher.wait(trial.address, *trial.others(holder))


@contextlib.contextmanager
def _upgradable(site: Site, value: Value) -> Iterator[tuple[Trial, str]]:
    with Trial(site, {"web": value}, hosts=2) as trial:
        yield trial, trial.wait_settled()


@contextlib.contextmanager
def _steady(site: Site, trial: Trial, rate: int) -> Iterator[SteadyLoad]:
    namespaces = [host.namespace for host in site.hosts]
    with echo_backend("127.0.0.1:9002", *namespaces) as backend:
        site.put("backends/echo/e1", backend)
        site.put("routes/steady", {"host": "steady", "service": "echo"})
        try:
            with trial.client() as client:
                client.wait_good()
            place = f"[{trial.address}]:{PORT}" if ":" in trial.address else f"{trial.address}:{PORT}"
            under = tuple(site.client_host.command())
            with steady_load(place, rate=rate, tunnels=8, under=under) as load:
                yield load
        finally:
            site.delete("routes/steady")
            site.delete("backends/echo/e1")
