"""How many descriptors the workers may open, with the right to say so and without."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.etcd import EtcdServer
from tests.support.instance import Instance

LIMITED = ("prlimit", "--nofile=512:1024")
POWERLESS = ("setpriv", "--bounding-set=-sys_resource", "--inh-caps=-sys_resource")
RAISES = "import resource as r; r.setrlimit(r.RLIMIT_NOFILE, (512, 2048))"


def can_raise(*under: str) -> bool:
    command = [*under, *LIMITED, sys.executable, "-c", RAISES]
    return subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode == 0


def limits_of_worker(weldr: Instance) -> tuple[int, int]:
    """Soft and hard."""
    [pid] = weldr.worker_pids()
    for line in Path(f"/proc/{pid}/limits").read_text().splitlines():
        if line.startswith("Max open files"):
            soft, hard = line.split()[3:5]
            return int(soft), int(hard)
    raise AssertionError("the kernel tells no limit")


def test_the_workers_get_all_descriptors_that_weldr_may_give_them(
    etcd_server: EtcdServer, etcd_prefix: str
) -> None:
    """All that the system has, where it may raise the hard limit (root or CAP_SYS_RESOURCE)."""
    with Instance(etcd=etcd_server.endpoint, prefix=etcd_prefix, under=LIMITED) as weldr:
        weldr.wait_ready()
        most = min(1 << 20, int(Path("/proc/sys/fs/nr_open").read_text())) if can_raise() else 1024
        assert limits_of_worker(weldr) == (most, most)


def test_without_the_right_the_workers_go_up_to_the_hard_limit(
    etcd_server: EtcdServer, etcd_prefix: str
) -> None:
    under = (*POWERLESS, *LIMITED) if can_raise() else LIMITED
    if can_raise(*under[: -len(LIMITED)]):
        pytest.skip("takes setpriv of util-linux, to give up CAP_SYS_RESOURCE")
    with Instance(etcd=etcd_server.endpoint, prefix=etcd_prefix, under=under) as weldr:
        weldr.wait_ready()
        assert limits_of_worker(weldr) == (1024, 1024)
        assert weldr.get()[0] == 503
