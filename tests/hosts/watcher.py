"""Looks at every host's addresses and the client's neighbour table all the time; two holders fail the test."""

from __future__ import annotations

import ipaddress
import threading
import time
from dataclasses import dataclass, field

from tests.hosts.namespaces import Host, inside
from tests.support.real_time import InexcusableError
from weldr.control.announce.rtnetlink import Rtnetlink

_INTERVAL_S = 0.005


@dataclass
class Span:
    """Who held the address from when to when."""

    holders: tuple[str, ...]
    began_s: float
    ended_s: float = 0.0


@dataclass
class History:
    """What was seen of one address."""

    spans: list[Span] = field(default_factory=list)

    def note(self, holders: tuple[str, ...], now_s: float) -> None:
        if not self.spans or self.spans[-1].holders != holders:
            if self.spans:
                self.spans[-1].ended_s = now_s
            self.spans.append(Span(holders, now_s))
        self.spans[-1].ended_s = now_s

    def doubles(self) -> list[Span]:
        return [span for span in self.spans if len(span.holders) > 1]


class Watcher:
    """A thread. `close` raises if two hosts ever held an address together."""

    def __init__(self, hosts: list[Host], addresses: list[str]) -> None:
        self.histories = {address: History() for address in addresses}
        self.samples = 0
        self._hosts = hosts
        self._addresses = [ipaddress.ip_address(address) for address in addresses]
        self._stopped = threading.Event()
        self._links: list[Rtnetlink] = []
        for host in hosts:
            with inside(host.namespace):
                self._links.append(Rtnetlink())
        self._thread = threading.Thread(target=self._watch, name="watcher", daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._stopped.wait(_INTERVAL_S):
            holders = self._look()
            for address, names in holders.items():
                if len(names) > 1:
                    # The hosts are looked at one after the other: what has moved meanwhile is no double.
                    again = self._look()[address]
                    names = [name for name in names if name in again]
                self.histories[address].note(tuple(names), time.monotonic())
            self.samples += 1

    def _look(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {str(address): [] for address in self._addresses}
        for host, link in zip(self._hosts, self._links, strict=True):
            there = {address.interface.ip for address in link.addresses()}
            for address in self._addresses:
                if address in there:
                    found[str(address)].append(host.name)
        return found

    def holders(self, address: str) -> tuple[str, ...]:
        spans = self.histories[address].spans
        return spans[-1].holders if spans else ()

    def holder(self, address: str) -> str | None:
        holders = self.holders(address)
        return holders[0] if holders else None

    def wait(self, address: str, *names: str | None, limit_s: float = 15.0) -> str | None:
        """Wait until one of these holds it (`None`: nobody does)."""
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            if self.samples > 2 and self.holder(address) in names:
                return self.holder(address)
            time.sleep(0.005)
        raise AssertionError(f"{address} is at {self.holders(address)}, not at one of {names}: {self.story()}")

    def story(self) -> str:
        """Everything that was seen, for people."""
        lines = []
        for address, history in self.histories.items():
            first = history.spans[0].began_s if history.spans else 0.0
            for span in history.spans:
                names = " and ".join(span.holders) or "nobody"
                lines.append(
                    f"{address} at {names} from {span.began_s - first:.3f} to {span.ended_s - first:.3f}"
                )
        return "\n".join(lines)

    def longest(self, address: str, holders: int, after_s: float) -> float:
        """The longest time with so many holders."""
        spans = [span for span in self.histories[address].spans if span.ended_s > after_s]
        return max(
            (s.ended_s - max(s.began_s, after_s) for s in spans if len(s.holders) == holders), default=0.0
        )

    def stop(self) -> None:
        """Look no more."""
        self._stopped.set()
        self._thread.join(10)
        for link in self._links:
            link.close()

    def check(self) -> None:
        """Two holders at one moment are what must never be."""
        if any(history.doubles() for history in self.histories.values()):
            raise InexcusableError(f"two hosts held the same address:\n{self.story()}")

    def close(self) -> None:
        self.stop()
        self.check()
