"""Each rule that keeps a virtual IP on one host is taken away in turn, and then the search finds two holders.

A rule without which nothing is found would be one that the search cannot see, or one that nobody needs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from tests.unit.control import vip_flaws as flaws
from tests.unit.control import vip_stories as stories
from tests.unit.control.vip_search import wander
from tests.unit.control.vip_world import DEEP, Scene

SEARCHED: dict[str, tuple[flaws.Flaw, Scene]] = {
    "the lease is taken for gone": (flaws.claims_with(lease_gone=True), "peers"),
    "a newcomer does not ask": (flaws.claims_with(refused=True), "newcomer"),
    "promises do not bind": (flaws.does_not_keep_promises, "peers"),
    "refuses in spite of a promise": (
        flaws.both(flaws.refuses_in_spite_of_a_promise, flaws.asks_nobody),
        "newcomer",
    ),
    "a newcomer goes by a restored etcd": (flaws.asks_nobody, "restored"),
    "a name alone makes a peer": (flaws.goes_by_names_alone, "namesake"),
    "one promise is enough": (flaws.one_promise_is_enough, "peers"),
    "a refusal is not heard": (flaws.a_refusal_is_not_heard, "peers"),
    "nobody waits for a window": (flaws.waits_for_no_window, "peers"),
}
"""What the search finds, and in which scene."""


@pytest.mark.parametrize(("flaw", "scene"), SEARCHED.values(), ids=SEARCHED)
def test_without_a_rule_the_search_finds_two_holders(
    flaw: flaws.Flaw, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    flaw(monkeypatch)
    found = wander(dataclasses.replace(DEEP, scene=scene), seed=1, walks=6000)
    assert found.double is not None


TOLD: dict[str, tuple[Callable[[stories.Story], None], flaws.Flaw, Scene]] = {
    "a renewal counts from its answer": (stories.a_late_answer, flaws.counts_from_the_answer, "peers"),
    "the kernel is taken for punctual": (stories.a_late_answer, flaws.takes_the_kernel_for_punctual, "peers"),
    "a renewal counts in spite of a doubt": (
        stories.renewals_under_a_doubt,
        flaws.renews_in_spite_of_a_doubt,
        "peers",
    ),
    "whole seconds are taken for exact": (
        stories.a_doubt_long_after_the_last_renewal,
        flaws.takes_seconds_for_exact,
        "peers",
    ),
    "an address is told to be free too soon": (
        stories.a_seat_for_another_long_after_the_last_renewal,
        flaws.takes_seconds_for_exact,
        "peers",
    ),
    "a promise counts from its answer": (
        stories.a_late_promise,
        flaws.counts_promises_from_the_answer,
        "peers",
    ),
    "an earlier life is forgotten": (
        stories.a_peer_that_was_restarted_claims,
        flaws.both(flaws.claims_with(boot_s=-1000.0), flaws.asks_nobody),
        "peers",
    ),
    "an earlier life's promise is refused": (
        stories.a_peer_that_was_restarted_refuses,
        flaws.both(flaws.refuses_after_a_restart, flaws.asks_nobody),
        "newcomer",
    ),
    "asks only whom it has read": (
        stories.a_newcomer_that_the_holder_may_have_named,
        flaws.asks_only_the_peers_that_it_has_read,
        "newcomer",
    ),
    "promises of too few count": (
        stories.a_newcomer_that_is_named_after_a_promise,
        flaws.promises_of_too_few_count,
        "newcomer",
    ),
    "a claim names whom nobody asks": (
        stories.a_newcomer_that_a_claim_names,
        flaws.both(flaws.a_claim_names_whom_nobody_asks, flaws.asks_nobody),
        "newcomer",
    ),
    "an upgrade forgets whom to ask": (
        stories.an_upgrade_before_the_record_is_known_again,
        flaws.an_upgrade_forgets_whom_the_record_names,
        "peers",
    ),
    "promises count where the record may name nobody": (
        stories.a_newcomer_that_finds_a_record_without_peers,
        flaws.both(flaws.asks_on_where_the_record_may_name_nobody, flaws.asks_nobody),
        "newcomer",
    ),
    "a promise counts by the name alone": (
        stories.a_namesake_promises_in_a_peers_place,
        flaws.counts_a_promise_by_the_name_alone,
        "namesake",
    ),
    "a neighbour's address is its own": (
        stories.a_neighbour_of_the_holder_gives_the_address_away,
        flaws.takes_a_neighbours_address_for_its_own,
        "neighbour",
    ),
    "clocks are taken for exact": (stories.a_promise_at_the_last_moment, flaws.ignores_drift, "peers"),
}
"""What takes too many exact steps for a random search."""


@pytest.mark.parametrize(("story", "flaw", "scene"), TOLD.values(), ids=TOLD)
def test_a_story_ends_with_one_holder_by_the_rules_and_with_two_without(
    story: Callable[[stories.Story], None], flaw: flaws.Flaw, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    ruled = stories.Story(scene)
    story(ruled)
    assert not ruled.double
    flaw(monkeypatch)
    flawed = stories.Story(scene)
    story(flawed)
    assert flawed.double
