"""Everything that happens to a virtual IP, each as a function of a site and the value of `vips/web`.

Each makes a trial with a watcher, which fails when two hosts hold the address together. `__main__` runs all of
them as often as one likes; the suite runs those that `test_hosts.py` names.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.hosts.etcd import Member
from tests.hosts.namespaces import Host, inside
from tests.hosts.site import PORT, Site, Trial
from tests.hosts.watcher import Span
from tests.support.instance import LIMIT_S, wait_until
from tests.support.steady_load import SteadyLoad, echo_backend, steady_load
from weldr.control.presence import LEASE_TTL_S

Value = dict[str, Any]
STAYS_S = 4.0
"""Longer than any lease, window or promise at the defaults."""
HEARD_S = 1.0
"""By then each instance has heard the others' heartbeats: whoever was never heard is not missed."""


def stopping(site: Site, value: Value) -> None:
    """An instance that stops hands over, no request is lost, and who is connected is told at once."""
    with Trial(site, {"web": value}) as trial:
        holder = trial.wait_settled()
        with trial.client() as client, _connected(site, trial.address) as connection:
            began_s = time.monotonic()
            trial.instances[holder].signal(signal.SIGTERM)
            trial.watcher.wait(trial.address, *trial.others(holder))
            assert _is_reset(connection)
            client.wait_good()
            assert trial.lost(client, began_s) == 0
            assert trial.instances[holder].wait() == 0
        assert site.get("holders/web")["instance"] != holder


def _connected(site: Site, address: str) -> socket.socket:
    with inside(site.client_host.namespace):
        return socket.create_connection((address, PORT), LIMIT_S)


def _is_reset(connection: socket.socket) -> bool:
    try:
        connection.recv(1)
    except ConnectionResetError:
        return True
    return False


def started_together(site: Site, value: Value) -> None:
    """All three instances are started at the same instant, and later the key comes at the same instant for all:
    exactly one claims, and nobody else ever does."""
    with Trial(site, {"web": value}, hosts=0) as trial, tempfile.NamedTemporaryFile() as gate:
        fcntl.flock(gate, fcntl.LOCK_EX)
        for host in site.hosts:
            trial.start(host.name, "flock", "--shared", "--no-fork", gate.name)
        commands = [Path(f"/proc/{instance.pid}/comm") for instance in trial.instances.values()]
        wait_until(lambda: {command.read_text() for command in commands} == {"flock\n"}, "all wait at the gate")
        fcntl.flock(gate, fcntl.LOCK_UN)
        assert _only_holders(trial, trial.wait_settled())
        site.delete("vips/web")
        trial.watcher.wait(trial.address, None)
        began_s = time.monotonic()
        site.put("vips/web", value)
        assert _only_holders(trial, trial.wait_settled(), began_s)


def _only_holders(trial: Trial, holder: str, since_s: float = 0.0) -> bool:
    """Whether that one alone has held the address, and goes on so for a while."""
    time.sleep(STAYS_S / 2)
    return {name for span in _spans(trial, since_s) for name in span.holders} == {holder}


def killed(site: Site, value: Value) -> None:
    """A manager that is killed leaves no address behind, and another one takes it."""
    with Trial(site, {"web": value}) as trial:
        holder = trial.wait_settled()
        with trial.client() as client:
            trial.instances[holder].kill()
            trial.watcher.wait(trial.address, *trial.others(holder))
            client.wait_good()


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
        assert {span.holders for span in _spans(trial, began_s)} == {(holder,)}


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
        gap_s = trial.watcher.longest(trial.address, 0, began_s)
        assert gap_s < 2.0
        assert gap_s > 0 or tally["bad"] == []


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


def _spans(trial: Trial, since_s: float) -> list[Span]:
    return [span for span in trial.watcher.histories[trial.address].spans if span.ended_s > since_s]


def cut_off(site: Site, value: Value) -> None:
    """A host that nobody hears loses the address, and does not come back with it."""
    with Trial(site, {"web": value}) as trial:
        holder = trial.wait_settled()
        host = trial.host(holder)
        _isolate(site, host)
        trial.watcher.wait(trial.address, *trial.others(holder))
        _heal(site, host)
        time.sleep(STAYS_S)
        assert trial.watcher.holder(trial.address) in trial.others(holder)


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


def frozen(site: Site, value: Value) -> None:
    """A manager that is frozen loses the address by the kernel's hand, and thaws without it."""
    with Trial(site, {"web": value}) as trial:
        holder = trial.wait_settled()
        trial.instances[holder].signal(signal.SIGSTOP)
        trial.watcher.wait(trial.address, *trial.others(holder))
        trial.instances[holder].signal(signal.SIGCONT)
        time.sleep(STAYS_S)
        assert trial.watcher.holder(trial.address) in trial.others(holder)


