"""One instance for a module, and commands as people give them: to etcd itself, or to the instance's API."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.etcd import EtcdServer
from tests.support.instance import Instance

LIMIT_S = 60.0
_numbers = itertools.count(1)
_CLEAN = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith(("WELDR_", "ETCDCTL_", "ETCD_", "EDITOR", "VISUAL"))
}


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    status: int
    output: str
    error: str


@dataclass(frozen=True)
class Shell:
    """Where commands are given."""

    weldr: Instance
    etcd: EtcdServer
    prefix: str

    def options(self, via: str) -> list[str]:
        """The options that lead to the keys; none if it is not said by which way."""
        if not via:
            return []
        if via == "admin":
            return ["--admin", self.weldr.admin]
        return ["--etcd", self.etcd.endpoint, "--prefix", self.prefix]

    def run(
        self,
        command: str,
        *arguments: str,
        via: str = "etcd",
        stdin: str = "",
        environment: Mapping[str, str] | None = None,
    ) -> Done:
        """`weldr COMMAND OPTIONS ARGUMENTS…`."""
        done = subprocess.run(
            [sys.executable, "-P", "-m", "weldr", command, *self.options(via), *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            env=_CLEAN | dict(environment or {}),
            timeout=LIMIT_S,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return Done(done.returncode, done.stdout, done.stderr)

    def good(self, command: str, *arguments: str, via: str = "etcd", stdin: str = "") -> str:
        """What a command prints that succeeds."""
        done = self.run(command, *arguments, via=via, stdin=stdin)
        assert done.status == 0, done
        return done.output

    def value(self, key: str) -> str:
        """What etcd has."""
        return self.etcd.etcdctl("get", "--print-value-only", self.prefix + key).rstrip("\n")

    def put(self, key: str, value: str, *options: str) -> None:
        """Write behind the command's back."""
        self.etcd.etcdctl("put", *options, self.prefix + key, value)


@pytest.fixture(scope="module")
def shell(etcd_server: EtcdServer) -> Iterator[Shell]:
    prefix = f"/cli-{os.getpid()}-{next(_numbers)}/"
    with Instance(etcd=etcd_server.endpoint, prefix=prefix) as weldr:
        weldr.wait_ready()
        yield Shell(weldr, etcd_server, prefix)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.yaml"
