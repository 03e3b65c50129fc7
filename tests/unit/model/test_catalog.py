"""Folding: however the same keys arrive, the catalog is the same, and a bad value harms only itself."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from weldr.model.catalog import Catalog, Problem
from weldr.model.events import Event, KeyValue, Revision
from weldr.model.keys import KeySpace, Kind
from weldr.model.traffic import Traffic, apply, difference
from weldr.model.values import Backend, Settings

keys = KeySpace()
NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


class History:
    """Makes revisions as etcd would, and knows what a read returns after each."""

    def __init__(self) -> None:
        self.revision = 0
        self.held: dict[bytes, KeyValue] = {}
        self.revisions: list[Revision] = []

    def transaction(self, changes: dict[bytes, bytes | None]) -> Revision:
        self.revision += 1
        events = []
        for key, value in changes.items():
            if value is not None:
                before = self.held.get(key)
                created = before.create_revision if before else self.revision
                self.held[key] = KeyValue(key, value, created, self.revision)
                events.append(Event(self.held[key]))
            elif key in self.held:
                del self.held[key]
                events.append(Event(KeyValue(key, b"", 0, self.revision), deleted=True))
        revision = Revision(self.revision, tuple(events))
        self.revisions.append(revision)
        return revision


def backend_key(name: str, service: str = "default") -> bytes:
    return keys.key(Kind.BACKEND, service, name)


def override_key(name: str, service: str = "default") -> bytes:
    return keys.key(Kind.OVERRIDE, service, name)


any_key = st.sampled_from(
    [backend_key(name, service) for name in "ab" for service in ("s", "t")]
    + [override_key(name, "s") for name in "ab"]
    + [
        keys.key(Kind.SERVICE, "s"),
        keys.key(Kind.ROUTE, "r"),
        keys.key(Kind.ROUTE, "q"),
        keys.key(Kind.SETTINGS),
    ]
    + [keys.key(Kind.INSTANCE, "i"), b"/weldr/backends/only-one", b"/weldr/nonsense"]
)
good_value = st.sampled_from(
    [
        b"10.0.0.1:80",
        b"10.0.0.2:80",
        b'{"url": "10.0.0.1:80", "weight": 2}',
        b'{"drain": true}',
        b'{"service": "s"}',
        b'{"timeouts": {"connect_s": 1}}',
        b"{}",
    ]
)
any_value = good_value | st.none() | st.binary(max_size=6)
any_history = st.lists(st.dictionaries(any_key, any_value, min_size=1, max_size=4), max_size=12)


def history_of(transactions: list[dict[bytes, bytes | None]]) -> History:
    history = History()
    for changes in transactions:
        history.transaction(changes)
    return history


@given(any_history, st.data())
def test_one_by_one_or_in_batches_the_catalog_is_the_same(
    transactions: list[dict[bytes, bytes | None]], data: st.DataObject
) -> None:
    revisions = history_of(transactions).revisions
    one_by_one = Catalog(keys)
    for revision in revisions:
        one_by_one = one_by_one.fold([revision])
    in_batches = Catalog(keys)
    rest = revisions
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        in_batches, rest = in_batches.fold(rest[:size]), rest[size:]
    assert in_batches == one_by_one


@given(any_history)
def test_a_fresh_snapshot_gives_what_folding_gave_but_for_last_good_values(
    transactions: list[dict[bytes, bytes | None]],
) -> None:
    history = history_of(transactions)
    folded = Catalog(keys).fold(history.revisions)
    fresh = Catalog(keys).resync(history.revision, history.held.values())
    assert fresh.faults == folded.faults
    assert fresh.entries.keys() == folded.entries.keys()
    broken = {key for key, entry in fresh.entries.items() if entry.problem is not None}
    for key in fresh.entries.keys() - broken:
        assert fresh.entries[key] == folded.entries[key]
    if not broken:
        assert fresh.traffic == folded.traffic


@given(any_history, st.integers(0, 12))
def test_a_resync_from_any_earlier_catalog_ends_where_a_fresh_snapshot_does(
    transactions: list[dict[bytes, bytes | None]], earlier: int
) -> None:
    history = history_of(transactions)
    stale = Catalog(keys).fold(history.revisions[:earlier])
    resynced = stale.resync(history.revision, history.held.values())
    fresh = Catalog(keys).resync(history.revision, history.held.values())
    if not fresh.faults:
        assert resynced.entries == fresh.entries
        assert resynced.traffic == fresh.traffic
    assert resynced.faults == fresh.faults


@given(any_history)
def test_revisions_folded_before_change_nothing(transactions: list[dict[bytes, bytes | None]]) -> None:
    revisions = history_of(transactions).revisions
    folded = Catalog(keys).fold(revisions)
    again = folded.fold(revisions)
    assert again == folded
    assert again.traffic is folded.traffic


@given(any_history)
def test_the_difference_of_two_traffics_turns_one_into_the_other(
    transactions: list[dict[bytes, bytes | None]],
) -> None:
    catalog, worker = Catalog(keys), Traffic()
    for revision in history_of(transactions).revisions:
        after = catalog.fold([revision])
        worker = apply(worker, difference(catalog.traffic, after.traffic))
        assert worker == after.traffic
        catalog = after
    assert apply(Traffic(), difference(Traffic(), catalog.traffic)) == catalog.traffic


def test_what_a_change_does_not_touch_stays_the_same_object() -> None:
    history = History()
    first = history.transaction({backend_key("a", "s"): b"10.0.0.1:80", backend_key("b", "t"): b"10.0.0.2:80"})
    before = Catalog(keys).fold([first])
    after = before.fold([history.transaction({backend_key("c", "s"): b"10.0.0.3:80"})])
    assert after.traffic.services["t"] is before.traffic.services["t"]
    assert after.traffic.services["s"].backends["a"] is before.traffic.services["s"].backends["a"]
    resynced = after.resync(history.revision, history.held.values())
    assert resynced.traffic is after.traffic


def test_a_bad_value_keeps_the_last_good_one_and_is_a_problem() -> None:
    history = History()
    catalog = Catalog(keys).fold([history.transaction({backend_key("a"): b"10.0.0.1:80"})])
    catalog = catalog.fold([history.transaction({backend_key("a"): b'{"url": "10.0.0.2:80", "weight": -1}'})])
    assert catalog.traffic.services["default"].backends["a"].host == "10.0.0.1"
    [problem] = catalog.problems.values()
    assert str(problem).startswith("/weldr/backends/default/a at revision 2, $.weight: ")
    catalog = catalog.fold([history.transaction({backend_key("a"): b"10.0.0.2:80"})])
    assert catalog.traffic.services["default"].backends["a"].host == "10.0.0.2"
    assert not catalog.problems


def test_a_key_that_was_deleted_has_no_last_good_value() -> None:
    history = History()
    history.transaction({backend_key("a"): b"10.0.0.1:80"})
    history.transaction({backend_key("a"): None})
    history.transaction({backend_key("a"): b"nonsense"})
    for catalog in (
        Catalog(keys).fold(history.revisions),
        Catalog(keys).fold(history.revisions[:1]).resync(3, history.held.values()),
    ):
        assert "default" not in catalog.traffic.services
        assert len(catalog.problems) == 1


def test_the_operators_override_wins_over_every_registration() -> None:
    history = History()
    history.transaction({override_key("a"): b'{"drain": true, "weight": 7}'})
    history.transaction({backend_key("a"): b"10.0.0.1:80"})
    history.transaction({backend_key("a"): b'{"url": "10.0.0.1:80", "drain": false, "weight": 1}'})
    catalog = Catalog(keys).fold(history.revisions)
    expected = Backend(host="10.0.0.1", port=80, weight=7, drain=True)
    assert catalog.traffic.services["default"].backends["a"] == expected
    catalog = catalog.fold([history.transaction({override_key("a"): None})])
    assert not catalog.traffic.services["default"].backends["a"].draining


def test_an_override_ends_when_it_says() -> None:
    history = History()
    history.transaction({backend_key("a"): b"10.0.0.1:80"})
    history.transaction({override_key("a"): b'{"drain": true, "until": "2030-01-01T12:00:00Z"}'})
    catalog = Catalog(keys).fold(history.revisions)
    assert catalog.next_override_end() == NOON
    assert catalog.end_overrides(NOON - timedelta(seconds=1)) is catalog
    ended = catalog.end_overrides(NOON)
    assert not ended.traffic.services["default"].backends["a"].draining
    assert ended.next_override_end() is None
    renewed = ended.fold(
        [history.transaction({override_key("a"): b'{"drain": true, "until": "2030-01-01T13:00:00Z"}'})]
    )
    assert renewed.end_overrides(NOON).traffic.services["default"].backends["a"].draining


def test_a_problem_beside_other_keys_names_the_latest_revision_of_its_key() -> None:
    route = keys.key(Kind.ROUTE, "r")
    catalog = Catalog(keys)
    for revision in history_of([{route: b'{"service": "s"}'}] * 2).revisions:
        catalog = catalog.fold([revision])
        assert catalog.problems[route].revision == revision.revision


def test_an_emptied_prefix_is_a_valid_catalog() -> None:
    history = History()
    history.transaction({backend_key("a"): b"10.0.0.1:80", keys.key(Kind.SETTINGS): b"{}"})
    history.transaction({backend_key("a"): None, keys.key(Kind.SETTINGS): None})
    catalog = Catalog(keys).fold(history.revisions)
    assert catalog.traffic == Traffic()
    assert catalog.traffic.settings == Settings()


def test_all_keys_of_one_transaction_change_the_traffic_together() -> None:
    history = History()
    history.transaction({backend_key("a"): b"10.0.0.1:80", backend_key("b"): b"10.0.0.2:80"})
    before = Catalog(keys).fold(history.revisions)
    swap = history.transaction(
        {backend_key("a"): None, backend_key("b"): None, backend_key("c"): b"10.0.0.3:80"}
    )
    delta = difference(before.traffic, before.fold([swap]).traffic)
    assert sorted(delta.services["default"].removed) == ["a", "b"]
    assert list(delta.services["default"].put) == ["c"]


def test_a_restored_etcd_with_lower_revisions_is_taken_as_it_is() -> None:
    catalog = Catalog(keys).resync(900, [KeyValue(backend_key("a"), b"10.0.0.1:80", 800, 900)])
    restored = catalog.resync(5, [KeyValue(backend_key("b"), b"10.0.0.2:80", 5, 5)])
    assert restored.revision == 5
    assert list(restored.traffic.services["default"].backends) == ["b"]
    later = restored.fold([Revision(6, (Event(KeyValue(backend_key("a"), b"10.0.0.3:80", 6, 6)),))])
    assert later.traffic.services["default"].backends["a"].host == "10.0.0.3"


def test_only_configuration_counts_as_configuration() -> None:
    history = History()
    catalog = Catalog(keys).fold([history.transaction({backend_key("a"): b"10.0.0.1:80"})])
    catalog = catalog.fold([history.transaction({keys.key(Kind.INSTANCE, "i"): b"{}"})])
    assert (catalog.revision, catalog.configuration_revision) == (2, 1)
    catalog = catalog.fold([history.transaction({keys.key(Kind.VIP, "v"): b"{}"})])
    assert (catalog.revision, catalog.configuration_revision) == (3, 3)


def test_who_has_read_all_keys_later_knows_of_no_later_change() -> None:
    history = History()
    first = Catalog(keys).fold([history.transaction({backend_key("a"): b"10.0.0.1:80"})])
    assert (first.known_change, first.configuration_revision) == (1, 1)
    read = [
        KeyValue(backend_key("a"), b"10.0.0.1:80", 1, 1),
        KeyValue(keys.key(Kind.INSTANCE, "i"), b"{}", 2, 7),
    ]
    second = first.resync(9, read)
    assert (second.known_change, second.configuration_revision) == (1, 9)
    later = second.fold([Revision(10, (Event(KeyValue(backend_key("a"), b"", 0, 10), deleted=True),))])
    assert (later.known_change, later.configuration_revision) == (10, 10)


def test_a_problem_is_short_whatever_the_key_and_the_value_hold() -> None:
    problem = Problem("k" * 10_000, 7, "$", "v" * 100_000)
    assert len(str(problem)) < 600
    assert Problem("key", 7, "$.weight", "no number") == Problem("key", 7, "$.weight", "no number")
    assert str(Problem("key", 7, "$.weight", "no number")) == "key at revision 7, $.weight: no number"


def test_an_instance_is_drained_while_the_operators_word_is_in_effect() -> None:
    history = History()
    key = keys.key(Kind.INSTANCE_OVERRIDE, "i")
    catalog = Catalog(keys).fold(
        [history.transaction({key: b'{"drain": true, "until": "2030-01-01T12:00:00Z"}'})]
    )
    assert (catalog.is_drained("i"), catalog.is_drained("other")) == (True, False)
    end = catalog.next_override_end()
    assert end == NOON
    assert not catalog.end_overrides(end).is_drained("i")
    assert not catalog.fold([history.transaction({key: b'{"drain": false}'})]).is_drained("i")
    assert not catalog.fold([history.transaction({key: None})]).is_drained("i")


def test_the_problem_of_a_route_tells_the_revision_that_the_route_has() -> None:
    history = History()
    route = keys.key(Kind.ROUTE, "r")
    catalog = Catalog(keys)
    for _ in range(2):
        catalog = catalog.fold([history.transaction({route: b'{"service": "nobody"}'})])
        assert catalog.problems[route].revision == history.revision
