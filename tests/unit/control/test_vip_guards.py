"""Each rule that keeps a virtual IP on one host is taken away in turn, and then the search finds two holders.

A rule without which nothing is found would be one that the search cannot see, or one that nobody needs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.control import vip_arrivals, vip_steps
from tests.unit.control.vip_search import wander
from tests.unit.control.vip_steps import choices, do, start
from tests.unit.control.vip_world import Limits, Scene, World
from weldr.control.vip import promises, rules
from weldr.control.vip.hold import Hold
from weldr.control.vip.promises import PromiseBook, Round
from weldr.control.vip.rules import Claimant, Verdict, may_claim
from weldr.model import vip_timing
from weldr.model.vip_timing import Timing
from weldr.model.vips import Holder

DEEP = Limits(ticks=24, tick_s=0.5, faults=3, messages=4)
Flaw = Callable[[pytest.MonkeyPatch], None]


def claims_with(**changes: Any) -> Flaw:
    """Every claimant believes something else than what is so."""

    def judge(record: Holder | None, me: Claimant) -> Verdict:
        return may_claim(record, dataclasses.replace(me, **changes))

    return lambda patch: patch.setattr(vip_steps, "may_claim", judge)


def refuses_in_spite_of_a_promise(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(PromiseBook, "refuse", lambda self, vip, token, promise_s, now_s: 0.0)


def refuses_after_a_restart(patch: pytest.MonkeyPatch) -> None:
    refuse = PromiseBook.refuse
    patch.setattr(
        PromiseBook,
        "refuse",
        lambda self, vip, token, promise_s, now_s: refuse(self, vip, token, -100.0, now_s),
    )


def asks_nobody(patch: pytest.MonkeyPatch) -> None:
    """Who comes later takes the record for all that there is to know."""
    patch.setattr(vip_steps, "is_known_to_be_free", lambda world, node: True)


def goes_by_names_alone(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(rules, "is_same_instance", lambda record, name, machine: True)
    patch.setattr(vip_steps, "is_same_instance", lambda record, name, machine: True)


def counts_a_promise_by_the_name_alone(patch: pytest.MonkeyPatch) -> None:
    asks_nobody(patch)
    patch.setattr(vip_steps, "is_reachable", lambda world, node, name, machine: True)


def takes_a_neighbours_address_for_its_own(patch: pytest.MonkeyPatch) -> None:
    for module in (rules, vip_steps):
        patch.setattr(module, "is_own", lambda record, name, host, machine: record.host == host)


def both(*flaws: Flaw) -> Flaw:
    """What another rule would make good."""

    def patch_all(patch: pytest.MonkeyPatch) -> None:
        for flaw in flaws:
            flaw(patch)

    return patch_all


def does_not_keep_promises(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(PromiseBook, "until_s", lambda self, vip, released=0: 0.0)


def one_promise_is_enough(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Round, "note", lambda self, peer, refusal: not refusal)


def a_refusal_is_not_heard(patch: pytest.MonkeyPatch) -> None:
    note = Round.note
    patch.setattr(Round, "note", lambda self, peer, refusal: note(self, peer, ""))


def asks_only_the_peers_that_it_has_read(patch: pytest.MonkeyPatch) -> None:
    ask = vip_steps._ask

    def forgetful(world: World, node: Any) -> None:
        node.unsure = frozenset()
        ask(world, node)

    patch.setitem(vip_steps._ACTIONS, "ask", forgetful)


def promises_of_too_few_count(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Hold, "forget_promises", lambda self, now_s: None)


def a_claim_names_whom_nobody_asks(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(vip_steps, "claimed_peers", vip_steps.peers_now)
    patch.setattr(vip_steps, "_may_name", lambda world, node, peers: None)


def an_upgrade_forgets_whom_the_record_names(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(vip_steps, "handed_unsure", lambda node: node.unsure)


def asks_on_where_the_record_may_name_nobody(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(vip_steps, "to_be_asked", frozenset)


def counts_from_the_answer(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Hold, "confirm", _from_the_answer(Hold.confirm))


def _from_the_answer(confirm: Callable[[Hold, float], None]) -> Callable[[Hold, float], None]:
    return lambda self, sent_s: confirm(self, sent_s + 1.0)


def counts_promises_from_the_answer(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Hold, "promise", _from_the_answer(Hold.promise))


def renews_in_spite_of_a_doubt(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        vip_arrivals,
        "counts",
        lambda hold, record, token: record is not None and record.token == token == hold.token,
    )


def takes_the_kernel_for_punctual(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Timing, "latest_set_s", lambda self, window_end_s: window_end_s - self.lifetime_s)


def takes_seconds_for_exact(patch: pytest.MonkeyPatch) -> None:
    exact = vip_steps.idle_s
    patch.setattr(vip_steps, "idle_s", lambda world, lease: exact(world, lease) + 1)


def waits_for_no_window(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(rules, "wait_s", lambda window_s: 0.0)


SEARCHED: dict[str, tuple[Flaw, Scene]] = {
    "the lease is taken for gone": (claims_with(lease_gone=True), "peers"),
    "a newcomer does not ask": (claims_with(refused=True), "newcomer"),
    "promises do not bind": (does_not_keep_promises, "peers"),
    "refuses in spite of a promise": (both(refuses_in_spite_of_a_promise, asks_nobody), "newcomer"),
    "a newcomer goes by a restored etcd": (asks_nobody, "restored"),
    "a name alone makes a peer": (goes_by_names_alone, "namesake"),
    "one promise is enough": (one_promise_is_enough, "peers"),
    "a refusal is not heard": (a_refusal_is_not_heard, "peers"),
    "nobody waits for a window": (waits_for_no_window, "peers"),
}
"""What the search finds, and in which scene."""


@pytest.mark.parametrize(("flaw", "scene"), SEARCHED.values(), ids=SEARCHED)
def test_without_a_rule_the_search_finds_two_holders(
    flaw: Flaw, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    flaw(monkeypatch)
    found = wander(dataclasses.replace(DEEP, scene=scene), seed=1, walks=6000)
    assert found.double is not None


class Story:
    """A way through the world, step by step."""

    def __init__(self, scene: Scene = "peers") -> None:
        self.world = start(dataclasses.replace(DEEP, scene=scene))
        self.double = False

    def do(self, *choice: Any) -> None:
        self.world = do(self.world, choice)
        self.double |= len(self.world.holders()) > 1

    def wait_until(self, now_s: float) -> None:
        self.do("tick", now_s - self.world.now_s)

    def ask(self, what: str, name: str, how: str = "answered") -> None:
        """A request to etcd, and what becomes of it; nothing if the rules forbid it."""
        before = len(self.world.messages)
        if (what, name) not in choices(self.world, DEEP):
            return
        self.do(what, name)
        if len(self.world.messages) > before:
            self.do(how, len(self.world.messages) - 1)

    def tell(self, sender: str, receiver: str, how: str = "answered") -> None:
        """The first message between these arrives."""
        found = [
            number for number, message in enumerate(self.world.messages) if message[:2] == (sender, receiver)
        ]
        if found:
            self.do(how, found[0])

    def promise(self, asker: str, *peers: str) -> None:
        self.do("ask", asker)
        for peer in peers:
            self.tell(asker, peer)


def a_late_answer(story: Story) -> None:
    """a's renewal is answered half a second late, after b has doubted it, and b takes over."""
    story.wait_until(0.5)
    story.ask("confirm", "a", "waits")
    story.ask("doubt", "b")
    story.wait_until(0.99)
    story.tell("etcd", "a")
    story.wait_until(2.75)
    story.ask("unseat", "b")
    story.ask("claim", "b")


