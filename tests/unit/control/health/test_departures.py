"""Keys go, etcd says what became of their leases, and these backends stay."""

from __future__ import annotations

import json

from weldr.control.health.departures import WINDOW_S, Deletion, Departures, Left
from weldr.model.catalog import Catalog
from weldr.model.departure import Departure
from weldr.model.events import Event, KeyValue, Revision
from weldr.model.keys import KeySpace, Kind

keys = KeySpace()


class World:
    """A catalog and its departures, brought forward as the catalog's keeper does."""

    def __init__(self, policy: dict[str, object] | None = None) -> None:
        self.now_s = 1000.0
        self.departures = Departures()
        self.catalog = Catalog(keys)
        self.told: dict[str, Departure] = {}
        """How backends left, by id."""
        if policy is not None:
            self._fold([Event(self._pair(keys.key(Kind.SERVICE, "s"), json.dumps(policy).encode(), 0))])

    def _pair(self, key: bytes, value: bytes, lease: int) -> KeyValue:
        revision = self.catalog.revision + 1
        return KeyValue(key, value, revision, revision, lease)

    def _fold(self, events: list[Event]) -> None:
        before = self.catalog
        after = before.fold([Revision(before.revision + 1, tuple(events))])
        deleted = {
            event.key_value.key: Deletion(after.revision, self._last_put(event, events))
            for event in events
            if event.deleted
        }
        self._note(self.departures.observe(before, after, deleted, self.now_s))
        self._hold(after)

    @staticmethod
    def _last_put(deletion: Event, events: list[Event]) -> KeyValue | None:
        puts = [each.key_value for each in events if not each.deleted]
        return next((pair for pair in puts if pair.key == deletion.key_value.key), None)

    def come_and_go(self, name: str, value: bytes = b"10.0.0.1:80") -> None:
        """In one step of the catalog."""
        pair = self._pair(keys.key(Kind.BACKEND, "s", name), value, int(name[1:]))
        self._fold([Event(pair), Event(pair, deleted=True)])

    def _note(self, left: list[Left]) -> None:
        for each in left:
            assert each.name.names[1] not in self.told, "nobody leaves twice"
            self.told[each.name.names[1]] = each.how

    def _hold(self, catalog: Catalog) -> None:
        self.catalog = catalog.hold(self.departures.held)

    def put(self, *names: str, lease: int | None = None, value: bytes = b"10.0.0.1:80") -> None:
        """Each under the lease of its number, unless said otherwise."""
        for name in names:
            key = keys.key(Kind.BACKEND, "s", name)
            self._fold([Event(self._pair(key, value, int(name[1:]) if lease is None else lease))])

    def delete(self, *names: str) -> None:
        for name in names:
            pair = self._pair(keys.key(Kind.BACKEND, "s", name), b"", 0)
            self._fold([Event(pair, deleted=True)])

    def judge(self, alive: bool, *leases: int) -> None:
        self._note(self.departures.judge(dict.fromkeys(leases, alive), self.now_s))
        self._hold(self.catalog)

    def drop(self, name: str) -> None:
        self.departures.drop({("s", name)})
        self._hold(self.catalog)

    def pass_time(self, seconds: float) -> None:
        self.now_s += seconds
        self.departures.tick(self.now_s)
        self._hold(self.catalog)

    @property
    def serving(self) -> list[str]:
        service = self.catalog.traffic.services.get("s")
        return sorted(service.backends) if service else []


def test_how_each_left_is_told_once_as_soon_as_it_is_certain() -> None:
    world = World()
    world.put("b1", "b2", "b3", "b4", "b5", "b6")
    world.put("b7", lease=0)
    world.put("b8", value=b'{"url": "10.0.0.1:80", "drain": true}')
    world.delete("b7", "b8", "b1", "b2", "b3")
    assert world.told == {"b7": Departure.REMOVED, "b8": Departure.DRAINED}
    world.judge(True, 1)
    world.judge(False, 2)
    world.judge(False, 2)
    assert world.told == {
        "b7": Departure.REMOVED,
        "b8": Departure.DRAINED,
        "b1": Departure.REMOVED,
        "b2": Departure.EXPIRED,
    }


def test_what_comes_and_goes_in_one_step_is_told_and_does_not_stay() -> None:
    world = World()
    for name in ("b1", "b2", "b3"):
        world.come_and_go(name)
    assert world.serving == []
    world.judge(False, 1, 2)
    world.judge(True, 3)
    assert world.told == {"b1": Departure.EXPIRED, "b2": Departure.EXPIRED, "b3": Departure.REMOVED}
    assert world.serving == []


def test_how_it_left_is_told_of_one_that_did_not_answer_meanwhile() -> None:
    world = World()
    world.put("b1", "b2")
    world.delete("b1", "b2")
    world.drop("b1")
    assert world.serving == ["b2"]
    world.judge(True, 1)
    assert world.told == {"b1": Departure.REMOVED}
    assert world.serving == ["b2"]


def test_a_mark_that_comes_with_the_end_counts() -> None:
    world = World()
    world.put("b1", "b2")
    world.come_and_go("b1", b'{"url": "10.0.0.1:80", "drain": true}')
    assert world.told == {"b1": Departure.DRAINED}
    assert world.serving == ["b2"]


