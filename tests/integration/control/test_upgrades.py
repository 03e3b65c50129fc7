"""An upgrade: a new manager takes over from the one that runs, and nobody who asks it anything notices."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import weldr as package
from tests.support.etcd import EtcdServer
from tests.support.instance import Instance, http_get, wait_until
from tests.support.servers import named_servers
from tests.support.steady_load import echo_backend, steady_load

_CLOSE = b"connection: close"


def command(*arguments: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """`weldr ARGUMENTS…`."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("WELDR_", "ETCD"))}
    return subprocess.run(
        [sys.executable, "-P", "-m", "weldr", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env=clean | (environment or {}),
        check=False,
    )


def upgrade(weldr: Instance, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """`weldr upgrade ARGUMENTS…`."""
    return command("upgrade", "--admin", weldr.admin, *arguments, **options)


def upgrade_by_signal(weldr: Instance, pid: int, number: int) -> int:
    """SIGUSR2, for the `number`-th time; the new manager's process id."""
    os.kill(pid, signal.SIGUSR2)
    return int(weldr.wait_logged("this manager has taken over", count=number)["pid"])


def is_alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


@pytest.fixture
def backend(etcd_server: EtcdServer, etcd_prefix: str) -> Iterator[str]:
    with echo_backend() as address:
        etcd_server.etcdctl("put", f"{etcd_prefix}backends/default/b1", address)
        yield address


@pytest.fixture
def weldr(etcd_server: EtcdServer, etcd_prefix: str, backend: str) -> Iterator[Instance]:
    arguments = ("--grace", "5", "--drain-limit", "60")
    with Instance(*arguments, etcd=etcd_server.endpoint, prefix=etcd_prefix, workers=2) as instance:
        instance.wait_ready()
        wait_until(lambda: instance.get()[0] == 200, "the backend answers")
        yield instance


def test_three_upgrades_in_a_row_lose_no_request_and_no_tunnel(weldr: Instance) -> None:
    with steady_load(weldr.address, tunnels=4) as load:
        pids = [weldr.pid]
        for number in (1, 2, 3):
            pids.append(upgrade_by_signal(weldr, pids[-1], number))
        assert weldr.admin_get("/readyz")[0] == 200
        # The tunnels were opened before the first, and keep its manager from ending.
        assert is_alive(pids[0])
        tally = load.stop()
    assert tally["bad"] == []
    assert tally["tunnels_cut"] == []
    assert tally["good"] > 100
    wait_until(lambda: not any(is_alive(pid) for pid in pids[:-1]), "the old managers end")
    assert weldr.wait() == 0
    assert is_alive(pids[-1])


def test_the_command_says_what_has_become_of_it(weldr: Instance) -> None:
    done = upgrade(weldr)
    assert done.returncode == 0, done.stderr
    new = int(weldr.wait_logged("this manager has taken over")["pid"])
    assert done.stdout.splitlines()[-1] == f"upgraded: the manager is process {new} now"
    assert weldr.wait() == 0
    assert weldr.get()[0] == 200


def test_tunnels_on_old_workers_live_until_the_drain_limit(weldr: Instance) -> None:
    with steady_load(weldr.address, rate=50, tunnels=3) as load:
        keep = command("upgrade", "--admin", weldr.admin, "--", *_options(weldr, "--drain-limit", "3"))
        assert keep.returncode == 0, keep.stderr
        # The tunnels are the first manager's, which has a limit of a minute: the next load has another one.
        with steady_load(weldr.address, rate=50, tunnels=3) as later:
            began_s = time.monotonic()
            assert upgrade(weldr).returncode == 0
            second = int(weldr.wait_logged("this manager has taken over", count=1)["pid"])
            wait_until(lambda: not is_alive(second), "the second manager ends at its limit")
            cut = later.stop()
        assert len(cut["tunnels_cut"]) == 3
        assert min(cut["tunnels_cut"]) - began_s >= 3
        assert cut["bad"] == []
        kept = load.stop()
    assert kept["tunnels_cut"] == []
    assert kept["bad"] == []


def _options(weldr: Instance, *more: str, workers: int = 2) -> list[str]:
    """Those of `weldr run` that it was started with, and more."""
    arguments = [str(word) for word in weldr.process.args]  # type: ignore[union-attr]
    options = arguments[arguments.index("run") + 1 :]
    options[options.index("--workers") + 1] = str(workers)
    return [*options, *more]


def test_an_idle_client_of_an_old_worker_gets_its_next_answer_there_and_is_told_to_go(weldr: Instance) -> None:
    with socket.create_connection(("127.0.0.1", weldr.port), timeout=30) as client:
        assert _CLOSE not in _ask(client)
        assert upgrade(weldr).returncode == 0
        weldr.wait_logged("retired: finishing what is in flight")
        assert is_alive(weldr.pid)
        assert _CLOSE in _ask(client)
        assert client.recv(1) == b""
    assert weldr.wait() == 0


def _ask(client: socket.socket) -> bytes:
    client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    answer = b""
    while not answer.endswith(b"\r\n\r\nok"):
        data = client.recv(4096)
        assert data, f"closed after {answer!r}"
        answer += data
    return answer.lower()


def test_fewer_workers_and_another_address_take_every_connection_that_was_queued(weldr: Instance) -> None:
    workers = weldr.worker_pids()
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)
    # They are spread over the sockets of both workers, and nobody accepts them.
    waiting = [socket.create_connection(("127.0.0.1", weldr.port), timeout=30) for _ in range(40)]
    for client in waiting:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    done = upgrade(weldr, "--", *_options(weldr, "--listen", "127.0.0.2:0", workers=1))
    for pid in workers:
        os.kill(pid, signal.SIGCONT)
    assert done.returncode == 0, done.stderr
    for client in waiting:
        answer = b""
        while data := client.recv(4096):
            answer += data
        assert answer.endswith(b"ok")
        client.close()
    running = weldr.wait_logged("weldr is running", count=2)
    assert running["workers"] == 1
    assert [address.rpartition(":")[0] for address in running["listen"]] == ["127.0.0.1", "127.0.0.2"]
    assert running["listen"][0] == weldr.address
    assert running["instance"] == weldr.name
    for address in running["listen"]:
        for _ in range(20):
            assert http_get(f"http://{address}/")[0] == 200
    # And back to more workers, and to the first address alone.
    assert upgrade(weldr, "--", *_options(weldr, workers=3)).returncode == 0
    for _ in range(20):
        assert weldr.get()[0] == 200
    gone = running["listen"][1]

    def refused() -> bool:
        host, _, port = gone.rpartition(":")
        with socket.socket() as probe:
            return probe.connect_ex((host, int(port))) != 0

    wait_until(refused, "nobody listens on the address that was given up")


def test_a_new_version_that_crashes_changes_nothing(
    etcd_server: EtcdServer, etcd_prefix: str, backend: str, tmp_path: Path
) -> None:
    copy = tmp_path / "weldr"
    shutil.copytree(Path(package.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    environment = {"PYTHONPATH": str(tmp_path)}
    with Instance(etcd=etcd_server.endpoint, prefix=etcd_prefix, workers=2, environment=environment) as weldr:
        weldr.wait_ready()
        wait_until(lambda: weldr.get()[0] == 200, "the backend answers")
        # Installed, but broken: once where it starts, once where its workers do.
        (copy / "cli/run.py").rename(copy / "cli/away.py")
        done = upgrade(weldr, environment=environment)
        assert "goes on as before: ModuleNotFoundError: No module named 'weldr.cli.run'" in done.stderr
        (copy / "cli/away.py").rename(copy / "cli/run.py")
        for number, broken in enumerate(("control/manager.py", "proxy/worker.py"), 2):
            source = (copy / broken).read_text()
            (copy / broken).write_text("raise SystemExit('broken')\n")
            with steady_load(weldr.address, rate=200, tunnels=1) as load:
                if number == 2:
                    weldr.signal(signal.SIGUSR2)
                else:
                    done = upgrade(weldr, "--limit", "3", environment=environment)
                    assert done.returncode == 1
                    # On a busy machine it may not have come as far as its workers.
                    assert re.fullmatch(
                        "weldr: not upgraded, this weldr goes on as before: the new manager was not ready in"
                        " time: (not every worker has the catalog|no catalog could be read from etcd) yet\n",
                        done.stderr,
                    )
                weldr.wait_logged("not upgraded: this manager goes on as before", count=number)
                tally = load.stop()
            assert tally["bad"] == []
            assert tally["tunnels_cut"] == []
            (copy / broken).write_text(source)
        upgrade_by_signal(weldr, weldr.pid, 1)
        assert weldr.wait() == 0
        assert weldr.get()[0] == 200


def test_what_the_new_one_cannot_do_is_said_and_changes_nothing(weldr: Instance) -> None:
    with named_servers("other") as (other,):
        options = _options(weldr, "--listen", other.address)
        done = upgrade(weldr, "--", *options)
    assert done.returncode == 1
    assert f"goes on as before: cannot listen on {other.address}: the port is in use" in done.stderr
    for renamed in (["--instance", "another"], ["--prefix", "/other/"]):
        done = upgrade(weldr, "--", *_options(weldr, *renamed))
        assert done.returncode == 1
        assert "restart it" in done.stderr
    done = upgrade(weldr, "--", "--workers", "many")
    assert done.returncode == 1
    assert "goes on as before: Invalid value for '--workers': 'many' is not a valid integer" in done.stderr
    assert weldr.get()[0] == 200
    assert weldr.admin_get("/readyz")[0] == 200
    assert upgrade(weldr).returncode == 0


@pytest.mark.parametrize("moment", ["upgrade: a new manager was started", "ready: every worker"])
def test_the_old_manager_may_be_killed_at_any_moment(weldr: Instance, moment: str) -> None:
    count = len(weldr.logged(moment)) + 1
    with steady_load(weldr.address, rate=300, tunnels=2) as load:
        weldr.signal(signal.SIGUSR2)
        weldr.wait_logged(moment, count=count)
        os.kill(weldr.pid, signal.SIGKILL)
        new = int(weldr.wait_logged("this manager has taken over")["pid"])
        wait_until(lambda: weldr.admin_get("/readyz")[0] == 200, "the new one is ready")
        upgrade_by_signal(weldr, new, 2)
        tally = load.stop()
    assert tally["bad"] == []


def test_an_instance_is_known_in_etcd_without_a_gap_and_the_old_one_beside_it(
    weldr: Instance, etcd_server: EtcdServer, etcd_prefix: str
) -> None:
    key = f"{etcd_prefix}instances/{weldr.name}"
    now = json.loads(etcd_server.etcdctl("get", "-w", "json", key))["header"]["revision"]
    watch = subprocess.Popen(
        [
            str(etcd_server.binary.etcdctl),
            "--endpoints",
            etcd_server.endpoint,
            "watch",
            "--prefix",
            key,
            "--rev",
            str(now),
            "-w",
            "json",
        ],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"ETCDCTL_API": "3"},
    )
    try:
        with steady_load(weldr.address, rate=20, tunnels=1):
            assert upgrade(weldr).returncode == 0
            retired = f"{key}~{weldr.pid}"
            names = etcd_server.etcdctl("get", "--prefix", "--keys-only", key).split()
            assert names == [key, retired]
        assert weldr.wait() == 0
        assert etcd_server.etcdctl("get", "--prefix", "--keys-only", key).split() == [key]
        assert watch.stdout is not None
        deleted = []
        for line in watch.stdout:
            for event in json.loads(line).get("Events", []):
                if event.get("type") == 1:
                    deleted.append(event["kv"]["key"])
            if deleted:
                break
        assert len(deleted) == 1
    finally:
        watch.kill()
        watch.wait(30)


@pytest.mark.real_time
def test_a_stop_that_drains_fails_readyz_first_and_accepts_meanwhile(weldr: Instance) -> None:
    with subprocess.Popen(
        [
            sys.executable,
            "-P",
            "-m",
            "weldr",
            "stop",
            "--drain",
            "--shutdown-delay",
            "3",
            "--admin",
            weldr.admin,
        ],
        stdout=subprocess.PIPE,
        text=True,
    ) as stop:
        weldr.wait_logged("stopping: finishing what is in flight", shutdown_delay_s=3.0)
        assert weldr.admin_get("/readyz") == (503, "not ready: it is stopping\n")
        assert weldr.get()[0] == 200
        assert weldr.wait() == 0
        assert stop.stdout is not None
        assert stop.stdout.read().splitlines()[-1] == "stopped"
    assert stop.returncode == 0


def test_a_retired_manager_says_that_it_ignores_a_signal_to_upgrade(weldr: Instance) -> None:
    with steady_load(weldr.address, rate=50, tunnels=1):
        upgrade_by_signal(weldr, weldr.pid, 1)
        weldr.wait_logged("retired: finishing what is in flight")
        weldr.signal(signal.SIGUSR2)
        weldr.wait_logged("a signal to upgrade was ignored", reason="another manager has taken over")


def test_a_command_for_nobody_says_so(weldr: Instance) -> None:
    done = command("stop", "--admin", "127.0.0.1:9")
    assert done.returncode == 1
    assert done.stderr == (
        "weldr: no weldr with the admin address 127.0.0.1:9 runs on this machine: name it with --admin, as for"
        " weldr run\n"
    )


def test_a_stop_in_the_middle_of_an_upgrade_ends_both_managers_and_the_command_says_so(weldr: Instance) -> None:
    arguments = [sys.executable, "-P", "-m", "weldr", "upgrade", "--admin", weldr.admin]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as asked:
        new = int(weldr.wait_logged("upgrade: a new manager was started")["pid"])
        weldr.signal(signal.SIGTERM)
        _, said = asked.communicate(timeout=60)
    assert asked.returncode == 1
    assert said == "weldr: not upgraded: this weldr was told to stop meanwhile\n"
    assert weldr.wait() == 0
    assert not is_alive(new)


def test_a_stop_without_a_delay_ends_the_delay_of_one_that_is_under_way(weldr: Instance) -> None:
    arguments = [sys.executable, "-P", "-m", "weldr", "stop", "--drain", "--shutdown-delay", "3600"]
    with subprocess.Popen([*arguments, "--admin", weldr.admin], stdout=subprocess.PIPE, text=True) as patient:
        weldr.wait_logged("stopping: finishing what is in flight", shutdown_delay_s=3600.0)
        with subprocess.Popen([*arguments[:5], "--admin", weldr.admin], stdout=subprocess.PIPE) as stop:
            try:
                assert weldr.wait() == 0
            finally:
                weldr.kill()
    assert (patient.returncode, stop.returncode) == (0, 0)
