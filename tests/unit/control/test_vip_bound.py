"""Whoever is asked tells until when nobody is to claim: by its promises, by what it holds, by what etcd was."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from tests.unit.control.vip_site import Clock, Site, holder
from weldr.control.vip import peers as peers_module
from weldr.control.vip.messages import (
    MAX_BOUND_S,
    Body,
    BoundAnswer,
    BoundQuestion,
    Message,
    seal,
    unseal,
)
from weldr.model.vip_timing import wait_s

KEY = bytes(32)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(peers_module, "now_s", made)
    return made


class Asked(Site):
    """The instance a, which b asks."""

    def __init__(self) -> None:
        super().__init__("a")
        self.held_until_s, self.token = float("-inf"), 5
        holds: Any = SimpleNamespace(
            held_until_s=lambda vip, but: self.held_until_s if but != self.token else float("-inf"),
            known=lambda vip: True,
            busy=lambda vip: False,
        )
        self.peers._holds = holds
        self.answers: list[BoundAnswer] = []
        self.peers._send = self.answer  # type: ignore[method-assign]

    def answer(self, name: str, body: Body) -> None:
        assert name == "b"
        data = seal(KEY, Message("a", self.peers.boot, 1, "b", body))
        message = unseal(KEY, data)
        assert message is not None, "the other one can read it"
        if isinstance(message.body, BoundAnswer):
            self.answers.append(message.body)

    def bound_for_s(self, *, known: int = 3) -> float:
        """If b knows that holder."""
        self.peers._take("b", BoundQuestion(7, "web", known))
        answer = self.answers.pop()
        assert (answer.number, answer.vip) == (7, "web")
        return answer.left_s


@pytest.fixture
def asked(clock: Clock) -> Asked:
    return Asked()


def test_who_has_promised_nothing_and_holds_nothing_is_not_bound(asked: Asked) -> None:
    assert asked.bound_for_s() == 0.0
    asked.view.holders["web"] = holder("c")
    assert asked.bound_for_s() == 0.0


def test_who_has_promised_is_bound_until_the_promise_runs_out_or_its_holder_has_released_it(
    asked: Asked, clock: Clock
) -> None:
    assert asked.peers._promise("web", 5, 3.0) is None
    assert asked.bound_for_s() == pytest.approx(wait_s(3.0))
    clock.now_s += 1.0
    assert asked.bound_for_s() == pytest.approx(wait_s(3.0) - 1.0)
    asked.view.holders["web"] = msgspec.structs.replace(holder("c", token=4), state="released")
    assert asked.bound_for_s() > 2.0, "that is an older one"
    asked.view.holders["web"] = msgspec.structs.replace(holder("c", token=5), state="released")
    assert asked.bound_for_s() == 0.0
    del asked.view.holders["web"]
    clock.now_s += 3.0
    assert asked.bound_for_s() == 0.0


def test_who_has_the_address_is_bound_for_as_long_as_it_may_be_there(asked: Asked, clock: Clock) -> None:
    asked.held_until_s = clock.now_s + 2.0
    assert asked.bound_for_s() == pytest.approx(2.0)
    assert asked.bound_for_s(known=5) == 0.0, "of that, the record tells"
    clock.now_s += 2.0
    assert asked.bound_for_s() == 0.0


def test_who_saw_etcd_restored_is_bound_until_a_holder_from_before_knows(asked: Asked, clock: Clock) -> None:
    asked.view.restored_s = clock.now_s - 1.0
    assert asked.bound_for_s() == pytest.approx(wait_s(3.0) - 1.0)
    asked.view.holders["web"] = msgspec.structs.replace(holder("c"), promise_s=30.0)
    assert asked.bound_for_s() == pytest.approx(wait_s(30.0) - 1.0)
    clock.now_s += 60.0
    assert asked.bound_for_s() == 0.0


def test_no_answer_is_longer_than_one_can_be(asked: Asked, clock: Clock) -> None:
    asked.held_until_s = clock.now_s + 10_000.0
    assert asked.bound_for_s() == MAX_BOUND_S


def test_an_answer_to_what_was_never_asked_or_long_ago_does_nothing(asked: Asked, clock: Clock) -> None:
    sent: list[BoundQuestion] = []
    asked.peers._send = lambda name, body: sent.append(body)  # type: ignore[method-assign, arg-type]
    noted: list[tuple[str, float]] = []
    asked.peers.ask_until_when("web", 3, ["b"], lambda name, until_s: noted.append((name, until_s)))
    [question] = sent
    asked.peers._take("b", BoundAnswer(question.number + 1, "web", 5.0))
    assert noted == []
    asked.peers._take("b", BoundAnswer(question.number, "web", 5.0))
    assert noted == [("b", clock.now_s + wait_s(5.0))]
    clock.now_s += 2.1
    asked.peers.ask_until_when("web", 3, [], lambda name, until_s: None)
    asked.peers._take("b", BoundAnswer(question.number, "web", 0.0))
    assert len(noted) == 1