def stalled(site: Site, value: Value) -> None:
    """A stall of the manager that is shorter than the lifetime moves nothing."""
    with Trial(site, {"web": value}) as trial:
        holder = trial.wait_settled()
        for _ in range(3):
            trial.instances[holder].signal(signal.SIGSTOP)
            time.sleep(0.6)
            trial.instances[holder].signal(signal.SIGCONT)
            time.sleep(1.0)
        assert {span.holders for span in trial.watcher.histories[trial.address].spans} <= {(), (holder,)}
        assert trial.watcher.holder(trial.address) == holder


def without_etcd(site: Site, value: Value) -> None:
    """A holder that is cut off from etcd alone, for longer than its leases, keeps the address by promises, and
    no request is lost."""
    with Trial(site, {"web": value}) as trial:
        holder = trial.wait_settled()
        host = trial.host(holder)
        with trial.client() as client:
            began_s = time.monotonic()
            site.network.isolate(host, "back")
            time.sleep(LEASE_TTL_S + STAYS_S)
            assert site.get(f"instances/{holder}") is None
            assert trial.watcher.holder(trial.address) == holder
            site.network.plug(host, "back")
            time.sleep(STAYS_S)
            assert trial.lost(client, began_s) == 0
        assert trial.watcher.holder(trial.address) == holder


def without_peers(site: Site, value: Value) -> None:
    """A holder that none of its peers hears, but that etcd does, is doubted, says that it lives, and stays."""
    with Trial(site, {"web": value}) as trial:
        holder = trial.wait_settled()
        time.sleep(HEARD_S)
        trial.host(holder).block(*(trial.host(name) for name in trial.others(holder)))
        trial.instances[holder].wait_logged("did not hear the holder")
        time.sleep(STAYS_S)
        assert trial.watcher.holder(trial.address) == holder
        assert len(trial.instances[holder].logged("did not hear the holder")) <= 2, "not again and again"


def without_clients(site: Site, value: Value) -> None:
    """A holder that a client does not reach stays put."""
    with Trial(site, {"web": value}) as trial:
        holder = trial.wait_settled()
        trial.host(holder).block(site.client_host)
        time.sleep(STAYS_S)
        assert trial.watcher.holder(trial.address) == holder


def etcd_member_lost(site: Site, value: Value) -> None:
    """etcd loses a member that follows, then the one that leads: nothing moves, no request is lost."""
    with Trial(site, {"web": value}) as trial:
        holder = trial.wait_settled()
        with trial.client() as client:
            began_s = time.monotonic()
            leader = site.etcd.leader()
            follower = next(member for member in site.etcd.members if member is not leader)
            _lose(site, follower)
            _lose(site, site.etcd.leader())
            assert trial.lost(client, began_s) == 0
        assert trial.watcher.holder(trial.address) == holder


def _lose(site: Site, member: Member) -> None:
    """The member for longer than a lease without it."""
    member.kill()
    time.sleep(STAYS_S)
    member.start()
    site.etcd.wait_ready()
    time.sleep(1.0)


def etcd_paused(site: Site, value: Value) -> None:
    """All of etcd stands still for 2 s: nothing moves."""
    with Trial(site, {"web": value}) as trial:
        holder = trial.wait_settled()
        with trial.client() as client:
            began_s = time.monotonic()
            for member in site.etcd.members:
                member.signal(signal.SIGSTOP)
            time.sleep(2.0)
            for member in site.etcd.members:
                member.signal(signal.SIGCONT)
            time.sleep(STAYS_S)
            assert trial.lost(client, began_s) == 0
        assert trial.watcher.holder(trial.address) == holder


def etcd_without_quorum(site: Site, value: Value, outage_s: float = 60.0) -> None:
    """The address stays where it is, no request is lost, and the same instance leads afterwards."""
    with Trial(site, {"web": value}) as trial:
        holder = trial.wait_settled()
        with trial.client() as client:
            began_s = time.monotonic()
            for member in site.etcd.members[:2]:
                member.kill()
            time.sleep(outage_s)
            assert trial.watcher.holder(trial.address) == holder
            for member in site.etcd.members[:2]:
                member.start()
            site.etcd.wait_ready()
            time.sleep(STAYS_S)
            assert trial.lost(client, began_s) == 0
        assert trial.watcher.holder(trial.address) == holder


def etcd_and_a_peer_lost(site: Site, value: Value) -> None:
    """Without etcd and without one of the peers the address lapses in time, and comes back once."""
    with Trial(site, {"web": value}) as trial:
        holder = trial.wait_settled()
        for member in site.etcd.members:
            member.signal(signal.SIGSTOP)
        time.sleep(1.5)
        assert trial.watcher.holder(trial.address) == holder
        trial.instances[trial.others(holder)[0]].kill()
        trial.watcher.wait(trial.address, None)
        time.sleep(STAYS_S)
        assert trial.watcher.holder(trial.address) is None
        for member in site.etcd.members:
            member.signal(signal.SIGCONT)
        trial.watcher.wait(trial.address, *trial.instances)