def test_single_backends_that_go_are_gone_at_once() -> None:
    world = World()
    world.put("b1", "b2", "b3", "b4")
    world.delete("b1")
    assert world.serving == ["b2", "b3", "b4"]
    world.judge(False, 1)
    world.delete("b2")
    assert world.serving == ["b3", "b4"], "half are not most"


def test_when_most_go_within_a_short_time_all_of_these_stay_in_the_same_instant() -> None:
    world = World()
    world.put("b1", "b2", "b3", "b4")
    world.delete("b1", "b2", "b3")
    assert world.serving == ["b1", "b2", "b3", "b4"]
    world.delete("b4")
    assert world.serving == ["b1", "b2", "b3", "b4"], "the service is never empty"
    world.judge(False, 1, 2, 3, 4)
    assert world.departures.held_backends() == {("s", f"b{number}"): True for number in (1, 2, 3, 4)}
    assert world.departures.unjudged_leases() == set()


def test_who_deletes_its_key_while_its_lease_lives_is_believed() -> None:
    world = World()
    world.put("b1", "b2", "b3", "b4")
    world.delete("b1", "b2", "b3")
    assert world.departures.unjudged_leases() == {1, 2, 3}
    world.judge(True, 1)
    assert world.serving == ["b2", "b3", "b4"]
    world.judge(True, 2)
    assert world.serving == ["b4"], "a single one that is not asked about yet is not most"
    world = World()
    world.put("b1", "b2", "b3")
    world.delete("b1", "b2", "b3")
    world.judge(True, 1, 2, 3)
    assert world.serving == []


def test_who_has_left_is_not_kept_by_the_others_expiry() -> None:
    world = World()
    world.put("b1", "b2", "b3", "b4", "b5")
    world.delete("b1", "b2", "b3", "b4")
    world.judge(True, 1)
    world.judge(False, 2, 3, 4)
    assert world.serving == ["b2", "b3", "b4", "b5"]


def test_a_backend_that_does_not_answer_goes_and_the_others_stay() -> None:
    world = World()
    world.put("b1", "b2", "b3")
    world.delete("b1", "b2", "b3")
    world.drop("b2")
    assert world.serving == ["b1", "b3"]


def test_they_stay_for_a_set_time_only() -> None:
    world = World({"expired_grace_s": 20})
    world.put("b1", "b2")
    world.delete("b1", "b2")
    assert world.departures.next_s() == world.now_s + 20
    world.pass_time(19)
    assert world.serving == ["b1", "b2"]
    world.pass_time(1)
    assert world.serving == []
    assert world.departures.next_s() is None


def test_a_grace_of_zero_holds_nobody() -> None:
    world = World({"expired_grace_s": 0})
    world.put("b1", "b2")
    world.delete("b1", "b2")
    assert world.serving == []


def test_who_registers_again_is_held_no_longer_and_needs_no_new_connection() -> None:
    world = World()
    world.put("b1", "b2")
    before = world.catalog.traffic.services["s"].backends["b1"]
    world.delete("b1", "b2")
    assert world.catalog.traffic.services["s"].backends["b1"] is before
    world.put("b1", lease=11)
    assert world.serving == ["b1", "b2"], "the other one has time to register, too"
    assert list(world.catalog.held) == [keys.key(Kind.BACKEND, "s", "b2")]
    world.put("b2", lease=12)
    assert world.catalog.held == {}


def test_departures_that_lie_far_apart_are_not_together() -> None:
    world = World()
    world.put("b1", "b2", "b3")
    world.delete("b1")
    world.pass_time(WINDOW_S + 1)
    world.delete("b2")
    assert world.serving == ["b3"]


def test_replacing_backends_one_after_another_holds_nobody() -> None:
    world = World()
    world.put("b1", "b2", "b3")
    for number in (1, 2, 3):
        world.put(f"b{number + 10}")
        world.delete(f"b{number}")
    assert world.serving == ["b11", "b12", "b13"]


def test_one_lease_is_one_voice_however_many_backends_are_under_it() -> None:
    world = World()
    world.put("b1", "b2", "b3", lease=7)
    world.delete("b1", "b2", "b3")
    assert world.serving == []


def test_backends_that_drained_or_had_no_lease_are_believed() -> None:
    world = World()
    world.put("b1", "b2", value=b'{"url": "10.0.0.1:80", "drain": true}')
    world.put("b3", "b4", lease=0)
    world.delete("b1", "b2", "b3", "b4")
    assert world.serving == []
    assert world.departures.unjudged_leases() == set()


def test_a_drain_by_an_override_counts_for_those_that_are_held() -> None:
    world = World()
    world.put("b1", "b2")
    world.delete("b1", "b2")
    key = keys.key(Kind.OVERRIDE, "s", "b1")
    world._fold([Event(world._pair(key, b'{"drain": true}', 0))])
    assert world.catalog.traffic.services["s"].backends["b1"].draining
    assert not world.catalog.traffic.services["s"].backends["b2"].draining


def test_a_restored_etcd_without_the_keys_is_a_mass_disappearance_too() -> None:
    world = World()
    world.put("b1", "b2", "b3")
    before = world.catalog
    after = before.resync(1, [])
    gone = dict.fromkeys(before.entries.keys() - after.entries.keys(), Deletion(1))
    world.departures.observe(before, after, gone, world.now_s)
    world._hold(after)
    assert world.serving == ["b1", "b2", "b3"]
