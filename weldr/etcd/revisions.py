"""Puts a watch's answers together into whole revisions.

etcd splits a large answer into fragments, and a fragment may end in the middle of a revision. The revision in
which it ends is held back until a later event or the last fragment shows that it is whole. All others are given
at once, so that what is held is never more than one revision.
"""

from __future__ import annotations

from collections.abc import Iterable

from weldr.model.events import Event, Revision


class RevisionAssembler:
    """Gives each revision once, whole, in order. Begins behind `revision`."""

    def __init__(self, revision: int) -> None:
        self.revision = revision
        """The last that was given."""
        self._held: list[Event] = []

    def feed(self, events: Iterable[Event], *, more_fragments: bool) -> list[Revision]:
        """The revisions that are whole with this answer."""
        whole = []
        for event in events:
            revision = event.key_value.mod_revision
            # Versions before 3.5.18 and 3.4.36 can send events again around a compaction.
            if revision <= self.revision:
                continue
            if self._held and self._held[-1].key_value.mod_revision != revision:
                whole.append(self._release())
                if revision <= self.revision:
                    continue
            self._held.append(event)
        if self._held and not more_fragments:
            whole.append(self._release())
        return whole

    def _release(self) -> Revision:
        self.revision = self._held[-1].key_value.mod_revision
        revision = Revision(self.revision, tuple(self._held))
        self._held = []
        return revision
