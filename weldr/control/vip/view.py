"""What etcd's watch has told of virtual IPs: who wants which, who stands, who holds, who is there.

It is a little late, as a watch is. It wakes and informs; what must not be late is read anew, in a transaction.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import msgspec

from weldr.control.vip.messages import KEY_BYTES
from weldr.etcd.election import Contender, queue_of
from weldr.etcd.follow import Change, Snapshot
from weldr.model.decode import decode
from weldr.model.events import Event, KeyValue
from weldr.model.keys import KeyLayoutError, KeySpace, Kind
from weldr.model.vips import Holder, Move, Peer, Vip, VipState

T = TypeVar("T")

_KINDS = frozenset({Kind.VIP, Kind.ELECTION, Kind.HOLDER, Kind.INSTANCE, Kind.MOVE, Kind.SECRET})
_REMEMBERED_GONE = 16


@dataclass(frozen=True, slots=True)
class WantedVip:
    """A virtual IP as it is in etcd."""

    vip: Vip
    revision: int
    """Its key's modification revision: it tells one wish from the next."""
    created: int = 0
    """Its key's creation revision: which was there first."""
    kept: bool = False
    """Whether it is the last good value of a key whose present one cannot be understood."""


class _InstanceValue(msgspec.Struct, frozen=True):
    """The part of `instances/<instance>` that is read here."""

    peer: Peer | None = None
    vips: dict[str, VipState] = {}


SECRET_NAME = "peers"


class Secret(msgspec.Struct, frozen=True):
    """The value of `secrets/peers`."""

    key: str
    """In hexadecimal."""

    def key_bytes(self) -> bytes | None:
        """The key; `None` if it is none or too short."""
        try:
            key = bytes.fromhex(self.key)
        except ValueError:
            return None
        return key if len(key) >= KEY_BYTES else None

    def __repr__(self) -> str:
        return "Secret(…)"


_TYPES: dict[Kind, type[Any]] = {
    Kind.HOLDER: Holder,
    Kind.MOVE: Move,
    Kind.INSTANCE: _InstanceValue,
    Kind.SECRET: Secret,
}


_MAYBE_ANOTHER_ETCD = frozenset({"restored", "audit", "compacted"})
"""Of reasons for a snapshot: an etcd that was restored with `--bump-revision`, or has outgrown what we knew
since, looks as if it had gone on."""


def holder_of(pair: KeyValue | None) -> Holder | None:
    """The record, `None` if there is none or nobody can read it."""
    return _decoded(pair, Holder)


