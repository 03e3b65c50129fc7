"""The log of events: bounded, and whoever resumes gets all behind its place or is told that it cannot."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from weldr.control.admin.event_log import EventLog, event


def test_an_event_is_one_block_of_lines_with_json_in_it() -> None:
    text = event("change", {"text": "two\nlines"}, 7)
    assert text == b'id: 7\nevent: change\ndata: {"text":"two\\nlines"}\n\n'


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
    log.begin(5)
    revision, all_events = 5, []
    for step, size in additions:
        revision += step
        text = b"%d:" % revision + b"x" * size
        log.add(revision, text)
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
    log.begin(10)
    log.add(11, b"a")
    assert log.since_revision(10) == b"a"
    log.begin(3)
    assert log.since_revision(2) is None
    assert log.since_revision(3) == b""
    assert log.between(0, log.last_number) is None
