"""The table follows the catalog; the pools of what did not change stay the same."""

from __future__ import annotations

import time

from tests.unit.proxy.routing.asking import found, head
from weldr.model.balancing import Balance
from weldr.model.health import Standing
from weldr.model.traffic import ServiceTraffic, Traffic, difference
from weldr.model.values import Backend, Route, Service, Settings, Timeouts, UpstreamTimeouts
from weldr.proxy.fleet import Fleet
from weldr.proxy.pool import BackendPool


def backend(port: int = 1, **fields: object) -> Backend:
    return Backend(host="127.0.0.1", port=port, **fields)  # type: ignore[arg-type]


def catalog(services: dict[str, dict[str, Backend]], **rest: object) -> Traffic:
    return Traffic(
        services={name: ServiceTraffic(backends=members) for name, members in services.items()},
        **rest,  # type: ignore[arg-type]
    )


class Steps:
    """A fleet that is brought from catalog to catalog as a worker's is."""

    def __init__(self) -> None:
        self.idle = 0
        self.fleet = Fleet(self._idle)
        self._now = Traffic()

    def _idle(self) -> None:
        self.idle += 1

    def apply(self, traffic: Traffic) -> None:
        self.fleet.apply(difference(self._now, traffic))
        self._now = traffic

    def pick(self, service: str = "s") -> BackendPool | None:
        return self.fleet.table.services[service].balancer.pick(())


def test_a_pool_stays_for_as_long_as_its_backend_has_the_same_address() -> None:
    steps = Steps()
    steps.apply(catalog({"s": {"a": backend()}}))
    pool = steps.pick()
    steps.apply(catalog({"s": {"a": backend(weight=5, zone="z", meta={"k": "v"})}, "t": {"a": backend()}}))
    assert steps.pick() is pool
    assert steps.pick("t") is not pool
    steps.apply(catalog({"s": {"a": backend(2)}}))
    assert steps.pick() is not pool


def test_a_backend_that_comes_back_while_in_flight_has_its_pool_again() -> None:
    steps = Steps()
    steps.apply(catalog({"s": {"a": backend()}}))
    pool = steps.pick()
    assert pool is not None
    pool.enter()
    steps.apply(catalog({}))
    assert pool.stopped
    assert steps.fleet.leaving() == [("s", "a", 1)]
    steps.apply(catalog({"s": {"a": backend()}}))
    assert steps.pick() is pool
    assert not pool.stopped
    assert steps.fleet.leaving() == []
    pool.leave()
    assert steps.idle == 0


def test_idleness_is_told_for_backends_without_new_requests_only() -> None:
    steps = Steps()
    steps.apply(catalog({"s": {"a": backend()}}))
    pool = steps.pick()
    assert pool is not None
    pool.enter()
    pool.leave()
    assert steps.idle == 0
    pool.enter()
    pool.enter()
    steps.apply(catalog({"s": {"a": backend(drain=True)}}))
    assert steps.pick() is None
    assert steps.fleet.leaving() == [("s", "a", 2)]
    pool.leave()
    assert steps.idle == 0
    pool.leave()
    assert steps.idle == 1
    assert steps.fleet.leaving() == []


def test_a_backend_that_moved_reports_what_its_old_address_still_does() -> None:
    steps = Steps()
    steps.apply(catalog({"s": {"a": backend(1)}}))
    old = steps.pick()
    assert old is not None
    old.enter()
    steps.apply(catalog({"s": {"a": backend(2)}}))
    new = steps.pick()
    assert new is not None
    new.enter()
    assert steps.fleet.leaving() == [("s", "a", 1)]
    old.leave()
    assert steps.fleet.leaving() == []
    assert steps.idle == 1


def test_timeouts_are_the_services_or_else_the_settings() -> None:
    steps = Steps()
    policy = Service(timeouts=UpstreamTimeouts(connect_s=1.5))
    traffic = Traffic(services={"s": ServiceTraffic(policy=policy, backends={"a": backend()})})
    steps.apply(traffic)
    assert steps.fleet.table.services["s"].connect_s == 1.5
    assert steps.fleet.table.services["s"].read_s == 60.0
    settings = Settings(timeouts=Timeouts(connect_s=9.0, read_s=7.0))
    steps.apply(Traffic(services=traffic.services, settings=settings))
    assert steps.fleet.table.services["s"].connect_s == 1.5
    assert steps.fleet.table.services["s"].read_s == 7.0
    assert steps.fleet.table.timeouts.read_s == 7.0


