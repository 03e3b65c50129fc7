"""`weldr get|put|rm|edit`, to etcd itself and through the API of an instance."""

from __future__ import annotations

import http.server
import json
import os
import shlex
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import yaml

from tests.integration.cli.conftest import Shell
from tests.support.tls import Authority

BOTH = pytest.mark.parametrize("via", ["etcd", "admin"])


@BOTH
def test_a_key_is_put_shown_and_removed(shell: Shell, via: str) -> None:
    key = f"routes/life-{via}"
    assert "created at revision" in shell.good("put", key, '{"service": "shop"}', via=via)
    assert json.loads(shell.value(key)) == {"service": "shop"}
    assert json.loads(shell.good("get", key, via=via)) == {"service": "shop"}
    item = json.loads(shell.good("get", key, "-o", "json", via=via))
    assert (item["key"], item["value"]) == (key, {"service": "shop"})
    assert "as it was" in shell.good("put", key, '{"service":"shop"}', via=via)
    assert "removed" in shell.good("rm", key, via=via)
    assert shell.value(key) == ""
    gone = shell.run("get", key, via=via)
    assert (gone.status, gone.error.count("\n")) == (1, 1)


@BOTH
def test_a_name_with_a_backslash_is_found_as_it_was_written(shell: Shell, via: str) -> None:
    key = rf"services/{via}\b"
    assert "created at revision" in shell.good("put", key, "{}", via=via)
    assert shell.value(key) == "{}"
    assert json.loads(shell.good("get", key, "-o", "json", via=via))["key"] == rf"services/{via}\\b"
    assert "removed" in shell.good("rm", key, via=via)


@BOTH
def test_a_collection_is_listed_for_pipes_and_for_programs(shell: Shell, via: str) -> None:
    for number in (1, 2):
        shell.put(f"backends/listed/b{number}", f"127.0.0.1:{number}")
    lines = shell.good("get", "backends/listed", via=via).splitlines()
    assert [line.split("\t")[:2] for line in lines] == [
        ["backends/listed/b1", "127.0.0.1:1"],
        ["backends/listed/b2", "127.0.0.1:2"],
    ]
    items = yaml.safe_load(shell.good("get", "backends", "-o", "yaml", via=via))
    assert {"backends/listed/b1", "backends/listed/b2"} <= {item["key"] for item in items}
    assert "instances/" in shell.good("get", via=via)


@BOTH
def test_the_past_can_be_shown(shell: Shell, via: str) -> None:
    shell.good("put", "routes/past", '{"service": "one"}')
    revision = json.loads(shell.good("get", "routes/past", "-o", "json"))["mod_revision"]
    shell.good("put", "routes/past", '{"service": "two"}')
    then = shell.good("get", "routes/past", "--revision", str(revision), via=via)
    assert json.loads(then) == {"service": "one"}
    assert "no revision" in shell.run("get", "--revision", "999999999", via=via).error


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["put", "routes/x", '{"servce": "x"}'], 1, "did you mean `service`"),
        (["put", "rotes/x", "{}"], 2, "no collection 'rotes'"),
        (["put", "instances/x", "{}"], 2, "written by weldr alone"),
        (["put", "--if-revision", "1", "routes/x", '{"service": "x"}'], 1, "nothing was written"),
        (["rm", "routes/none"], 1, "there is no routes/none"),
        (["undrain", "none/b1"], 1, "nobody has drained backend none/b1"),
        (["drain", "none/b1"], 1, "there is no backend none/b1"),
        (["drain", "instances/none"], 1, "there is no instance none"),
        (["drain", "none"], 2, "names no key"),
        (["history", "rotes/x"], 2, "no collection 'rotes'"),
        (["rollback", "0"], 2, "range"),
        (["rollback", str(2**64)], 2, "range"),
        (["get", "--revision", str(2**64)], 2, "range"),
        (["put", "--if-revision", str(2**64), "routes/x", '{"service": "x"}'], 2, "range"),
        (["get", "--admin", "127.0.0.1:1"], 2, "lead to different places"),
        (["check", "--watch", "-f", "/dev/null"], 2, "take --file or --watch"),
        (["put", "routes/\udcff", '{"service": "x"}'], 2, "is no text"),
        (["rm", "routes/\udcff"], 2, "is no text"),
        (["drain", "\udcff/b1"], 2, "is no text"),
        (["edit", "--editor", "'", "routes/x"], 1, "the editor's command cannot be understood"),
    ],
)
def test_bad_input_is_one_line_that_helps(shell: Shell, arguments: list[str], status: int, words: str) -> None:
    done = shell.run(*arguments)
    assert (done.status, words in done.error, done.error.count("\n")) == (status, True, 1), done
    assert shell.value("routes/x") == ""


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--etcd", "127.0.0.1:1"], "127.0.0.1:1"),
        (["--admin", "127.0.0.1:1"], "127.0.0.1:1 cannot be asked"),
        (["--admin", "ftp://x"], "is no URL"),
        (["--admin", "http://user:secret@127.0.0.1"], "is no URL"),
    ],
)
def test_what_cannot_be_reached_is_told_in_one_line(shell: Shell, options: list[str], words: str) -> None:
    done = shell.run("get", *options, via="")
    assert done.status in (1, 2)
    assert words in done.error
    assert done.error.count("\n") == 1
    assert "secret" not in done.error


