"""Random faults, one after the other and several at a time, the same ones for the same seed."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable

from tests.hosts.cases.terms import STAYS_S, Value
from tests.hosts.site import Site, Trial

_MOST_FAULTS = 4
_LONGEST_PAUSE_S = 2.5


class Chaos:
    """One sequence of faults on a trial that is running; `heal` undoes what is left."""

    def __init__(self, trial: Trial, chance: random.Random) -> None:
        self.told: list[str] = []
        self._trial = trial
        self._site = trial.site
        self._chance = chance
        self._undo: list[Callable[[], None]] = []

    def run(self) -> None:
        for _ in range(self._chance.randint(1, _MOST_FAULTS)):
            fault = self._chance.choice(
                (
                    self._kill,
                    self._freeze,
                    self._isolate,
                    self._no_etcd,
                    self._no_peer,
                    self._pause_etcd,
                    self._stop,
                )
            )
            fault(self._chance.choice(list(self._trial.instances)))
            time.sleep(self._chance.uniform(0.0, _LONGEST_PAUSE_S))
            if self._undo and self._chance.random() < 0.5:
                self._undo.pop(self._chance.randrange(len(self._undo)))()
                time.sleep(self._chance.uniform(0.0, _LONGEST_PAUSE_S))

    def heal(self) -> None:
        for undo in self._undo:
            undo()
        for name, instance in list(self._trial.instances.items()):
            if instance.process.poll() is not None:
                self._trial.start(name)

    def _tell(self, words: str) -> None:
        self.told.append(words)

    def _kill(self, name: str) -> None:
        self._tell(f"kill {name}")
        self._trial.instances[name].kill()

        def start() -> None:
            if self._trial.instances[name].process.poll() is not None:
                self._tell(f"start {name}")
                self._trial.start(name)

        self._undo.append(start)

    def _stop(self, name: str) -> None:
        self._tell(f"stop {name}")
        instance = self._trial.instances[name]
        instance.signal(signal.SIGTERM)

        def start() -> None:
            if self._trial.instances[name] is instance:
                instance.kill()
                self._tell(f"start {name}")
                self._trial.start(name)

        self._undo.append(start)

    def _freeze(self, name: str) -> None:
        self._tell(f"freeze {name}")
        instance = self._trial.instances[name]
        if instance.process.poll() is not None:
            return
        instance.signal(signal.SIGSTOP)

        def thaw() -> None:
            self._tell(f"thaw {name}")
            if instance.process.poll() is None:
                instance.signal(signal.SIGCONT)

        self._undo.append(thaw)

    def _isolate(self, name: str) -> None:
        self._cut(name, "front", "back")

    def _no_etcd(self, name: str) -> None:
        self._cut(name, "back")

    def _cut(self, name: str, *networks: str) -> None:
        self._tell(f"cut {name} off from {' and '.join(networks)}")
        host = self._trial.host(name)
        for network in networks:
            self._site.network.isolate(host, network)

        def plug() -> None:
            self._tell(f"plug {name} in")
            for network in networks:
                self._site.network.plug(host, network)

        self._undo.append(plug)

    def _no_peer(self, name: str) -> None:
        other = self._chance.choice(self._trial.others(name))
        self._tell(f"cut {name} off from {other}")
        host, far = self._trial.host(name), self._trial.host(other)
        host.unblock(far)
        host.block(far)
        self._undo.append(lambda: host.unblock(far))

    def _pause_etcd(self, name: str) -> None:
        members = self._site.etcd.members[: self._chance.choice((1, 2, 3))]
        self._tell(f"pause {len(members)} members of etcd")
        for member in members:
            member.signal(signal.SIGSTOP)

        def go_on() -> None:
            self._tell("etcd goes on")
            for member in members:
                member.signal(signal.SIGCONT)

        self._undo.append(go_on)


def play(site: Site, value: Value, rounds: int, seed: int) -> None:
    """Rounds of faults on one set of instances. After each, somebody has to hold the address again."""
    with Trial(site, {"web": value}) as trial:
        trial.wait_settled()
        for number in range(rounds):
            chaos = Chaos(trial, random.Random(f"{seed} {number}"))
            try:
                chaos.run()
                chaos.heal()
                trial.watcher.wait(trial.address, *trial.instances, limit_s=30.0)
                trial.watcher.check()
            except BaseException:
                print(f"seed {seed}, round {number}: {', '.join(chaos.told)}", flush=True)
                raise
        time.sleep(STAYS_S)