def test_routes_are_those_of_the_catalog() -> None:
    steps = Steps()
    steps.apply(catalog({}, routes={"r": Route(service="s", path="/x")}))
    assert found(steps.fleet.table.routes, head("/x/y")) == "r"
    assert found(steps.fleet.table.routes, head("/")) is None


def test_one_change_among_ten_thousand_backends_is_cheap() -> None:
    steps = Steps()
    services = {
        f"s{number}": {f"b{each}": backend(1 + each, weight=1 + each % 2) for each in range(10)}
        for number in range(1000)
    }
    steps.apply(catalog(services))
    took_s = []
    for port in range(20, 30):
        services["s5"] = services["s5"] | {"b5": backend(port)}
        now = catalog(services)
        delta = difference(steps._now, now)
        before_s = time.process_time()
        steps.fleet.apply(delta)
        took_s.append(time.process_time() - before_s)
        steps._now = now
    assert min(took_s) < 0.005


def members(steps: Steps) -> list[str]:
    return sorted(pool.key[1] for pool in steps.fleet.table.services["s"].members)


def test_who_is_down_leaves_the_rotation_and_keeps_its_pool() -> None:
    steps = Steps()
    steps.apply(catalog({"s": {"a": backend(1), "b": backend(2)}}))
    pool = next(pool for pool in steps.fleet.table.services["s"].members if pool.key[1] == "a")
    steps.fleet.apply_standings([(pool.key, Standing.DOWN)])
    assert members(steps) == ["b"]
    steps.fleet.apply_standings([(pool.key, Standing.UP)])
    assert pool in steps.fleet.table.services["s"].members


def test_a_word_on_a_backend_that_is_not_there_yet_counts_from_its_first_moment() -> None:
    steps = Steps()
    steps.fleet.apply_standings([(("s", "a", "127.0.0.1", 1), Standing.WAITING)])
    steps.apply(catalog({"s": {"a": backend(1), "b": backend(2)}}))
    assert members(steps) == ["b"]
    steps.fleet.apply_standings([(("s", "a", "127.0.0.1", 1), Standing.UP)])
    assert members(steps) == ["a", "b"]


def test_drain_is_not_ignored_in_panic() -> None:
    steps = Steps()
    steps.apply(catalog({"s": {"a": backend(1, drain=True), "b": backend(2), "c": backend(3)}}))
    downs = [(("s", name, "127.0.0.1", port), Standing.DOWN) for port, name in enumerate("abc", 1)]
    steps.fleet.apply_standings(downs)
    assert members(steps) == ["b", "c"]
    assert steps.fleet.sparing(0.0).panicking == ["s"]


def test_a_panic_that_ends_with_another_policy_is_told() -> None:
    told = []
    fleet = Fleet(lambda: None, lambda: told.append(None))
    panicking = catalog({"s": {"a": backend(1), "b": backend(2), "c": backend(3)}})
    fleet.apply(difference(Traffic(), panicking))
    downs = [(("s", name, "127.0.0.1", port), Standing.DOWN) for port, name in enumerate("ab", 1)]
    fleet.apply_standings(downs)
    told.clear()
    policy = Service(panic_below=0.0)
    calm = Traffic(services={"s": ServiceTraffic(policy=policy, backends=panicking.services["s"].backends)})
    fleet.apply(difference(panicking, calm))
    assert fleet.sparing(0.0).panicking == []
    assert told


def test_an_ejected_backend_gets_nothing_at_once_and_is_out_of_the_table_soon() -> None:
    steps = Steps()
    steps.apply(catalog({"s": {"a": backend(1), "b": backend(2)}}))
    [pool] = [pool for pool in steps.fleet.table.services["s"].members if pool.key[1] == "a"]
    for _ in range(5):
        pool.failed(100.0, "it refused")
    assert pool.full
    steps.fleet.tick(100.1)
    assert members(steps) == ["b"]
    [spared] = steps.fleet.sparing(100.1).spared
    assert (spared.key, spared.asked, round(spared.for_s, 1)) == (pool.key, False, 9.9)
    steps.fleet.tick(110.1)
    assert members(steps) == ["a", "b"]
    assert pool.max_connections == 1
    pool.health.successes += 1
    steps.fleet.tick(110.6)
    assert pool.max_connections == 1024
    assert steps.fleet.sparing(110.6).spared == []


