"""No order of events leads to two holders. `test_vip_guards.py` shows that without any of the rules one does.

`python -m tests.unit.control.vip_search WORLDS` searches for as long as one likes.
"""

from __future__ import annotations

import dataclasses
from typing import get_args

import msgspec
import pytest

from tests.unit.control.vip_search import explore, wander
from tests.unit.control.vip_steps import do, start
from tests.unit.control.vip_world import DEEP, Limits, Scene, World
from weldr.control.vip.promises import PromiseBook, Round
from weldr.control.vip.rules import NOBODY, may_unseat
from weldr.model.vips import Holder

SCENES = pytest.mark.parametrize("scene", get_args(Scene))


@SCENES
def test_no_order_of_the_first_events_leads_to_two_holders(scene: Scene) -> None:
    found = explore(Limits(faults=1, messages=2, scene=scene), most=15_000)
    assert found.double is None, "\n".join(found.double)
    assert found.claims > 40


@SCENES
def test_no_long_random_way_leads_to_two_holders(scene: Scene) -> None:
    found = wander(dataclasses.replace(DEEP, scene=scene), seed=1, walks=300)
    assert found.double is None, "\n".join(found.double)
    assert found.claims > 500


def lives_by_promises(until_s: float) -> World:
    """The holder is cut off from etcd and asks every half second; its peers have stepped back."""
    world = do(start(DEEP), ("cut", "a"))
    while world.now_s < until_s:
        world = do(do(world, ("tick", 0.5)), ("ask", "a"))
        while world.messages:
            world = do(world, ("answered", 0))
    return do(do(world, ("withdraw", "b")), ("withdraw", "c"))


def test_a_holder_that_lives_by_promises_outlives_its_lease() -> None:
    world = lives_by_promises(10.0)
    assert world.holders() == ["a"]
    assert world.keys == {}


def test_a_peer_without_a_word_lets_the_address_lapse_before_anybody_claims() -> None:
    world = do(start(DEEP), ("cut", "a"))
    world = do(do(world, ("tick", 0.5)), ("ask", "a"))
    world = do(world, ("answered", [message[1] for message in world.messages].index("b")))
    world.messages = ()
    while "a" in world.holders():
        world = do(world, ("tick", 0.1))
    assert world.now_s < 3.0, "before its lease has expired"


def test_a_claimant_promises_nothing() -> None:
    book = PromiseBook(-100.0)
    assert book.promise("v", 5, 3.0, 0.0, busy=True) is not None
    assert book.until_s("v") == 0.0


def test_a_refusal_is_for_good_and_not_given_while_a_promise_is_in_force() -> None:
    book = PromiseBook(-100.0)
    assert book.promise("v", 5, 3.0, 0.0, busy=False) is None
    assert book.refuse("v", 5, 3.0, 1.0) > 2.0
    assert book.promise("v", 5, 3.0, 2.0, busy=False) is None, "it has refused nothing"
    assert book.refuse("v", 5, 3.0, 6.0) == 0.0
    assert book.promise("v", 5, 3.0, 6.0, busy=False) is not None
    assert book.promise("v", 6, 3.0, 6.0, busy=False) is None, "the next holder is another one"


def test_who_was_restarted_refuses_nothing_that_it_may_have_promised_before() -> None:
    book = PromiseBook(began_s=10.0)
    assert book.refuse("v", 5, 3.0, 12.0) > 1.0
    assert book.refuse("v", 5, 3.0, 13.1) == 0.0


def test_an_older_holder_gets_no_promise() -> None:
    book = PromiseBook(-100.0)
    book.learn("v", 7)
    assert book.promise("v", 6, 3.0, 0.0, busy=False) is not None
    assert book.promise("v", 7, 3.0, 0.0, busy=False) is None


def test_who_released_the_address_frees_from_what_was_promised_to_it_and_to_no_later_holder() -> None:
    book = PromiseBook(-100.0)
    assert book.promise("v", 7, 3.0, 0.0, busy=False) is None
    assert book.until_s("v", released=7) == book.until_s("v", released=8) == 0.0
    # As in an etcd that was restored from a backup.
    assert book.until_s("v", released=6) == book.until_s("v") > 3.0


def test_what_was_known_of_an_etcd_before_this_one_keeps_no_holder_from_its_promises() -> None:
    book = PromiseBook(-100.0)
    assert book.promise("v", 70, 3.0, 0.0, busy=False) is None
    book.refuse("v", 69, 3.0, 10.0)
    book.start_over()
    assert book.until_s("v") > 3.0
    assert book.promise("v", 70, 3.0, 10.0, busy=False) is None, "its holder may not know yet"
    book.learn("v", 40)
    assert book.promise("v", 40, 3.0, 11.0, busy=False) is None
    assert book.promise("v", 39, 3.0, 11.0, busy=False) == "it knows a newer holder"
    assert book.until_s("v", released=40) > 13.0, "70 has not released it"
    assert book.promise("v", 40, 3.0, 20.0, busy=False) is None
    assert book.until_s("v", released=40) == 0.0


RECORD = Holder(
    instance="a",
    address="v",
    token=5,
    lease=9,
    state="held",
    since="",
    window_s=2.2,
    promise_s=3.0,
    host="a",
    peers=["b", "c"],
)


@pytest.mark.parametrize(
    ("silent_s", "heard_by", "known", "unseated"),
    [
        (0.2, set(), {"c"}, False),
        (0.3, set(), {"c"}, True),
        (0.3, {"c"}, {"c"}, False),
        (0.3, set(), set(), False),
    ],
    ids=["not yet", "nobody hears it", "another one hears it", "the other one may hear it"],
)
def test_a_holder_is_unseated_only_if_no_majority_can_hear_it(
    silent_s: float, heard_by: set[str], known: set[str], unseated: bool
) -> None:
    assert may_unseat(RECORD, "b", silent_s, heard_by, known) is unseated


def test_of_two_one_may_unseat_the_other_and_a_stranger_nobody() -> None:
    pair = msgspec.structs.replace(RECORD, peers=["b"])
    assert may_unseat(pair, "b", 0.3, set(), set())
    assert not may_unseat(pair, "d", 0.3, set(), {"b"})


def test_a_round_of_questions_tells_whose_promise_it_lacks() -> None:
    asked = Round(1, 0.0, 5, {"c", "b", NOBODY})
    assert asked.lacks == "no word of b, c"
    asked.note("b", "")
    asked.note("c", "")
    assert asked.lacks == "no word of one that its record may name, and that cannot be asked"
    asked.note("c", "it claims or holds the address itself")
    assert asked.lacks == "c: it claims or holds the address itself"
