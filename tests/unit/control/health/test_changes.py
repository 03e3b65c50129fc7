"""Of several words on a backend one counts, and only its changes are told."""

from __future__ import annotations

from weldr.control.health.changes import Changes
from weldr.model.frames import Spared
from weldr.model.health import BackendKey, Standing

A: BackendKey = ("s", "a", "10.0.0.1", 80)
B: BackendKey = ("s", "b", "10.0.0.2", 80)


class Words:
    def __init__(self) -> None:
        self.changes = Changes()
        self.existing = {A, B}

    def update(
        self,
        expired: tuple[BackendKey, ...] = (),
        down: tuple[BackendKey, ...] = (),
        ejected: tuple[BackendKey, ...] = (),
        resting: tuple[BackendKey, ...] = (),
    ) -> list[tuple[str, str]]:
        spared = [Spared(key, "5 failed", 10.0, False) for key in ejected]
        spared += [Spared(key, "it asked", 10.0, True) for key in resting]
        changes = self.changes.update(
            expired,
            dict.fromkeys(down, Standing.DOWN),
            lambda key: f"checked {key[1]}",
            spared,
            self.existing.__contains__,
        )
        return [(change.key[1], change.state) for change in changes]


def test_the_strongest_word_counts_and_is_told_once() -> None:
    words = Words()
    assert words.update(ejected=(A,)) == [("a", "ejected")]
    assert words.update(ejected=(A,)) == []
    assert words.update(ejected=(A,), down=(A,)) == [("a", "down")]
    assert words.update(ejected=(A,), down=(A,), expired=(A,)) == [("a", "expired")]
    assert words.update(ejected=(A,)) == [("a", "ejected")]
    assert words.update(resting=(A,)) == [("a", "resting")]
    assert words.update(resting=(A,), ejected=(A,)) == [("a", "ejected")]
    assert words.update() == [("a", "up")]
    assert words.update() == []


def test_for_how_long_a_backend_is_ejected_is_told() -> None:
    [change] = Changes().update((), {}, str, [Spared(A, "5 requests failed", 9.93, False)], lambda _: True)
    assert change.reason == "5 requests failed; out for 10 s"
    [change] = Changes().update((), {}, str, [Spared(A, "it asked for 7 s", 6.95, True)], lambda _: True)
    assert change.reason == "it asked for 7 s"


def test_a_backend_that_is_gone_is_forgotten_without_a_word() -> None:
    words = Words()
    words.update(ejected=(A, B))
    words.existing.remove(A)
    # A worker may not know it yet.
    assert words.update(ejected=(A, B)) == []
    assert words.changes.words == {B: "ejected"}
    words.existing.remove(B)
    assert words.update() == []
