"""keepalived and weldr on the same hosts (network namespaces): how long clients are without the virtual IP."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tests.hosts.client import Client
from tests.hosts.namespaces import PROJECT, Host
from tests.hosts.site import PORT, VIP, Site, Trial
from tests.hosts.watcher import Watcher

NAME = "failover"
_AFTER_S = 4.0
_SETTLED_S = 4.0
"""After the start. Before that an instance of weldr waits for what it may have promised in an earlier life."""
_STALL_S = 0.6
_LEFTOVERS_S = 1.0


class Contestant(Protocol):
    """Three hosts of which one holds the address."""

    watcher: Watcher

    def host(self, name: str) -> Host: ...

    def stop(self, name: str) -> None: ...

    def signal(self, name: str, number: signal.Signals) -> None: ...


class Weldr:
    """weldr, in one of its modes."""

    def __init__(self, site: Site, value: dict[str, Any]) -> None:
        self._trial = Trial(site, {"web": {"address": VIP, **value}}, may_be_double=True)

    def __enter__(self) -> Weldr:
        self._trial.__enter__()
        self.watcher = self._trial.watcher
        self._trial.wait_settled()
        return self

    def __exit__(self, *error: Any) -> None:
        self._trial.__exit__(None)

    def host(self, name: str) -> Host:
        return self._trial.host(name)

    def stop(self, name: str) -> None:
        self.signal(name, signal.SIGTERM)

    def signal(self, name: str, number: signal.Signals) -> None:
        self._trial.instances[name].signal(number)


class Keepalived:
    """keepalived 2, by VRRP 3, in front of a plain server."""

    def __init__(self, site: Site, interval_s: float) -> None:
        self._site = site
        self._interval_s = interval_s
        self._stack = contextlib.ExitStack()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Keepalived:
        directory = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        self._stack.enter_context(_servers(self._site))
        self.watcher = Watcher(self._site.hosts, [VIP])
        self._stack.callback(self.watcher.stop)
        for priority, host in zip((100, 90, 80), self._site.hosts, strict=True):
            file = directory / f"{host.name}.conf"
            file.write_text(_CONFIGURATION.format(interval=self._interval_s, priority=priority, vip=VIP))
            command = ["keepalived", "--dont-fork", "--vrrp", "--use-file", str(file)]
            command += ["--pid", str(directory / f"{host.name}.pid")]
            command += ["--vrrp_pid", str(directory / f"{host.name}.vrrp.pid")]
            self._processes[host.name] = subprocess.Popen(
                host.command(*command), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
        self._stack.callback(self._end)
        self.watcher.wait(VIP, "h1", limit_s=30.0)
        time.sleep(_LEFTOVERS_S)
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.close()

    def _end(self) -> None:
        for name, process in self._processes.items():
            for pid in _children(process.pid):
                _send(pid, signal.SIGCONT)
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
            process.kill()
            process.wait(5)
            self.host(name).ip("addr", "del", f"{VIP}/32", "dev", "eth0", check=False)

    def host(self, name: str) -> Host:
        return self._site.network.hosts[name]

    def stop(self, name: str) -> None:
        self._processes[name].terminate()

    def signal(self, name: str, number: signal.Signals) -> None:
        """To the process that speaks VRRP, or, if it is to be killed, to all."""
        for pid in _children(self._processes[name].pid):
            _send(pid, number)
        if number is signal.SIGKILL:
            self._processes[name].kill()


_CONFIGURATION = """global_defs {{
  vrrp_version 3
  router_id bench
}}
vrrp_instance web {{
  state BACKUP
  interface eth0
  virtual_router_id 51
  priority {priority}
  advert_int {interval}
  virtual_ipaddress {{
    {vip}/32
  }}
}}
"""


@contextlib.contextmanager
def _servers(site: Site) -> Iterator[None]:
    """What answers on each host in weldr's place."""
    namespaces = [host.namespace for host in site.hosts]
    command = [sys.executable, "-m", "tests.hosts.backend", f"0.0.0.0:{PORT}", *namespaces]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=PROJECT)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield
    finally:
        process.kill()
        process.wait(10)


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


