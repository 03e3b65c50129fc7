"""The cases that the suite has time for. `scripts/hosts` runs all of them, and random ones."""

from __future__ import annotations

import pytest

from tests.hosts.cases.addresses import removed_by_others
from tests.hosts.cases.instances import frozen, killed, stopping
from tests.hosts.cases.machines import namesake, power_cut
from tests.hosts.cases.networks import stepped_back
from tests.hosts.cases.outages import etcd_without_quorum
from tests.hosts.cases.upgrades import upgrade_cut_short, upgrade_cut_short_and_stopped, upgrading
from tests.hosts.rounds import play
from tests.hosts.site import VIP, VIP6, Site

FOUR = {"address": VIP}
SIX = {"address": VIP6}


@pytest.mark.real_time
def test_an_instance_that_stops_hands_over_without_a_lost_request(site: Site) -> None:
    stopping(site, FOUR)


def test_a_killed_manager_is_followed_by_another(site: Site) -> None:
    killed(site, SIX)


@pytest.mark.real_time
def test_a_frozen_manager_loses_the_address_and_thaws_without_it(site: Site) -> None:
    frozen(site, FOUR)


@pytest.mark.real_time
def test_an_etcd_without_quorum_costs_no_request(site: Site) -> None:
    etcd_without_quorum(site, FOUR, outage_s=4.0)


def test_what_others_remove_is_put_back_and_what_was_left_is_removed(site: Site) -> None:
    removed_by_others(site, SIX)


def test_random_faults_never_make_two_holders(site: Site) -> None:
    play(site, FOUR, rounds=1, seed=5)


@pytest.mark.real_time
def test_ten_upgrades_under_load_lose_no_request_and_never_the_address(site: Site) -> None:
    upgrading(site, FOUR)


@pytest.mark.real_time
def test_a_manager_killed_amid_an_upgrade_leaves_the_address_to_the_new_one(site: Site) -> None:
    upgrade_cut_short(site, FOUR)


@pytest.mark.real_time
def test_who_is_stopped_amid_an_upgrade_leaves_the_address_to_nobody_before_it_is_gone(site: Site) -> None:
    upgrade_cut_short_and_stopped(site, FOUR)


def test_of_a_pair_without_power_the_former_holder_alone_takes_the_address_again(site: Site) -> None:
    power_cut(site, SIX)


@pytest.mark.real_time
def test_a_machine_that_is_given_a_peers_name_is_no_peer(site: Site) -> None:
    namesake(site, FOUR)


@pytest.mark.real_time
def test_who_steps_back_from_a_dead_holders_address_costs_no_time(site: Site) -> None:
    stepped_back(site, FOUR)
