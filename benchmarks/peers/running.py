"""A proxy that runs, on a core of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from benchmarks.peers import accounting
from benchmarks.peers.exact import WrongAnswerError, check
from benchmarks.peers.proxies import PROJECT, Place, Proxy
from benchmarks.peers.works import WORKS
from tests.support.etcd import EtcdServer
from tests.support.ports import free_port

_LIMIT_S = 30.0
_LOG_BYTES = 2000

# What is set for the shell that starts a measurement must not reach what is measured.
_CLEAN = {name: value for name, value in os.environ.items() if not name.startswith(("WELDR_", "ETCD"))}


class Running:
    """The processes of one proxy, from start to end."""

    def __init__(self, proxy: Proxy, core: int, origin_port: int, etcd: EtcdServer) -> None:
        self.proxy = proxy
        self._directory = Path(tempfile.mkdtemp(prefix="weldr-peers-"))
        # Started by root, nginx works as another user, and what does not fit its buffers goes to files there.
        self._directory.chmod(0o755)
        place = Place(self._directory, free_port(), origin_port, etcd)
        self.port = place.port
        program = proxy.program()
        assert program is not None
        # Set before the program begins: every thread and child of it inherits the core.
        command = ["taskset", "-c", str(core), program, *proxy.arguments(place)]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=PROJECT,
                env=_CLEAN | {"HOME": str(self._directory)} | proxy.environment,
                start_new_session=True,
            )
        try:
            self._wait_ready()
        except BaseException:
            self.close()
            raise

    @property
    def _log(self) -> Path:
        return self._directory / "log"

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + _LIMIT_S
        while True:
            try:
                check(self.port, WORKS[0])
                return
            except (OSError, WrongAnswerError) as error:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    log = self._log.read_text("utf-8", "replace")[-_LOG_BYTES:]
                    raise RuntimeError(f"{self.proxy.name} did not start: {error}\n{log}") from error
            time.sleep(0.05)

    def cpu_s(self) -> float:
        return accounting.cpu_s(self._process.pid)

    def memory_bytes(self) -> int:
        return accounting.memory_bytes(self._process.pid)

    def close(self) -> None:
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(2)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(10)
        shutil.rmtree(self._directory, ignore_errors=True)

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
