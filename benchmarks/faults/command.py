"""One of ten backends fails in each way, under steady load: failed requests, latency, time until out and back
in."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import shlex
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.faults.load import REQUEST_LIMIT_S, Outcome, SteadyLoad
from benchmarks.faults.origins import BACKENDS, FAULTS, Fault, Origins
from benchmarks.faults.proxies import PROXIES, Running
from benchmarks.peers.report import machine
from tests.support.etcd import EtcdServer

NAME = "faults"
_WARM_S = 15.0
_BUCKET_S = 0.5
# In rotation is who gets at least a third of its share over a while, and out who gets less.
_SHARE = 1 / 3
_WHILE_S = 3.0


@dataclass(frozen=True, slots=True)
class Result:
    """What one fault did to one proxy's clients. Times are from the fault, or from its end; none if it never
    was."""

    requests: int
    failed: int
    p50_ms: float
    p99_ms: float
    out_after_s: float | None
    back_after_s: float | None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    names = [proxy.name for proxy in PROXIES]
    faults = [fault.value for fault in FAULTS]
    parser.add_argument("--rate", type=float, default=200.0, help="requests a second, on each proxy")
    parser.add_argument("--fault-seconds", type=float, default=45.0)
    parser.add_argument("--after-seconds", type=float, default=45.0)
    parser.add_argument("--only", nargs="+", metavar="PROXY", choices=names, default=names)
    parser.add_argument(
        "--fault", nargs="+", metavar="FAULT", choices=faults, default=faults, help=", ".join(faults)
    )
    parser.add_argument("--json", type=Path, metavar="FILE")


def run(options: argparse.Namespace) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    proxies = [proxy for proxy in PROXIES if proxy.name in options.only]
    missing = [proxy.name for proxy in proxies if proxy.program() is None]
    if missing:
        raise SystemExit(f"not on this machine: {', '.join(missing)}: `scripts/bench install` fetches them")
    results = {}
    for fault in FAULTS:
        if fault.value not in options.fault:
            continue
        # Anew for each: what a proxy remembers of the last fault would change what it does at the next.
        with contextlib.ExitStack() as stack:
            etcd = stack.enter_context(EtcdServer())
            origins = stack.enter_context(Origins(len(proxies)))
            running = [
                stack.enter_context(Running(proxy, ports, etcd))
                for proxy, ports in zip(proxies, origins.ports, strict=True)
            ]
            found = asyncio.run(_measure(fault, origins, running, options))
            results[fault] = dict(zip([proxy.name for proxy in proxies], found, strict=True))
    print(_command(options) + "\n")
    print(f"On {machine()}.\n")
    print(", ".join(f"{proxy.name} {proxy.version()}" for proxy in proxies) + ".\n")
    print(_markdown(results))
    if options.json:
        content = {
            fault.value: {name: asdict(result) for name, result in found.items()}
            for fault, found in results.items()
        }
        options.json.write_text(json.dumps(content, indent=1) + "\n")


async def _measure(
    fault: Fault, origins: Origins, running: Sequence[Running], options: argparse.Namespace
) -> list[Result]:
    """All proxies side by side, each with backends of its own, so that all have the same weather."""
    loads = [SteadyLoad(each.port, options.rate) for each in running]
    tasks = [asyncio.create_task(load.run()) for load in loads]
    await asyncio.sleep(_WARM_S)
    began_s = await asyncio.to_thread(origins.set, fault)
    await asyncio.sleep(options.fault_seconds)
    ended_s = await asyncio.to_thread(origins.set, Fault.NONE)
    await asyncio.sleep(options.after_seconds)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for load in loads:
        await load.finish()
    last_s = ended_s + options.after_seconds
    seen = await asyncio.to_thread(origins.requests_s)
    return [
        _result(load.outcomes, requests_s, began_s, ended_s, last_s, options.rate)
        for load, requests_s in zip(loads, seen, strict=True)
    ]


def _result(
    outcomes: Sequence[Outcome],
    requests_s: Sequence[float],
    began_s: float,
    ended_s: float,
    last_s: float,
    rate: float,
) -> Result:
    during = [outcome for outcome in outcomes if began_s <= outcome.due_s < last_s]
    at_fault = [outcome for outcome in during if outcome.due_s < ended_s]
    # Who got no answer waited for as long as a client waits, at least.
    latencies = sorted(max(each.took_s, 0.0 if each.status else REQUEST_LIMIT_S) for each in at_fault)
    share = rate / BACKENDS
    return Result(
        requests=len(during),
        failed=sum(outcome.status != 200 for outcome in during),
        p50_ms=1000 * latencies[len(latencies) // 2],
        p99_ms=1000 * latencies[int(len(latencies) * 0.99)],
        out_after_s=_first(requests_s, began_s, ended_s, lambda got: got < share * _SHARE),
        back_after_s=_first(requests_s, ended_s, last_s, lambda got: got >= share * _SHARE),
    )


def _first(requests_s: Sequence[float], start_s: float, end_s: float, holds: object) -> float | None:
    """After how long the rate of the while that follows is so for the first time."""
    moment_s = start_s
    while moment_s + _WHILE_S <= end_s:
        got = sum(moment_s <= each < moment_s + _WHILE_S for each in requests_s) / _WHILE_S
        if holds(got):  # type: ignore[operator]
            return moment_s - start_s
        moment_s += _BUCKET_S
    return None


def _markdown(results: dict[Fault, dict[str, Result]]) -> str:
    lines = []
    for fault, found in results.items():
        lines += [
            f"### One of ten {fault.value}\n",
            f"| | {' | '.join(found)} |",
            "| --- " * (len(found) + 1) + "|",
        ]
        every = list(found.values())
        lines += [
            _row("failed requests", [f"{each.failed:,} of {each.requests:,}" for each in every]),
            _row("p50 ms", [f"{each.p50_ms:.1f}" for each in every]),
            _row("p99 ms", [f"{each.p99_ms:,.1f}" for each in every]),
            _row("out after", [_seconds(each.out_after_s) for each in every]),
            _row("back in after", [_seconds(each.back_after_s) for each in every]),
            "",
        ]
    return "\n".join(lines)


def _row(name: str, cells: Sequence[str]) -> str:
    return f"| {name} | {' | '.join(cells)} |"


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f} s"


def _command(options: argparse.Namespace) -> str:
    words = ["./scripts/bench", NAME, "--rate", f"{options.rate:g}"]
    words += ["--fault-seconds", f"{options.fault_seconds:g}", "--after-seconds", f"{options.after_seconds:g}"]
    return f"`{shlex.join(words)}`"
