"""Who gets requests in a fleet, and with which weight, after updates, health, time and zones."""

from __future__ import annotations

import time
from collections import Counter

import pytest

from weldr.model.balancing import Balance, Sticky
from weldr.model.health import Standing
from weldr.model.traffic import ServiceTraffic, Traffic, difference
from weldr.model.values import Backend, Service
from weldr.proxy.fleet import Fleet


def backend(port: int = 1, **fields: object) -> Backend:
    return Backend(host="127.0.0.1", port=port, **fields)  # type: ignore[arg-type]


class World:
    """A fleet with one service and a clock."""

    def __init__(self, zone: str = "", **balance: object) -> None:
        self.now_s = 1000.0
        self.fleet = Fleet(lambda: None, now_s=lambda: self.now_s, zone=zone)
        self.policy = Service(balance=Balance(**balance))  # type: ignore[arg-type]
        self.key = b""
        self.backends: dict[str, Backend] = {}
        self._sent = Traffic()

    def put(self, **backends: Backend | None) -> None:
        held = {**self.backends, **backends}
        self.backends = {name: each for name, each in held.items() if each is not None}
        self.send()

    def send(self) -> None:
        services = {"s": ServiceTraffic(policy=self.policy, backends=self.backends)}
        traffic = Traffic(services=services, sticky_key=self.key)
        self.fleet.apply(difference(self._sent, traffic))
        self._sent = traffic

    def stand(self, name: str, standing: Standing) -> None:
        each = self.backends[name]
        self.fleet.apply_standings([(("s", name, each.host, each.port), standing)])

    def pass_time(self, seconds: float) -> None:
        self.now_s += seconds
        self.fleet.tick(self.now_s)

    def shares(self, picks: int = 1000) -> dict[str, float]:
        chosen = self.fleet.table.services["s"].balancer
        counts = Counter(pool.key[1] for _ in range(picks) if (pool := chosen.pick(())) is not None)
        return {name: count / picks for name, count in sorted(counts.items())}


def near(**shares: float) -> object:
    return pytest.approx(shares, abs=0.01)


@pytest.mark.parametrize("policy", ["round_robin", "random", "least_requests"])
def test_weights_and_drain_are_in_force_with_the_update(policy: str) -> None:
    world = World(policy=policy)
    world.put(a=backend(1), b=backend(2))
    assert world.shares(20_000) == pytest.approx({"a": 0.5, "b": 0.5}, abs=0.02)
    world.put(a=backend(1, weight=3))
    assert world.shares(20_000) == pytest.approx({"a": 0.75, "b": 0.25}, abs=0.02)
    for gone in (backend(1, weight=0), backend(1, weight=3, drain=True)):
        world.put(a=gone)
        assert world.shares() == {"b": 1.0}
        world.put(a=backend(1, weight=3))
        assert world.shares(20_000) == pytest.approx({"a": 0.75, "b": 0.25}, abs=0.02)


def test_another_policy_is_in_force_with_the_update() -> None:
    world = World()
    world.put(a=backend(1), b=backend(2))
    for policy in ("consistent_hash", "peak_ewma", "random", "round_robin"):
        world.policy = Service(balance=Balance(policy=policy))
        world.send()
        assert set(world.shares(100)) == {"a", "b"}
    pool = world.fleet.table.services["s"].members[0]
    assert pool.latency is None


def test_a_new_backend_begins_with_a_tenth_of_its_share() -> None:
    world = World(slow_start_s=10)
    world.put(a=backend(1))
    world.put(b=backend(2))
    for seconds, weight in ((0, 0.1), (2, 0.2), (3, 0.5), (4, 0.9), (1, 1.0)):
        world.pass_time(seconds)
        assert world.shares() == near(a=1 / (1 + weight), b=weight / (1 + weight))


def test_what_is_there_at_the_workers_start_does_not_begin_slowly() -> None:
    world = World(slow_start_s=10)
    world.put(a=backend(1), b=backend(2, weight=3))
    assert world.shares() == near(a=0.25, b=0.75)


def test_all_new_backends_of_a_service_share_alike() -> None:
    world = World(slow_start_s=10)
    world.fleet.apply(difference(Traffic(), Traffic()))
    world.put(a=backend(1), b=backend(2))
    assert world.shares() == near(a=0.5, b=0.5)


def test_who_has_begun_slowly_goes_on_so_when_something_else_changes() -> None:
    world = World(slow_start_s=10)
    world.put(a=backend(1))
    world.put(b=backend(2))
    world.pass_time(5)
    world.key = b"k" * 32
    world.send()
    assert world.shares() == near(a=2 / 3, b=1 / 3)
    world.pass_time(5)
    assert world.shares() == near(a=0.5, b=0.5)


