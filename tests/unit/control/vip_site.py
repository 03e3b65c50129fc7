"""What an instance with two peers knows of its site, without a network and without an etcd."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from weldr.control.vip.context import Context
from weldr.control.vip.messages import Heartbeat
from weldr.control.vip.peers import PeerNetwork
from weldr.control.vip.promises import PromiseBook
from weldr.control.vip.view import View, WantedVip
from weldr.etcd.election import Contender
from weldr.etcd.errors import EtcdUnavailableError
from weldr.model.keys import KeySpace
from weldr.model.vips import Holder, Peer, Vip

ADDRESS = "10.0.0.100"


class NoEtcd:
    """Nothing is answered."""

    config = SimpleNamespace(endpoints=[])

    def __getattr__(self, name: str) -> Any:
        async def refuse(*arguments: object, **named: object) -> None:
            raise EtcdUnavailableError("no etcd", endpoint="etcd:2379")

        return refuse


def others(me: str) -> list[str]:
    return [name for name in ("a", "b", "c") if name != me]


def machine_of(instance: str) -> str:
    """Each is on one of its own."""
    return f"machine {instance}"


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
        machines={name: machine_of(name) for name in ("a", "b", "c")},
    )


class Site:
    """Of the instances a, b and c the one named `me`, which hears the others."""

    def __init__(self, me: str = "a") -> None:
        self.view = View(KeySpace())
        book = PromiseBook(0.0)
        client: Any = None
        holds: Any = None
        machine, keys = machine_of(me), self.view.keys
        self.peers = PeerNetwork(me, machine, self.view, book, holds, lambda: None)
        self.context = Context(
            me, me, machine, 0.0, client, keys, self.view, book, self.peers, lambda vip: None, lambda: None
        )
        for name in others(me):
            self.view.peers[name] = Peer(address="10.0.0.2:8688", boot=name, machine=machine_of(name))
            self.hear(name)

    def hear(self, name: str, *, holds: dict[str, int] | None = None, hears: list[str] | None = None) -> None:
        self.peers.hearing.note(name, Heartbeat(holds or {}, hears or []))

    def held(self, by: str, *names: str) -> None:
        """These virtual IPs are held by that instance."""
        for name in names:
            self.view.vips[name] = WantedVip(Vip(address=ADDRESS), 1)
            self.view.holders[name] = holder(by)


class Clock:
    """In place of the real one."""

    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s
