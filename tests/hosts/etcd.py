"""An etcd cluster whose members are hosts."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

from tests.hosts.namespaces import Host, inside
from tests.support.etcd import LIMIT_S, newest

_CLEAN = {name: value for name, value in os.environ.items() if not name.startswith(("ETCDCTL_", "ETCD_"))}


class Member:
    """One etcd in one host."""

    def __init__(self, host: Host, cluster: list[Host]) -> None:
        self.host = host
        self.endpoint = f"http://{host.back}:2379"
        self._cluster = ",".join(f"{member.name}=http://{member.back}:2380" for member in cluster)
        self._directory = Path(tempfile.mkdtemp(prefix="weldr-hosts-etcd-"))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        peer = f"http://{self.host.back}:2380"
        command = [
            str(newest().path),
            f"--name={self.host.name}",
            f"--data-dir={self._directory / 'data'}",
            f"--listen-client-urls={self.endpoint}",
            f"--advertise-client-urls={self.endpoint}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster={self._cluster}",
            "--unsafe-no-fsync",
        ]
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self.host.command(*command), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=_CLEAN
            )

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """Nothing for one that is not running."""
        if self._process is not None:
            self._process.send_signal(number)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)

    def answers(self, path: str, word: bytes) -> bool:
        try:
            with (
                inside(self.host.namespace),
                urllib.request.urlopen(f"{self.endpoint}{path}", timeout=1) as answer,
            ):
                return word in answer.read()
        except OSError:
            return False

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self._directory, ignore_errors=True)


class Cluster:
    """Three of them."""

    def __init__(self, hosts: list[Host]) -> None:
        self.members = [Member(host, hosts) for host in hosts]

    def __enter__(self) -> Cluster:
        for member in self.members:
            member.start()
        self.wait_ready()
        return self

    def __exit__(self, *_: object) -> None:
        for member in self.members:
            member.close()

    @property
    def endpoints(self) -> str:
        return ",".join(member.endpoint for member in self.members)

    def wait_ready(self) -> None:
        deadline = time.monotonic() + LIMIT_S
        while not all(member.answers("/health", b'"true"') for member in self.members):
            assert time.monotonic() < deadline, "etcd did not start"
            time.sleep(0.05)

    def leader(self) -> Member:
        deadline = time.monotonic() + LIMIT_S
        while time.monotonic() < deadline:
            for member in self.members:
                if member.running and member.answers("/metrics", b"\netcd_server_is_leader 1"):
                    return member
            time.sleep(0.05)
        raise RuntimeError("the cluster has no leader")

    def etcdctl(self, host: Host, *arguments: str) -> str:
        """`etcdctl ARGUMENTS…`, run in a host."""
        command = [str(newest().etcdctl), f"--endpoints={self.endpoints}", "--command-timeout=10s", *arguments]
        done = subprocess.run(
            host.command(*command), capture_output=True, text=True, check=False, env=_CLEAN, timeout=LIMIT_S
        )
        if done.returncode != 0:
            raise RuntimeError(f"etcdctl {' '.join(arguments)}: {done.stderr}")
        return done.stdout
