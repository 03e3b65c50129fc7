"""Signals that come while an instance is being loaded, or that are meant for the manager alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.support.etcd import EtcdServer
from tests.support.instance import Instance

_HOLD = """
import atexit, os, sys

def hold():
    with open(os.environ["HELD_BY"]) as gate:
        gate.read()

class Hold:
    def find_spec(self, name, path=None, target=None):
        if name == os.environ["HELD_MODULE"] and os.environ["HELD_PROGRAM"] in sys.orig_argv:
            sys.meta_path.remove(self)
            hold()

if os.environ["HELD_MODULE"]:
    sys.meta_path.insert(0, Hold())
elif os.environ["HELD_PROGRAM"] in sys.orig_argv:
    atexit.register(hold)
"""


class Held:
    """Has processes that are called with this word wait where they load a module, or at their end."""

    def __init__(self, folder: Path, program: str, module: str = "") -> None:
        self._gate = folder / "gate"
        os.mkfifo(self._gate)
        (folder / "sitecustomize.py").write_text(_HOLD)
        held = {"HELD_PROGRAM": program, "HELD_MODULE": module, "HELD_BY": str(self._gate)}
        self.environment = {"PYTHONPATH": str(folder), **held}

    @contextmanager
    def there(self) -> Iterator[None]:
        """While one waits there."""
        with self._gate.open("wb"):
            yield


@pytest.fixture(autouse=True)
def heeded() -> Iterator[None]:
    """In the background, or under nohup, signals are ignored here, and whatever is started inherits that."""
    ignored = [each for each in (signal.SIGINT, signal.SIGHUP) if signal.getsignal(each) is signal.SIG_IGN]
    for number in ignored:
        signal.signal(number, signal.SIG_DFL)
    yield
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)


@pytest.fixture
def loading(tmp_path: Path) -> Held:
    return Held(tmp_path, "run", "grpc")


def test_a_signal_to_upgrade_while_it_is_being_loaded_is_ignored(
    etcd_server: EtcdServer, etcd_prefix: str, loading: Held
) -> None:
    with Instance(etcd=etcd_server.endpoint, prefix=etcd_prefix, environment=loading.environment) as weldr:
        with loading.there():
            weldr.signal(signal.SIGUSR2)
        weldr.wait_ready()
        assert "weldr: a signal to upgrade was ignored: it has only begun to start" in weldr.lines
        weldr.signal(signal.SIGTERM)
        assert weldr.wait() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_stop_while_it_is_being_loaded_ends_it_with_one_line(
    etcd_server: EtcdServer, etcd_prefix: str, loading: Held, number: signal.Signals
) -> None:
    with Instance(etcd=etcd_server.endpoint, prefix=etcd_prefix, environment=loading.environment) as weldr:
        with loading.there():
            weldr.signal(number)
        assert weldr.wait() == 0
        assert weldr.lines == ["weldr: told to stop before anything was served"]


def test_a_stop_while_it_is_being_loaded_waits_for_no_reader_of_standard_error(loading: Held) -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writing, bytes(4096))
    os.set_blocking(writing, True)
    command = [sys.executable, "-m", "weldr", "run"]
    with subprocess.Popen(command, stderr=writing, env=os.environ | loading.environment) as weldr:
        os.close(writing)
        try:
            with loading.there():
                weldr.send_signal(signal.SIGTERM)
            assert weldr.wait(10.0) == 0
        finally:
            weldr.kill()
    os.close(reading)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGUSR2, 0), (signal.SIGINT, -signal.SIGINT)])
def test_a_signal_behind_the_end_leaves_no_traceback(
    etcd_server: EtcdServer, etcd_prefix: str, tmp_path: Path, number: signal.Signals, status: int
) -> None:
    held = Held(tmp_path, "run")
    with Instance(etcd=etcd_server.endpoint, prefix=etcd_prefix, environment=held.environment) as weldr:
        weldr.wait_ready()
        weldr.signal(signal.SIGTERM)
        with held.there():
            weldr.signal(number)
        assert weldr.wait() == status
        assert len(weldr.lines) == len(weldr.records)


@pytest.mark.parametrize("module", ["argparse", "uvloop"])
def test_what_is_meant_for_the_manager_does_nothing_to_a_worker(
    etcd_server: EtcdServer, etcd_prefix: str, tmp_path: Path, module: str
) -> None:
    held = Held(tmp_path, "weldr.proxy", module)
    numbers = (signal.SIGUSR2, signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    with Instance(etcd=etcd_server.endpoint, prefix=etcd_prefix, environment=held.environment) as weldr:
        with held.there():
            (worker,) = weldr.worker_pids()
            for number in numbers:
                os.kill(worker, number)
        weldr.wait_ready()
        for number in numbers:
            os.kill(worker, number)
        assert weldr.worker_pids() == [worker]
        weldr.signal(signal.SIGTERM)
        assert weldr.wait() == 0
        assert not weldr.logged("a worker died")