@pytest.mark.parametrize("answer", ["{}", "[]", '{"items": [{"key": "of/another/version"}], "steps": [7]}'])
@pytest.mark.parametrize("command", [["get"], ["history"], ["watch"], ["put", "routes/x", '{"service": "x"}']])
def test_an_answer_of_another_program_is_told_in_one_line(
    shell: Shell, answer: str, command: list[str]
) -> None:
    class Stranger(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer.encode())

        do_POST = do_GET  # noqa: N815

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Stranger) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        done = shell.run(*command, "--admin", f"127.0.0.1:{server.server_port}", via="")
        server.shutdown()
    assert (done.status, "does not answer as the admin API" in done.error) == (1, True), done
    assert done.error.count("\n") == 1


@pytest.mark.parametrize(
    ("streams", "status", "words"),
    [
        (">/dev/full", 1, "No space left on device"),
        (">&-", 0, ""),
        (">&- 2>&- <&-", 0, ""),
    ],
)
def test_output_that_cannot_be_written_is_no_traceback(
    shell: Shell, streams: str, status: int, words: str
) -> None:
    command = [sys.executable, "-m", "weldr", "get", *shell.options("etcd")]
    done = subprocess.run(
        ["sh", "-c", f"exec {shlex.join(command)} {streams}"], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, words in done.stderr) == (status, True), done
    assert done.stderr.count("\n") == (1 if words else 0)


@BOTH
def test_a_key_is_edited_and_what_is_wrong_is_not_written(shell: Shell, via: str) -> None:
    key = f"routes/edited-{via}"
    shell.good("put", key, '{"service": "one"}')
    good = shell.run("edit", key, via=via, environment={"EDITOR": "sed -i s/one/two/"})
    assert (good.status, json.loads(shell.value(key))) == (0, {"service": "two"})
    wrong = shell.run("edit", key, via=via, environment={"EDITOR": "sed -i s/service/servce/"})
    assert (wrong.status, "did you mean" in wrong.error) == (1, True)
    assert "nothing was changed" in shell.run("edit", key, via=via, environment={"EDITOR": "true"}).output
    for editor, words in (("rm", "cannot be read"), ("sh -c 'printf \\\\377 > $0'", "not UTF-8")):
        failed = shell.run("edit", key, via=via, environment={"EDITOR": editor})
        assert (failed.status, words in failed.error, failed.error.count("\n")) == (1, True, 1), failed
    assert json.loads(shell.value(key)) == {"service": "two"}


def test_an_edit_does_not_overwrite_what_somebody_changed_meanwhile(shell: Shell) -> None:
    shell.good("put", "routes/raced", '{"service": "one"}')
    other = f'"{shell.etcd.binary.etcdctl}" --endpoints={shell.etcd.endpoint} put {shell.prefix}routes/raced'
    editor = f'sh -c \'{other} {{\\"service\\":\\"theirs\\"}} >/dev/null; sed -i s/one/ours/ $0\''
    done = shell.run("edit", "routes/raced", environment={"EDITOR": editor, "ETCDCTL_API": "3"})
    assert (done.status, "nothing was written" in done.error) == (1, True), done
    assert json.loads(shell.value("routes/raced")) == {"service": "theirs"}


@BOTH
def test_a_write_through_a_registration_keeps_its_lease(shell: Shell, via: str) -> None:
    lease = shell.etcd.etcdctl("lease", "grant", "60").split()[1]
    shell.put("backends/leased/b1", "127.0.0.1:1", f"--lease={lease}")
    shell.good("put", "backends/leased/b1", '{"url": "127.0.0.1:1", "weight": 9}', via=via)
    item = json.loads(shell.good("get", "backends/leased/b1", "-o", "json"))
    assert int(item["lease"], 16) == int(lease, 16)
    shell.etcd.etcdctl("lease", "revoke", lease)


