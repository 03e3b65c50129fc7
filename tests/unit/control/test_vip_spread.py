"""Who should have which virtual IP: by priority, then by how many each holds, and never back and forth."""

from __future__ import annotations

import msgspec
import pytest

from tests.unit.control.vip_site import ADDRESS, Clock, Site, queue
from weldr.control.vip import context as context_module
from weldr.model.vips import Vip


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(context_module, "now_s", made)
    return made


class Timed(Site):
    """A site where time passes."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock

    def gives_away(self, vip: Vip, *names: str, after_s: float) -> str:
        candidates = queue("a", *names)
        self.context.note_queue("v1", candidates, self.clock.now_s)
        self.clock.now_s += after_s
        return self.context.give_away("v1", vip, candidates)


VIP = Vip(address=ADDRESS, hold_down_s=30.0)


@pytest.fixture
def site(clock: Clock) -> Timed:
    return Timed(clock)


def test_a_candidate_steps_back_for_one_of_higher_priority(site: Timed) -> None:
    vip = msgspec.structs.replace(VIP, priority={"b": 10})
    assert site.context.better("v1", vip, queue("a", "b"))
    assert not site.context.better("v1", vip, queue("a", "c"))
    assert not site.context.better("v1", msgspec.structs.replace(VIP, priority={"a": 10}), queue("a", "b"))


def test_a_priority_by_zone_is_overridden_by_the_instances_own(site: Timed) -> None:
    site.view.peers["b"] = msgspec.structs.replace(site.view.peers["b"], zone="east")
    vip = msgspec.structs.replace(VIP, priority={"zone:east": 10})
    assert site.context.better("v1", vip, queue("a", "b"))
    assert not site.context.better("v1", vip, queue("a", "c"))
    vip = msgspec.structs.replace(VIP, priority={"zone:east": 10, "b": -1})
    assert not site.context.better("v1", vip, queue("a", "b"))
    site.context.zone = "east"
    vip = msgspec.structs.replace(VIP, priority={"zone:east": 10, "b": 10})
    assert not site.context.better("v1", vip, queue("a", "b"))


def test_a_candidate_steps_back_for_one_that_holds_fewer(site: Timed) -> None:
    site.held("a", "v2")
    assert site.context.better("v1", VIP, queue("a", "b"))
    site.held("b", "v3", "v4")
    assert not site.context.better("v1", VIP, queue("a", "b"))


def test_nobody_steps_back_for_one_that_is_not_heard(site: Timed) -> None:
    site.held("a", "v2")
    for _ in range(7):
        site.peers.hearing.take_turn({"b", "c"})
    assert not site.context.better("v1", VIP, queue("a", "b"))
    site.hear("b")
    assert site.context.better("v1", VIP, queue("a", "b"))


def test_priority_is_more_than_balance(site: Timed) -> None:
    site.held("a", "v2", "v3", "v4")
    vip = msgspec.structs.replace(VIP, priority={"a": 1})
    assert not site.context.better("v1", vip, queue("a", "b"))


def test_a_holder_gives_way_to_a_higher_priority_only_with_preempt_and_after_the_hold_down(
    site: Timed,
) -> None:
    vip = msgspec.structs.replace(VIP, priority={"b": 10})
    assert site.gives_away(vip, "b", after_s=31.0) == ""
    vip = msgspec.structs.replace(vip, preempt=True)
    assert site.gives_away(vip, "c", "b", after_s=29.0) == ""
    assert site.gives_away(vip, "c", "b", after_s=2.0) == "b has a higher priority"


def test_a_candidate_that_left_and_came_back_begins_its_hold_down_anew(site: Timed) -> None:
    vip = msgspec.structs.replace(VIP, priority={"b": 10}, preempt=True)
    assert site.gives_away(vip, "b", after_s=29.0) == ""
    assert site.gives_away(vip, after_s=1.0) == ""
    assert site.gives_away(vip, "b", after_s=29.0) == ""
    assert site.gives_away(vip, "b", after_s=2.0)


def test_two_more_are_given_away_for_balance_and_one_more_is_not(site: Timed) -> None:
    site.held("a", "v1")
    assert site.gives_away(VIP, "b", after_s=31.0) == ""
    site.held("a", "v2")
    assert site.gives_away(VIP, "b", after_s=31.0) == "b holds fewer"


def test_one_is_given_away_at_a_time(site: Timed) -> None:
    site.held("a", "v1", "v2", "v3", "v4")
    assert site.gives_away(VIP, "b", after_s=31.0)
    assert site.gives_away(VIP, "b", after_s=1.0) == "", "it has not arrived yet"
    assert site.gives_away(VIP, "b", after_s=5.0)
