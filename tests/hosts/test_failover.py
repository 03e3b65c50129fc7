"""A virtual IP on three hosts, with real namespaces, real etcd, real faults. Never on two hosts."""

from __future__ import annotations

import signal
import time
from typing import Any

import pytest

from tests.hosts.namespaces import Host
from tests.hosts.site import VIP, VIP6, Site, Trial

FOUR: dict[str, dict[str, Any]] = {"web": {"address": VIP}}
SIX: dict[str, dict[str, Any]] = {"web": {"address": VIP6}}
BOTH = pytest.mark.parametrize("vips", [FOUR, SIX], ids=["ipv4", "ipv6"])
STAYS_S = 4.0
"""Longer than any lease, window or promise at the defaults."""


def cut_off(trial: Trial, host: Host) -> None:
    """The host is there, but nobody hears it."""
    trial.site.network.isolate(host, "front")
    trial.site.network.isolate(host, "back")


def reconnect(trial: Trial, host: Host) -> None:
    trial.site.network.plug(host, "front")
    trial.site.network.plug(host, "back")


def test_a_stopping_instance_hands_over_and_no_request_is_lost(site: Site) -> None:
    with Trial(site, FOUR) as trial:
        holder = trial.wait_settled()
        with trial.client() as client:
            began_s = time.monotonic()
            trial.instances[holder].signal(signal.SIGTERM)
            trial.watcher.wait(trial.address, *trial.others(holder))
            client.wait_good()
            assert client.tally.lost(began_s) == 0
            assert trial.instances[holder].wait() == 0
        assert site.get("holders/web")["instance"] != holder


@BOTH
def test_a_killed_manager_is_followed_by_another(site: Site, vips: dict[str, dict[str, Any]]) -> None:
    with Trial(site, vips) as trial:
        holder = trial.wait_settled()
        with trial.client() as client:
            trial.instances[holder].kill()
            trial.watcher.wait(trial.address, *trial.others(holder))
            client.wait_good()


def test_a_host_that_is_cut_off_loses_the_address_and_does_not_come_back_with_it(site: Site) -> None:
    with Trial(site, FOUR) as trial:
        holder = trial.wait_settled()
        host = trial.host(holder)
        cut_off(trial, host)
        try:
            trial.watcher.wait(trial.address, *trial.others(holder))
        finally:
            reconnect(trial, host)
        time.sleep(STAYS_S)
        assert trial.watcher.holder(trial.address) in trial.others(holder)


@BOTH
def test_a_frozen_manager_loses_the_address_and_thaws_without_it(
    site: Site, vips: dict[str, dict[str, Any]]
) -> None:
    with Trial(site, vips) as trial:
        holder = trial.wait_settled()
        trial.instances[holder].signal(signal.SIGSTOP)
        trial.watcher.wait(trial.address, *trial.others(holder))
        trial.instances[holder].signal(signal.SIGCONT)
        time.sleep(STAYS_S)
        assert trial.watcher.holder(trial.address) in trial.others(holder)


def test_a_stall_of_the_manager_shorter_than_the_lifetime_moves_nothing(site: Site) -> None:
    with Trial(site, {"web": {"address": VIP, "failover": "lease"}}) as trial:
        holder = trial.wait_settled()
        for _ in range(3):
            trial.instances[holder].signal(signal.SIGSTOP)
            time.sleep(0.6)
            trial.instances[holder].signal(signal.SIGCONT)
            time.sleep(1.0)
        assert {span.holders for span in trial.watcher.histories[VIP].spans} <= {(), (holder,)}
        assert trial.watcher.holder(VIP) == holder


def test_a_holder_without_etcd_keeps_the_address_by_promises(site: Site) -> None:
    with Trial(site, FOUR) as trial:
        holder = trial.wait_settled()
        host = trial.host(holder)
        with trial.client() as client:
            began_s = time.monotonic()
            site.network.isolate(host, "back")
            try:
                time.sleep(STAYS_S * 2)
                assert trial.watcher.holder(trial.address) == holder
            finally:
                site.network.plug(host, "back")
            time.sleep(STAYS_S)
            assert client.tally.lost(began_s) == 0, client.tally.lost(began_s)
        assert trial.watcher.holder(trial.address) == holder


