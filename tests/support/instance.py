"""A real `weldr` command in a process of its own, with its log as records that a test can wait for."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

LIMIT_S = 30.0

# One unit of the tests' environment must not reach the commands: each gets what its test names.
_CLEAN = {
    name: value for name, value in os.environ.items() if not name.startswith(("WELDR_", "ETCDCTL_", "ETCD_"))
}


class WeldrProcess:
    """`weldr ARGUMENTS…`. Its standard error is read to the end, so that it never blocks on us."""

    def __init__(
        self,
        *arguments: str,
        environment: dict[str, str] | None = None,
        under: tuple[str, ...] = (),
        pass_fds: tuple[int, ...] = (),
    ) -> None:
        """`under` is a command that runs this one, such as `prlimit …`."""
        self.records: list[dict[str, Any]] = []
        self.lines: list[str] = []
        self._news = threading.Condition()
        self._is_read = False
        self.process = subprocess.Popen(
            [*under, sys.executable, "-P", "-m", "weldr", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=_CLEAN | (environment or {}),
            start_new_session=True,
            pass_fds=pass_fds,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self.process.pid

    def _read(self) -> None:
        assert self.process.stderr is not None
        for raw in self.process.stderr:
            line = raw.decode("utf-8", "replace").rstrip("\n")
            with self._news:
                self.lines.append(line)
                # A new manager that crashes writes there, too, and its traceback comes in pieces.
                begin = max(0, line.find('{"level": '))
                try:
                    record = json.loads(line[begin:])
                except ValueError:
                    record = None
                if isinstance(record, dict):
                    self.records.append(record)
                self._news.notify_all()
        with self._news:
            self._is_read = True
            self._news.notify_all()

    def logged(self, message: str, **fields: object) -> list[dict[str, Any]]:
        """The records so far whose message holds `message` and that have these fields."""
        return [
            record
            for record in self.records
            if message in record.get("message", "")
            and all(record.get(name) == value for name, value in fields.items())
        ]

    def wait_logged(
        self, message: str, *, count: int = 1, limit_s: float = LIMIT_S, **fields: object
    ) -> dict[str, Any]:
        """Wait for the `count`-th such record."""
        deadline = time.monotonic() + limit_s
        with self._news:
            while True:
                found = self.logged(message, **fields)
                if len(found) >= count:
                    return found[count - 1]
                left = deadline - time.monotonic()
                if left <= 0 or (self.process.poll() is not None and not self._reader.is_alive()):
                    raise AssertionError(
                        f"{message!r} {fields} was not logged:\n" + "\n".join(self.lines[-60:])
                    )
                self._news.wait(min(left, 0.5))

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self, limit_s: float = LIMIT_S) -> int:
        """Its exit status."""
        status = self.process.wait(limit_s)
        self._read_up_to_now()
        # After an upgrade others go on writing there.
        if not self.logged("this manager has taken over"):
            self._reader.join(LIMIT_S)
        return status

    def _read_up_to_now(self) -> None:
        """Until all that was written to its standard error is read; others may have that open, too."""
        assert self.process.stderr is not None
        mark = f" read up to mark {time.monotonic_ns()}"
        with open(f"/proc/self/fd/{self.process.stderr.fileno()}", "wb", buffering=0) as pipe:
            pipe.write(f"{mark}\n".encode())
        with self._news:
            self._news.wait_for(lambda: self._is_read or mark in self.lines, LIMIT_S)
            if mark in self.lines:
                self.lines.remove(mark)

    def output(self) -> str:
        """What it wrote to standard output, after its end."""
        assert self.process.stdout is not None
        return self.process.stdout.read().decode("utf-8", "replace")

    def kill(self) -> None:
        """End it and all its children at once, without a word."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(LIMIT_S)
        self._reader.join(LIMIT_S)

    def close(self) -> None:
        """End it in good order if it can, and all its children at once."""
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(LIMIT_S)
        self._reader.join(LIMIT_S)

    def __enter__(self) -> WeldrProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def run_command(etcd: str, prefix: str, *arguments: str) -> list[str]:
    """`weldr run` on free ports, for a test that gives it streams of its own."""
    command = [sys.executable, "-P", "-m", "weldr", "run", "--etcd", etcd, "--prefix", prefix]
    return [*command, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--workers", "1", *arguments]


class Instance(WeldrProcess):
    """`weldr run` on free ports."""

    def __init__(
        self,
        *arguments: str,
        etcd: str | None = None,
        prefix: str | None = None,
        workers: int = 1,
        **options: Any,
    ) -> None:
        command = ["run", "--admin", "127.0.0.1:0", "--workers", str(workers), "--log-level", "debug"]
        if "--listen" not in arguments:
            command += ["--listen", "127.0.0.1:0"]
        if etcd is not None:
            command += ["--etcd", etcd]
        if prefix is not None:
            command += ["--prefix", prefix]
        super().__init__(*command, *arguments, **options)

    def wait_running(self) -> Instance:
        """Wait until it has its ports."""
        running = self.wait_logged("weldr is running")
        self.addresses: list[str] = running["listen"]
        self.address: str = self.addresses[0]
        self.admin: str = running["admin"][0]
        self.name: str = running["instance"]
        return self

    def wait_ready(self) -> Instance:
        """Wait until every worker serves a catalog."""
        self.wait_running()
        self.wait_logged("ready: every worker serves the catalog")
        return self

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    def worker_pids(self) -> list[int]:
        """The workers that run now."""
        found = []
        for child in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split():
            try:
                command = Path(f"/proc/{child}/cmdline").read_bytes()
            except FileNotFoundError:
                continue
            if b"weldr.proxy" in command:
                found.append(int(child))
        return found

    def get(self, path: str = "/", *, host: str | None = None, limit_s: float = LIMIT_S) -> tuple[int, str]:
        """One request to the proxy."""
        return http_get(f"http://{self.address}{path}", host=host, limit_s=limit_s)

    def admin_get(self, path: str) -> tuple[int, str]:
        """One request to the admin port."""
        return http_get(f"http://{self.admin}{path}")


def http_get(url: str, *, host: str | None = None, limit_s: float = LIMIT_S) -> tuple[int, str]:
    """Status and body of one GET on a connection of its own."""
    request = urllib.request.Request(url, headers={"Host": host} if host else {})
    try:
        with urllib.request.urlopen(request, timeout=limit_s) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def logged_s(record: dict[str, Any]) -> float:
    """When it was logged, in seconds."""
    return datetime.fromisoformat(record["time"]).timestamp()


def wait_until(condition: Callable[[], Any], what: str, limit_s: float = LIMIT_S) -> Any:
    """Ask again and again until `condition` is truthy, for what sends no event; its value.

    Ever more slowly: most questions are a process of their own, and take the time of what is waited for.
    """
    began_s = time.monotonic()
    while True:
        value = condition()
        if value:
            return value
        waited_s = time.monotonic() - began_s
        if waited_s > limit_s:
            raise AssertionError(f"not within {limit_s} s: {what}")
        time.sleep(min(max(0.02, waited_s / 10), 0.3))