def renewals_under_a_doubt(story: Story) -> None:
    """a renews on, but cannot write that it lives."""
    story.ask("doubt", "b")
    for moment_s in (0.5, 1.0, 1.5, 2.0, 2.25):
        story.wait_until(moment_s)
        story.ask("confirm", "a")
    story.ask("unseat", "b")
    story.ask("claim", "b")


def a_doubt_long_after_the_last_renewal(story: Story) -> None:
    _doubted_at_last(story, "unseat")


def a_seat_for_another_long_after_the_last_renewal(story: Story) -> None:
    _doubted_at_last(story, "vacate")


def _doubted_at_last(story: Story, unseat: str) -> None:
    story.wait_until(0.5)
    story.ask("confirm", "a")
    story.do("cut", "a")
    story.wait_until(1.0)
    story.ask("doubt", "b")
    for moment_s in (1.6, 2.3, 2.55):
        story.wait_until(moment_s)
        story.ask(unseat, "b")
        story.ask("claim", "b")


def a_late_promise(story: Story) -> None:
    """The last of the promises arrives nearly a second late, when b's own is a second old."""
    _last_of_the_promises(story, 0.98)


def a_promise_at_the_last_moment(story: Story) -> None:
    """It arrives when a, whose clock is slow, may only just set the address; b, whose clock is fast, claims at
    once."""
    _last_of_the_promises(
        story, (Timing().promised_window_s - 2.1) / story.world.rate(story.world.nodes["a"]) - 1e-3
    )