@dataclass(slots=True)
class View:
    """Owned by whoever follows etcd."""

    keys: KeySpace
    revision: int = 0
    """Up to here all is known, of any key."""
    vips: dict[str, WantedVip] = field(default_factory=dict)
    holders: dict[str, Holder] = field(default_factory=dict)
    records: dict[str, KeyValue] = field(default_factory=dict)
    """The keys that `holders` were read from."""
    held: dict[str, str] = field(default_factory=dict)
    """By virtual IP, the address that somebody was last seen to hold."""
    unqueued: dict[str, tuple[int, float]] = field(default_factory=dict)
    """By virtual IP whose holder is no candidate any more: its token, and since when."""
    moves: dict[str, Move] = field(default_factory=dict)
    peers: dict[str, Peer] = field(default_factory=dict)
    """By instance, those that take part in elections."""
    departed: dict[str, Peer] = field(default_factory=dict)
    """Those whose key is gone, but not their name from all records: a holder that etcd does not hear for longer
    than its instance's lease still asks for promises, and has to be answered."""
    states: dict[str, dict[str, VipState]] = field(default_factory=dict)
    """By instance, what it tells of each virtual IP."""
    secrets: dict[str, Secret] = field(default_factory=dict)
    secret_is_unusable: bool = False
    """Whether there is a `secrets/peers` that holds no key. The last good one stays in force."""
    restored_s: float = float("-inf")
    """When etcd was last found to be another one, or maybe one, or to have gone back in time."""
    restored_revision: int | None = None
    """What was found then."""
    began_revision: int | None = None
    """What was found first: what was written later, was written with our knowledge."""
    _queues: dict[str, dict[bytes, KeyValue]] = field(default_factory=dict)
    _gone: dict[str, dict[int, float]] = field(default_factory=dict)
    _touched: set[str] = field(default_factory=set)

    def queue(self, vip: str) -> tuple[Contender, ...]:
        """The candidates, in order."""
        return queue_of(self._queues.get(vip, {}).values())

    def peer(self, instance: str) -> Peer | None:
        """Where to reach an instance whose word counts."""
        return self.peers.get(instance) or self.departed.get(instance)

    def claimed_since_restored(self, vip: str) -> int:
        """The token of a holder whose record was written since etcd was found to be maybe another one, or 0."""
        record, pair = self.holders.get(vip), self.records.get(vip)
        if self.restored_revision is None or record is None or pair is None or record.state != "held":
            return 0
        return record.token if pair.mod_revision > self.restored_revision else 0

    def addresses(self) -> set[str]:
        """All that any key here speaks of."""
        return {wanted.vip.ip for wanted in self.vips.values()} | {
            record.address for record in self.holders.values()
        }

    def gone_since_s(self, vip: str, token: int) -> float | None:
        """When the candidate key with this token was seen to go."""
        return self._gone.get(vip, {}).get(token)

    def fold(self, changes: Iterable[Change], now_s: float) -> set[str]:
        """Take in what came; the names of the virtual IPs that it may concern."""
        self._touched = set()
        for change in changes:
            self.revision = change.revision
            if isinstance(change, Snapshot):
                self._replace(change, now_s)
            else:
                for event in change.events:
                    self._take(event, now_s)
        if self.departed:
            named = {name for record in self.holders.values() for name in (record.instance, *record.peers)}
            self.departed = {name: peer for name, peer in self.departed.items() if name in named}
        if self.held.keys() - self.vips.keys():
            self.held = {name: address for name, address in self.held.items() if name in self.vips}
        self._note_unqueued(now_s)
        return self._touched

    def _note_unqueued(self, now_s: float) -> None:
        found: dict[str, tuple[int, float]] = {}
        for name, record in self.holders.items():
            if record.state == "held" and all(each.token != record.token for each in self.queue(name)):
                token, since_s = self.unqueued.get(name, (0, now_s))
                found[name] = (record.token, since_s if token == record.token else now_s)
        self.unqueued = found

    def _replace(self, snapshot: Snapshot, now_s: float) -> None:
        if snapshot.reason in _MAYBE_ANOTHER_ETCD:
            self.restored_s, self.restored_revision = now_s, snapshot.revision
        if self.began_revision is None or snapshot.revision < self.began_revision:
            self.began_revision = snapshot.revision
        before = [pair.key for queue in self._queues.values() for pair in queue.values()]
        there = {pair.key for pair in snapshot.key_values}
        for kind, table in self._tables().items():
            before += [self.keys.key(kind, name) for name in table]
        for key in before:
            if key not in there:
                self._take(Event(KeyValue(key, b"", 0, snapshot.revision), deleted=True), now_s)
        for pair in snapshot.key_values:
            self._take(Event(pair), now_s)
        if snapshot.reason in _MAYBE_ANOTHER_ETCD:
            # Its next tokens may be those of the past again.
            self._gone.clear()

    def _tables(self) -> dict[Kind, dict[str, object]]:
        return {
            Kind.VIP: self.vips,  # type: ignore[dict-item]
            Kind.HOLDER: self.holders,  # type: ignore[dict-item]
            Kind.MOVE: self.moves,  # type: ignore[dict-item]
            Kind.INSTANCE: self.peers,  # type: ignore[dict-item]
            Kind.SECRET: self.secrets,  # type: ignore[dict-item]
        }

    def _take(self, event: Event, now_s: float) -> None:
        pair = event.key_value
        try:
            name = self.keys.parse(pair.key)
        except KeyLayoutError:
            return
        if name.kind not in _KINDS:
            return
        if name.kind is not Kind.INSTANCE:
            self._touched.add("" if name.kind is Kind.SECRET else name.names[0])
        if name.kind is Kind.ELECTION:
            self._take_candidate(name.names[0], event, now_s)
        elif name.kind is Kind.VIP:
            self._take_vip(name.names[0], event)
        else:
            value: object = None if event.deleted else _decoded(pair, _TYPES[name.kind])
            if name.kind is Kind.INSTANCE:
                self.states.pop(name.names[0], None)
            if isinstance(value, _InstanceValue):
                self.states[name.names[0]] = value.vips
                value = value.peer
            if name.kind is Kind.INSTANCE:
                self._note_departed(name.names[0], gone=value is None)
            if name.kind is Kind.SECRET and name.names[0] == SECRET_NAME:
                usable = isinstance(value, Secret) and value.key_bytes() is not None
                self.secret_is_unusable = not usable and not event.deleted
                if self.secret_is_unusable:
                    return
            table = self._tables()[name.kind]
            # An instance writes its key at each change of any virtual IP there: that concerns nobody here.
            if name.kind is Kind.INSTANCE and table.get(name.names[0]) != value:
                self._touched.add("")
            if value is None:
                table.pop(name.names[0], None)
            else:
                table[name.names[0]] = value
            if isinstance(value, Holder) and value.state == "held":
                self.held[name.names[0]] = value.address
            if name.kind is Kind.HOLDER:
                self.records[name.names[0]] = pair
                if value is None:
                    del self.records[name.names[0]]

    def _note_departed(self, instance: str, *, gone: bool) -> None:
        if not gone:
            self.departed.pop(instance, None)
        elif instance in self.peers:
            self.departed[instance] = self.peers[instance]

    def _take_candidate(self, vip: str, event: Event, now_s: float) -> None:
        pair = event.key_value
        queue = self._queues.setdefault(vip, {})
        old = queue.get(pair.key)
        replaced = old is not None and (event.deleted or old.create_revision != pair.create_revision)
        if old is not None and replaced and vip in self.vips:
            gone = self._gone.setdefault(vip, {})
            gone[old.create_revision] = now_s
            while len(gone) > _REMEMBERED_GONE:
                del gone[next(iter(gone))]
        if event.deleted:
            queue.pop(pair.key, None)
        else:
            queue[pair.key] = pair
        if not queue:
            del self._queues[vip]

    def _take_vip(self, name: str, event: Event) -> None:
        if event.deleted:
            self.vips.pop(name, None)
            self.held.pop(name, None)
            self._gone.pop(name, None)
            return
        pair = event.key_value
        value = decode(Kind.VIP, pair.value)
        before = self.vips.get(name)
        if isinstance(value, Vip):
            self.vips[name] = WantedVip(value, pair.mod_revision, pair.create_revision)
        elif before is not None and before.created == pair.create_revision:
            # What cannot be understood leaves the last good value in force; the catalog tells the problem.
            self.vips[name] = replace(before, revision=pair.mod_revision, kept=True)
        else:
            # It is another key, since deleted and made anew.
            self.vips.pop(name, None)


def _decoded(pair: KeyValue | None, into: type[T]) -> T | None:
    if pair is None:
        return None
    try:
        return msgspec.json.decode(pair.value, type=into)
    except msgspec.DecodeError:
        return None
