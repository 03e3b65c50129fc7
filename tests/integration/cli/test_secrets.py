"""What is secret is in etcd, and comes out nowhere: by no call of the API, no command, no event, no log."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import threading
from pathlib import Path

from tests.integration.cli.conftest import Shell
from tests.support.admin import Api, EventStream
from tests.support.instance import wait_until

STICKY, OTHER = (base64.b64encode(text).decode() for text in (b"sticky-sticky-sticky", b"second-second-second"))
CERTIFICATE = "-----BEGIN PRIVATE KEY----- do not show"
SECRETS = (STICKY, OTHER, CERTIFICATE, "sticky-sticky", "second-second", "misplaced")


def hold(shell: Shell) -> int:
    """Every kind of secret, now and in the past, right and wrong; a revision of the past."""
    shell.put("sticky_key", json.dumps({"key": STICKY}))
    shell.put("certs/c", json.dumps({"cert": "public", "key": CERTIFICATE}))
    shell.put("secrets/test", json.dumps({"key": STICKY}))
    revision = json.loads(shell.good("get", "certs/c", "-o", "json"))["mod_revision"]
    shell.put("sticky_key", json.dumps({"misplaced": OTHER}))
    shell.put("certs/c", "misplaced")
    shell.put("sticky_key", json.dumps({"key": OTHER}))
    shell.put("certs/c", json.dumps({"cert": "public", "key": CERTIFICATE}))
    return int(revision)


def told_by_the_api(api: Api, revision: int) -> list[str]:
    """All that can be read, and what is answered to writes."""
    names = {"service": "s", "id": "b", "name": "c", "instance": "i", "vip": "v", "lease": "1"}
    found = []
    for path, methods in api.get("/openapi.json").json["paths"].items():
        if "get" in methods and not path.endswith("/events"):
            for query in ("", f"?revision={revision}"):
                found.append(api.get(path.format(**names) + query).body.decode())
    found.append(api.get("/api/v1/secrets/test").body.decode())
    for write in ("?dry_run=1", ""):
        found.append(api.put(f"/api/v1/sticky_key{write}", {"key": STICKY}).body.decode())
        found.append(api.patch(f"/api/v1/sticky_key{write}", {"key": OTHER}).body.decode())
        operations = [{"op": "put", "key": "sticky_key", "value": {"key": STICKY}}]
        found.append(api.post(f"/api/v1/transaction{write}", {"operations": operations}).body.decode())
    found.append(api.put("/api/v1/sticky_key", {"key": "misplaced!"}).body.decode())
    return found


def test_nothing_secret_is_told(shell: Shell, tmp_path: Path) -> None:
    api = Api(shell.weldr.admin)
    story: list[str] = []
    command = [sys.executable, "-P", "-u", "-m", "weldr", "watch", *shell.options("etcd")]
    with (
        EventStream(api.address) as stream,
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watching,
    ):
        assert watching.stdout is not None
        reader = threading.Thread(target=story.extend, args=(watching.stdout,))
        reader.start()
        wait_until(lambda: story, "the story has begun")
        revision = hold(shell)
        told = told_by_the_api(api, revision)
        shell.put("services/the-end", "{}")
        events = []
        for event in stream:
            events.append(json.dumps(event.data))
            if "services/the-end" in events[-1]:
                break
        wait_until(lambda: any("the-end" in line for line in story), "the story has been told")
        watching.terminate()
        reader.join()
    assert len(told) > 50
    assert any("certs/c" in text for text in events)
    file = tmp_path / "keys.yaml"
    file.write_text(f"sticky_key: {{key: {OTHER}}}\n")
    # Table and documents are made from the same; each way of showing is here once.
    commands = [
        ("etcd", "get"),
        ("etcd", "get", "-o", "json", "--revision", str(revision)),
        ("etcd", "history"),
        ("etcd", "export"),
        ("etcd", "check"),
        ("etcd", "apply", "-f", str(file), "--check"),
        ("etcd", "rollback", str(revision), "--dry-run", "-o", "json"),
        ("admin", "get", "-o", "yaml"),
        ("admin", "history", "-o", "json"),
        ("admin", "rollback", str(revision), "--dry-run"),
    ]
    shown = []
    for via, *arguments in commands:
        done = shell.run(*arguments, via=via)
        shown.append(f"{via} {arguments}: {done.output}{done.error}")
    for text in [*told, *events, *story, *shown, *shell.weldr.lines]:
        assert not any(secret in text for secret in SECRETS), text