def test_the_time_out_of_a_backend_outlasts_a_drain_and_ends_with_its_departure() -> None:
    steps = Steps()
    steps.apply(catalog({"s": {"a": backend(1), "b": backend(2)}}))
    [pool] = [pool for pool in steps.fleet.table.services["s"].members if pool.key[1] == "a"]
    for _ in range(5):
        pool.failed(100.0, "it refused")
    steps.apply(catalog({"s": {"a": backend(1, drain=True), "b": backend(2)}}))
    assert steps.fleet.sparing(100.0).spared == []
    pool.failed(100.0, "it refused")
    steps.apply(catalog({"s": {"a": backend(1), "b": backend(2)}}))
    assert members(steps) == ["b"]
    steps.fleet.tick(110.1)
    assert members(steps) == ["a", "b"]
    steps.apply(catalog({"s": {"b": backend(2)}}))
    steps.apply(catalog({"s": {"a": backend(1), "b": backend(2)}}))
    assert steps.fleet.sparing(110.1).spared == []


def test_a_thousand_ejections_cost_one_new_table() -> None:
    steps = Steps()
    steps.apply(catalog({"s": {f"b{port}": backend(port) for port in range(1, 3001)}}))
    table = steps.fleet.table
    pools = list(table.services["s"].members)
    for pool in pools[:1000]:
        for _ in range(5):
            pool.failed(100.0, "it refused")
    assert steps.fleet.table is table
    steps.fleet.tick(100.1)
    assert len(steps.fleet.table.services["s"].members) == 2000


def test_a_big_ring_is_made_at_once_at_the_start_and_step_by_step_later() -> None:
    hashing = Service(balance=Balance(policy="consistent_hash"))
    members = {f"b{number}": backend(number + 1) for number in range(100)}

    def mapping(fleet: Fleet) -> list[str]:
        pick = fleet.table.services["s"].balancer.pick
        return [pool.key[1] for key in range(1, 200) if (pool := pick((), key << 56)) is not None]

    def traffic(policy: Service) -> Traffic:
        return Traffic(services={"s": ServiceTraffic(policy=policy, backends=members)})

    behind = []
    started = Fleet(lambda: None)
    started.apply(difference(Traffic(), traffic(hashing)))
    assert not started.catch_up()

    switched = Fleet(lambda: None, on_behind=lambda: behind.append(1))
    switched.apply(difference(Traffic(), traffic(Service())))
    assert behind == []
    switched.apply(difference(traffic(Service()), traffic(hashing)))
    assert behind == [1]
    assert len(mapping(switched)) == 199
    steps = 1
    while switched.catch_up():
        steps += 1
    assert 2 < steps < 100
    assert behind == [1]
    assert mapping(switched) == mapping(started)
    # A service that goes while it is behind takes that along.
    switched.apply(difference(traffic(hashing), traffic(Service())))
    switched.apply(difference(traffic(Service()), traffic(hashing)))
    switched.apply(difference(traffic(hashing), Traffic()))
    assert not switched.catch_up()


def test_no_key_moves_for_a_change_that_is_not_about_balancing() -> None:
    policy = Service(balance=Balance(policy="consistent_hash"))
    backends = {f"b{port}": backend(port) for port in range(1, 201)}
    before, after = (
        Traffic(services={"s": ServiceTraffic(policy=policy, backends=backends)}, settings=settings)
        for settings in (Settings(), Settings(timeouts=Timeouts(response_s=7.0)))
    )
    fleet = Fleet(lambda: None)

    def picks() -> list[BackendPool | None]:
        return [fleet.table.services["s"].balancer.pick((), key << 57) for key in range(100)]

    fleet.apply(difference(Traffic(), before))
    held = picks()
    fleet.apply(difference(before, after))
    assert picks() == held
