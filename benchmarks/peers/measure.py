"""Gives each proxy its turn at each work, round after round, and collects what was measured.

All proxies of a work run at once, idle but for the one whose turn it is, so that what the machine does in the
meantime meets all of them alike. They are started anew for each work.
"""

from __future__ import annotations

import contextlib
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from benchmarks.peers.exact import WrongAnswerError, check
from benchmarks.peers.full_load import full_load
from benchmarks.peers.idle import CONNECTIONS, IdleConnections
from benchmarks.peers.paced import paced_load
from benchmarks.peers.proxies import WELDR, Proxy
from benchmarks.peers.running import Running
from benchmarks.peers.websocket import EchoClients
from benchmarks.peers.works import IDLE, WEBSOCKET, WORKS, Work
from tests.support.etcd import EtcdServer

DIRECT = "direct"
"""No proxy: what load and origin can do at most, on the one core that they share."""

_WARM_UP_S = 1
_MEBIBYTE = 1024 * 1024


@dataclass
class Outcome:
    """One proxy at one work: each figure's values, one for each round, or why there are none."""

    figures: dict[str, list[float]] = field(default_factory=dict)
    failed: str = ""

    def add(self, **figures: float) -> None:
        for name, value in figures.items():
            self.figures.setdefault(name, []).append(value)

    def median(self, name: str) -> float | None:
        values = self.figures.get(name)
        return statistics.median(values) if values else None


Outcomes = dict[str, Outcome]


@dataclass(frozen=True)
class _Direct:
    port: int


_Target = Running | _Direct


@dataclass(frozen=True)
class Bench:
    """What all works have in common."""

    proxies: Sequence[Proxy]
    rounds: int
    seconds: int
    core: int
    origin_port: int
    etcd: EtcdServer

    def measure(self, name: str) -> Outcomes:
        """One work, for every proxy."""
        outcomes = {proxy.name: Outcome() for proxy in self.proxies}
        if name == IDLE:
            self._idle(outcomes)
            return outcomes
        outcomes[DIRECT] = Outcome()
        with contextlib.ExitStack() as stack:
            targets: dict[str, _Target] = {DIRECT: _Direct(self.origin_port)}
            for proxy in self.proxies:
                with _failing(outcomes[proxy.name]):
                    targets[proxy.name] = stack.enter_context(self._start(proxy))
            if name == WEBSOCKET:
                self._websocket(targets, outcomes)
            else:
                self._http(next(work for work in WORKS if work.name == name), targets, outcomes)
            for each, target in targets.items():
                if isinstance(target, Running):
                    outcomes[each].add(memory_mib=target.memory_bytes() / _MEBIBYTE)
        return outcomes

    def _start(self, proxy: Proxy) -> Running:
        return Running(proxy, self.core, self.origin_port, self.etcd)

    def _http(self, work: Work, targets: dict[str, _Target], outcomes: Outcomes) -> None:
        def warm_up(target: _Target, outcome: Outcome) -> None:
            full_load(target.port, work, _WARM_UP_S)

        def full(target: _Target, outcome: Outcome) -> None:
            check(target.port, work)
            before = _cpu_s(target)
            load = full_load(target.port, work, self.seconds)
            _add_cpu(outcome, target, _cpu_s(target) - before, load.requests, load.seconds)
            outcome.add(rate=load.requests / load.seconds, p50_ms=load.p50_ms, p99_ms=load.p99_ms)
            check(target.port, work)

        def half(target: _Target, outcome: Outcome) -> None:
            load = paced_load(target.port, work, rate, self.seconds)
            outcome.add(half_rate=rate, half_answered=load.answered / load.due)
            if load.kept_up:
                cuts = statistics.quantiles(load.latencies_s, n=100)
                outcome.add(half_p50_ms=cuts[49] * 1000, half_p99_ms=cuts[98] * 1000)

        self._in_turn(f"{work.name}, warm-up", 1, targets, outcomes, warm_up)
        self._in_turn(f"{work.name}, full load", self.rounds, targets, outcomes, full)
        weldr = outcomes[WELDR.name].median("rate")
        if weldr is not None:
            rate = weldr / 2
            self._in_turn(f"{work.name}, half of weldr's rate", self.rounds, targets, outcomes, half)

    def _websocket(self, targets: dict[str, _Target], outcomes: Outcomes) -> None:
        def warm_up(target: _Target, outcome: Outcome) -> None:
            with EchoClients(target.port) as clients:
                clients.run(_WARM_UP_S)

        def full(target: _Target, outcome: Outcome) -> None:
            with EchoClients(target.port) as clients:
                before = _cpu_s(target)
                load = clients.run(self.seconds)
                _add_cpu(outcome, target, _cpu_s(target) - before, load.messages, load.seconds)
            outcome.add(rate=load.messages / load.seconds, p50_ms=load.p50_ms, p99_ms=load.p99_ms)

        self._in_turn("WebSocket, warm-up", 1, targets, outcomes, warm_up)
        self._in_turn("WebSocket", self.rounds, targets, outcomes, full)

    def _idle(self, outcomes: Outcomes) -> None:
        """Each time in a new process: what one took for connections it may keep when they are gone."""
        for number in range(self.rounds):
            for proxy in self.proxies:
                outcome = outcomes[proxy.name]
                if outcome.failed:
                    continue
                _tell(f"idle connections, round {number + 1}: {proxy.name}")
                with _failing(outcome), self._start(proxy) as running:
                    before = running.memory_bytes()
                    with IdleConnections(running.port) as idle:
                        after = running.memory_bytes()
                        largest = running.largest_memory_bytes()
                        busy = running.cpu_s()
                        load = full_load(running.port, WORKS[0], self.seconds)
                        _add_cpu(outcome, running, running.cpu_s() - busy, load.requests, load.seconds)
                        idle.ask_again()
                    outcome.add(
                        started_mib=before / _MEBIBYTE,
                        idle_mib=after / _MEBIBYTE,
                        idle_largest_mib=largest / _MEBIBYTE,
                        idle_kib_each=(after - before) / 1024 / CONNECTIONS,
                        rate=load.requests / load.seconds,
                    )

    @staticmethod
    def _in_turn(
        title: str,
        rounds: int,
        targets: dict[str, _Target],
        outcomes: Outcomes,
        turn: Callable[[_Target, Outcome], None],
    ) -> None:
        for number in range(rounds):
            for name, target in targets.items():
                if not outcomes[name].failed:
                    _tell(f"{title}, round {number + 1}: {name}")
                    with _failing(outcomes[name]):
                        turn(target, outcomes[name])


@contextlib.contextmanager
def _failing(outcome: Outcome) -> Iterator[None]:
    """What one proxy cannot do does not end the run: it stands in the table."""
    try:
        yield
    except (WrongAnswerError, OSError, RuntimeError, subprocess.SubprocessError) as error:
        outcome.failed = str(error) or repr(error)
        _tell(f"FAILED: {outcome.failed}")


def _cpu_s(target: _Target) -> float:
    return target.cpu_s() if isinstance(target, Running) else 0.0


def _add_cpu(outcome: Outcome, target: _Target, cpu_s: float, count: int, elapsed_s: float) -> None:
    if isinstance(target, Running):
        outcome.add(cpu_us=cpu_s / count * 1e6, core_percent=cpu_s / elapsed_s * 100)


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
