"""However a watch's answers are cut, the same whole revisions come out, each once."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from weldr.etcd.revisions import RevisionAssembler
from weldr.model.events import Event, KeyValue, Revision


def event(revision: int, name: int) -> Event:
    return Event(KeyValue(b"%d" % name, b"", revision, revision))


revisions = st.lists(
    st.tuples(st.integers(1, 4), st.integers(1, 4)), max_size=8
)  # steps between revisions, and how many events each has


def build(shape: list[tuple[int, int]]) -> list[Revision]:
    built, number = [], 10
    for step, count in shape:
        number += step
        built.append(Revision(number, tuple(event(number, name) for name in range(count))))
    return built


@given(revisions, st.lists(st.integers(0, 40), max_size=10))
def test_fragments_cut_anywhere_give_whole_revisions(shape: list[tuple[int, int]], cuts: list[int]) -> None:
    wanted = build(shape)
    events = [each for revision in wanted for each in revision.events]
    edges = sorted({0, len(events), *(cut for cut in cuts if cut < len(events))})
    pieces = [events[begin:end] for begin, end in itertools.pairwise(edges)]
    assembler = RevisionAssembler(10)
    found = []
    for index, piece in enumerate(pieces):
        found += assembler.feed(piece, more_fragments=index < len(pieces) - 1)
    assert found == wanted
    assert assembler.revision == (wanted[-1].revision if wanted else 10)


@given(revisions, st.integers(0, 8))
def test_what_was_given_already_is_left_out(shape: list[tuple[int, int]], repeated: int) -> None:
    wanted = build(shape)
    assembler = RevisionAssembler(10)
    found = []
    for revision in wanted:
        found += assembler.feed(revision.events, more_fragments=False)
    for revision in wanted[:repeated]:
        found += assembler.feed(revision.events, more_fragments=False)
    assert found == wanted


def test_events_before_the_start_are_left_out() -> None:
    assembler = RevisionAssembler(10)
    assert assembler.feed([event(9, 1), event(10, 1), event(11, 1)], more_fragments=False) == [
        Revision(11, (event(11, 1),))
    ]


def test_no_more_than_one_revision_is_held_back() -> None:
    assembler = RevisionAssembler(0)
    given = assembler.feed([event(1, 1), event(2, 1), event(3, 1)], more_fragments=True)
    assert [revision.revision for revision in given] == [1, 2]
    assert [revision.revision for revision in assembler.feed([event(3, 2)], more_fragments=False)] == [3]


def test_an_answer_without_events_gives_nothing() -> None:
    assert RevisionAssembler(5).feed([], more_fragments=False) == []
