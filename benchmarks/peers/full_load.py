"""Load as heavy as the proxy takes: wrk, which sends on each connection as soon as the answer is there."""

from __future__ import annotations

import json
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers.exact import WrongAnswerError
from benchmarks.peers.works import Work

_SCRIPT = Path(__file__).with_name("load.lua")
_TIMEOUT_S = 10


@dataclass(frozen=True)
class FullLoad:
    """What wrk counted."""

    seconds: float
    requests: int
    bytes: int
    p50_ms: float
    p99_ms: float
    failed: int


def full_load(port: int, work: Work, seconds: int) -> FullLoad:
    """Load it for so long. Raises `WrongAnswerError` if an answer is missing, no success or too short."""
    with tempfile.NamedTemporaryFile(prefix="weldr-peers-") as request:
        request.write(work.request())
        request.flush()
        command = [
            *("wrk", "--threads", "1", "--connections", str(work.connections), "--duration", f"{seconds}s"),
            *("--timeout", f"{_TIMEOUT_S}s", "--script", str(_SCRIPT), f"http://127.0.0.1:{port}/"),
            *("--", request.name, "varied" if work.varied else "same"),
        ]
        said = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=seconds + 10 * _TIMEOUT_S
        )
    load = FullLoad(**json.loads(said.stdout.splitlines()[-1]))
    if load.failed or not load.requests or load.bytes < load.requests * len(work.answer):
        raise WrongAnswerError(f"{load.failed} of {load.requests} requests failed, {load.bytes} bytes came")
    return load
