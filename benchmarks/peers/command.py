"""weldr beside nginx, HAProxy, Envoy, Traefik, Caddy and aiohttp: rates, CPU, latencies and memory."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import signal
import sys
from pathlib import Path

from benchmarks.peers.idle import allow_connections
from benchmarks.peers.measure import Bench
from benchmarks.peers.origin import Origin
from benchmarks.peers.proxies import PEERS, WELDR, Proxy
from benchmarks.peers.report import Report, failures
from benchmarks.peers.works import NAMES
from tests.support.etcd import EtcdServer

NAME = "peers"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    peers = [peer.name for peer in PEERS]
    parser.add_argument("--rounds", type=_positive, default=5)
    parser.add_argument("--seconds", type=_positive, default=4, help="how long each turn of a round takes")
    parser.add_argument(
        "--only", nargs="+", metavar="PEER", choices=peers, default=peers, help=", ".join(peers)
    )
    parser.add_argument(
        "--work", nargs="+", metavar="NAME", choices=NAMES, default=list(NAMES), help=", ".join(NAMES)
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write every round's figures")


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def run(options: argparse.Namespace) -> None:
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise SystemExit("this needs two cores: one for the proxy, one for load and origin")
    if not shutil.which("wrk"):
        raise SystemExit("there is no wrk: `scripts/bench install` fetches it")
    # Ended from outside, it ends what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    allow_connections()
    os.sched_setaffinity(0, {cores[1]})
    present, missing = _present(options.only)
    versions = {proxy.name: proxy.version() for proxy in (WELDR, *present)}
    results = {}
    with EtcdServer() as etcd, Origin() as origin:
        bench = Bench([WELDR, *present], options.rounds, options.seconds, cores[0], origin.port, etcd)
        for name in options.work:
            results[name] = bench.measure(name)
    report = Report(
        command=_command(options),
        options={"rounds": options.rounds, "seconds": options.seconds},
        versions=versions,
        missing=missing,
        results=results,
    )
    print(report.markdown())
    if options.json:
        report.write_json(options.json)
    for work, name, outcome in failures(results):
        print(f"{name} failed at {work}: {outcome.failed}", file=sys.stderr)
    if failures(results):
        raise SystemExit(1)


def _command(options: argparse.Namespace) -> str:
    """What repeats this run, whatever the defaults are by then."""
    words = ["./scripts/bench", NAME, "--rounds", str(options.rounds), "--seconds", str(options.seconds)]
    if set(options.only) != {peer.name for peer in PEERS}:
        words += ["--only", *options.only]
    if set(options.work) != set(NAMES):
        words += ["--work", *options.work]
    return shlex.join(words)


def _present(names: list[str]) -> tuple[list[Proxy], dict[str, str]]:
    present = []
    missing = {}
    for peer in PEERS:
        if peer.name not in names:
            continue
        if peer.program() is None:
            missing[peer.name] = "not on this machine"
        else:
            present.append(peer)
    return present, missing
