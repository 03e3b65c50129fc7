"""These outcomes come, and those backends get requests."""

from __future__ import annotations

import pytest

from weldr.model.health import Ejection, Standing
from weldr.proxy.health import BackendHealth, Member, Rotation, State
from weldr.proxy.retry_after import retry_after_s


class Backend:
    """A member that notes what it is allowed."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.health = BackendHealth()
        self.admitted: int | None = None

    def admit(self, requests: int | None) -> None:
        self.admitted = requests


class World:
    """A service in a worker."""

    def __init__(self, count: int, policy: Ejection | None = None, panic_below: float = 0.5) -> None:
        self.now_s = 1000.0
        self.policy = policy or Ejection()
        self.panic_below = panic_below
        self.backends = [Backend(f"b{number}") for number in range(count)]
        self.told: list[str] = []
        self.rotation = Rotation(self._told)
        self.settle()

    def _told(self, member: Member) -> None:
        assert isinstance(member, Backend)
        self.told.append(f"{member.name} {member.health.state.value}")

    def settle(self) -> None:
        """What the fleet does after each change of health."""
        self.rotation.configure(self.policy, self.panic_below)
        for backend in self.backends:
            self.rotation.put(backend)
        self.rotation.settle()

    def request(self, number: int, *outcomes: str) -> None:
        for outcome in outcomes:
            backend = self.backends[number]
            if outcome == "ok":
                backend.health.successes += 1
            else:
                self.rotation.failed(backend, self.now_s, outcome)

    def fail(self, number: int, times: int = 5) -> None:
        self.request(number, *["it refused"] * times)

    def pass_time(self, seconds: float) -> None:
        self.now_s += seconds
        for backend in self.backends:
            if backend.health.state is not State.IN:
                self.rotation.tick(backend, self.now_s)
        self.settle()

    def states(self) -> str:
        letters = {State.IN: "i", State.OUT: "o", State.TRIAL: "t"}
        return "".join(letters[backend.health.state] for backend in self.backends)

    def used(self) -> list[str]:
        self.settle()
        return [backend.name for backend in self.backends if self.rotation.uses(backend)]


def test_five_failures_in_a_row_eject_and_a_success_between_begins_anew() -> None:
    world = World(4)
    world.fail(0, 4)
    world.request(0, "ok")
    world.fail(0, 4)
    assert world.states() == "iiii"
    world.fail(0, 1)
    assert world.states() == "oiii"
    assert world.backends[0].admitted == 0, "before any table is made anew"
    assert world.backends[0].health.reason == "5 requests in a row failed, the last one: it refused"
    assert world.used() == ["b1", "b2", "b3"]
    assert world.told == ["b0 out"]


def test_one_that_is_out_is_tried_early_when_another_fails_that_may_not_be_ejected() -> None:
    world = World(2)
    world.fail(0)
    world.pass_time(0.9)
    world.fail(1)
    world.pass_time(0)
    assert world.states() == "oi", "a tenth of its time is not over"
    world.pass_time(0.5)
    world.fail(1, 1)
    world.pass_time(0)
    assert world.states() == "ti"
    world.request(0, "ok")
    world.pass_time(0)
    world.fail(1, 1)
    assert world.states() == "io", "they have changed places"


def test_an_early_trial_that_fails_makes_the_next_one_later() -> None:
    world = World(2)
    world.fail(0)
    world.pass_time(1.1)
    world.fail(1)
    world.pass_time(0)
    world.fail(0, 1)
    assert world.states() == "oi"
    world.pass_time(1.5)
    world.fail(1, 1)
    world.pass_time(0)
    assert world.states() == "oi"
    world.pass_time(0.7)
    world.fail(1, 1)
    world.pass_time(0)
    assert world.states() == "ti"


def test_one_that_asked_for_rest_is_left_in_peace_though_another_fails() -> None:
    world = World(2)
    world.rotation.rest(world.backends[0], world.now_s, 10)
    world.pass_time(5)
    world.fail(1)
    world.pass_time(0)
    assert world.states() == "oi"


def test_after_its_time_it_gets_one_request_at_a_time_and_a_success_brings_it_back() -> None:
    world = World(4)
    world.fail(0)
    world.pass_time(9.9)
    assert world.states() == "oiii"
    world.pass_time(0.1)
    assert world.states() == "tiii"
    assert world.backends[0].admitted == 1
    assert "b0" in world.used()
    world.request(0, "ok")
    world.pass_time(0.5)
    assert world.states() == "iiii"
    assert world.backends[0].admitted is None
    assert world.told == ["b0 out", "b0 trial", "b0 in"]


def test_a_failed_trial_ejects_at_once_and_for_longer_each_time_up_to_a_limit() -> None:
    world = World(4)
    world.fail(0)
    lasted = []
    for _ in range(40):
        out_s = world.now_s
        until_s = world.backends[0].health.until_s
        world.pass_time(until_s - out_s)
        assert world.states() == "tiii"
        lasted.append(round(until_s - out_s))
        world.fail(0, 1)
        assert world.states() == "oiii"
    assert lasted[:4] == [10, 20, 30, 40]
    assert lasted[-1] == 300


def test_who_stays_in_for_long_is_judged_mildly_again() -> None:
    world = World(4)

    def ejected_for_s() -> int:
        world.fail(0)
        for_s = world.backends[0].health.until_s - world.now_s
        world.pass_time(for_s)
        world.request(0, "ok")
        world.pass_time(0)
        assert world.states() == "iiii"
        return round(for_s)

    assert [ejected_for_s() for _ in range(3)] == [10, 20, 30]
    world.pass_time(20)
    assert ejected_for_s() == 20
    world.pass_time(1000)
    assert ejected_for_s() == 10


def test_soon_after_it_is_back_two_failures_in_a_row_suffice_but_not_a_single_one() -> None:
    world = World(4)
    world.fail(0)
    world.pass_time(10)
    world.request(0, "ok")
    world.pass_time(0)
    for _ in range(5):
        world.request(0, "it refused", "ok")
    assert world.states() == "iiii"
    world.fail(0, 2)
    assert world.states() == "oiii"
    world.pass_time(20)
    world.request(0, "ok")
    world.pass_time(0)
    world.pass_time(20)
    world.fail(0, 4)
    assert world.states() == "iiii", "for as long as it was out, and no longer"


def test_a_rate_of_failures_ejects_without_any_row() -> None:
    world = World(4, Ejection(failure_rate=0.5, minimum_requests=20, window_s=10))
    for _ in range(9):
        world.request(0, "it refused", "ok")
    assert world.states() == "iiii", "too few requests"
    world.request(0, "ok", "it refused")
    assert world.states() == "oiii"
    assert world.backends[0].health.reason == "10 of 20 requests failed, the last one: it refused"


def test_failures_in_different_windows_are_not_added() -> None:
    world = World(4, Ejection(consecutive_failures=0, minimum_requests=20, window_s=10))
    for _ in range(5):
        world.fail(0, 15)
        world.pass_time(10.1)
    assert world.states() == "iiii"
    world.fail(0, 20)
    assert world.states() == "oiii"


def test_no_more_than_the_set_share_is_ejected() -> None:
    world = World(10)
    for number in range(10):
        world.fail(number, 50)
    assert world.states() == "oooooiiiii"
    assert len(world.used()) == 5
    assert not world.rotation.panicking


@pytest.mark.parametrize(
    ("count", "share", "ejected"),
    [(1, 1.0, 0), (2, 0.5, 1), (3, 0.5, 1), (5, 0.1, 1), (10, 0.3, 3), (4, 0.0, 0)],
)
def test_of_few_backends_one_may_always_be_ejected_but_never_the_only_one(
    count: int, share: float, ejected: int
) -> None:
    world = World(count, Ejection(max_share=share))
    for number in range(count):
        world.fail(number, 50)
    assert world.states().count("o") == ejected


def test_backends_that_are_down_count_for_the_share() -> None:
    world = World(4)
    world.backends[3].health.standing = Standing.DOWN
    world.settle()
    world.fail(0)
    world.fail(1)
    assert world.states() == "oiii"
    assert world.used() == ["b1", "b2"]


def test_in_panic_all_are_used_but_those_that_wait_for_a_first_check() -> None:
    world = World(5)
    for backend in world.backends[:3]:
        backend.health.standing = Standing.DOWN
    world.backends[4].health.standing = Standing.WAITING
    assert world.used() == ["b0", "b1", "b2", "b3"]
    assert world.rotation.panicking
    world.backends[0].health.standing = Standing.UP
    assert world.used() == ["b0", "b3"], "half are not too few"
    assert not world.rotation.panicking


def test_panic_admits_requests_to_those_that_were_ejected_and_its_end_takes_them_away() -> None:
    world = World(4)
    world.fail(0)
    for backend in world.backends[1:3]:
        backend.health.standing = Standing.DOWN
    assert world.used() == ["b0", "b1", "b2", "b3"]
    assert world.backends[0].admitted is None
    world.backends[1].health.standing = world.backends[2].health.standing = Standing.UP
    assert world.used() == ["b1", "b2", "b3"]
    assert world.backends[0].admitted == 0


def test_panic_can_be_switched_off() -> None:
    world = World(3, panic_below=0)
    for backend in world.backends:
        backend.health.standing = Standing.DOWN
    assert world.used() == []


def test_a_backend_that_asks_for_rest_gets_it_and_a_bounded_one() -> None:
    world = World(4)
    world.rotation.rest(world.backends[0], world.now_s, 7)
    assert world.states() == "oiii"
    assert world.backends[0].health.asked
    world.pass_time(6.9)
    assert world.states() == "oiii"
    world.pass_time(0.1)
    assert world.states() == "tiii"
    world.rotation.rest(world.backends[0], world.now_s, 1e9)
    assert world.backends[0].health.until_s == world.now_s + 300
    world.rotation.rest(world.backends[1], world.now_s, 5)
    world.rotation.rest(world.backends[2], world.now_s, 5)
    assert world.states() == "ooii", "the share bounds rest, too"


def test_passing_checks_end_an_ejection_early_but_no_rest() -> None:
    world = World(4)
    world.fail(0)
    world.rotation.rest(world.backends[1], world.now_s, 100)
    for backend in world.backends:
        backend.health.passed_check()
    world.pass_time(0)
    assert world.states() == "toii"
    world.fail(0, 1)
    world.backends[0].health.passed_check()
    world.pass_time(0)
    assert world.states() == "ooii", "who comes and goes sits its time out"


def test_who_gets_more_and_more_requests_and_answers_none_is_silent() -> None:
    health = BackendHealth()
    for in_flight, answered, silent in (
        (1, 0, False),  # the first may have come just now
        (1, 0, False),  # one that takes long is nothing unusual
        (2, 0, True),
        (5, 0, True),
        (9, 1, False),
        (12, 0, True),
        (0, 0, False),
        (3, 0, False),
    ):
        health.successes += answered
        assert health.is_silent(in_flight) is silent, in_flight


@pytest.mark.parametrize(
    ("lines", "wait_s"),
    [
        (b"\r\nServer: x\r\nRetry-After: 120\r\nVia: y", 120.0),
        (b"\r\nretry-after:  5 ", 5.0),
        (b"\r\nRetry-After: 0", None),
        (b"\r\nRetry-After: soon", None),
        (b"\r\nRetry-After: -5", None),
        (b"\r\nX-Retry-After: 5", None),
        (b"\r\nRetry-After: Sun, 06 Nov 1994 08:49:37 GMT", 37.0),
        (b"\r\nRetry-After: Sun, 06 Nov 1994 08:48:00 GMT", None),
        (b"\r\nRetry-After: \xe9", None),
        (b"", None),
    ],
)
def test_retry_after_is_read_in_both_its_forms(lines: bytes, wait_s: float | None) -> None:
    assert retry_after_s(lines, now=784111740.0) == wait_s