def newcomer(site: Site, value: Value) -> None:
    """Only a newcomer sees etcd, and it sees nobody else: it claims nothing."""
    with Trial(site, {"web": value}, hosts=2) as trial:
        holder = trial.wait_settled()
        both = [trial.host(name) for name in trial.instances]
        stranger = next(host for host in site.hosts if host not in both)
        stranger.block(*both)
        for host in both:
            site.network.isolate(host, "back")
        instance = trial.start(stranger.name)
        wait_until(
            lambda: any("asks the peers of" in record.get("reason", "") for record in instance.records),
            "the newcomer leads the queue, and asks",
        )
        time.sleep(STAYS_S)
        assert trial.watcher.holder(trial.address) == holder
        for host in both:
            site.network.plug(host, "back")
        time.sleep(STAYS_S)
        assert trial.watcher.holder(trial.address) is not None


def newcomer_in_touch(site: Site, value: Value) -> None:
    """A newcomer that reaches the others learns from them that the address is held."""
    with Trial(site, {"web": value}, hosts=2) as trial:
        holder = trial.wait_settled()
        both = [trial.host(name) for name in trial.instances]
        for host in both:
            site.network.isolate(host, "back")
        stranger = next(host for host in site.hosts if host not in both)
        trial.start(stranger.name)
        time.sleep(STAYS_S * 2)
        assert trial.watcher.holder(trial.address) == holder


def key_changes(site: Site, value: Value) -> None:
    """A key that is removed, added again or changed takes effect at once."""
    with Trial(site, {"web": value}) as trial:
        trial.wait_settled()
        site.delete("vips/web")
        trial.watcher.wait(trial.address, None, limit_s=2.0)
        site.put("vips/web", value)
        trial.watcher.wait(trial.address, *trial.instances, limit_s=2.0)
        address = trial.address[:-1] + "1"
        site.put("vips/web", {**value, "address": address})
        trial.watcher.wait(trial.address, None, limit_s=2.0)


def wall_clocks(site: Site, value: Value) -> None:
    """Wall clocks that are an hour ahead or behind are of no importance."""
    with Trial(site, {"web": value}, hosts=0) as trial:
        for host, shift in zip(site.hosts, ("+1h", "-1h", "+0"), strict=True):
            trial.start(host.name, "faketime", "--exclude-monotonic", "-f", shift)
        holder = trial.wait_settled()
        trial.instances[holder].kill()
        trial.watcher.wait(trial.address, *trial.others(holder))


def rolling_restart(site: Site, value: Value) -> None:
    """All three are restarted, one after the other, under load: no request is lost."""
    with Trial(site, {"web": value}) as trial:
        trial.wait_settled()
        with trial.client() as client:
            began_s = time.monotonic()
            for name in list(trial.instances):
                trial.instances[name].signal(signal.SIGTERM)
                assert trial.instances[name].wait() == 0
                trial.start(name)
                trial.wait_settled()
            assert trial.lost(client, began_s) == 0


def moved_by_hand(site: Site, value: Value) -> None:
    """`weldr vip move` has the one that is named hold the address, and nothing is lost."""
    with Trial(site, {"web": value}) as trial:
        holder = trial.wait_settled()
        with trial.client() as client:
            began_s = time.monotonic()
            for name in [*trial.others(holder), holder]:
                assert trial.command("vip", "move", "web", "--to", name) == f"web is held by {name}\n"
                assert trial.watcher.wait(trial.address, name) == name
                trial.wait_settled()
            assert trial.lost(client, began_s) == 0
        assert "held" in trial.command("vip", "list")


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
            site.put("vips/web", {"address": host.front6 if length == 128 else host.front})
            instance.wait_logged("virtual IP: fault")
            assert "is an address of this host itself" in trial.command("get", "instances", "-o", "json")
        finally:
            site.client_host.ip("addr", "del", address, "dev", "eth0", check=False)


def _isolate(site: Site, host: Host) -> None:
    for network in ("front", "back"):
        site.network.isolate(host, network)


def _heal(site: Site, host: Host) -> None:
    for network in ("front", "back"):
        site.network.plug(host, network)


CASES: dict[str, Callable[[Site, Value], None]] = {
    case.__name__: case
    for case in (
        stopping,
        started_together,
        killed,
        cut_off,
        unplugged,
        frozen,
        stalled,
        without_etcd,
        without_peers,
        without_clients,
        etcd_member_lost,
        etcd_paused,
        etcd_without_quorum,
        etcd_and_a_peer_lost,
        newcomer,
        newcomer_in_touch,
        key_changes,
        wall_clocks,
        rolling_restart,
        moved_by_hand,
        removed_by_others,
        conflict,
        upgrading,
        upgrade_cut_short,
    )
}
