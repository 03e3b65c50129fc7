"""Commands to a manager on this machine: who may be believed, and who gets an answer."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest

from tests.integration.control.test_upgrades import command
from tests.support.etcd import EtcdServer
from tests.support.instance import Instance, wait_until
from tests.support.ports import free_port
from weldr.cli import supervise
from weldr.control.control_socket import Request, control_name

_ADMIN = f"127.0.{os.getpid() >> 8 & 255}.{os.getpid() & 255}:9"
_NOBODY = 65534
_IMPOSTOR = """
import os, socket, sys
os.setresuid(int(sys.argv[1]), int(sys.argv[1]), int(sys.argv[1]))
sock = socket.socket(socket.AF_UNIX)
sock.bind(sys.argv[2].replace("@", chr(0)))
sock.listen()
print("listens", flush=True)
while True:
    peer, _ = sock.accept()
    with peer, peer.makefile("rb") as stream:
        print(stream.readline().decode().strip(), flush=True)
        try:
            peer.sendall(b'{"done":"believe me"}\\n')
        except OSError:
            pass
"""

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="it takes root to become another user")


@pytest.fixture
def impostor() -> Iterator[subprocess.Popen[str]]:
    """A process of another user that had the name before any weldr."""
    arguments = [str(_NOBODY), control_name(_ADMIN).replace("\0", "@")]
    with subprocess.Popen(
        [sys.executable, "-I", "-c", _IMPOSTOR, *arguments], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "listens\n"
        yield process
        process.kill()


def _heard(impostor: subprocess.Popen[str]) -> str:
    assert impostor.stdout is not None
    return impostor.stdout.readline().strip()


@as_root
def test_root_sends_no_secret_to_whoever_has_the_name(impostor: subprocess.Popen[str]) -> None:
    secret = {"ETCDCTL_PASSWORD": "hush"}
    asked = command("upgrade", "--admin", _ADMIN, "--with-environment", environment=secret)
    assert _heard(impostor) == ""
    assert (asked.returncode, asked.stdout) == (1, "")
    assert "the user nobody listens there, who may be anybody" in asked.stderr
    assert "systemctl reload" in asked.stderr
    asked = command("upgrade", "--admin", _ADMIN, "--", "--etcd", "http://me:hush@127.0.0.1:1")
    assert _heard(impostor) == ""
    assert asked.returncode == 1


@as_root
def test_root_is_told_whose_manager_a_command_without_secrets_reaches(impostor: subprocess.Popen[str]) -> None:
    asked = command("upgrade", "--admin", _ADMIN, environment={"ETCDCTL_PASSWORD": "hush"})
    assert "hush" not in _heard(impostor)
    assert asked.stderr == "the manager that is asked is a process of the user nobody\n"


@as_root
def test_the_user_of_the_main_process_is_given_what_a_reload_has_to_hand_on(
    impostor: subprocess.Popen[str],
) -> None:
    told = {"MAINPID": str(impostor.pid), "ETCDCTL_PASSWORD": "hush"}
    asked = command("upgrade", "--admin", _ADMIN, "--with-environment", environment=told)
    assert "hush" in _heard(impostor)
    assert (asked.returncode, asked.stderr) == (0, "")
    asked = command("upgrade", "--admin", _ADMIN, "--with-environment", environment={"MAINPID": "1"})
    assert _heard(impostor) == ""
    assert asked.returncode == 1


def test_another_user_gives_no_commands_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 3)
    supervise._check_who_listens(3, Request(command="stop"))
    supervise._check_who_listens(0, Request(command="stop"))
    with pytest.raises(click.ClickException, match="only that user and root may give it commands"):
        supervise._check_who_listens(_NOBODY, Request(command="stop"))


def test_a_name_that_another_process_has_is_a_problem_until_it_is_free(
    etcd_server: EtcdServer, etcd_prefix: str
) -> None:
    def told() -> str:
        return etcd_server.etcdctl("get", "--print-value-only", "--prefix", f"{etcd_prefix}instances/")

    admin = f"127.0.0.1:{free_port()}"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(control_name(admin))
        other.listen()
        with Instance("--admin", admin, etcd=etcd_server.endpoint, prefix=etcd_prefix) as weldr:
            weldr.wait_ready()
            whose = f"the process {os.getpid()} of the user {os.geteuid()} has the name @weldr-control {admin}"
            weldr.wait_logged(f"weldr upgrade and weldr stop do not reach this instance: {whose}")
            wait_until(lambda: whose in told(), "it is among the problems")
            other.close()
            weldr.wait_logged("weldr upgrade and weldr stop reach this instance now")
            wait_until(lambda: whose not in told(), "it is none any more")
            assert command("stop", "--admin", admin).stdout.splitlines()[-1] == "stopped"
            assert weldr.wait() == 0
