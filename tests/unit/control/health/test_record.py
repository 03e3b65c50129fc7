"""These results go in, that state must come out."""

from __future__ import annotations

import pytest

from weldr.control.health.record import CheckRecord, State
from weldr.model.health import HealthCheck, Standing

CHECK = HealthCheck(fall=3, rise=2)


def after(results: str, check: HealthCheck = CHECK) -> CheckRecord:
    """`+` is a pass, `-` a failure."""
    record = CheckRecord()
    for result in results:
        record.note(None if result == "+" else "it refused", check)
    return record


@pytest.mark.parametrize(
    ("results", "state"),
    [
        ("", State.UNKNOWN),
        ("-", State.UNKNOWN),
        ("--", State.UNKNOWN),
        ("---", State.DOWN),
        ("+", State.UP),
        ("--+", State.UP),
        ("+--", State.UP),
        ("+--+--", State.UP),
        ("+---", State.DOWN),
        ("+---+", State.DOWN),
        ("+---+-+", State.DOWN),
        ("+---++", State.UP),
        ("+---++--", State.UP),
    ],
)
def test_the_table_of_states(results: str, state: State) -> None:
    assert after(results).state is state


def test_only_a_change_of_state_is_told_with_its_reason() -> None:
    record = CheckRecord()
    changes = [record.note(failure, CHECK) for failure in (None, "a", "b", "c", "d", None, None, None)]
    assert changes == [True, False, False, True, False, False, True, False]
    assert record.reason == "2 checks in a row passed"
    assert after("+---").reason == "3 checks in a row failed, the last one: it refused"


def test_a_required_check_keeps_a_backend_out_until_it_has_passed_once() -> None:
    check = HealthCheck(fall=3, rise=2, require_check=True)
    assert after("", check).standing(check) is Standing.WAITING
    assert after("---", check).standing(check) is Standing.WAITING
    assert after("+", check).standing(check) is Standing.UP
    assert after("---+", check).standing(check) is Standing.DOWN
    assert after("+---", check).standing(check) is Standing.DOWN
    assert after("--").standing(CHECK) is Standing.UP


def test_a_check_comes_sooner_while_a_change_is_near_and_for_a_while_after_a_backend_went_down() -> None:
    for results in ("", "-", "+-", "+--", "+---", "+---+", "+---" + "-" * 29):
        assert after(results).pause_s(CHECK) == 2.0, results
    for results in ("+", "+-+", "+---" + "-" * 30):
        assert after(results).pause_s(CHECK) == 10.0, results


def test_one_failure_is_enough_where_a_worker_gets_no_answers_either() -> None:
    record = after("+")
    assert record.note("it did not answer", CHECK, suspected=True)
    assert record.state is State.DOWN
    assert record.reason == "1 check failed, the last one: it did not answer; and its requests fail"
    record = after("+")
    assert not record.note(None, CHECK, suspected=True), "suspicion alone does no harm"
