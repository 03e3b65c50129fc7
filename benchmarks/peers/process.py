"""The processes of one proxy, from start to end, in a directory of their own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.peers.exact import WrongAnswerError
from benchmarks.peers.proxies import PROJECT, Proxy
from tests.support.ports import free_port

_LIMIT_S = 30.0
_LOG_BYTES = 2000

# What is set for the shell that starts a measurement must not reach what is measured.
_CLEAN = {name: value for name, value in os.environ.items() if not name.startswith(("WELDR_", "ETCD"))}


class ProxyProcess:
    """See the module."""

    def __init__(
        self, proxy: Proxy, command: Callable[[Path, int], list[str]], ask: Callable[[int], object]
    ) -> None:
        """`command` is told the directory and the port; `ask` raises as long as the port does not answer."""
        self.proxy = proxy
        self.port = free_port()
        self._directory = Path(tempfile.mkdtemp(prefix="weldr-bench-"))
        # Started by root, nginx works as another user, and what does not fit its buffers goes to files there.
        self._directory.chmod(0o755)
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command(self._directory, self.port),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=PROJECT,
                env=_CLEAN | {"HOME": str(self._directory)} | proxy.environment,
                start_new_session=True,
            )
        try:
            self._wait_ready(ask)
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def _log(self) -> Path:
        return self._directory / "log"

    def _wait_ready(self, ask: Callable[[int], object]) -> None:
        deadline = time.monotonic() + _LIMIT_S
        while True:
            try:
                ask(self.port)
                return
            except (OSError, WrongAnswerError) as error:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    log = self._log.read_text("utf-8", "replace")[-_LOG_BYTES:]
                    raise RuntimeError(f"{self.proxy.name} did not start: {error}\n{log}") from error
            time.sleep(0.05)

    def close(self) -> None:
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(2)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(10)
        shutil.rmtree(self._directory, ignore_errors=True)
