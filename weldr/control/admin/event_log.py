"""What happened, as server-sent events, for as long back as there is room: what streams resume from. Pure.

| event       | its `id`          | what it tells                                                         |
|-------------|-------------------|-----------------------------------------------------------------------|
| `hello`     | the last revision | the first of a stream: which instance, and the revision that it is at |
| `change`    | its revision      | all keys that one revision changed, each with its old and new value   |
| `problems`  |                   | which keys have a problem now, and which have none any more           |
| `departure` |                   | why a backend left: drained, expired, or removed by somebody          |
| `reset`     | the last revision | events are missing: read all keys again, and go on from there         |

Health, leadership and the instances' own words are keys, and so are in `change`. The data of each is JSON. An
entry is encoded once, however many streams send it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

import msgspec

from weldr.control.admin.items import value_for
from weldr.control.admin.mirror import KeyChange, Moment, News
from weldr.model.catalog import Problem
from weldr.model.collections import path_of
from weldr.model.events import KeyValue

_MOST_ENTRIES = 10_000
_MOST_BYTES = 8 * 1024 * 1024
_MOST_PROBLEMS = 100


class EventLog:
    """The last events, numbered from 1 on. `entries` and `bytes` bound it."""

    def __init__(self, *, entries: int = _MOST_ENTRIES, size_bytes: int = _MOST_BYTES) -> None:
        self.last_number = 0
        self._most_entries = entries
        self._most_bytes = size_bytes
        self._entries: deque[tuple[int, bytes]] = deque()
        """Revision and text."""
        self._bytes = 0
        self._forgotten_revision = 0
        """Events up to this revision are gone."""

    def begin(self, revision: int) -> None:
        """Nothing up to this revision is known."""
        self._entries.clear()
        self._bytes = 0
        self._forgotten_revision = revision

    def add(self, revision: int, text: bytes) -> None:
        """Note an event that belongs to a revision."""
        self.last_number += 1
        self._entries.append((revision, text))
        self._bytes += len(text)
        while len(self._entries) > self._most_entries or self._bytes > self._most_bytes:
            old, gone = self._entries.popleft()
            self._bytes -= len(gone)
            self._forgotten_revision = max(self._forgotten_revision, old)

    def between(self, first: int, last: int) -> bytes | None:
        """The events after number `first` up to `last`; `None` if some of them are gone."""
        oldest = self.last_number - len(self._entries) + 1
        if first + 1 < oldest:
            return None
        return b"".join(self._entries[number - oldest][1] for number in range(first + 1, last + 1))

    def since_revision(self, revision: int) -> bytes | None:
        """All events of the revisions after this one; `None` if some of them are gone."""
        if revision < self._forgotten_revision:
            return None
        return b"".join(text for found, text in self._entries if found > revision)


def event(kind: str, data: Any, revision: int | None = None) -> bytes:
    """A server-sent event; JSON holds no line break."""
    name = b"" if revision is None else b"id: %d\n" % revision
    return b"%bevent: %b\ndata: %b\n\n" % (name, kind.encode(), msgspec.json.encode(data))


def note(log: EventLog, news: News, revision: int) -> None:
    """Note all of the news; `revision` is the last that is known now."""
    if news.restarted:
        log.begin(revision)
        log.add(revision, event("reset", {"revision": revision, "reason": "etcd was restored"}, revision))
    else:
        for moment in news.moments:
            # A revision that changed nothing in the layout is one to resume from all the same.
            log.add(moment.revision, _change(moment))
    problems = _problems(news.problems_before, news.problems)
    if problems is not None:
        log.add(revision, problems)


def _change(moment: Moment) -> bytes:
    data = {"revision": moment.revision, "changes": [_key_change(change) for change in moment.changes]}
    return event("change", data, moment.revision)


def _key_change(change: KeyChange) -> dict[str, Any]:
    action = "delete" if change.after is None else "create" if _is_new(change) else "update"
    found: dict[str, Any] = {"key": path_of(change.name), "action": action}
    for word, pair in (("before", change.before), ("after", change.after)):
        if pair is not None:
            found[word] = _side(change, pair)
    return found


def _is_new(change: KeyChange) -> bool:
    before, after = change.before, change.after
    return before is None or after is None or before.create_revision != after.create_revision


def _side(change: KeyChange, pair: KeyValue) -> dict[str, Any]:
    return {
        "value": value_for(change.name, pair.value),
        "create_revision": pair.create_revision,
        "mod_revision": pair.mod_revision,
        "lease": f"{pair.lease:x}" if pair.lease else None,
    }


def _problems(before: Mapping[bytes, Problem], after: Mapping[bytes, Problem]) -> bytes | None:
    if before is after:
        return None
    appeared = [problem for key, problem in after.items() if before.get(key) != problem]
    gone = [problem.key for key, problem in before.items() if key not in after]
    if not appeared and not gone:
        return None
    data = {"appeared": appeared[:_MOST_PROBLEMS], "gone": gone[:_MOST_PROBLEMS], "count": len(after)}
    return event("problems", data)
