"""What happens to etcd, and to who sees it."""

from __future__ import annotations

import signal
import time

from tests.hosts.cases.terms import LAPSED_S, STAYS_S, Value
from tests.hosts.etcd import Member
from tests.hosts.site import Site, Trial
from tests.support.instance import wait_until
from weldr.control.presence import LEASE_TTL_S


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
        trial.watcher.wait(trial.address, None, limit_s=LAPSED_S)
        lapsed_s = time.monotonic()
        time.sleep(STAYS_S)
        assert trial.only_holders(lapsed_s) == set()
        for member in site.etcd.members:
            member.signal(signal.SIGCONT)
        again = trial.watcher.wait(trial.address, *trial.instances)
        time.sleep(STAYS_S)
        assert trial.only_holders(lapsed_s) == {again}


def lapses_with_its_lease(site: Site, value: Value) -> None:
    """With `on_etcd_loss: release` a holder that is cut off from etcd loses the address to another."""
    with Trial(site, {"web": {**value, "on_etcd_loss": "release"}}) as trial:
        holder = trial.wait_settled()
        host = trial.host(holder)
        site.network.isolate(host, "back")
        trial.watcher.wait(trial.address, *trial.others(holder))
        site.network.plug(host, "back")


def kept_without_etcd(site: Site, value: Value) -> None:
    """Who holds more than another keeps all of it while etcd has no quorum, though it was about to give one
    away: nobody could claim it."""
    other = {"address": value["address"].replace("100", "101"), "hold_down_s": 8}
    with Trial(site, {"web": {**value, "hold_down_s": 8}, "other": other}, hosts=1) as trial:
        holder = trial.wait_settled()
        trial.watcher.wait(other["address"], holder)
        trial.start("h2")
        trial.wait_settled()
        for member in site.etcd.members[:2]:
            member.kill()
        began_s = time.monotonic()
        time.sleep(12.0)
        assert trial.only_holders(began_s) == {holder}
        assert trial.watcher.longest_without(trial.address, began_s) == 0.0
        assert trial.watcher.longest_without(other["address"], began_s) == 0.0
        for member in site.etcd.members[:2]:
            member.start()
        site.etcd.wait_ready()
        wait_until(
            lambda: {trial.watcher.holder(each["address"]) for each in trial.vips.values()} == {"h1", "h2"},
            "each holds one, now that it can be claimed",
            30.0,
        )


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
        with trial.client() as client:
            began_s = time.monotonic()
            trial.start(stranger.name).wait_logged("ready: every worker serves the catalog")
            wait_until(lambda: _stands(site), "the newcomer stands", 30.0)
            time.sleep(STAYS_S * 2)
            assert trial.lost(client, began_s) == 0
        assert trial.only_holders(began_s) == {holder}


def _stands(site: Site) -> bool:
    """Whether anybody does: whoever is cut off has lost its place."""
    found = site.etcd.etcdctl(site.client_host, "get", "--prefix", "--keys-only", "/weldr/elections/web/")
    return bool(found.split())


def newcomer_without_quorum(site: Site, value: Value) -> None:
    """An instance that is started while etcd has no quorum waits for it, and is one more peer afterwards."""
    with Trial(site, {"web": value}, hosts=2) as trial:
        holder = trial.wait_settled()
        with trial.client() as client:
            began_s = time.monotonic()
            for member in site.etcd.members[:2]:
                member.kill()
            stranger = next(host for host in site.hosts if host.name not in trial.instances)
            trial.start(stranger.name)
            time.sleep(2 * STAYS_S)
            for member in site.etcd.members[:2]:
                member.start()
            site.etcd.wait_ready()
            assert trial.wait_settled() == holder
            time.sleep(STAYS_S)
            assert trial.lost(client, began_s) == 0
        assert trial.only_holders(began_s) == {holder}
