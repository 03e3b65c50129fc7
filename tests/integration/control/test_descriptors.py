"""How many descriptors the workers may open, with the right to say so and without."""

from __future__ import annotations

import resource
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.etcd import EtcdServer
from tests.support.instance import Instance
from weldr.control.control_socket import control_name

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


def test_who_connects_while_the_manager_has_no_descriptor_left_waits_and_costs_it_nothing(
    etcd_server: EtcdServer, etcd_prefix: str
) -> None:
    with Instance(etcd=etcd_server.endpoint, prefix=etcd_prefix) as weldr:
        weldr.wait_ready()
        soft, hard = resource.prlimit(weldr.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(weldr.pid, resource.RLIMIT_NOFILE, (3, hard))
        host, _, port = weldr.admin.rpartition(":")
        with socket.create_connection((host, int(port)), 30) as admin, socket.socket(socket.AF_UNIX) as control:
            control.connect(control_name(weldr.admin))
            for client in (admin, control):
                address = str(client.getpeername())
                weldr.wait_logged("connections wait: they cannot be accepted", address=address)
            resource.prlimit(weldr.pid, resource.RLIMIT_NOFILE, (soft, hard))
            admin.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert b" 200 " in admin.makefile("rb").readline()
            control.sendall(b"?\n")
            assert b"does not understand this command" in control.makefile("rb").readline()
        assert len(weldr.logged("connections wait: they cannot be accepted")) == 2
        assert not weldr.logged("out of system resource")
