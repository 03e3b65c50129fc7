"""A whole site: three weldr hosts, an etcd cluster of three, a client, and who watches."""

from __future__ import annotations

import contextlib
import itertools
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from tests.hosts.client import Client
from tests.hosts.etcd import Cluster
from tests.hosts.namespaces import PROJECT, Host, Network
from tests.hosts.watcher import Span, Watcher
from tests.support.instance import WeldrProcess, wait_until
from weldr.control.vip.machine import TRANSITIONS, State

_OPEN_S = 0.3
"""A request takes less than this."""

VIP = "10.77.0.100"
VIP6 = "fd77::100"
PORT = 8080


class Site:
    """Made once for many tests; each test gets instances, keys and a watcher of its own."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Site:
        self.network = self._stack.enter_context(Network())
        self.hosts = [self.network.add(f"h{number}") for number in (1, 2, 3)]
        self.client_host = self.network.add("client")
        self.spare = self.network.add("h4")
        """For an instance that is no part of most trials."""
        etcd_hosts = [self.network.add(f"e{number}") for number in (1, 2, 3)]
        self.etcd = self._stack.enter_context(Cluster(etcd_hosts))
        namespaces = [host.namespace for host in (*self.hosts, self.spare)]
        command = [sys.executable, "-m", "tests.hosts.backend", "127.0.0.1:9001", *namespaces]
        backend = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=PROJECT)
        self._stack.callback(backend.wait, 10)
        self._stack.callback(backend.kill)
        assert backend.stdout is not None
        assert backend.stdout.readline() == b"ready\n"
        self.put("backends/default/b1", "127.0.0.1:9001")
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def put(self, key: str, value: str | dict[str, Any]) -> None:
        text = value if isinstance(value, str) else json.dumps(value)
        self.etcd.etcdctl(self.client_host, "put", f"/weldr/{key}", text)

    def delete(self, key: str, *arguments: str) -> None:
        self.etcd.etcdctl(self.client_host, "del", f"/weldr/{key}", *arguments)

    def get(self, key: str) -> Any:
        text = self.etcd.etcdctl(self.client_host, "get", "--print-value-only", f"/weldr/{key}")
        return json.loads(text) if text.strip() else None

    def weldr(
        self, host: Host, *wrapper: str, name: str = "", environment: dict[str, str] | None = None
    ) -> WeldrProcess:
        """An instance on a host, started; named like the host unless it is given another name."""
        arguments = ["run", "--etcd", self.etcd.endpoints, "--instance", name or host.name, "--workers", "1"]
        arguments += ["--listen", f":{PORT}", "--admin", "127.0.0.1:8687", "--grace", "2"]
        return WeldrProcess(*arguments, under=tuple(host.command(*wrapper)), environment=environment)


class Trial:
    """One test's instances, by host, with the watcher over one virtual IP (or more)."""

    def __init__(
        self,
        site: Site,
        vips: dict[str, dict[str, Any]],
        *,
        hosts: int = 3,
        spare: bool = False,
        may_be_double: bool = False,
        also: tuple[str, ...] = (),
    ) -> None:
        """`spare`: that host is watched, too; `also`: other addresses are."""
        self.site = site
        self.vips = vips
        self.instances: dict[str, WeldrProcess] = {}
        self._may_be_double = may_be_double
        self._also = also
        self._hosts = site.hosts[:hosts]
        self._watched = [*site.hosts, site.spare] if spare else site.hosts
        self._stack = contextlib.ExitStack()
        self.address = next(iter(vips.values()))["address"] if vips else VIP

    def __enter__(self) -> Trial:
        self._make_clean()
        for prefix in ("vips/", "holders/", "elections/", "moves/", "instances/"):
            self.site.delete(prefix, "--prefix")
        for name, value in self.vips.items():
            self.site.put(f"vips/{name}", value)
        addresses = [*(value["address"] for value in self.vips.values()), *self._also] or [VIP]
        self.watcher = Watcher(self._watched, addresses, self.site.client_host)
        self._stack.callback(self.watcher.stop if self._may_be_double else self.watcher.close)
        self._stack.callback(self._end_instances)
        for host in self._hosts:
            self.start(host.name)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self.tell()
        self._stack.close()
        for name, instance in self.instances.items():
            _check_transitions(name, instance)

    def _make_clean(self) -> None:
        """What an earlier trial left behind on the hosts and networks must not be taken for this one's."""
        for member in self.site.etcd.members:
            member.signal(signal.SIGCONT)
            if not member.running:
                member.start()
        for host in self.site.network.hosts.values():
            for network in ("front", "back"):
                self.site.network.plug(host, network)
            host.ip("route", "flush", "type", "blackhole", check=False)
            host.ip("-6", "route", "flush", "type", "blackhole", check=False)
            host.ip("-4", "addr", "flush", "label", "eth0:weldr", check=False)
            for address in (*(value["address"] for value in self.vips.values()), *self._also):
                length = 128 if ":" in address else 32
                host.ip("addr", "del", f"{address}/{length}", "dev", "eth0", check=False)
        self.site.etcd.wait_ready()

    def command(self, *arguments: str) -> str:
        """What `weldr ARGUMENTS…`, run by the client, prints."""
        done = self.run(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`weldr ARGUMENTS…`, run by the client."""
        command = [sys.executable, "-P", "-m", "weldr", *arguments, "--etcd", self.site.etcd.endpoints]
        return subprocess.run(
            self.site.client_host.command(*command), capture_output=True, text=True, check=False, timeout=60
        )

    def tell(self) -> None:
        """What happened, for whoever reads of a failed test."""
        print(self.watcher.story())
        for name, instance in self.instances.items():
            lines = [line for line in instance.lines if "virtual IP" in line]
            print(f"--- {name}", *lines[-40:], sep="\n")

    def _end_instances(self) -> None:
        for instance in self.instances.values():
            with contextlib.suppress(ProcessLookupError):
                instance.signal(signal.SIGCONT)
            instance.kill()

    def host(self, name: str) -> Host:
        return self.site.network.hosts[name]

    def start(self, name: str, *wrapper: str, environment: dict[str, str] | None = None) -> WeldrProcess:
        instance = self.instances[name] = self.site.weldr(self.host(name), *wrapper, environment=environment)
        return instance

    def wait_settled(self) -> str:
        """Wait until one instance holds the address and the others are known to it as peers; the holder."""
        holder = self.watcher.wait(self.address, *self.instances)
        assert holder is not None
        for name in self.vips:
            wait_until(lambda name=name: self._settled(name), "all instances know each other")
        return self.watcher.wait(self.address, *self.instances) or ""

    def _settled(self, name: str) -> bool:
        record = self.site.get(f"holders/{name}")
        keys = self.site.etcd.etcdctl(
            self.site.client_host, "get", "--prefix", "--keys-only", f"/weldr/elections/{name}/"
        )
        return (
            record is not None
            and record["state"] == "held"
            and set(record["peers"]) == set(self.instances) - {record["instance"]}
            and len(keys.split()) == len(self.instances)
        )

    @contextlib.contextmanager
    def client(self) -> Iterator[Client]:
        client = Client(self.site.client_host, self.address, PORT)
        try:
            client.wait_good()
            yield client
        finally:
            client.close()

    def lost(self, client: Client, after_s: float) -> int:
        """How many requests up to now failed, but for those whose connection was open, or being opened, when
        the address left its host."""
        client.wait_decided()
        spans = self.watcher.histories[self.address].spans
        left_s = [
            after.began_s
            for before, after in itertools.pairwise(spans)
            if set(before.holders) - set(after.holders)
        ]
        lost_s = [
            sent_s
            for sent_s in client.tally.bad
            if sent_s > after_s and not any(-_OPEN_S < sent_s - moment_s < 0 for moment_s in left_s)
        ]
        for sent_s in lost_s:
            why = client.tally.why[sent_s]
            print(f"lost: a request sent {sent_s - spans[0].began_s:.3f} s after the first look, {why}")
        return len(lost_s)

    def spans(self, since_s: float) -> list[Span]:
        """Who held the address, one after the other, from then on."""
        return [span for span in self.watcher.histories[self.address].spans if span.ended_s > since_s]

    def others(self, name: str) -> list[str]:
        return [other for other in self.instances if other != name]

    def only_holders(self, since_s: float) -> set[str]:
        """Who has held it at any moment from then on."""
        return {name for span in self.spans(since_s) for name in span.holders}


def _check_transitions(name: str, instance: WeldrProcess) -> None:
    """Every change of a state that was logged is one of the table."""
    for record in instance.logged("virtual IP: "):
        if "before" not in record:
            continue
        before, after = State(record["before"]), State(record["message"].removeprefix("virtual IP: "))
        assert before is after or after in TRANSITIONS[before], f"{name}: {before} became {after}"
