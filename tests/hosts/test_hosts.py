"""The cases that the suite has time for. `scripts/hosts` runs all of them, and random ones."""

from __future__ import annotations

import pytest

from tests.hosts import cases
from tests.hosts.rounds import play
from tests.hosts.site import VIP, VIP6, Site

FOUR = {"address": VIP}
SIX = {"address": VIP6}


@pytest.mark.real_time
def test_an_instance_that_stops_hands_over_without_a_lost_request(site: Site) -> None:
    cases.stopping(site, FOUR)


def test_a_killed_manager_is_followed_by_another(site: Site) -> None:
    cases.killed(site, SIX)


@pytest.mark.real_time
def test_a_frozen_manager_loses_the_address_and_thaws_without_it(site: Site) -> None:
    cases.frozen(site, FOUR)


@pytest.mark.real_time
def test_an_etcd_without_quorum_costs_no_request(site: Site) -> None:
    cases.etcd_without_quorum(site, FOUR, outage_s=4.0)


def test_what_others_remove_is_put_back_and_what_was_left_is_removed(site: Site) -> None:
    cases.removed_by_others(site, SIX)


def test_random_faults_never_make_two_holders(site: Site) -> None:
    play(site, FOUR, rounds=1, seed=5)


@pytest.mark.real_time
def test_ten_upgrades_under_load_lose_no_request_and_never_the_address(site: Site) -> None:
    cases.upgrading(site, FOUR)


@pytest.mark.real_time
def test_a_manager_killed_amid_an_upgrade_leaves_the_address_to_the_new_one(site: Site) -> None:
    cases.upgrade_cut_short(site, FOUR)
