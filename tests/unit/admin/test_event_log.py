"""The log of events: bounded, and whoever resumes gets all behind its place or is told that it cannot."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from weldr.control.admin.event_log import EventLog, event, id_of, place_of


def test_an_event_is_one_block_of_lines_with_json_in_it() -> None:
    text = event("change", {"text": "two\nlines"}, id_of(7, 0xAB))
    assert text == b'id: 7-00000000000000ab\nevent: change\ndata: {"text":"two\\nlines"}\n\n'


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 30)), max_size=60),
    st.integers(1, 8),
    st.integers(20, 200),
    st.integers(0, 100),
)
def test_what_is_given_is_all_or_nothing_and_never_more_than_the_bounds(
    additions: list[tuple[int, int]], entries: int, size_bytes: int, place: int
) -> None:
    log = EventLog(entries=entries, size_bytes=size_bytes)
    log.begin(5, 0)
    revision, all_events = 5, []
    for step, size in additions:
        revision += step
        text = b"%d:" % revision + b"x" * size
        log.add(revision, text, state=0)
        all_events.append((revision, text))
    found = log.since_revision(place)
    if found is not None:
        assert found == b"".join(text for at, text in all_events if at > place)
        assert len(found) <= size_bytes
    elif place >= 5:
        kept = all_events[-entries:]
        assert len(kept) < len(all_events) or sum(len(text) for _, text in kept) > size_bytes
    for first in range(log.last_number + 1):
        between = log.between(first, log.last_number)
        expected = b"".join(text for _, text in all_events[first:])
        assert between in (None, expected)
    assert log.between(log.last_number, log.last_number) == b""


def test_after_a_new_beginning_nothing_before_it_is_known() -> None:
    log = EventLog()
    log.begin(10, 0)
    log.add(11, b"a")
    assert log.since_revision(10) == b"a"
    log.begin(12, 0)
    assert log.since_revision(11) is None
    assert log.since_revision(12) == b""
    assert log.between(0, log.last_number) is None


def test_who_was_away_while_etcd_was_restored_is_not_taken_for_one_who_saw_the_same_revision_since() -> None:
    log = EventLog()
    log.begin(90, 0)
    log.add(100, b"before")
    for restored in (50, 40):
        log.begin(restored, 0)
        for revision in range(restored, 60):
            log.add(revision, b"after", state=0)
        assert log.since_revision(100) is None
    for revision in range(60, 103):
        log.add(revision, b"%d" % revision, state=0)
    assert log.since_revision(50) is None
    assert log.since_revision(100) is None
    assert log.since_revision(101) == b"102"


def test_what_has_no_id_is_told_again_to_who_may_have_had_the_change_before_it_only() -> None:
    log = EventLog()
    log.begin(10, 0)
    log.add(11, b"change 11;", state=0)
    log.add(11, b"departure;")
    assert log.since_revision(11) == b"departure;"
    log.add(12, b"change 12;", state=0)
    assert log.since_revision(11) == b"departure;change 12;"
    assert log.since_revision(12) == b""


def test_who_resumes_is_not_told_again_without_bound() -> None:
    log = EventLog()
    log.begin(10, 0)
    for _ in range(2000):
        log.add(11, b"departure " * 10)
    log.add(12, b"change 12;", state=0)
    assert log.since_revision(11) == b"change 12;"


def test_an_id_is_read_as_it_was_written_and_nothing_else_is_one() -> None:
    assert place_of(id_of(7, 2**64 - 1).decode()) == (7, 2**64 - 1)
    assert place_of("7") == (7, None)
    for other in ("", "-", "x", "7-", "7-ab", "-00000000000000ab", "7-00000000000000AB", "7\n", "٧", "1" * 19):
        assert place_of(other) is None


def test_who_saw_other_keys_at_the_same_revision_is_told_to_read_them_anew() -> None:
    log = EventLog(entries=3)
    log.begin(10, state=1)
    log.add(12, b"change 12;", state=2)
    log.add(12, b"departure;")
    log.add(14, b"change 14;", state=3)
    assert log.since_revision(11, 1) == b"change 12;departure;change 14;"
    assert log.since_revision(13, 2) == b"change 14;"
    assert [log.since_revision(at, state) for at, state in ((11, 2), (12, 1), (13, 3), (14, 2))] == [None] * 4
    log.add(15, b"change 15;", state=4)
    assert log.since_revision(13, 2) == b"change 14;change 15;"
    assert log.since_revision(12, 1) is None
