"""etcd's record of who holds a virtual IP, `holders/<vip>`: as it was last read, and what may be written.

Whatever is written compares the record with what was read, so that two who write at once do not both succeed.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

import msgspec

from weldr.control.vip.context import Context
from weldr.control.vip.rules import to_be_asked
from weldr.control.vip.view import holder_of
from weldr.etcd.client import Compare, Put
from weldr.model.events import KeyValue
from weldr.model.keys import Kind
from weldr.model.vips import Holder, Vip


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
        self._unsure_peers: frozenset[str] = frozenset()
        """Whom the record may name by now: a write whose answer is lost may come late."""

    def note(self, pair: KeyValue | None) -> None:
        """It was read."""
        self.holder = holder_of(pair)
        revision = pair.mod_revision if pair is not None else 0
        if revision != self.revision:
            self.revision, self._unsure_peers = revision, frozenset()
        if self.holder is not None:
            self._context.book.learn(self._name, self.holder.token)

    @property
    def unsure(self) -> tuple[int, frozenset[str]]:
        """The revision that was read, and whom the record names or may name by now."""
        return self.revision, frozenset(self.peers_to_ask)

    def adopt_unsure(self, revision: int, peers: Iterable[str]) -> None:
        """Another manager of this instance was not sure of these at that revision."""
        self.revision, self._unsure_peers = revision, frozenset(peers)

    def names(self, token: int | None) -> bool:
        """Whether that candidacy holds."""
        return self.holder is not None and self.holder.state == "held" and self.holder.token == token

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
    def peers_to_ask(self) -> set[str]:
        """All whose promise the holder needs without etcd."""
        return {*(self.holder.peers if self.holder is not None else ()), *self._unsure_peers}

    def claimed(self, token: int, lease: int, *, held: bool) -> Put:
        """We hold it, by this candidacy. `held`: we did so before, by promises. Then whoever has given none is
        named later, by `kept`: as a peer it would be free to claim before we know that it is one."""
        timing = self._vip.timing()
        peers = self._context.peers_now()
        if held:
            peers = [peer for peer in peers if peer in self.peers_to_ask] or peers
        self._unsure_peers |= to_be_asked(peers)
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
            peers=peers,
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
            return f"{before.instance} gave it up: {before.reason}"
        return f"{before.instance} was silent" if before.doubted else f"{before.instance} was gone"

    def kept(self) -> Put | None:
        """Whoever may have to be asked when etcd is lost has to be in it before, and no doubt may stay. `None`
        if it is so."""
        holder, peers = self.holder, self._context.peers_now()
        if holder is None or (sorted(holder.peers) == peers and not holder.doubted):
            return None
        # An earlier write may yet be done, too.
        self._unsure_peers |= to_be_asked(peers)
        return self._put(msgspec.structs.replace(holder, peers=peers, doubted=""))

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


def released_token(holder: Holder | None) -> int:
    """See `Record.released_token`."""
    return holder.token if holder is not None and holder.state == "released" else 0


def wall_clock() -> str:
    """Now, in words for people."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