def _last_of_the_promises(story: Story, late_s: float) -> None:
    _live_by_promises(story, "b", "c", until_s=4.0)
    story.wait_until(4.5)
    story.do("ask", "a")
    story.tell("a", "b")
    story.wait_until(4.9)
    story.tell("a", "c")
    story.do("ask", "a")
    story.tell("a", "b")
    story.wait_until(4.9 + late_s)
    story.tell("a", "c")
    b = story.world.nodes["b"]
    story.wait_until(b.book.until_s("v") / story.world.rate(b) + 1e-3)
    story.do("stand", "b")
    story.ask("claim", "b")


def a_peer_that_was_restarted_claims(story: Story) -> None:
    _live_by_promises(story, "b", "c", until_s=4.0)
    story.do("crash", "b")
    story.do("boot", "b")
    story.do("stand", "b")
    story.ask("claim", "b")


def a_peer_that_was_restarted_refuses(story: Story) -> None:
    """A newcomer asks one that has forgotten what it promised."""
    _live_by_promises(story, "b", until_s=4.0)
    story.do("crash", "b")
    story.do("boot", "b")
    story.do("boot", "d")
    story.do("stand", "d")
    story.do("claim", "d")
    story.tell("d", "b")
    story.wait_until(4.1)
    story.ask("claim", "d")


def a_newcomer_that_the_holder_may_have_named(story: Story) -> None:
    """a names d among its peers, the answer is lost, and d hears none of a's questions."""
    story.wait_until(0.2)
    story.do("boot", "d")
    story.do("stand", "d")
    story.ask("record", "a", "arrives")
    story.do("cut", "a")
    while story.world.now_s < 4.0:
        story.wait_until(story.world.now_s + 0.5)
        if ("ask", "a") in choices(story.world, DEEP):
            story.promise("a", "b")
    story.do("withdraw", "b")
    story.ask("claim", "d")


def a_newcomer_that_is_named_after_a_promise(story: Story) -> None:
    """b promises, a names d among its peers, and the answer to that has a set the address once more. d, which
    has promised nothing, counts from a's last renewal."""
    story.do("boot", "d")
    story.do("stand", "d")
    story.wait_until(0.9)
    story.promise("a", "b")
    story.wait_until(1.0)
    story.ask("record", "a", "waits")
    story.do("withdraw", "b")
    story.wait_until(1.74)
    story.tell("etcd", "a")
    story.do("cut", "a")
    story.wait_until(3.05)
    story.ask("doubt", "d")
    story.ask("unseat", "d")
    story.wait_until(3.35)
    story.ask("unseat", "d")
    story.ask("claim", "d")


def a_newcomer_that_a_claim_names(story: Story) -> None:
    """a, which has outlived its lease, claims anew, and does not learn that it did. b is cut off, too."""
    story.do("boot", "d")
    _live_by_promises(story, "b", until_s=4.0)
    story.do("cut", "b")
    story.do("heal", "a")
    story.do("stand", "a")
    story.do("stand", "d")
    story.ask("claim", "a", "arrives")
    story.do("cut", "a")
    while story.world.now_s < 8.0:
        story.wait_until(story.world.now_s + 0.5)
        if ("ask", "a") in choices(story.world, DEEP):
            story.promise("a", "b")
    story.ask("claim", "d")


def an_upgrade_before_the_record_is_known_again(story: Story) -> None:
    """c, which is cut off, is no longer to be a peer, but a's write of that never comes to etcd. a, which has
    lost etcd, is upgraded, and c reaches it again."""
    story.do("cut", "c")
    story.do("depart", "c")
    story.do("record", "a")
    story.do("cut", "a")
    story.do("upgrade", "a")
    while story.world.now_s < 4.0:
        story.wait_until(story.world.now_s + 0.5)
        if ("ask", "a") in choices(story.world, DEEP):
            story.promise("a", "b")
    story.do("withdraw", "b")
    story.do("heal", "c")
    story.do("stand", "c")
    story.ask("claim", "c")


def a_newcomer_that_finds_a_record_without_peers(story: Story) -> None:
    """b, which is cut off, is no longer a peer; a does not learn that this was written, and b promises on."""
    story.do("cut", "b")
    story.do("depart", "b")
    story.ask("record", "a", "arrives")
    story.do("cut", "a")
    story.do("boot", "d")
    story.do("stand", "d")
    while story.world.now_s < 4.0:
        story.wait_until(story.world.now_s + 0.5)
        if ("ask", "a") in choices(story.world, DEEP):
            story.promise("a", "b")
    story.ask("claim", "d")


