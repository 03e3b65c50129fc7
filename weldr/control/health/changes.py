"""Puts into one word what checks, workers and leases say of each backend, and tells what has changed. Pure.

Of several words the strongest counts, in this order: expired (its lease is gone, it still answers), down
(checks fail), ejected (its requests fail), resting (it asked for that). If there is none it is up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from weldr.model.frames import Spared
from weldr.model.health import BackendKey, Standing

Word = Literal["up", "down", "ejected", "resting", "expired"]
_EXPIRED = "its lease ran out, with most others of the service, but it answers"


@dataclass(frozen=True, slots=True)
class Change:
    """A backend's health is another than before."""

    key: BackendKey
    state: Word
    reason: str


class Changes:
    """Owner of the last word on each backend that is, or was last, anything but up."""

    def __init__(self) -> None:
        self.words: dict[BackendKey, Word] = {}
        """Who is up is not in it."""

    def update(
        self,
        expired: Iterable[BackendKey],
        standings: Mapping[BackendKey, Standing],
        check_reason: Callable[[BackendKey], str],
        spared: Iterable[Spared],
        exists: Callable[[BackendKey], bool],
    ) -> list[Change]:
        """What has changed. A backend that no longer `exists` is forgotten without a word; those that are
        expired or have a standing do.

        Thousands may be down for hours, while this is asked at each change of the catalog: so reasons are made
        for what has changed only.
        """
        now: dict[BackendKey, Word] = {}
        told: dict[BackendKey, Spared] = {}
        for each in spared:
            if exists(each.key) and (not each.asked or each.key not in told):
                told[each.key] = each
                now[each.key] = "resting" if each.asked else "ejected"
        for key, standing in standings.items():
            if standing is Standing.DOWN:
                now[key] = "down"
        now.update(dict.fromkeys(expired, "expired"))
        before, self.words = self.words, now
        changes = []
        for key, word in now.items():
            if before.get(key) != word:
                if word == "down":
                    reason = check_reason(key)
                else:
                    reason = _EXPIRED if word == "expired" else _told(told[key])
                changes.append(Change(key, word, reason))
        for key, word in before.items():
            if key not in now and exists(key):
                changes.append(Change(key, "up", _back(word, check_reason(key))))
        return changes


def _told(spared: Spared) -> str:
    return spared.reason if spared.asked else f"{spared.reason}; out for {spared.for_s:.0f} s"


def _back(word: Word, check_reason: str) -> str:
    if word == "down":
        return check_reason
    if word == "expired":
        return "it is registered again"
    return "no worker keeps requests from it any more"
