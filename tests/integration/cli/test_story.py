"""`weldr watch` and `weldr drain|undrain`."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.cli.conftest import Shell
from tests.support.instance import wait_until
from tests.support.servers import NamedServer, named_servers

BOTH = pytest.mark.parametrize("via", ["etcd", "admin"])


@contextlib.contextmanager
def watching(shell: Shell, via: str, *arguments: str) -> Iterator[list[str]]:
    """`weldr watch`, from when it has begun; its lines so far."""
    command = [sys.executable, "-P", "-u", "-m", "weldr", "watch", *shell.options(via), *arguments]
    lines: list[str] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        reader = threading.Thread(target=lines.extend, args=(process.stdout,))
        reader.start()
        try:
            wait_until(lambda: lines, "the watch has begun")
            yield lines
        finally:
            process.terminate()
            process.wait()
            reader.join()


@BOTH
def test_the_story_tells_who_came_and_how_each_left(shell: Shell, via: str) -> None:
    lease = shell.etcd.etcdctl("lease", "grant", "60").split()[1]

    def told(words: str) -> None:
        wait_until(lambda: any(words in line for line in lines), words)

    with watching(shell, via) as lines:
        shell.put("backends/story/b1", "127.0.0.1:1", f"--lease={lease}")
        told(f"+ backend story/b1 came: 127.0.0.1:1, under lease {int(lease, 16):x}")
        shell.put("backends/story/b2", "127.0.0.1:2")
        shell.put("backends/story/b2", '{"url": "127.0.0.1:2", "drain": true}')
        told("! backend story/b2 is draining")
        shell.etcd.etcdctl("del", shell.prefix + "backends/story/b2")
        told("- backend story/b2 left, after it had been drained")
        shell.etcd.etcdctl("lease", "revoke", lease)
        told("- backend story/b1 left, since its lease expired")
        shell.put("routes/story", '{"service": 5}')
        told("routes/story has a problem, at $.service")
        shell.put("routes/story", '{"host": "story.example", "response": {}}')
        told('* routes/story changed: {"host": "story.example", "response": {}}')
        told("routes/story has no problem any more")
        shell.etcd.etcdctl("del", shell.prefix + "routes/story")
        told("- routes/story was removed")


def test_the_story_goes_on_behind_a_change_that_is_too_large_for_the_events(
    shell: Shell, tmp_path: Path
) -> None:
    file = tmp_path / "large.yaml"

    def applied(letter: str) -> None:
        backend = {"url": "127.0.0.1:1", "drain": True, "zone": letter * 200_000}
        file.write_text(json.dumps({"backends": {"large": {"b1": backend, "b2": backend}}}))
        shell.good("apply", "-f", str(file), "-o", "json", via="etcd")

    with watching(shell, "admin") as lines:
        applied("a")
        wait_until(lambda: any("backend large/b2 came" in line for line in lines), "the first is told")
        # Before and after together are too much.
        applied("b")
        wait_until(lambda: sum("* revision" in line for line in lines) == 2, "all is read anew")
        shell.put("services/behind-large", "{}")
        wait_until(lambda: any("services/behind-large came" in line for line in lines), "what follows is told")
    shell.etcd.etcdctl("del", "--prefix", shell.prefix + "backends/large/")


@BOTH
def test_programs_get_the_story_as_json(shell: Shell, via: str) -> None:
    with watching(shell, via, "-o", "json") as lines:
        shell.put("services/told", "{}")

        def told() -> list[dict[str, object]]:
            found = [json.loads(line) for line in lines if line.endswith("\n")]
            return [step for step in found if "services/told" in json.dumps(step) and step["event"] == "change"]

        (step,) = wait_until(told, "the change is told")
        assert step["changes"] == [{"key": "services/told", "before": None, "after": {}}]
    shell.etcd.etcdctl("del", shell.prefix + "services/told")


@BOTH
def test_a_drained_backend_gets_nothing_new_and_the_wait_is_for_what_is_in_flight(
    shell: Shell, via: str
) -> None:
    with named_servers("one", "two") as (one, two):
        shell.put("routes/drained", '{"host": "drained.example", "service": "drained"}')
        shell.put("backends/drained/one", one.address)
        shell.put("backends/drained/two", two.address)
        wait_until(
            lambda: {shell.weldr.get(host="drained.example")[1] for _ in range(4)} == {"one", "two"},
            "both serve",
        )
        assert "nothing" not in shell.good("drain", "drained/one", "--wait", via=via)
        assert {shell.weldr.get(host="drained.example")[1] for _ in range(6)} == {"two"}
        assert json.loads(shell.value("overrides/drained/one")) == {"drain": True}
        shell.good("undrain", "drained/one", via=via)
        assert shell.value("overrides/drained/one") == ""
        wait_until(
            lambda: {shell.weldr.get(host="drained.example")[1] for _ in range(4)} == {"one", "two"},
            "both serve",
        )
    for key in ("backends/drained/one", "backends/drained/two", "routes/drained"):
        shell.etcd.etcdctl("del", shell.prefix + key)


@BOTH
def test_a_drained_instance_is_not_ready_and_serves_what_still_comes(shell: Shell, via: str) -> None:
    weldr, what = shell.weldr, f"instances/{shell.weldr.name}"
    with NamedServer("out") as server:
        shell.put("routes/out", '{"host": "out.example", "service": "out"}')
        shell.put("backends/out/b1", server.address)
        wait_until(lambda: weldr.get(host="out.example")[0] == 200, "it serves")
        assert weldr.admin_get("/readyz")[0] == 200
        server.hold()
        held = threading.Thread(target=weldr.get, kwargs={"host": "out.example", "limit_s": 60.0})
        held.start()
        wait_until(lambda: server.waiting, "the request is there")
        try:
            assert "created" in shell.good("drain", what, via=via)
            wait_until(lambda: json.loads(shell.value(what))["in_flight"] == 1, "its workers have said so")
            late = shell.run("drain", what, "--wait", "--timeout", "1", via=via)
            assert (late.status, "1 requests in flight" in late.error) == (1, True), late
            status, reason = weldr.admin_get("/readyz")
            assert (status, f"instance_overrides/{weldr.name}" in reason) == (503, True)
        finally:
            server.release()
            held.join()
        assert weldr.get(host="out.example")[0] == 200
        assert "no request" in shell.good("drain", what, "--wait", via=via)
        shell.good("undrain", what, "--wait", via=via)
        assert weldr.admin_get("/readyz")[0] == 200
        assert shell.value(f"instance_overrides/{weldr.name}") == ""
    for key in ("backends/out/b1", "routes/out"):
        shell.etcd.etcdctl("del", shell.prefix + key)


def test_undrain_leaves_what_else_the_operator_said(shell: Shell) -> None:
    shell.put("backends/word/b1", "127.0.0.1:1")
    shell.put("overrides/word/b1", '{"weight": 3}')
    shell.good("drain", "word/b1")
    assert json.loads(shell.value("overrides/word/b1")) == {"weight": 3, "drain": True}
    shell.good("undrain", "word/b1")
    assert json.loads(shell.value("overrides/word/b1")) == {"weight": 3}


@BOTH
def test_top_shows_the_requests_of_each_backend(shell: Shell, via: str) -> None:
    with named_servers("top") as (server,):
        shell.put("backends/top/b1", server.address)
        shell.put("routes/top", '{"host": "top.example", "service": "top"}')
        wait_until(lambda: shell.weldr.get(host="top.example") == (200, "top"), "it serves")
        done = threading.Event()

        def ask() -> None:
            while not done.is_set():
                shell.weldr.get(host="top.example")

        asking = threading.Thread(target=ask)
        asking.start()
        output = shell.good("top", "-n", "1", "--interval", "3", via=via)
        done.set()
        asking.join()
    rows = {tuple(line.split("\t")[:2]): line.split("\t") for line in output.splitlines()}
    assert float(rows["top", "b1"][2].removesuffix("/s")) > 0
    assert rows["top", "b1"][3] == "0.0/s"
    assert any(name == shell.weldr.name for name, _ in rows)
    for key in ("backends/top/b1", "routes/top"):
        shell.etcd.etcdctl("del", shell.prefix + key)
