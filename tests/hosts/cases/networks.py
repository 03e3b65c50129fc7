"""What happens to a host and its networks: dead, unplugged, cut off from some or all."""

from __future__ import annotations

import time

from tests.hosts.cases.terms import AT_ONCE_S, HEARD_S, LEASED_S, STAYS_S, UNSEATED_S, Value
from tests.hosts.namespaces import Host
from tests.hosts.site import Site, Trial
from tests.support.instance import wait_until
from weldr.model.vip_timing import Timing


def cut_off(site: Site, value: Value) -> None:
    """A host that nobody hears loses the address, and does not come back with it."""
    with Trial(site, {"web": value}) as trial:
        holder = trial.wait_settled()
        host = trial.host(holder)
        _isolate(site, host)
        successor = trial.watcher.wait(trial.address, *trial.others(holder))
        taken_s = time.monotonic()
        _heal(site, host)
        time.sleep(STAYS_S)
        assert trial.only_holders(taken_s) == {successor}


def followed_at_once(site: Site, value: Value) -> None:
    """With `failover: fast` another instance has the address long before that of a host that is cut off must be
    gone, and two have it for no longer than that takes."""
    fast = {**value, "failover": "fast"}
    with Trial(site, {"web": fast}, may_be_double=True) as trial:
        holder = trial.wait_settled()
        time.sleep(HEARD_S)
        host, began_s = trial.host(holder), time.monotonic()
        _isolate(site, host)
        try:
            wait_until(
                lambda: set(trial.watcher.holders(trial.address)) & set(trial.others(holder)),
                "it has a successor",
            )
            assert time.monotonic() - began_s < AT_ONCE_S, "in strict mode it takes longer"
            time.sleep(STAYS_S)
            assert trial.watcher.longest_double(trial.address, began_s) < Timing().window_s
            assert trial.watcher.holder(trial.address) in trial.others(holder)
            assert len(trial.watcher.holders(trial.address)) == 1
        finally:
            _heal(site, host)


def followed_by_lease(site: Site, value: Value) -> None:
    """With `failover: lease` a host that is cut off is followed once its lease has ended."""
    with Trial(site, {"web": {**value, "failover": "lease"}}) as trial:
        holder = trial.wait_settled()
        time.sleep(HEARD_S)
        host, began_s = trial.host(holder), time.monotonic()
        _isolate(site, host)
        try:
            trial.watcher.wait(trial.address, *trial.others(holder))
            assert time.monotonic() - began_s > LEASED_S, "its lease has not ended"
        finally:
            _heal(site, host)


def powered_down(site: Site, value: Value) -> None:
    """A host that loses its power is followed by another, and does not take the address back when it boots."""
    with Trial(site, {"web": value}) as trial:
        holder = trial.wait_settled()
        host = trial.host(holder)
        _isolate(site, host)
        trial.instances[holder].kill()
        successor = trial.watcher.wait(trial.address, *trial.others(holder))
        taken_s = time.monotonic()
        _heal(site, host)
        trial.start(holder)
        trial.wait_settled()
        time.sleep(STAYS_S)
        assert trial.only_holders(taken_s) == {successor}


def stepped_back(site: Site, value: Value) -> None:
    """Who waited for a dead holder and steps back for an instance that holds less has that claim at once."""
    other = {
        "address": value["address"].replace("100", "101"),
        "priority": {"h2": 1},
        "preempt": True,
        "hold_down_s": 1,
    }
    with Trial(site, {"web": value, "other": other}, hosts=1) as trial:
        assert trial.wait_settled() == "h1"
        trial.start("h2")
        trial.watcher.wait(other["address"], "h2")
        trial.start("h3")
        trial.wait_settled()
        time.sleep(HEARD_S)
        host, began_s = trial.host("h1"), time.monotonic()
        _isolate(site, host)
        trial.instances["h1"].kill()
        try:
            trial.watcher.wait(trial.address, "h3")
            assert time.monotonic() - began_s < UNSEATED_S, "by the lease it takes longer"
        finally:
            _heal(site, host)


def unplugged(site: Site, value: Value) -> None:
    """A holder that sees its cable go hands over without waiting for anything."""
    with Trial(site, {"web": value}) as trial:
        holder = trial.wait_settled()
        host = trial.host(holder)
        began_s = time.monotonic()
        site.network.unplug(host)
        try:
            trial.watcher.wait(trial.address, *trial.others(holder))
            assert time.monotonic() - began_s < 1.5, "that is before any timeout"
        finally:
            site.network.plug(host)


def without_peers(site: Site, value: Value) -> None:
    """A holder that none of its peers hears, but that etcd does, is doubted, says that it lives, and stays."""
    with Trial(site, {"web": value}) as trial:
        holder = trial.wait_settled()
        time.sleep(HEARD_S)
        with trial.client() as client:
            began_s = time.monotonic()
            trial.host(holder).block(*(trial.host(name) for name in trial.others(holder)))
            trial.instances[holder].wait_logged("did not hear the holder")
            time.sleep(STAYS_S)
            assert trial.lost(client, began_s) == 0
        assert {span.holders for span in trial.spans(began_s)} == {(holder,)}
        assert len(trial.instances[holder].logged("did not hear the holder")) <= 2, "not again and again"


def without_clients(site: Site, value: Value) -> None:
    """A holder that a client does not reach stays put."""
    with Trial(site, {"web": value}) as trial:
        holder = trial.wait_settled()
        began_s = time.monotonic()
        trial.host(holder).block(site.client_host)
        time.sleep(STAYS_S)
        assert {span.holders for span in trial.spans(began_s)} == {(holder,)}


def _isolate(site: Site, host: Host) -> None:
    for network in ("front", "back"):
        site.network.isolate(host, network)


def _heal(site: Site, host: Host) -> None:
    for network in ("front", "back"):
        site.network.plug(host, network)
