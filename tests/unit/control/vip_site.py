"""What an instance with two peers knows of its site, without a network and without an etcd."""

from __future__ import annotations

from typing import Any

from weldr.control.vip.context import Context
from weldr.control.vip.messages import Heartbeat
from weldr.control.vip.peers import PeerNetwork
from weldr.control.vip.promises import PromiseBook
from weldr.control.vip.view import View, WantedVip
from weldr.etcd.election import Contender
from weldr.model.keys import KeySpace
from weldr.model.vips import Holder, Peer, Vip

ADDRESS = "10.0.0.100"


def others(me: str) -> list[str]:
    return [name for name in ("a", "b", "c") if name != me]


def queue(*names: str) -> list[Contender]:
    """Whoever came first leads."""
    return [Contender(name.encode(), name.encode(), token, token) for token, name in enumerate(names, 1)]


def holder(instance: str, *, token: int = 1) -> Holder:
    """What an instance writes that holds `ADDRESS`."""
    return Holder(
        instance=instance,
        address=ADDRESS,
        token=token,
        lease=1,
        state="held",
        since="",
        window_s=2.2,
        promise_s=3.0,
        host=instance,
        peers=others(instance),
    )


class Site:
    """Of the instances a, b and c the one named `me`, which hears the others."""

    def __init__(self, me: str = "a") -> None:
        self.view = View(KeySpace())
        book = PromiseBook(0.0)
        client: Any = None
        holds: Any = None
        self.peers = PeerNetwork(me, self.view, book, holds, lambda: None)
        self.context = Context(
            me, me, 0.0, client, self.view.keys, self.view, book, self.peers, lambda vip: None, lambda: None
        )
        for name in others(me):
            self.view.peers[name] = Peer(address="10.0.0.2:8688", boot=name)
            self.hear(name)

    def hear(self, name: str, *, holds: dict[str, int] | None = None, hears: list[str] | None = None) -> None:
        self.peers.hearing.note(name, Heartbeat(holds or {}, hears or []))

    def held(self, by: str, *names: str) -> None:
        """These virtual IPs are held by that instance."""
        for name in names:
            self.view.vips[name] = WantedVip(Vip(address=ADDRESS), 1)
            self.view.holders[name] = holder(by)
