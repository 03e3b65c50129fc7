"""How many requests may be sent once more."""

from __future__ import annotations

from weldr.model.resilience import RetryBudget
from weldr.proxy.retry_budget import Budget


def taken(budget: Budget, now_s: float, wanted: int) -> int:
    """How many of those that are wanted are granted; each is sent."""
    count = 0
    for _ in range(wanted):
        if budget.take(now_s):
            count += 1
            budget.sent += 1
    return count


def test_a_fifth_of_the_requests_may_be_sent_again() -> None:
    budget = Budget(RetryBudget())
    budget.sent += 1000
    assert taken(budget, 100, 1000) == 200


def test_what_was_sent_again_does_not_count_as_asked_for() -> None:
    budget = Budget(RetryBudget(share=1.0, minimum=0))
    budget.sent += 10
    assert taken(budget, 100, 1000) == 10
    assert taken(budget, 101, 1000) == 0


def test_a_service_with_few_requests_has_the_minimum() -> None:
    budget = Budget(RetryBudget(minimum=3))
    budget.sent += 2
    assert taken(budget, 100, 10) == 3


def test_the_budget_is_of_the_last_ten_seconds() -> None:
    budget = Budget(RetryBudget(minimum=0))
    budget.sent += 100
    budget.tick(100)
    assert taken(budget, 105, 100) == 20
    assert taken(budget, 109, 1) == 0
    # The requests are forgotten before what was sent again for them.
    assert taken(budget, 112, 1) == 0
    budget.sent += 100
    assert taken(budget, 118, 100) == 20


def test_nothing_is_sent_again_on_a_budget_of_nothing() -> None:
    budget = Budget(RetryBudget(share=0, minimum=0))
    budget.sent += 1000
    assert not budget.take(100)