def test_a_holder_without_peers_but_with_etcd_and_a_majority_behind_it_is_no_loss(site: Site) -> None:
    """It is unseated, as a host is whose network is gone: in order, and with one holder at a time."""
    with Trial(site, FOUR) as trial:
        holder = trial.wait_settled()
        host, others = trial.host(holder), [trial.host(name) for name in trial.others(holder)]
        one = others[0]
        host.block(one.front)
        try:
            time.sleep(STAYS_S)
            assert trial.watcher.holder(trial.address) == holder, (
                "one peer that does not hear it is no majority"
            )
            host.block(others[1].front)
            trial.watcher.wait(trial.address, *trial.others(holder))
        finally:
            host.unblock(*(other.front for other in others))


def test_a_holder_that_clients_do_not_reach_stays_put(site: Site) -> None:
    with Trial(site, FOUR) as trial:
        holder = trial.wait_settled()
        host = trial.host(holder)
        host.block(site.client_host.front)
        try:
            time.sleep(STAYS_S)
            assert trial.watcher.holder(trial.address) == holder
        finally:
            host.unblock(site.client_host.front)


def test_an_etcd_without_quorum_costs_no_request(site: Site) -> None:
    with Trial(site, FOUR) as trial:
        holder = trial.wait_settled()
        with trial.client() as client:
            began_s = time.monotonic()
            for member in site.etcd.members[:2]:
                member.kill()
            try:
                time.sleep(STAYS_S * 2)
                assert trial.watcher.holder(trial.address) == holder
            finally:
                for member in site.etcd.members[:2]:
                    member.start()
                site.etcd.wait_ready()
            time.sleep(STAYS_S)
            assert client.tally.lost(began_s) == 0
        assert trial.watcher.holder(trial.address) == holder
        assert [span.holders for span in trial.watcher.histories[VIP].spans][-1:] == [(holder,)]


def test_without_etcd_and_without_a_peer_the_address_lapses_and_comes_back_once(site: Site) -> None:
    with Trial(site, FOUR) as trial:
        holder = trial.wait_settled()
        for member in site.etcd.members:
            member.signal(signal.SIGSTOP)
        try:
            time.sleep(1.0)
            assert trial.watcher.holder(trial.address) == holder
            trial.instances[trial.others(holder)[0]].kill()
            trial.watcher.wait(trial.address, None)
            time.sleep(STAYS_S)
            assert trial.watcher.holder(trial.address) is None
        finally:
            for member in site.etcd.members:
                member.signal(signal.SIGCONT)
        trial.watcher.wait(trial.address, *trial.instances)


def test_a_newcomer_in_an_outage_claims_nothing(site: Site) -> None:
    with Trial(site, FOUR, hosts=2) as trial:
        holder = trial.wait_settled()
        host = trial.host(holder)
        # Neither the holder nor its peer sees etcd; only the newcomer does, and it sees none of them.
        peer = trial.others(holder)[0]
        newcomer = next(other for other in site.hosts if other.name not in trial.instances)
        newcomer.block(host.front, trial.host(peer).front)
        site.network.isolate(host, "back")
        site.network.isolate(trial.host(peer), "back")
        try:
            trial.start(newcomer.name)
            trial.instances[newcomer.name].wait_logged("asks the peers of")
            time.sleep(STAYS_S)
            assert trial.watcher.holder(trial.address) == holder
        finally:
            site.network.plug(host, "back")
            site.network.plug(trial.host(peer), "back")
            newcomer.unblock(host.front, trial.host(peer).front)
        time.sleep(STAYS_S)
        assert trial.watcher.holder(trial.address) is not None


def test_a_key_that_is_removed_added_and_changed_takes_effect(site: Site) -> None:
    with Trial(site, FOUR) as trial:
        trial.wait_settled()
        site.delete("vips/web")
        trial.watcher.wait(trial.address, None)
        site.put("vips/web", FOUR["web"])
        trial.watcher.wait(trial.address, *trial.instances)
        site.put("vips/web", {"address": "10.77.0.101"})
        trial.watcher.wait(trial.address, None)


def test_the_wall_clock_of_the_holder_is_of_no_importance(site: Site) -> None:
    with Trial(site, FOUR, hosts=0) as trial:
        for host, shift in zip(site.hosts, ("+1h", "-1h", "+0"), strict=True):
            trial.start(host.name, "faketime", "--exclude-monotonic", "-f", shift)
        holder = trial.wait_settled()
        trial.instances[holder].kill()
        trial.watcher.wait(trial.address, *trial.others(holder))
