"""The past of the configuration, from the revisions that etcd tells."""

from __future__ import annotations

from weldr.model import past as past_module
from weldr.model.events import Event, KeyValue, Revision
from weldr.model.keys import KeyName, KeySpace, Kind
from weldr.model.past import Past, PastReader

keys = KeySpace()
ROUTE = KeyName(Kind.ROUTE, ("r",))


def put(revision: int, kind: Kind, *names: str, value: bytes = b"{}", lease: int = 0) -> Revision:
    pair = KeyValue(keys.key(kind, *names), value, revision, revision, lease)
    return Revision(revision, (Event(pair),))


def removed(revision: int, kind: Kind, *names: str) -> Revision:
    pair = KeyValue(keys.key(kind, *names), b"", 0, revision, 0)
    return Revision(revision, (Event(pair, deleted=True),))


def read(*revisions: Revision, limit: int = 10, only: KeyName | None = None) -> Past:
    reader = PastReader(keys, 0, {}, limit, only)
    for revision in revisions:
        reader.add(revision)
    return reader.past


def test_each_change_is_told_with_what_was_before() -> None:
    past = read(
        put(2, Kind.ROUTE, "r", value=b"1"), put(3, Kind.ROUTE, "r", value=b"2"), removed(4, Kind.ROUTE, "r")
    )
    told = [(step.revision, change.before, change.after) for step in past.steps for change in step.changes]
    assert told == [(2, None, b"1"), (3, b"1", b"2"), (4, b"2", None)]


def test_registrations_and_what_instances_write_are_no_configuration() -> None:
    past = read(
        put(2, Kind.BACKEND, "s", "b", lease=7),
        put(3, Kind.INSTANCE, "i"),
        removed(4, Kind.BACKEND, "s", "b"),
        put(5, Kind.BACKEND, "s", "b"),
        put(6, Kind.BACKEND, "s", "b", lease=7),
        Revision(7, (Event(KeyValue(b"/elsewhere", b"", 7, 7, 0)),)),
    )
    assert [step.revision for step in past.steps] == [5, 6]


def test_the_last_changes_are_kept_and_the_others_counted() -> None:
    revisions = [put(number, Kind.ROUTE, "r") for number in range(2, 9)]
    past = read(*revisions, put(9, Kind.ROUTE, "other"), limit=3, only=ROUTE)
    assert ([step.revision for step in past.steps], past.omitted) == ([6, 7, 8], 4)


def test_large_values_are_fewer() -> None:
    value = bytes(past_module._MOST_BYTES // 4)
    past = read(*(put(number, Kind.ROUTE, f"r{number}", value=value) for number in range(2, 9)))
    assert ([step.revision for step in past.steps], past.omitted) == ([5, 6, 7, 8], 3)
