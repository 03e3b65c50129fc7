"""Looks at every host's addresses and the client's neighbour table all the time; two holders fail the test."""

from __future__ import annotations

import ipaddress
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.hosts.namespaces import Host, inside
from tests.hosts.neighbour_table import NeighbourTable
from tests.support.real_time import InexcusableError
from weldr.control.announce.rtnetlink import Rtnetlink

_INTERVAL_S = 0.005
_ANNOUNCED_S = 1.0
"""By then whoever holds an address has announced it four times, the first time in the instant of the claim."""
_CUT_S = 5.0
"""A host whose cable was cut may have announced in vain: until then its next announcement is due."""
_STARVED_S = 0.25
"""What happened in a longer pause between two looks is not known."""
_SPEAK_S = 0.5


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


@dataclass
class Astray:
    """Since when the client's packets go to a host that does not hold the address, while another one does."""

    holder: str
    shown: str
    began_s: float
    seen_s: float

    def goes_on(self, holder: str, shown: str, now_s: float) -> bool:
        return (self.holder, self.shown) == (holder, shown) and now_s - self.seen_s < _STARVED_S


class Watcher:
    """A thread. `close` raises if two hosts ever held an address together, or if the client's neighbour table
    showed it at a host that did not hold it for longer than an announcement of the one that did takes."""

    def __init__(self, hosts: list[Host], addresses: list[str], client: Host | None = None) -> None:
        self.histories = {address: History() for address in addresses}
        self.samples = 0
        self._hosts = hosts
        self._addresses = [ipaddress.ip_address(address) for address in addresses]
        self._stopped = threading.Event()
        self._failure: Exception | None = None
        self._table = NeighbourTable(client) if client is not None else None
        self._names: dict[str, str] = {}
        self._astray: dict[str, Astray] = {}
        self._spoke_s = 0.0
        self.misled: dict[tuple[str, str, str], float] = {}
        """For how long at most: by address, holder, and who was shown in the neighbour table."""
        self._links: list[Rtnetlink] = []
        for host in hosts:
            with inside(host.namespace):
                self._links.append(Rtnetlink())
            self._names |= {link.mac: host.name for link in self._links[-1].links() if link.name == "eth0"}
        self._thread = threading.Thread(target=self._watch, name="watcher", daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        try:
            self._look_on()
        except Exception as error:
            self._failure = error

    def _look_on(self) -> None:
        while not self._stopped.wait(_INTERVAL_S):
            holders = self._look()
            for address, names in holders.items():
                if len(names) > 1:
                    # The hosts are looked at one after the other: what has moved meanwhile is no double.
                    again = self._look()[address]
                    names = [name for name in names if name in again]
                self.histories[address].note(tuple(names), time.monotonic())
            if self._table is not None:
                self._look_at_table(self._table)
            self.samples += 1

    def _look_at_table(self, table: NeighbourTable) -> None:
        now_s = time.monotonic()
        hosts = {host.name: host for host in self._hosts}
        for ip in self._addresses:
            address, mac = str(ip), table.mac_of(ip)
            shown, holders = self._names.get(mac or "", mac), self.holders(str(ip))
            before = self._astray.pop(address, None)
            if shown is None or len(holders) != 1 or shown == holders[0]:
                continue
            if now_s - hosts[holders[0]].cut_s < _CUT_S:
                continue
            if before is None or not before.goes_on(holders[0], shown, now_s):
                before = Astray(holders[0], shown, now_s, now_s)
            before.seen_s = now_s
            self._astray[address] = before
            key = (address, before.holder, before.shown)
            self.misled[key] = max(self.misled.get(key, 0.0), now_s - before.began_s)
        if now_s - self._spoke_s > _SPEAK_S:
            self._spoke_s = now_s
            for ip in self._addresses:
                table.speak_to(ip)

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

    def longest_without(self, address: str, after_s: float) -> float:
        """The longest time without a holder."""
        return self._longest(address, after_s, lambda holders: holders == 0)

    def longest_double(self, address: str, after_s: float) -> float:
        """The longest time with more than one holder."""
        return self._longest(address, after_s, lambda holders: holders > 1)

    def _longest(self, address: str, after_s: float, counts: Callable[[int], bool]) -> float:
        longest_s = begun_s = 0.0
        for span in self.histories[address].spans:
            if span.ended_s <= after_s or not counts(len(span.holders)):
                begun_s = 0.0
                continue
            begun_s = begun_s or max(span.began_s, after_s)
            longest_s = max(longest_s, span.ended_s - begun_s)
        return longest_s

    def stop(self) -> None:
        """Look no more. Raises if it has not looked until now: what it did not see may have been anything."""
        self._stopped.set()
        self._thread.join(10)
        for link in self._links:
            link.close()
        if self._table is not None:
            self._table.close()
        if self._failure is not None or self._thread.is_alive():
            raise InexcusableError("the watcher did not look on until the end") from self._failure

    def check(self) -> None:
        """Two holders at one moment are what must never be. For as long as it was not looked at all, nobody
        knows."""
        if self._failure is not None:
            raise InexcusableError("the watcher has stopped looking") from self._failure
        if any(history.doubles() for history in self.histories.values()):
            raise InexcusableError(f"two hosts held the same address:\n{self.story()}")

    def close(self) -> None:
        self.stop()
        self.check()
        misled = {key: span_s for key, span_s in self.misled.items() if span_s > _ANNOUNCED_S}
        assert not misled, (
            f"a client's packets went astray (address, holder, where to: seconds): {misled}\n{self.story()}"
        )