def test_a_backend_that_has_recovered_or_drained_begins_slowly_and_one_with_another_weight_does_not() -> None:
    world = World(slow_start_s=10)
    world.put(a=backend(1), b=backend(2), c=backend(3))
    world.stand("a", Standing.DOWN)
    assert world.shares() == near(b=0.5, c=0.5)
    world.stand("a", Standing.UP)
    assert world.shares(2100) == near(a=1 / 21, b=10 / 21, c=10 / 21)
    world.pass_time(5)
    world.put(b=backend(2, weight=2))
    assert world.shares(700) == near(a=1 / 7, b=4 / 7, c=2 / 7)
    world.pass_time(5)
    world.put(a=backend(1, drain=True))
    world.put(a=backend(1))
    assert world.shares(3100) == near(a=1 / 31, b=20 / 31, c=10 / 31)


def test_the_own_zone_is_preferred_while_enough_of_it_is_usable() -> None:
    world = World(zone="here", zone_enough=0.8)
    world.put(a=backend(1, zone="here"), b=backend(2, zone="here"), c=backend(3, zone="there"), d=backend(4))
    assert world.shares() == near(a=0.5, b=0.5)
    world.stand("a", Standing.DOWN)
    # Half of it is usable, which is enough for 0.5 / 0.8 of the requests.
    assert world.shares() == near(b=0.625, c=0.1875, d=0.1875)
    world.stand("a", Standing.UP)
    assert world.shares() == near(a=0.5, b=0.5)
    world.put(b=backend(2, zone="here", drain=True))
    assert world.shares() == near(a=0.625, c=0.1875, d=0.1875)
    world.put(b=backend(2, zone="there"))
    assert world.shares() == near(a=1.0)
    world.put(a=None)
    assert world.shares(300) == near(b=1 / 3, c=1 / 3, d=1 / 3)
    world.put(e=backend(5, zone="here", weight=7))
    assert world.shares() == near(e=1.0)


@pytest.mark.parametrize(("zone", "prefer"), [("", True), ("here", False), ("nowhere", True)])
def test_without_a_zone_or_the_wish_or_backends_there_all_are_alike(zone: str, prefer: bool) -> None:
    world = World(zone=zone, prefer_zone=prefer)
    world.put(a=backend(1, zone="here"), b=backend(2, zone="there"))
    assert world.shares() == near(a=0.5, b=0.5)


def test_zone_and_weights_come_right_again_after_any_changes() -> None:
    world = World(zone="here")
    for step in range(300):
        name = "abcd"[step % 4]
        place = ("here", "there")[step % 3 % 2]
        change = backend(step % 4 + 1, zone=place, weight=step % 5, drain=step % 7 == 0) if step % 6 else None
        world.put(**{name: change})
        if name in world.backends:
            world.stand(name, (Standing.DOWN, Standing.UP, Standing.WAITING)[step % 3])
    for name in list(world.backends):
        world.stand(name, Standing.UP)
    world.put(**dict.fromkeys(list(world.backends)))
    world.put(a=backend(1, zone="here"), b=backend(2, zone="here", weight=3), c=backend(3))
    assert world.shares() == near(a=0.25, b=0.75)


def test_one_change_among_ten_thousand_of_one_service_is_cheap() -> None:
    world = World()
    world.put(**{f"b{number}": backend(number + 1) for number in range(10_000)})
    took_s = []
    for number in range(20):
        world.backends = {**world.backends, "b7": backend(8, weight=2 + number)}
        traffic = Traffic(services={"s": ServiceTraffic(policy=world.policy, backends=world.backends)})
        delta = difference(world._sent, traffic)
        before_s = time.process_time()
        world.fleet.apply(delta)
        took_s.append(time.process_time() - before_s)
        world._sent = traffic
    # To look at each of them takes ten times as long.
    assert min(took_s) < 0.003


def test_sticky_clients_reach_a_backend_that_drains_until_the_limit_and_others_do_not() -> None:
    world = World(sticky=Sticky(drain_s=10))
    world.key = b"k" * 32
    world.put(a=backend(1), b=backend(2))
    pool = next(each for each in world.fleet.table.services["s"].members if each.key[1] == "a")
    world.put(a=backend(1, drain=True))
    assert world.shares() == {"b": 1.0}
    assert pool.stopped
    assert pool.sticky_until_s == world.now_s + 10
    world.now_s += 5
    world.put(a=backend(1, drain=True, zone="z"))
    assert pool.sticky_until_s == world.now_s + 5
    world.put(a=None)
    assert pool.sticky_until_s == 0
