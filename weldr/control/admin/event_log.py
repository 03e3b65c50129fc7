"""What happened, as server-sent events, for as long back as there is room: what streams resume from. Pure.

| event       | its `id`          | what it tells                                                         |
|-------------|-------------------|-----------------------------------------------------------------------|
| `hello`     | the last revision | the first of a stream: which instance, and the revision that it is at |
| `change`    | its revision      | all keys that one revision changed, each with its old and new value   |
| `problems`  |                   | which keys have a problem now, and which have none any more           |
| `departure` |                   | why a backend left: drained, expired, or removed by somebody          |
| `reset`     | the last revision | events are missing: read all keys again, and go on from there         |

In an id the revision comes with a number that stands for all keys as they were then. An etcd that was restored
gives revisions a second time, and is not to be told from its past by cluster id or term. So who comes back is
only served what came behind its revision where all keys were the same at it, whichever instance it comes to.

What has no `id` comes behind the change of its revision, maybe a while later. Whoever has had that change need
not have had what came behind, and so gets it when it resumes, maybe for the second time.

Health, leadership and the instances' own words are keys, and so are in `change`. The data of each is JSON. An
entry is encoded once, however many streams send it.
"""

from __future__ import annotations

import re
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
_MOST_AGAIN_BYTES = 64 * 1024


class EventLog:
    """The last events, numbered from 1 on. `entries` and `bytes` bound it."""

    def __init__(self, *, entries: int = _MOST_ENTRIES, size_bytes: int = _MOST_BYTES) -> None:
        self.last_number = 0
        self._most_entries = entries
        self._most_bytes = size_bytes
        self._entries: deque[tuple[int, bytes, int | None]] = deque()
        """Revision, text, and the state of all keys if the revision is the event's id."""
        self._state_before = 0
        """Of all keys before the first of them."""
        self._bytes = 0
        self._forgotten_revision = 0
        """Events up to this revision are gone."""
        self._highest_revision = -1
        """That any event had, also one of before etcd was restored."""

    def begin(self, revision: int, state: int) -> None:
        """Nothing up to this revision is known, and nothing that came before is true any more."""
        self._entries.clear()
        self._state_before = state
        self._bytes = 0
        # A restored etcd counts again through numbers that it has given before. Who comes back with one of
        # these may have seen what it meant then.
        self._forgotten_revision = max(revision, self._highest_revision + 1)

    def add(self, revision: int, text: bytes, state: int | None = None) -> None:
        """Note an event that belongs to a revision; with the state of all keys if that is its id."""
        self.last_number += 1
        self._highest_revision = max(self._highest_revision, revision)
        self._entries.append((revision, text, state))
        self._bytes += len(text)
        while len(self._entries) > self._most_entries or self._bytes > self._most_bytes:
            old, gone, state_then = self._entries.popleft()
            if state_then is not None:
                self._state_before = state_then
            self._bytes -= len(gone)
            self._forgotten_revision = max(self._forgotten_revision, old)

    def between(self, first: int, last: int) -> bytes | None:
        """The events after number `first` up to `last`; `None` if some of them are gone."""
        oldest = self.last_number - len(self._entries) + 1
        if first + 1 < oldest:
            return None
        return b"".join(self._entries[number - oldest][1] for number in range(first + 1, last + 1))

    def since_revision(self, revision: int, state: int | None = None) -> bytes | None:
        """All events behind the one with this id; `None` if some of a later revision are gone, or if all keys
        were not in this state then.
        """
        if revision < self._forgotten_revision or state not in (None, self._state_at(revision)):
            return None
        again = b"".join(
            text for found, text, its_state in self._entries if found == revision and its_state is None
        )
        # Else whoever reads all keys anew for their sake would be told the same again, and again.
        again = again if len(again) <= _MOST_AGAIN_BYTES else b""
        return again + b"".join(text for found, text, _ in self._entries if found > revision)

    def _state_at(self, revision: int) -> int:
        for found, _, state in reversed(self._entries):
            if state is not None and found <= revision:
                return state
        return self._state_before


ID_PATTERN = "^[0-9]{1,18}(-[0-9a-f]{16})?$"


def id_of(revision: int, state: int) -> bytes:
    """Of an event."""
    return b"%d-%016x" % (revision, state)


def place_of(event_id: str) -> tuple[int, int | None] | None:
    """Revision and state in an id, which may be a revision alone; `None` if it is no id."""
    if re.match(ID_PATTERN, event_id, re.ASCII) is None or event_id.endswith("\n"):
        return None
    revision, _, state = event_id.partition("-")
    return int(revision), int(state, 16) if state else None


def event(kind: str, data: Any, event_id: bytes | None = None) -> bytes:
    """A server-sent event; JSON holds no line break."""
    name = b"" if event_id is None else b"id: %b\n" % event_id
    return b"%bevent: %b\ndata: %b\n\n" % (name, kind.encode(), msgspec.json.encode(data))


def note(log: EventLog, news: News, revision: int, state: int) -> None:
    """Note all of the news; `revision` is the last that is known now, and `state` that of all keys."""
    if news.restarted:
        log.begin(revision, state)
        reset = {"revision": revision, "reason": "etcd was restored"}
        log.add(revision, event("reset", reset, id_of(revision, state)), state)
    else:
        for moment in news.moments:
            # A revision that changed nothing in the layout is one to resume from all the same.
            log.add(moment.revision, _change(moment), moment.state)
    problems = _problems(news.problems_before, news.problems)
    if problems is not None:
        log.add(revision, problems)


def _change(moment: Moment) -> bytes:
    data = {"revision": moment.revision, "changes": [_key_change(change) for change in moment.changes]}
    return event("change", data, id_of(moment.revision, moment.state))


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