def a_namesake_promises_in_a_peers_place(story: Story) -> None:
    """a hears that e has the name of b, and loses etcd before its record says so. b comes back."""
    story.do("cut", "b")
    story.do("depart", "b")
    story.do("boot", "e")
    story.do("record", "a")
    story.do("cut", "a")
    story.do("cut", "e")
    while story.world.now_s < 3.5:
        story.wait_until(story.world.now_s + 0.5)
        if ("ask", "a") in choices(story.world, DEEP):
            story.promise("a", "e", "c")
        if story.world.now_s == 1.0:
            story.do("heal", "b")
            story.do("stand", "b")
    story.do("withdraw", "c")
    story.wait_until(4.5)
    story.ask("claim", "b")


def a_neighbour_of_the_holder_gives_the_address_away(story: Story) -> None:
    """n, which comes later to the host of a, claims what is there already, and releases it to b."""
    _live_by_promises(story, "b", until_s=4.0)
    story.do("boot", "n")
    story.do("stand", "n")
    story.ask("claim", "n")
    story.ask("release", "n")
    story.do("stand", "b")
    story.ask("claim", "b")


def _live_by_promises(story: Story, *peers: str, until_s: float) -> None:
    """a is cut off, and outlives its lease by the others' promises."""
    story.do("cut", "a")
    while story.world.now_s < until_s:
        story.wait_until(story.world.now_s + 0.5)
        story.promise("a", *peers)
    for peer in peers:
        story.do("withdraw", peer)
    assert story.world.holders() == ["a"]


def ignores_drift(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(vip_timing, "DRIFT", 0.0)
    patch.setattr(promises, "DRIFT", 0.0)


TOLD: dict[str, tuple[Callable[[Story], None], Flaw, Scene]] = {
    "a renewal counts from its answer": (a_late_answer, counts_from_the_answer, "peers"),
    "the kernel is taken for punctual": (a_late_answer, takes_the_kernel_for_punctual, "peers"),
    "a renewal counts in spite of a doubt": (renewals_under_a_doubt, renews_in_spite_of_a_doubt, "peers"),
    "whole seconds are taken for exact": (
        a_doubt_long_after_the_last_renewal,
        takes_seconds_for_exact,
        "peers",
    ),
    "an address is told to be free too soon": (
        a_seat_for_another_long_after_the_last_renewal,
        takes_seconds_for_exact,
        "peers",
    ),
    "a promise counts from its answer": (a_late_promise, counts_promises_from_the_answer, "peers"),
    "an earlier life is forgotten": (
        a_peer_that_was_restarted_claims,
        both(claims_with(boot_s=-1000.0), asks_nobody),
        "peers",
    ),
    "an earlier life's promise is refused": (
        a_peer_that_was_restarted_refuses,
        both(refuses_after_a_restart, asks_nobody),
        "newcomer",
    ),
    "asks only whom it has read": (
        a_newcomer_that_the_holder_may_have_named,
        asks_only_the_peers_that_it_has_read,
        "newcomer",
    ),
    "promises of too few count": (
        a_newcomer_that_is_named_after_a_promise,
        promises_of_too_few_count,
        "newcomer",
    ),
    "a claim names whom nobody asks": (
        a_newcomer_that_a_claim_names,
        both(a_claim_names_whom_nobody_asks, asks_nobody),
        "newcomer",
    ),
    "an upgrade forgets whom to ask": (
        an_upgrade_before_the_record_is_known_again,
        an_upgrade_forgets_whom_the_record_names,
        "peers",
    ),
    "promises count where the record may name nobody": (
        a_newcomer_that_finds_a_record_without_peers,
        both(asks_on_where_the_record_may_name_nobody, asks_nobody),
        "newcomer",
    ),
    "a promise counts by the name alone": (
        a_namesake_promises_in_a_peers_place,
        counts_a_promise_by_the_name_alone,
        "namesake",
    ),
    "a neighbour's address is its own": (
        a_neighbour_of_the_holder_gives_the_address_away,
        takes_a_neighbours_address_for_its_own,
        "neighbour",
    ),
    "clocks are taken for exact": (a_promise_at_the_last_moment, ignores_drift, "peers"),
}
"""What takes too many exact steps for a random search."""


@pytest.mark.parametrize(("story", "flaw", "scene"), TOLD.values(), ids=TOLD)
def test_a_story_ends_with_one_holder_by_the_rules_and_with_two_without(
    story: Callable[[Story], None], flaw: Flaw, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    ruled = Story(scene)
    story(ruled)
    assert not ruled.double
    flaw(monkeypatch)
    flawed = Story(scene)
    story(flawed)
    assert flawed.double
