"""Ways through the world, step by step, that a random search takes too seldom."""

from __future__ import annotations

import dataclasses
from typing import Any

from tests.unit.control.vip_steps import choices, do, start
from tests.unit.control.vip_world import DEEP, Scene
from weldr.model.vip_timing import Timing


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
