"""What a service manager, or process 1 of a container, and weldr owe each other."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.etcd import EtcdServer
from tests.support.instance import Instance, http_get, wait_until
from tests.support.servers import NamedServer, named_servers

PACKAGING = Path(__file__).resolve().parents[3] / "packaging"

_ACTIVATE = """
import fcntl, os, sys
names, fds, command = sys.argv[1], [int(number) for number in sys.argv[2].split(",")], sys.argv[3:]
copies = [fcntl.fcntl(number, fcntl.F_DUPFD, 100) for number in fds]
for number, copy in enumerate(copies, 3):
    os.dup2(copy, number)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(fds)), "LISTEN_FDNAMES": names}
os.execv(command[0], command)
"""


@pytest.fixture
def one(etcd_server: EtcdServer, etcd_prefix: str) -> Iterator[NamedServer]:
    with named_servers("one") as (server,):
        etcd_server.etcdctl("put", f"{etcd_prefix}backends/default/b1", server.address)
        yield server


class ServiceManager:
    """Listens to words as systemd does."""

    def __init__(self, directory: str) -> None:
        self.path = f"{directory}/notify"
        self.words: list[dict[str, str]] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            while text := self._socket.recv(8192).decode():
                self.words.append(dict(line.split("=", 1) for line in text.splitlines()))

    def wait(self, name: str, *, after: int = 0) -> dict[str, str]:
        """The first words with that name, from the one with this number on."""

        def found() -> dict[str, str] | None:
            return next((words for words in self.words[after:] if name in words), None)

        words: dict[str, str] = wait_until(found, f"{name} is told")
        return words

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


@pytest.fixture
def service_manager() -> Iterator[ServiceManager]:
    # Not below pytest's directory: the path of a socket has to be short.
    with tempfile.TemporaryDirectory() as directory, contextlib.closing(ServiceManager(directory)) as made:
        yield made


def test_the_service_manager_is_told_what_it_has_to_know(
    etcd_server: EtcdServer, etcd_prefix: str, one: NamedServer, service_manager: ServiceManager
) -> None:
    environment = {"NOTIFY_SOCKET": service_manager.path, "WATCHDOG_USEC": "400000"}
    with Instance(etcd=etcd_server.endpoint, prefix=etcd_prefix, environment=environment) as weldr:
        assert service_manager.wait("READY")["READY"] == "1"
        assert weldr.wait_running().admin_get("/readyz")[0] == 200
        service_manager.wait("WATCHDOG")
        weldr.signal(signal.SIGUSR2)
        assert int(service_manager.wait("RELOADING")["MONOTONIC_USEC"]) > 0
        new = weldr.wait_logged("this manager has taken over")["pid"]
        main = service_manager.wait("MAINPID")
        # systemd takes no sign of life from the new one before it is told this, so this is one.
        assert (main["MAINPID"], main["READY"], main["WATCHDOG"]) == (str(new), "1", "1")
        assert weldr.wait() == 0
        assert not any("STOPPING" in words for words in service_manager.words)
        # The old one has ended: this sign is the new one's.
        service_manager.wait("WATCHDOG", after=len(service_manager.words))
        os.kill(new, signal.SIGTERM)
        service_manager.wait("STOPPING")


def test_a_retired_manager_finishes_what_it_has_though_systemd_stops_it_twice(
    etcd_server: EtcdServer, etcd_prefix: str, one: NamedServer
) -> None:
    with (
        Instance(etcd=etcd_server.endpoint, prefix=etcd_prefix) as weldr,
        ThreadPoolExecutor(1) as client,
    ):
        weldr.wait_ready()
        wait_until(lambda: weldr.get()[0] == 200, "the backend answers")
        one.hold()
        answer = client.submit(weldr.get, limit_s=60)
        wait_until(lambda: one.waiting, "the request is in flight")
        weldr.signal(signal.SIGUSR2)
        new = weldr.wait_logged("this manager has taken over")["pid"]
        weldr.wait_logged("retired: finishing what is in flight")
        os.kill(new, signal.SIGTERM)

        def told_again() -> bool:
            weldr.signal(signal.SIGTERM)
            return bool(weldr.logged("asked to stop again: still finishing what is in flight"))

        wait_until(told_again, "it is told twice")
        one.release()
        assert answer.result() == (200, "one")
        assert weldr.wait() == 0


def test_under_nohup_the_end_of_a_terminal_stops_neither_the_manager_nor_the_next_one(
    etcd_server: EtcdServer, etcd_prefix: str, one: NamedServer
) -> None:
    with Instance(etcd=etcd_server.endpoint, prefix=etcd_prefix, under=("nohup",)) as weldr:
        weldr.wait_ready()
        weldr.signal(signal.SIGHUP)
        weldr.signal(signal.SIGUSR2)
        new = weldr.wait_logged("this manager has taken over")["pid"]
        assert weldr.wait() == 0
        os.kill(new, signal.SIGHUP)
        os.kill(new, signal.SIGTERM)
        weldr.wait_logged("weldr has stopped", count=2)
        assert not weldr.logged("asked to stop again")


def _fill(path: str) -> None:
    """Send words to a service manager that reads none until it takes no more of them from anybody."""
    sent = 1
    while sent:
        sent = 0
        # Each has a limit of its own, too.
        with (
            contextlib.suppress(BlockingIOError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as filler,
        ):
            filler.setblocking(False)
            while filler.sendto(b"STATUS=full", path):
                sent += 1


@contextlib.contextmanager
def busy_service_manager() -> Iterator[tuple[socket.socket, dict[str, str]]]:
    """Its full socket, and what names that to weldr."""
    with (
        tempfile.TemporaryDirectory() as directory,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as busy,
    ):
        path = f"{directory}/notify"
        busy.bind(path)
        _fill(path)
        yield busy, {"NOTIFY_SOCKET": path}


def test_a_service_manager_that_is_busy_is_told_of_readiness_when_it_has_time(
    etcd_server: EtcdServer, etcd_prefix: str, one: NamedServer
) -> None:
    with (
        busy_service_manager() as (busy, environment),
        Instance(etcd=etcd_server.endpoint, prefix=etcd_prefix, environment=environment) as weldr,
    ):
        weldr.wait_ready()
        busy.settimeout(30)
        while b"READY=1" not in busy.recv(8192):
            pass


def test_a_stop_between_taking_over_and_telling_a_busy_service_manager_ends_both_managers(
    etcd_server: EtcdServer, etcd_prefix: str, one: NamedServer
) -> None:
    with (
        busy_service_manager() as (_, environment),
        Instance(etcd=etcd_server.endpoint, prefix=etcd_prefix, environment=environment) as weldr,
    ):
        weldr.wait_ready()
        weldr.signal(signal.SIGUSR2)
        new = weldr.wait_logged("this manager has taken over")["pid"]
        weldr.signal(signal.SIGTERM)
        wait_until(lambda: not Path(f"/proc/{new}").exists(), "the new one ends")
        assert weldr.wait() == 0
        stopping = weldr.logged("stopping: finishing what is in flight")
        assert len(stopping) == 1, "only one of them was the instance"


def test_a_stop_of_somebody_who_did_not_know_yet_of_the_new_manager_ends_both(
    etcd_server: EtcdServer, etcd_prefix: str, one: NamedServer, service_manager: ServiceManager
) -> None:
    environment = {"NOTIFY_SOCKET": service_manager.path}
    with (
        Instance(etcd=etcd_server.endpoint, prefix=etcd_prefix, environment=environment) as weldr,
        ThreadPoolExecutor(1) as client,
    ):
        weldr.wait_ready()
        wait_until(lambda: weldr.get()[0] == 200, "the backend answers")
        one.hold()
        answer = client.submit(weldr.get, limit_s=60)
        wait_until(lambda: one.waiting, "the request is in flight")
        before = len(service_manager.words)
        weldr.signal(signal.SIGUSR2)
        new = int(service_manager.wait("MAINPID", after=before)["MAINPID"])
        # As if it had been sent before anybody had read that.
        weldr.signal(signal.SIGTERM)
        wait_until(lambda: not Path(f"/proc/{new}").exists(), "the new one ends")
        one.release()
        assert answer.result() == (200, "one")
        assert weldr.wait() == 0
        assert len(weldr.logged("stopping: finishing what is in flight")) == 1
        assert not weldr.logged("ending at once")


def test_an_instance_that_has_no_catalog_is_not_ready_for_the_service_manager(
    service_manager: ServiceManager,
) -> None:
    environment = {"NOTIFY_SOCKET": service_manager.path, "WATCHDOG_USEC": "400000"}
    with Instance(etcd="http://127.0.0.1:1", environment=environment) as weldr:
        weldr.wait_running()
        for _ in range(3):
            service_manager.wait("WATCHDOG", after=len(service_manager.words))
        assert not any("READY" in words for words in service_manager.words)
        assert "/readyz" in service_manager.wait("STATUS")["STATUS"]


def test_sockets_of_the_service_manager_are_used_and_lose_nothing_while_weldr_is_away(
    etcd_server: EtcdServer, etcd_prefix: str, one: NamedServer
) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_server(("127.0.0.1", 0)) as admin,
    ):
        fds = (listener.fileno(), admin.fileno())
        address, admin_address = (f"127.0.0.1:{each.getsockname()[1]}" for each in (listener, admin))
        under = (sys.executable, "-c", _ACTIVATE, "http:admin", ",".join(map(str, fds)))

        def start() -> Instance:
            arguments = ("run", "--etcd", etcd_server.endpoint, "--prefix", etcd_prefix, "--workers", "2")
            weldr = Instance.__new__(Instance)
            super(Instance, weldr).__init__(*arguments, under=under, pass_fds=fds)
            return weldr

        with start() as weldr:
            weldr.wait_ready()
            assert (weldr.addresses, weldr.admin) == ([address], admin_address)
            for _ in range(10):
                assert weldr.get() == (200, "one")
            weldr.signal(signal.SIGUSR2)
            new = weldr.wait_logged("this manager has taken over")["pid"]
            assert weldr.wait() == 0
            assert weldr.get() == (200, "one")
            os.kill(new, signal.SIGTERM)
            weldr.wait_logged("weldr has stopped", count=2)
        with socket.create_connection(("127.0.0.1", listener.getsockname()[1]), timeout=30) as waiting:
            waiting.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            with start() as weldr:
                answer = b""
                while data := waiting.recv(4096):
                    answer += data
                assert answer.endswith(b"one")
                assert http_get(f"http://{admin_address}/healthz")[0] == 200


@pytest.mark.parametrize("unit", ["weldr.service", "weldr-unprivileged.service", "weldr.socket"])
def test_the_units_are_understood_by_systemd(unit: str, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("the command systemd-analyze is missing: install systemd")
    for source in PACKAGING.iterdir():
        text = source.read_text().replace("/usr/local/bin/weldr", f'"{sys.executable}"')
        (tmp_path / source.name).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", str(tmp_path / unit)], capture_output=True, text=True, check=False
    )
    said = [line for line in done.stderr.splitlines() if "weldr" in line]
    assert said == []
    if unit.endswith(".service"):
        done = subprocess.run(
            ["systemd-analyze", "security", "--offline=true", "--threshold=25", str(tmp_path / unit)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-300:]


@pytest.fixture
def in_container(etcd_server: EtcdServer, etcd_prefix: str, one: NamedServer) -> Iterator[Instance]:
    """weldr as process 1 of a process namespace of its own."""
    under = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
    if shutil.which("unshare") is None or subprocess.run([*under, "true"], capture_output=True).returncode:
        pytest.skip("process namespaces need root and the command unshare (util-linux)")
    with Instance(etcd=etcd_server.endpoint, prefix=etcd_prefix, under=under) as weldr:
        weldr.wait_ready()
        yield weldr


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_process_1_of_a_container_reaps_orphans_and_outlives_upgrades(in_container: Instance) -> None:
    weldr = in_container
    (first,) = _children(weldr.pid)
    (manager,) = _children(first)
    subprocess.run(
        ["nsenter", "-t", str(first), "--pid", "--mount", "sh", "-c", "sleep 0.1 & sleep 0.1 &"], check=True
    )
    os.kill(first, signal.SIGUSR2)
    weldr.wait_logged("this manager has taken over")
    wait_until(lambda: _children(first) and manager not in _children(first), "the old manager is reaped")
    assert weldr.get() == (200, "one")

    def only_the_manager() -> bool:
        children = _children(first)
        return len(children) == 1 and b"weldr" in Path(f"/proc/{children[0]}/cmdline").read_bytes()

    wait_until(only_the_manager, "the orphans are reaped")
    os.kill(first, signal.SIGTERM)
    assert weldr.wait() == 0
    assert weldr.logged("stopping: finishing what is in flight")


def test_process_1_takes_nobodys_word_but_a_managers_on_who_is_the_main_process(in_container: Instance) -> None:
    weldr = in_container
    (first,) = _children(weldr.pid)
    (manager,) = _children(first)
    variables = Path(f"/proc/{manager}/environ").read_bytes().split(b"\0")
    (name,) = (each.partition(b"=@")[2] for each in variables if each.startswith(b"NOTIFY_SOCKET="))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stranger:
        stranger.sendto(b"MAINPID=1", b"\0" + name)
    os.kill(first, signal.SIGUSR2)
    weldr.wait_logged("this manager has taken over")
    # unshare itself would not pass it on.
    os.kill(first, signal.SIGTERM)
    assert weldr.wait() == 0


def test_process_1_ends_with_the_status_of_what_it_runs() -> None:
    under = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    if shutil.which("unshare") is None or subprocess.run([*under, "true"], capture_output=True).returncode:
        pytest.skip("process namespaces need root and the command unshare (util-linux)")
    done = subprocess.run(
        [*under, sys.executable, "-P", "-m", "weldr", "run", "--workers", "0"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.startswith("weldr run: Invalid value for '--workers'")
