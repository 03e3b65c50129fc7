"""etcd's record of who holds a virtual IP, `holders/<vip>`: as it was last read, and what may be written.

Whatever is written compares the record with what was read, so that two who write at once do not both succeed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime

import msgspec

from weldr.control.vip.context import Context
from weldr.control.vip.rules import NOBODY, Named, released_token, to_be_asked
from weldr.control.vip.view import holder_of
from weldr.etcd.client import Compare, Put
from weldr.model.events import KeyValue
from weldr.model.keys import Kind
from weldr.model.vips import Holder, Vip

_ANOTHERS: Named = (NOBODY, "whom another manager may have named")


class Record:
    """One virtual IP's. Owned by its driver."""

    def __init__(self, name: str, vip: Vip, context: Context) -> None:
        self.key = context.keys.key(Kind.HOLDER, name)
        self.holder: Holder | None = None
        """`None`: there is no record that anybody could read."""
        self.revision = 0
        """The key's modification revision; 0 if there is none."""
        self._name = name
        self._vip = vip
        self._context = context
        self._unsure: frozenset[Named] = frozenset()
        """Whom the record may name by now: a write whose answer is lost may come late."""
        self._is_distrusted = False

    def note(self, pair: KeyValue | None) -> None:
        """It was read."""
        self.holder, self._is_distrusted = holder_of(pair), False
        revision = pair.mod_revision if pair is not None else 0
        if revision != self.revision:
            self.revision, self._unsure = revision, frozenset()
        if self.holder is not None:
            self._context.book.learn(self._name, self.holder.token)

    @property
    def unsure(self) -> tuple[int, frozenset[Named]]:
        """The revision that was read, and whom the record names or may name by now."""
        return self.revision, self.named

    def adopt_unsure(self, revision: int, named: Collection[Named]) -> None:
        """Another manager of this instance was not sure of these at that revision."""
        self.revision, self._unsure = revision, frozenset(named) - {_ANOTHERS}
        self._is_distrusted = _ANOTHERS in named

    def distrust(self) -> None:
        """Another manager of this instance may have written it: whom it names is not known until it is read."""
        self._is_distrusted = True

    def names(self, token: int | None) -> bool:
        """Whether that candidacy holds."""
        return self.holder is not None and self.holder.state == "held" and self.holder.token == token

    def is_ours(self, token: int) -> bool:
        """Whether that candidacy holds, and is one of this instance on this host."""
        return self.is_of_this_place and self.names(token)

    @property
    def is_of_this_place(self) -> bool:
        """Whether it speaks of this instance on this host."""
        context, holder = self._context, self.holder
        return holder is not None and (holder.instance, holder.host) == (context.me, context.host)

    @property
    def released_token(self) -> int:
        """Of whoever held it last, if that has given it up; 0 if not."""
        return released_token(self.holder)

    def of_this_host(self, token: int) -> bool:
        """Whether the address may be on this host by anything but that candidacy."""
        holder = self.holder
        if holder is None or holder.state != "held" or holder.token == token:
            return False
        return holder.host == self._context.host

    @property
    def unchanged(self) -> Compare:
        """Holds while the record is as it was read."""
        return Compare.mod_revision(self.key, "==", self.revision)

    @property
    def named(self) -> frozenset[Named]:
        """All whose promise the holder needs without etcd."""
        holder = self.holder
        read = ((peer, holder.machines.get(peer, "")) for peer in holder.peers) if holder is not None else ()
        return self._unsure.union(read, {_ANOTHERS} if self._is_distrusted else ())

    @property
    def peers_to_ask(self) -> frozenset[str]:
        """Their names; `NOBODY` for one whose name another machine has by now: its promise cannot be had."""
        return frozenset(name if self._is_reachable(name, machine) else NOBODY for name, machine in self.named)

    def _is_reachable(self, name: str, machine: str) -> bool:
        peer = self._context.view.peer(name)
        return peer is None or not machine or not peer.machine or peer.machine == machine

    def claimed(self, token: int, lease: int, *, held: bool) -> Put:
        """We hold it, by this candidacy. `held`: we did so before, by promises. Then whoever has given none is
        named later, by `kept`: as a peer it would be free to claim before we know that it is one."""
        timing, peers = self._vip.timing(), self._context.peers_now()
        if held:
            peers = {peer: peers[peer] for peer in peers if peer in self.peers_to_ask} or peers
        self._unsure |= to_be_asked(peers)
        claimed = Holder(
            instance=self._context.me,
            address=self._vip.ip,
            token=token,
            lease=lease,
            state="held",
            since=wall_clock(),
            window_s=timing.window_s,
            promise_s=timing.promise_s,
            host=self._context.host,
            peers=sorted(peers),
            machines=self._machines(peers),
            place=self._vip.place,
            reason=self._why(),
        )
        return self._put(claimed)

    def _why(self) -> str:
        before = self.holder
        if before is None:
            return "the first to claim it"
        if before.instance == self._context.me:
            return "claimed anew"
        if before.state == "released":
            return f"after {before.instance}: {before.reason}"
        return f"{before.instance} was silent" if before.doubted else f"{before.instance} was gone"

    def kept(self) -> Put | None:
        """Whoever may have to be asked when etcd is lost has to be in it before, and no doubt may stay. `None`
        if it is so."""
        if self.holder is None:
            return None
        peers = self._context.peers_now()
        kept = msgspec.structs.replace(
            self.holder,
            host=self._context.host,
            peers=sorted(peers),
            machines=self._machines(peers),
            place=self._vip.place,
            doubted="",
        )
        if kept == msgspec.structs.replace(self.holder, peers=sorted(self.holder.peers)):
            return None
        # An earlier write may yet be done, too.
        self._unsure |= to_be_asked(peers)
        return self._put(kept)

    def _machines(self, peers: Mapping[str, str]) -> dict[str, str]:
        return {**peers, self._context.me: self._context.machine}

    def doubted(self) -> Put:
        """We do not hear the holder."""
        assert self.holder is not None
        return self._put(msgspec.structs.replace(self.holder, doubted=self._context.me))

    def given_up(self, reason: str) -> Put:
        """The address is free."""
        assert self.holder is not None
        changes = {"state": "released", "doubted": "", "since": wall_clock(), "reason": reason}
        return self._put(msgspec.structs.replace(self.holder, **changes))

    def _put(self, holder: Holder) -> Put:
        return Put(self.key, msgspec.json.encode(holder))


def wall_clock() -> str:
    """Now, in words for people."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
