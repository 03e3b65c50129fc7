"""What the quickstart runs: it answers, says what to try, and leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.instance import http_get, wait_until
from tests.support.ports import free_port

DEMO = Path(__file__).resolve().parents[2] / "scripts" / "demo.py"


def free_address() -> str:
    return f"127.0.0.1:{free_port()}"


def running_with(word: str) -> list[str]:
    """Command lines of processes that name `word`."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
        except OSError:
            continue
        if word.encode() in command and process.name != str(os.getpid()):
            found.append(command.replace(b"\0", b" ").decode())
    return found


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    listen = free_address()
    command = [sys.executable, "-P", str(DEMO), "--listen", listen, "--admin", free_address()]
    # What it is killed over stays behind, and goes with the test's other files.
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    program = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, start_new_session=True, env=environment
    )
    yield program, listen
    program.kill()
    program.wait(30)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_the_quickstart_answers_and_ends_without_a_trace(
    demo: tuple[subprocess.Popen[str], str], number: signal.Signals
) -> None:
    program, listen = demo
    assert program.stdout is not None
    said = ""
    while "Ctrl-C here ends everything." not in said:
        line = program.stdout.readline()
        assert line, said
        said += line
    assert listen in said
    status, body = http_get(f"http://{listen}/hello")
    assert (status, body[:10]) == (200, "hello from")
    endpoint = re.search(r"--endpoints=(\S+)", said)
    assert endpoint is not None
    assert len(running_with(endpoint[1])) >= 4, "etcd, weldr and two backends"
    program.send_signal(number)
    program.wait(60)
    wait_until(lambda: not running_with(endpoint[1]), "nothing is left running")
    wait_until(lambda: not running_with(listen), "no weldr is left running")


def test_a_quickstart_that_was_upgraded_leaves_nothing_behind(
    demo: tuple[subprocess.Popen[str], str],
) -> None:
    program, listen = demo
    assert program.stdout is not None
    while "Ctrl-C here ends everything." not in program.stdout.readline():
        assert program.poll() is None
    admin = program.args[-1]  # type: ignore[index]
    subprocess.run([sys.executable, "-m", "weldr", "upgrade", "--admin", admin], check=True, timeout=60)
    program.wait(60)
    wait_until(lambda: not running_with(listen), "no weldr is left running")


def test_a_port_that_is_taken_is_named_with_the_way_out() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        ended = subprocess.run(
            [sys.executable, "-P", str(DEMO), "--listen", listen, "--admin", free_address()],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert ended.returncode == 1
    expected = f"quickstart: cannot listen on {listen}: the port is in use (choose another with --listen)\n"
    assert ended.stderr == expected