@BOTH
def test_a_certificate_is_put_shown_without_its_key_and_removed(shell: Shell, tmp_path: Path, via: str) -> None:
    pair = Authority(tmp_path, "authority").issue("one")
    value = {"cert": pair.certificate.read_text(), "key": pair.key.read_text()}
    name = f"certs/life-{via}"
    done = shell.run("put", name, "-", via=via, stdin=json.dumps(value))
    assert (done.status, "created at revision" in done.output) == (0, True), done
    assert json.loads(shell.value(name)) == value
    assert json.loads(shell.good("get", name, via=via)) == {"cert": value["cert"]}
    assert name not in shell.run("check", via=via).output
    wrong = shell.run("put", name, json.dumps(value | {"key": value["cert"]}), via=via)
    assert (wrong.status, "at $.key: expected PEM" in wrong.error) == (1, True), wrong
    assert "removed" in shell.good("rm", name, via=via)
    assert shell.value(name) == ""


def test_the_key_of_a_certificate_is_not_shown(shell: Shell) -> None:
    shell.put("certs/secret", '{"cert": "TOP SECRET", "key": "TOP SECRET"}')
    for arguments in (
        ["get"],
        ["get", "certs/secret"],
        ["get", "certs", "-o", "json"],
        ["history"],
        ["export"],
    ):
        done = shell.run(*arguments)
        assert "TOP SECRET" not in done.output + done.error, arguments
    shell.etcd.etcdctl("del", shell.prefix + "certs/secret")


def test_a_shell_completes_the_commands(shell: Shell) -> None:
    environment = {"_WELDR_COMPLETE": "bash_complete", "COMP_WORDS": "weldr ro", "COMP_CWORD": "1"}
    done = shell.run("", environment=environment)
    assert done.output.split() == ["plain,rollback"]


@BOTH
def test_a_shell_completes_keys_that_there_are(shell: Shell, via: str) -> None:
    shell.good("put", "routes/completed", '{"service": "one"}')
    options = " ".join(shell.options(via))
    for command, typed, found in (
        ("get", "rout", {"plain,routes", "plain,routes/completed"}),
        ("rm", "routes/comp", {"plain,routes/completed"}),
        ("drain", "instances/", {f"plain,instances/{shell.weldr.name}"}),
    ):
        words = f"weldr {command} {options} {typed}"
        environment = {
            "_WELDR_COMPLETE": "bash_complete",
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split()) - 1),
        }
        done = shell.run("", environment=environment)
        assert found <= set(done.output.split()), done
        assert all(line.startswith(f"plain,{typed}") for line in done.output.split())
    unreachable = "weldr get --etcd 127.0.0.1:1 rout"
    environment = {"_WELDR_COMPLETE": "bash_complete", "COMP_WORDS": unreachable, "COMP_CWORD": "4"}
    assert shell.run("", environment=environment).output.split() == ["plain,routes"]


@BOTH
def test_programs_are_told_what_became_of_each_key(shell: Shell, via: str) -> None:
    created = json.loads(shell.good("put", "routes/told", '{"service": "a"}', "-o", "json", via=via))
    assert created["outcomes"] == [
        {"key": "routes/told", "action": "create", "old_revision": 0, "new_revision": created["revision"]}
    ]
    removed = yaml.safe_load(shell.good("rm", "routes/told", "-o", "yaml", via=via))
    assert removed["outcomes"][0]["action"] == "delete"
    assert removed["outcomes"][0]["old_revision"] == created["revision"]


def test_an_edit_neither_shows_nor_loses_what_is_secret(shell: Shell, tmp_path: Path) -> None:
    shell.put("sticky_key", '{"key": "c2VjcmV0c2VjcmV0c2VjcmV0"}')
    seen = tmp_path / "seen"
    same = shell.run("edit", "sticky_key", environment={"EDITOR": f"sed -n 'w {seen}'"})
    assert "nothing was changed" in same.output, same
    assert "c2Vj" not in seen.read_text()
    touched = shell.run("edit", "sticky_key", environment={"EDITOR": "sed -i 's/{}/{ }/'"})
    assert touched.status == 0, touched
    assert "c2VjcmV0" in shell.value("sticky_key")
    shell.etcd.etcdctl("del", shell.prefix + "sticky_key")


def test_a_conflict_is_told_through_the_api_as_well(shell: Shell) -> None:
    done = shell.run("put", "--if-revision", "1", "routes/x", '{"service": "x"}', via="admin")
    assert (done.status, "routes/x" in done.error, done.error.count("\n")) == (1, True, 1)


def test_no_name_is_completed_that_a_shell_would_take_for_more_than_a_word(shell: Shell) -> None:
    for name in ("$(reboot)", "a;b", "two words", "line\nplain,rm", "plain-ö:80"):
        shell.put(f"backends/completed/{name}", "127.0.0.1:1")
    words = f"weldr drain {shlex.join(shell.options('etcd'))} completed/"
    variables = {"_WELDR_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    found = subprocess.run(
        [sys.executable, "-P", "-m", "weldr"],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.splitlines() == ["plain,completed/plain-ö:80"]
