"""The results for people and for programs."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers.measure import DIRECT, Outcome, Outcomes
from benchmarks.peers.proxies import PEERS, WELDR
from benchmarks.peers.works import IDLE, WEBSOCKET, WORKS
from tests.support.etcd import newest

_COLUMNS = (WELDR.name, *(peer.name for peer in PEERS), DIRECT)
_TITLES = {
    **{work.name: work.title for work in WORKS},
    WEBSOCKET: "WebSocket echo, messages of 100 bytes",
    IDLE: "10,000 idle connections",
}


@dataclass(frozen=True)
class _Row:
    """One figure: its key, what it is called, and the digits after its point."""

    figure: str
    label: str
    digits: int = 0


def _load_rows(one: str) -> tuple[_Row, ...]:
    return (
        _Row("rate", f"{one}s/s"),
        _Row("cpu_us", f"CPU µs per {one}", 1),
        _Row("core_percent", "% of its core used"),
        _Row("p50_ms", "p50 ms, full load", 2),
        _Row("p99_ms", "p99 ms, full load", 2),
    )


_HTTP_ROWS = (
    *_load_rows("request"),
    _Row("half_p50_ms", "p50 ms, half of weldr's rate", 2),
    _Row("half_p99_ms", "p99 ms, half of weldr's rate", 2),
    _Row("memory_mib", "memory MiB", 1),
)
_WEBSOCKET_ROWS = (*_load_rows("message"), _Row("memory_mib", "memory MiB", 1))
_IDLE_ROWS = (
    _Row("started_mib", "memory MiB, started", 1),
    _Row("idle_mib", "memory MiB, with them", 1),
    _Row("idle_largest_mib", "largest process with them, RSS MiB", 1),
    _Row("idle_kib_each", "KiB for each", 1),
    _Row("rate", "GET of 100 bytes beside them, requests/s"),
    _Row("cpu_us", "CPU µs per such request", 1),
    _Row("core_percent", "% of its core used"),
)
_ROWS = {WEBSOCKET: _WEBSOCKET_ROWS, IDLE: _IDLE_ROWS}
_NO_RATIO = {"core_percent"}


@dataclass(frozen=True)
class Report:
    """One run. `versions` has each proxy that took part, `missing` each that did not and why."""

    command: str
    options: Mapping[str, object]
    versions: Mapping[str, str]
    missing: Mapping[str, str]
    results: Mapping[str, Outcomes]

    def write_json(self, path: Path) -> None:
        content = {
            "command": self.command,
            "machine": machine(),
            "options": self.options,
            "versions": self.versions,
            "missing": self.missing,
            "results": {
                name: {each: dataclasses.asdict(outcome) for each, outcome in outcomes.items()}
                for name, outcomes in self.results.items()
            },
        }
        path.write_text(json.dumps(content, indent=1) + "\n")

    def markdown(self) -> str:
        """A table for each work: the proxies beside each other, in brackets the ratio to weldr."""
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        parts = [f"`{self.command}`\n", f"On {machine()}.\n", f"{versions}.\n"]
        for name, outcomes in self.results.items():
            parts += [f"### {_TITLES[name]}\n", self._table(outcomes, _ROWS.get(name, _HTTP_ROWS))]
        return "\n".join(parts)

    def _table(self, outcomes: Outcomes, rows: Sequence[_Row]) -> str:
        columns = [name for name in _COLUMNS if name in outcomes or name in self.missing]
        lines = [["", *columns], ["---"] * (len(columns) + 1)]
        for row in rows:
            lines.append([row.label, *(self._cell(row, name, outcomes) for name in columns)])
        text = [f"| {' | '.join(cells)} |\n" for cells in lines]
        text += [f"\n{name}: {each.failed}\n" for name, each in outcomes.items() if each.failed]
        return "".join(text)

    def _cell(self, row: _Row, name: str, outcomes: Outcomes) -> str:
        if name in self.missing:
            return "missing"
        outcome = outcomes[name]
        if outcome.failed:
            return "failed"
        value = outcome.median(row.figure)
        if value is None:
            return _too_slow(outcome) if row.figure.startswith("half_") else "–"
        text = f"{value:,.{row.digits}f}"
        weldr = outcomes[WELDR.name].median(row.figure)
        if name == WELDR.name or row.figure in _NO_RATIO or not weldr:
            return text
        return f"{text} (×{value / weldr:.2f})"


def _too_slow(outcome: Outcome) -> str:
    answered = outcome.median("half_answered")
    return "–" if answered is None else f"only {answered:.0%} answered"


def machine() -> str:
    """The machine and what was measured with, in words."""
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    wrk = subprocess.run(["wrk", "--version"], capture_output=True, text=True, check=False).stdout
    return (
        f"{len(os.sched_getaffinity(1))} cores of {model}, Linux {platform.release()}, "
        f"Python {platform.python_version()}, etcd {newest().label}, {' '.join(wrk.split()[:2])}"
    )


def failures(results: Mapping[str, Outcomes]) -> list[tuple[str, str, Outcome]]:
    """Each work that a proxy did not do rightly."""
    return [
        (work, name, outcome)
        for work, outcomes in results.items()
        for name, outcome in outcomes.items()
        if outcome.failed
    ]
