"""Workers have no privileges, and the manager only those that it has a use for."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import weldr as package
from tests.support.etcd import EtcdServer
from tests.support.instance import Instance, wait_until
from tests.support.servers import named_servers
from weldr.privileges import Capability, can_read, find_user

_NONE = "0000000000000000"

# Makes directories that only root may enter into ones that all may, for the processes below and nobody else.
_OPEN_UP = """
set -e
mount --make-rprivate /
for hidden in $1; do
  behind=$(mktemp -d)
  mount --bind "$hidden" "$behind"
  mount -t tmpfs -o mode=755 none "$hidden"
  for entry in "$behind"/* "$behind"/.[!.]*; do
    [ -d "$entry" ] || continue
    mkdir "$hidden/${entry##*/}"
    mount --bind "$entry" "$hidden/${entry##*/}"
  done
done
shift
exec "$@"
"""


def status(pid: int) -> dict[str, str]:
    """What the kernel says of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _capabilities(pid: int, kind: str) -> set[int]:
    bits = int(status(pid)[kind], 16)
    return {number for number in range(64) if bits >> number & 1}


def _require_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root has privileges to give up")


def _hidden() -> list[str]:
    """The directories on the way to the program that are closed to others than root."""
    paths = [Path(package.__file__).parent, Path(sys.executable)]
    paths += [Path(sysconfig.get_path(name)) for name in ("purelib", "stdlib")]
    parts = {part for path in paths for part in path.resolve().parents}
    return sorted(str(part) for part in parts if not part.stat().st_mode & 0o001)


def test_workers_of_root_become_nobody_before_they_serve(etcd_server: EtcdServer, etcd_prefix: str) -> None:
    _require_root()
    hidden = _hidden()
    under: tuple[str, ...] = ()
    if hidden:
        if shutil.which("unshare") is None:
            pytest.skip("the command unshare is missing: install util-linux")
        under = ("unshare", "--mount", "sh", "-c", _OPEN_UP, "open-up", " ".join(hidden))
    arguments = ("--worker-user", "nobody")
    with (
        named_servers("one") as (one,),
        Instance(*arguments, etcd=etcd_server.endpoint, prefix=etcd_prefix, workers=2, under=under) as weldr,
    ):
        etcd_server.etcdctl("put", f"{etcd_prefix}backends/default/b1", one.address)
        # What a worker loads only when it is needed has to be readable for its user.
        etcd_server.etcdctl("put", f"{etcd_prefix}routes/r", '{"path_regex": "/x[0-9]+", "service": "default"}')
        weldr.wait_ready()
        wait_until(lambda: weldr.get("/x1") == (200, "one"), "a route with a pattern is taken")
        told = weldr.wait_logged("privileges")
        assert told["workers"] == "nobody"
        nobody = pwd.getpwnam("nobody")
        for pid in weldr.worker_pids():
            found = status(pid)
            assert found["Uid"].split() == [str(nobody.pw_uid)] * 4
            assert found["Gid"].split() == [str(nobody.pw_gid)] * 4
            assert found["Groups"] == ""
            assert found["NoNewPrivs"] == "1"
            assert {found[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {_NONE}
        # It can end a worker that is another user's, and start the next.
        victim = weldr.worker_pids()[0]
        os.kill(victim, 9)
        weldr.wait_logged("worker started", count=3)
        weldr.close()
        assert "Traceback" not in "\n".join(weldr.lines)


@pytest.mark.parametrize(
    ("arguments", "kept"),
    [
        ((), {Capability.NET_ADMIN, Capability.NET_RAW}),
        (("--no-vip",), set()),
        (("--no-vip", "--listen", "127.0.0.1:990"), {Capability.NET_BIND_SERVICE}),
    ],
    ids=["virtual IPs", "none", "a low port"],
)
def test_the_manager_keeps_what_its_features_need_and_says_which(
    etcd_server: EtcdServer, etcd_prefix: str, arguments: tuple[str, ...], kept: set[Capability]
) -> None:
    _require_root()
    if "127.0.0.1:990" in arguments:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", 990)) == 0:
                pytest.skip("port 990 is in use")
    arguments = (*arguments, "--worker-user", "root")
    with Instance(*arguments, etcd=etcd_server.endpoint, prefix=etcd_prefix) as weldr:
        weldr.wait_ready()
        expected = kept | {Capability.SETPCAP}
        # Each thread has its own.
        for thread in Path(f"/proc/{weldr.pid}/task").iterdir():
            for kind in ("CapPrm", "CapEff"):
                assert _capabilities(int(thread.name), kind) == expected
        told = weldr.wait_logged("privileges")["keeps"]
        assert {line.split()[0] for line in told} == {f"CAP_{capability.name}" for capability in expected}
        for pid in weldr.worker_pids():
            assert status(pid)["CapEff"] == status(pid)["CapBnd"] == _NONE


def test_a_user_that_there_is_not_is_an_error() -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "weldr", "run", "--worker-user", "no-such-user"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == (
        "weldr: there is no user no-such-user: make it, or name another with --worker-user\n"
    )


def test_what_a_user_cannot_read_is_found(tmp_path: Path) -> None:
    _require_root()
    nobody = find_user("nobody")
    closed = tmp_path / "closed"
    closed.mkdir()
    (closed / "file").write_text("x")
    for mode, hidden in ((0o700, True), (0o711, False)):
        closed.chmod(mode)
        # pytest's own directories are closed, too.
        for parent in tmp_path.parents:
            if parent.stat().st_mode & 0o001 == 0:
                parent.chmod(0o711)
        tmp_path.chmod(0o711)
        assert (can_read(nobody, [closed / "file"]) is not None) is hidden
