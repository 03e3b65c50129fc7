"""The same thing is said once in a while."""

from __future__ import annotations

from weldr.model.log_limit import LogLimit


def test_a_key_is_allowed_once_in_each_interval() -> None:
    limit = LogLimit(interval_s=10)
    allowed = [now_s for now_s in (0, 1, 9.9, 10, 11, 25) if limit.allows("a", now_s)]
    assert allowed == [0, 10, 25]
    assert limit.allows("b", 1)


def test_what_was_not_allowed_is_counted_once() -> None:
    limit = LogLimit(interval_s=10)
    for _ in range(4):
        limit.allows("a", 0)
    assert limit.suppressed() == {"suppressed": 3}
    assert limit.suppressed() == {}


def test_any_number_of_keys_is_remembered_in_bounded_memory() -> None:
    limit = LogLimit(interval_s=10)
    for number in range(5000):
        assert limit.allows(str(number), 0)
    assert len(limit._allowed_s) <= 1024
