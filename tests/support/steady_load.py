"""The steady load and the backend for it, as programs of their own that a test starts and ends."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[2]
_LIMIT_S = 60.0


class SteadyLoad:
    """Runs from `start` to `stop`."""

    def __init__(self, address: str, *, rate: int, tunnels: int, under: tuple[str, ...] = ()) -> None:
        command = [*under, sys.executable, "-m", "tests.support.steady", address]
        command += ["--rate", str(rate), "--tunnels", str(tunnels)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=PROJECT
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "running\n"

    def stop(self) -> dict[str, Any]:
        """What became of all: see `steady.Tally`."""
        said, _ = self._process.communicate(timeout=_LIMIT_S)
        tally: dict[str, Any] = json.loads(said)
        return tally

    def close(self) -> None:
        self._process.kill()
        self._process.wait(_LIMIT_S)


@contextlib.contextmanager
def steady_load(
    address: str, *, rate: int = 500, tunnels: int = 0, under: tuple[str, ...] = ()
) -> Iterator[SteadyLoad]:
    load = SteadyLoad(address, rate=rate, tunnels=tunnels, under=under)
    try:
        yield load
    finally:
        load.close()


@contextlib.contextmanager
def echo_backend(address: str = "127.0.0.1:0", *namespaces: str) -> Iterator[str]:
    """Its address."""
    command = [sys.executable, "-m", "tests.support.echo_backend", address, *namespaces]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=PROJECT)
    try:
        assert process.stdout is not None
        yield f"{address.rpartition(':')[0]}:{int(process.stdout.readline())}"
    finally:
        process.kill()
        process.wait(_LIMIT_S)
