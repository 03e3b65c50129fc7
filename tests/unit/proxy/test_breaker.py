"""The circuit breaker's states, as scripts of what happens when."""

from __future__ import annotations

from weldr.model.resilience import CircuitBreaker
from weldr.proxy.breaker import Breaker, State, Ticket

POLICY = CircuitBreaker(failure_rate=0.5, minimum_requests=4, window_s=10, open_s=5, trials=2)


def admitted(breaker: Breaker, now_s: float) -> Ticket:
    ticket = breaker.admit(now_s)
    assert ticket is not None
    return ticket


def opened(now_s: float = 100) -> Breaker:
    breaker = Breaker(POLICY)
    for _ in range(4):
        breaker.failed(now_s, admitted(breaker, now_s))
    assert breaker.state is State.OPEN
    return breaker


def test_it_opens_when_half_of_enough_tries_have_failed() -> None:
    breaker = Breaker(POLICY)
    for now_s, succeeds in ((100, True), (101, True), (102, False)):
        ticket = admitted(breaker, now_s)
        assert not (breaker.succeeded if succeeds else breaker.failed)(now_s, ticket)
    assert breaker.failed(103, admitted(breaker, 103))
    assert breaker.admit(103) is None
    assert breaker.wait_s(104) == 4


def test_fewer_than_enough_tries_do_not_open_it() -> None:
    breaker = Breaker(POLICY)
    for _ in range(3):
        assert not breaker.failed(100, admitted(breaker, 100))
    assert breaker.state is State.CLOSED


def test_failures_that_are_longer_ago_than_the_window_do_not_count() -> None:
    breaker = Breaker(POLICY)
    for now_s in (100, 104, 108, 112, 116, 120):
        assert not breaker.failed(now_s, admitted(breaker, now_s))


def test_a_minority_of_failures_does_not_open_it() -> None:
    breaker = Breaker(POLICY)
    for _ in range(50):
        for _ in range(2):
            breaker.succeeded(100, admitted(breaker, 100))
        assert not breaker.failed(100, admitted(breaker, 100))


def test_it_lets_a_few_through_on_trial_when_its_time_is_over() -> None:
    breaker = opened()
    assert breaker.admit(104.9) is None
    first, second = admitted(breaker, 105), admitted(breaker, 105)
    assert breaker.state is State.HALF_OPEN
    assert breaker.admit(105) is None
    assert not breaker.succeeded(106, first)
    assert breaker.admit(106) is None
    assert breaker.succeeded(106, second)
    assert breaker.state is State.CLOSED
    admitted(breaker, 106)


def test_one_trial_that_fails_opens_it_again() -> None:
    breaker = opened()
    first, second = admitted(breaker, 105), admitted(breaker, 105)
    breaker.succeeded(106, first)
    assert breaker.failed(107, second)
    assert breaker.admit(111.9) is None
    admitted(breaker, 112)


def test_a_trial_without_an_outcome_makes_room_for_another() -> None:
    breaker = opened()
    first = admitted(breaker, 105)
    admitted(breaker, 105)
    assert breaker.admit(105) is None
    breaker.abandoned(first)
    admitted(breaker, 105)


def test_what_was_sent_before_it_opened_says_nothing_about_the_trials() -> None:
    breaker = Breaker(POLICY)
    early = [admitted(breaker, 90) for _ in range(3)]
    for _ in range(4):
        breaker.failed(100, admitted(breaker, 100))
    trial = admitted(breaker, 105)
    assert not breaker.failed(106, early[0])
    assert not breaker.succeeded(106, early[1])
    breaker.abandoned(early[2])
    assert breaker.state is State.HALF_OPEN
    breaker.succeeded(106, trial)
    assert breaker.succeeded(107, admitted(breaker, 107))


def test_old_failures_are_forgotten_when_it_closes() -> None:
    breaker = opened()
    for _ in range(2):
        breaker.succeeded(106, admitted(breaker, 105))
    for _ in range(3):
        assert not breaker.failed(107, admitted(breaker, 107))


def test_trials_that_last_do_not_keep_all_others_away() -> None:
    breaker = opened()
    lasting = [admitted(breaker, 105), admitted(breaker, 105)]
    assert breaker.admit(109.9) is None
    assert not breaker.succeeded(111, admitted(breaker, 110))
    assert breaker.admit(114.9) is None
    assert breaker.succeeded(116, admitted(breaker, 115))
    for ticket in lasting:
        assert not breaker.failed(117, ticket)
    assert breaker.state is State.CLOSED
