"""`scripts/demo-vip`: a site to break by hand, or `--watch` to see it broken."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import time
from collections.abc import Callable

from tests.hosts.client import Client
from tests.hosts.site import PORT, VIP, Site, Trial

_HELP = """
commands:        kill hN, freeze hN, thaw hN, start hN, stop hN   the weldr of a host
                 cut hN, plug hN                                  the host's cables
                 pause etcd, resume etcd                          the whole etcd cluster
                 move hN                                          weldr vip move web --to hN
                 quit
"""
_TOUR = (
    "freeze {holder}",
    "thaw {first}",
    "pause etcd",
    "resume etcd",
    "cut {holder}",
    "plug {last}",
    "move h1",
)
_PAUSE_S = 6.0


class Demo:
    """Says who holds the address whenever that changes, and what the client saw."""

    def __init__(self, trial: Trial, client: Client) -> None:
        self._trial = trial
        self._client = client
        self._site = trial.site

    def do(self, words: str) -> None:
        """One command, and what came of it."""
        verb, _, name = words.strip().partition(" ")
        actions: dict[str, Callable[[str], None]] = {
            "kill": lambda host: self._trial.instances[host].kill(),
            "freeze": lambda host: self._trial.instances[host].signal(signal.SIGSTOP),
            "thaw": lambda host: self._trial.instances[host].signal(signal.SIGCONT),
            "stop": lambda host: self._trial.instances[host].signal(signal.SIGTERM),
            "start": lambda host: self._start(host),
            "cut": lambda host: self._cables(host, "isolate"),
            "plug": lambda host: self._cables(host, "plug"),
            "pause": lambda _: self._etcd(signal.SIGSTOP),
            "resume": lambda _: self._etcd(signal.SIGCONT),
            "move": self._move,
        }
        if verb not in actions or (verb not in ("pause", "resume") and name not in self._trial.instances):
            print(_HELP)
            return
        began_s = time.monotonic()
        actions[verb](name)
        self.tell(began_s)

    def tell(self, began_s: float) -> None:
        """Wait a little, then say what happened."""
        time.sleep(_PAUSE_S)
        tally, outage_s = self._client.tally, self._client.tally.outage_s(began_s, time.monotonic())
        print(f"  the address is at {self._trial.watcher.holder(VIP) or 'no host'}", end="; ")
        print(f"longest without an answer {outage_s:.2f} s, {tally.lost(began_s)} requests lost")

    def _move(self, name: str) -> None:
        done = self._trial.run("vip", "move", "web", "--to", name)
        print(" ", (done.stdout or done.stderr).strip())

    def _start(self, name: str) -> None:
        self._trial.instances[name].kill()
        self._trial.start(name)

    def _cables(self, name: str, what: str) -> None:
        for network in ("front", "back"):
            getattr(self._site.network, what)(self._trial.host(name), network)

    def _etcd(self, number: signal.Signals) -> None:
        for member in self._site.etcd.members:
            member.signal(number)


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/demo-vip")
    parser.add_argument("--watch", action="store_true", help="a tour of faults, in place of commands")
    options = parser.parse_args()
    print("starting three hosts, etcd and a client …", flush=True)
    with Site() as site, Trial(site, {"web": {"address": VIP}}) as trial:
        trial.wait_settled()
        client = Client(site.client_host, VIP, PORT)
        try:
            client.wait_good()
            demo = Demo(trial, client)
            print(
                f"a client asks http://{VIP}:{PORT}/ every 5 ms; {trial.watcher.holder(VIP)} holds the address"
            )
            namespace = trial.host("h1").namespace
            print(f"look for yourself: ip -n {namespace} address")
            command = f"{sys.executable} -m weldr get vips --etcd {site.etcd.endpoints}"
            print(f"                   ip netns exec {namespace} {command}")
            _tour(demo, trial) if options.watch else _listen(demo)
        finally:
            client.close()


def _tour(demo: Demo, trial: Trial) -> None:
    first = last = ""
    for step in _TOUR:
        holder = trial.watcher.holder(VIP) or "h1"
        first, last = (first or holder), (holder if "cut" in step else last)
        words = step.format(holder=holder, first=first, last=last)
        print(f"> {words}", flush=True)
        demo.do(words)


def _listen(demo: Demo) -> None:
    print(_HELP, flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        for line in sys.stdin:
            if line.strip() in ("quit", "exit"):
                return
            demo.do(line)


if __name__ == "__main__":
    main()