@dataclass
class Result:
    """One case of one contestant, over all its runs."""

    outages_s: list[float] = field(default_factory=list)
    lost: list[int] = field(default_factory=list)
    double_s: float = 0.0
    none_s: float = 0.0

    def line(self) -> str:
        if not self.outages_s:
            return "-"
        middle, worst = statistics.median(self.outages_s), max(self.outages_s)
        lost = statistics.median(self.lost)
        return f"{middle:.2f} s, {worst:.2f} s | {lost:.0f} | {self.double_s:.2f} s | {self.none_s:.2f} s"


def planned(contestant: Contestant, site: Site, holder: str) -> None:
    contestant.stop(holder)


def host_dead(contestant: Contestant, site: Site, holder: str) -> None:
    for network in ("front", "back"):
        site.network.isolate(contestant.host(holder), network)


def killed(contestant: Contestant, site: Site, holder: str) -> None:
    contestant.signal(holder, signal.SIGKILL)


def frozen(contestant: Contestant, site: Site, holder: str) -> None:
    contestant.signal(holder, signal.SIGSTOP)


def stalled(contestant: Contestant, site: Site, holder: str) -> None:
    contestant.signal(holder, signal.SIGSTOP)
    time.sleep(_STALL_S)
    contestant.signal(holder, signal.SIGCONT)


def peers_cut(contestant: Contestant, site: Site, holder: str) -> None:
    """The holder and the others no longer hear each other, while clients reach all of them."""
    for host in site.hosts:
        site.network.part(host, True)


CASES: dict[str, Callable[[Contestant, Site, str], None]] = {
    "planned handover": planned,
    "holder's host cut off": host_dead,
    "process killed (-9)": killed,
    "process frozen": frozen,
    f"process frozen for {_STALL_S} s": stalled,
    "link between the hosts cut": peers_cut,
}

CONTESTANTS: dict[str, Callable[[Site], Any]] = {
    "keepalived": lambda site: Keepalived(site, 1),
    "keepalived, 0.1 s": lambda site: Keepalived(site, 0.1),
    "weldr, lease": lambda site: Weldr(site, {"failover": "lease"}),
    "weldr, strict": lambda site: Weldr(site, {"failover": "strict"}),
    "weldr, fast": lambda site: Weldr(site, {"failover": "fast"}),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--times", type=int, default=5, help="how often each case")
    parser.add_argument("--only", nargs="*", default=list(CONTESTANTS), choices=list(CONTESTANTS))
    parser.add_argument("--cases", nargs="*", default=list(CASES), choices=list(CASES))


def run(options: argparse.Namespace) -> None:
    print("| case | | outage median, worst | requests lost (median) | longest with two holders | with none |")
    print("| --- | --- | --- | --- | --- | --- |")
    if os.geteuid() != 0:
        sys.exit("bench failover: network namespaces need root: run it with sudo")
    if shutil.which("keepalived") is None and any(name.startswith("keepalived") for name in options.only):
        sys.exit("bench failover: keepalived is missing: install it, or name others with --only")
    with Site() as site:
        for case in options.cases:
            for name in options.only:
                result = Result()
                for _ in range(options.times):
                    _run_once(CONTESTANTS[name](site), site, CASES[case], result)
                print(f"| {case} | {name} | {result.line()} |", flush=True)


def _run_once(made: Any, site: Site, fault: Callable[[Contestant, Site, str], None], result: Result) -> None:
    with made as contestant:
        holder = contestant.watcher.wait(VIP, *(host.name for host in site.hosts))
        client = Client(site.client_host, VIP, PORT)
        try:
            client.wait_good()
            time.sleep(_SETTLED_S)
            began_s = time.monotonic()
            fault(contestant, site, holder)
            time.sleep(_AFTER_S)
            ended_s = time.monotonic()
        finally:
            client.close()
        result.outages_s.append(client.tally.outage_s(began_s, ended_s))
        result.lost.append(client.tally.lost(began_s))
        result.double_s = max(result.double_s, contestant.watcher.longest_double(VIP, began_s))
        result.none_s = max(result.none_s, contestant.watcher.longest_without(VIP, began_s))
    for host in site.hosts:
        site.network.part(host, False)
        for network in ("front", "back"):
            site.network.plug(host, network)
