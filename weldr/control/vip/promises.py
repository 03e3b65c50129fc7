"""What an instance promises to holders of virtual IPs that have lost etcd, and what it refuses them. Pure.

A holder without etcd keeps its address only while *every* instance that its record in etcd names promises not
to claim for a stated time. So for one promise, of whatever age, this instance

  - does not claim until the promise has run out, by its own clock, whatever etcd says meanwhile, but that this
    holder or a later one has released the address;
  - promises nothing while it claims or holds itself, nor to a token lower than one it knows, nor to one that it
    has refused: a refusal is for good, and one is enough to end that holder's time once its promises run out.

Tokens are compared only as long as etcd is the same one: one that was restored counts from an earlier number.

A process does not remember what an earlier life of it promised. So it acts for the longest promise there may be
as if it had promised everything: it refuses nothing, and claims nothing (`rules.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from weldr.model.takeover import Word
from weldr.model.vip_timing import DRIFT, wait_s


@dataclass(slots=True)
class _Word:
    until_s: float = 0.0
    refused_token: int = 0
    known_token: int = 0
    promised_token: int = 0
    """The newest that a promise in force was given to."""
    past_token: int = 0
    """The newest known of an etcd before this one, whose tokens were others."""


@dataclass(slots=True)
class PromiseBook:
    """All promises and refusals of this life of the process, by virtual IP. Its callers know which ones
    exist."""

    began_s: float
    """When this life began."""
    _words: dict[str, _Word] = field(default_factory=dict)

    def learn(self, vip: str, token: int) -> None:
        """A holder with this token is known to exist or to have existed."""
        word = self._word(vip)
        word.known_token = max(word.known_token, token)

    def promise(
        self, vip: str, token: int, duration_s: float, now_s: float, *, busy: bool, claimed: int = 0
    ) -> str | None:
        """Promise not to claim from the holder of `token`; or why not. `busy`: we claim or hold it
        ourselves. `claimed`: the token of a holder that has claimed it since `start_over`."""
        word = self._word(vip)
        if busy:
            return "it claims or holds the address itself"
        if token <= word.refused_token:
            return "it has refused this holder before"
        if token < word.known_token:
            return "it knows a newer holder"
        if claimed not in (0, token) and token <= word.past_token:
            return "it knows a holder since etcd was restored"
        if token > word.past_token:
            self.learn(vip, token)
        word.promised_token = max(token, word.promised_token if now_s < word.until_s else 0)
        word.until_s = max(word.until_s, now_s + duration_s / (1 - DRIFT))
        return None

    def refuse(self, vip: str, token: int, promise_s: float, now_s: float) -> float:
        """Never promise anything to this token, or any before it, again. Promises to it last `promise_s`.

        How many seconds one is still in force for, or may be: only 0 means that the holder has no word of ours.
        """
        word = self._word(vip)
        left_s = max(0.0, word.until_s - now_s, self.began_s + wait_s(promise_s) - now_s)
        if left_s == 0.0:
            word.refused_token = max(word.refused_token, token)
        return left_s

    def until_s(self, vip: str, *, released: int = 0) -> float:
        """Until when we must not claim; a time in the past if we may. `released` is the token of a holder that
        has given the address up: nobody is bound by what was promised to it, or to any before it."""
        word = self._words.get(vip)
        if word is None or (released and word.promised_token <= released):
            return 0.0
        return word.until_s

    def start_over(self) -> None:
        """etcd may be another one, or an older copy of itself: its next tokens may be lower than those that are
        known. Promises stay."""
        for word in self._words.values():
            word.past_token = max(word.past_token, word.known_token)
            word.known_token = word.refused_token = 0

    def forget_all_but(self, vips: set[str], now_s: float) -> None:
        """Virtual IPs that no longer exist take no room, once their promises have run out."""
        gone = [vip for vip, word in self._words.items() if vip not in vips and word.until_s < now_s]
        for vip in gone:
            del self._words[vip]

    def words(self) -> list[Word]:
        """All that another manager of this instance has to keep in our place."""
        return [
            Word(
                vip=vip,
                until_s=word.until_s,
                refused_token=word.refused_token,
                known_token=word.known_token,
                promised_token=word.promised_token,
                past_token=word.past_token,
            )
            for vip, word in self._words.items()
        ]

    def adopt(self, words: Iterable[Word], began_s: float) -> None:
        """Keep what another manager of this instance has promised and refused: this is the same life."""
        self.began_s = began_s
        for word in words:
            self._words[word.vip] = _Word(
                until_s=word.until_s,
                refused_token=word.refused_token,
                known_token=word.known_token,
                promised_token=word.promised_token,
                past_token=word.past_token,
            )

    def _word(self, vip: str) -> _Word:
        return self._words.setdefault(vip, _Word())


@dataclass(slots=True)
class Round:
    """One question to all peers at once. It succeeds when the last of them has promised."""

    number: int
    sent_s: float
    token: int
    waiting: set[str]
    refusal: str = ""

    @property
    def lacks(self) -> str:
        """Why not all have promised."""
        silent = sorted(name for name in self.waiting if name)
        unknown = "one that its record may name, and that cannot be asked"
        return self.refusal or f"no word of {', '.join(silent) or unknown}"

    def note(self, peer: str, refusal: str) -> bool:
        """An answer. Whether all have promised now."""
        if refusal:
            self.refusal = f"{peer}: {refusal}"
            return False
        if peer not in self.waiting:
            return False
        self.waiting.discard(peer)
        return not self.waiting and not self.refusal
