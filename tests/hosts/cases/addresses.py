"""What happens to the key, and to the address on its interface."""

from __future__ import annotations

import time

from tests.hosts.cases.terms import STAYS_S, Value
from tests.hosts.site import Site, Trial
from tests.support.instance import wait_until


def key_changes(site: Site, value: Value) -> None:
    """A key that is removed, added again or changed takes effect at once."""
    address = value["address"][:-1] + "1"
    with Trial(site, {"web": value}, also=(address,)) as trial:
        trial.wait_settled()
        site.delete("vips/web")
        trial.watcher.wait(trial.address, None, limit_s=2.0)
        site.put("vips/web", value)
        trial.watcher.wait(trial.address, *trial.instances, limit_s=2.0)
        changed_s = time.monotonic()
        site.put("vips/web", {**value, "address": address})
        trial.watcher.wait(trial.address, None, limit_s=2.0)
        trial.watcher.wait(address, *trial.instances)
        time.sleep(STAYS_S)
        assert len({name for span in trial.watcher.histories[address].spans for name in span.holders}) == 1
        assert trial.watcher.holder(trial.address) is None
        assert all(span.holders == () for span in trial.spans(changed_s)[1:])


def removed_by_others(site: Site, value: Value) -> None:
    """An address that somebody else removes is put back at once, and what weldr left behind is removed."""
    with Trial(site, {"web": value}) as trial:
        holder = trial.wait_settled()
        host, other = trial.host(holder), trial.host(trial.others(holder)[0])
        length = 128 if ":" in trial.address else 32
        host.ip("addr", "del", f"{trial.address}/{length}", "dev", "eth0")
        trial.instances[holder].wait_logged("a virtual IP was removed by somebody else")
        trial.watcher.wait(trial.address, holder)
        stale = "10.77.0.200/32"
        other.ip("addr", "add", stale, "dev", "eth0", "label", "eth0:weldr")
        wait_until(
            lambda: stale not in other.ip("addr", "show", "dev", "eth0"), "the stale one is removed", 5.0
        )


def conflict(site: Site, value: Value) -> None:
    """An address that another host has is not claimed but told; with `on_conflict: claim` it is claimed.
    It is of no importance that weldr held it once. And one that a host has itself is never taken from it."""
    length = 128 if ":" in value["address"] else 32
    address = f"{value['address']}/{length}"
    foreign = ["nodad"] if length == 128 else []
    with Trial(site, {"web": value}, hosts=0) as trial:
        site.client_host.ip("addr", "add", address, "dev", "eth0", *foreign)
        try:
            record = {"instance": "h9", "address": trial.address, "token": 1, "lease": 1, "host": "h9"}
            times = {"since": "", "window_s": 2.2, "promise_s": 3.0}
            site.put("holders/web", {**record, **times, "state": "released"})
            instance = trial.start("h1")
            instance.wait_logged("a virtual IP cannot be held here")
            # It is tried again every 10 s, and asked again each time.
            time.sleep(12.0)
            assert trial.watcher.holder(trial.address) is None
            site.put("vips/web", {**value, "on_conflict": "claim"})
            trial.watcher.wait(trial.address, "h1")
            host = trial.host("h1")
            own = host.front6 if length == 128 else host.front
            faults = len(instance.logged("virtual IP: fault"))
            site.put("vips/web", {"address": own})
            instance.wait_logged("virtual IP: fault", count=faults + 1)
            assert "is an address of this host itself" in trial.command("get", "instances", "-o", "json")
            time.sleep(STAYS_S)
            shown = host.ip("addr", "show", "dev", "eth0", "to", own)
            assert "valid_lft forever" in shown
        finally:
            site.client_host.ip("addr", "del", address, "dev", "eth0", check=False)
