"""The event stream: every change as it happens, resumable, and never at the cost of others."""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import socket
import time
from pathlib import Path

import pytest

from tests.support.admin import Api, Event, EventStream
from tests.support.etcd import EtcdServer
from tests.support.instance import Instance, wait_until
from tests.support.site import Site


def _revision(event: Event) -> int:
    return int((event.id or "").partition("-")[0])


def test_a_stream_begins_with_the_revision_and_tells_every_change(site: Site, api: Api) -> None:
    with EventStream(api.address) as stream:
        hello = stream.until("hello")
        assert hello.data["instance"] == site.weldr.name
        site.put("routes/story", '{"service": "one"}')
        event, change = next(stream.changes("routes/story"))
        assert _revision(event) == event.data["revision"]
        assert (change["action"], change["after"]["value"]) == ("create", {"service": "one"})
        assert _revision(event) > _revision(hello)
        site.put("routes/story", '{"service": "two"}')
        _, change = next(stream.changes("routes/story"))
        assert (change["action"], change["before"]["value"]) == ("update", {"service": "one"})
        site.etcd.etcdctl("del", site.prefix + "routes/story")
        _, change = next(stream.changes("routes/story"))
        assert change["action"] == "delete"
        assert "after" not in change


def test_what_one_transaction_changes_is_one_event(api: Api) -> None:
    with EventStream(api.address) as stream:
        stream.until("hello")
        operations = [{"op": "put", "key": f"services/together{n}", "value": {}} for n in range(3)]
        revision = api.post("/api/v1/transaction", {"operations": operations}).json["revision"]
        event = stream.until("change", revision=revision)
        assert [change["key"] for change in event.data["changes"]] == [op["key"] for op in operations]


def test_a_stream_resumes_behind_its_last_event(api: Api) -> None:
    first = api.put("/api/v1/services/resumed", {"limits": {"pending_requests": 1}}).json["revision"]
    for number in (2, 3, 4):
        api.put("/api/v1/services/resumed", {"limits": {"pending_requests": number}})
    for query, headers in ((f"?since={first}", {}), ("", {"Last-Event-ID": str(first)})):
        with EventStream(api.address, query, headers) as stream:
            changes = stream.changes("services/resumed")
            seen = [next(changes)[1]["after"]["value"]["limits"]["pending_requests"] for _ in range(3)]
            assert seen == [2, 3, 4]
            api.put("/api/v1/services/resumed", {"limits": {"pending_requests": 5}})
            assert next(changes)[1]["after"]["value"]["limits"]["pending_requests"] == 5
        api.put("/api/v1/services/resumed", {"limits": {"pending_requests": 4}})


def test_a_place_that_is_not_kept_any_more_is_told(api: Api) -> None:
    with EventStream(api.address, "?since=0") as stream:
        reset = stream.until("reset")
        assert _revision(reset) == reset.data["revision"]
        api.put("/api/v1/services/after-reset", {})
        next(stream.changes("services/after-reset"))


def test_a_stream_goes_on_at_another_instance(site: Site, api: Api) -> None:
    with Instance("--instance", "second", etcd=site.etcd.endpoint, prefix=site.prefix) as second:
        second.wait_ready()
        with EventStream(api.address) as stream:
            last = api.put("/api/v1/services/elsewhere", {}).json["revision"]
            event, _ = next(stream.changes("services/elsewhere"))
        api.put("/api/v1/services/elsewhere2", {})
        for query, headers in ((f"?since={last}", {}), ("", {"Last-Event-ID": event.id})):
            with EventStream(second.admin, query, headers) as stream:
                assert next(iter(stream)).kind == "hello"
                for each in stream:
                    assert each.kind != "reset"
                    if any(change["key"] == "services/elsewhere2" for change in each.data.get("changes", ())):
                        break


def test_who_saw_another_past_of_a_restored_etcd_is_told_to_read_all_keys_anew(
    own_etcd: EtcdServer, tmp_path: Path
) -> None:
    """Though the instance was not there meanwhile, and etcd has come to the same revision again."""
    backup = tmp_path / "backup"
    own_etcd.etcdctl("snapshot", "save", str(backup))
    with Instance(etcd=own_etcd.endpoint) as weldr, EventStream(weldr.wait_ready().admin) as stream:
        own_etcd.etcdctl("put", "/weldr/services/lost", "{}")
        last, _ = next(stream.changes("services/lost"))
    own_etcd.stop()
    own_etcd.restore(backup)
    own_etcd.start()
    with Instance(etcd=own_etcd.endpoint) as weldr, EventStream(weldr.wait_ready().admin) as stream:
        while _revision(next(iter(stream))) <= _revision(last):
            own_etcd.etcdctl("put", "/weldr/services/other", "{}")
        with EventStream(weldr.admin, headers={"Last-Event-ID": last.id or ""}) as resumed:
            assert next(iter(resumed)).kind == "hello"
            assert next(iter(resumed)).kind == "reset"


def test_a_key_that_cannot_be_understood_is_told_and_told_again_when_it_can(site: Site, api: Api) -> None:
    with EventStream(api.address) as stream:
        stream.until("hello")
        site.put("routes/broken", '{"service": 5}')
        event = stream.until("problems")
        assert event.data["appeared"][0]["place"] == "$.service"
        site.put("routes/broken", '{"host": "mended.example", "response": {}}')
        assert stream.until("problems").data["gone"] == [site.prefix + "routes/broken"]


def test_the_key_of_a_certificate_is_not_in_the_events(site: Site, api: Api) -> None:
    with EventStream(api.address) as stream:
        stream.until("hello")
        site.put("certs/told", json.dumps({"cert": "TOP SECRET", "key": "TOP SECRET"}))
        event, change = next(stream.changes("certs/told"))
        assert change["after"]["value"] == {"cert": ""}
        assert "TOP SECRET" not in json.dumps(event.data)


def test_a_reader_that_does_not_read_is_dropped_and_the_others_are_served(site: Site, api: Api) -> None:
    host, _, port = api.address.rpartition(":")
    with socket.socket() as slow, EventStream(api.address) as good:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect((host, int(port)))
        slow.sendall(f"GET /api/v1/events HTTP/1.1\r\nHost: {api.address}\r\n\r\n".encode())
        # What the kernel holds for a reader is a few MiB at most; the stream itself may hold one.
        value = {"url": "127.0.0.1:1", "drain": True, "zone": "z" * 200_000}
        changes = good.changes("backends/slow/b")
        for number in range(60):
            api.put("/api/v1/backends/slow/b", value | {"weight": number})
            assert next(changes)[1]["after"]["value"]["weight"] == number

        slow.settimeout(30)
        received = 0
        with contextlib.suppress(ConnectionResetError):
            # A stream that is not dropped has no end: this would time out.
            while data := slow.recv(1 << 20):
                received += len(data)
        assert received < 60 * 200_000
    api.delete("/api/v1/backends/slow/b")


def test_a_client_that_goes_before_its_stream_begins_is_no_failure(site: Site, api: Api) -> None:
    host, _, port = api.address.rpartition(":")
    with socket.create_connection((host, int(port))) as client:
        # This revision is awaited for a moment: another instance may have been that far.
        client.sendall(b"GET /api/v1/events?since=999999999 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        time.sleep(0.5)
    time.sleep(2.5)
    assert site.weldr.logged("a request to the admin API failed") == []


def test_streams_end_with_the_instance(site: Site) -> None:
    with Instance("--instance", "third", etcd=site.etcd.endpoint, prefix=site.prefix) as third:
        third.wait_ready()
        with EventStream(third.admin) as stream:
            stream.until("hello")
            third.signal(15)
            wait_until(lambda: third.process.poll() is not None, "it has ended though a stream was open")
            assert third.wait() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2])
def test_a_stream_ends_in_order_with_its_manager(site: Site, number: signal.Signals) -> None:
    with Instance("--instance", "fourth", etcd=site.etcd.endpoint, prefix=site.prefix) as fourth:
        fourth.wait_ready()
        connection = http.client.HTTPConnection(fourth.admin, timeout=30)
        connection.request("GET", "/api/v1/events")
        with connection.getresponse() as response:
            assert response.readline().startswith(b"id: ")
            fourth.signal(number)
            # Without the last chunk this would be an IncompleteRead.
            assert b"event: hello" in response.read()
        connection.close()


def test_it_is_told_how_each_backend_left(site: Site, api: Api) -> None:
    lease = site.etcd.etcdctl("lease", "grant", "60").split()[1]
    with EventStream(api.address) as stream:
        stream.until("hello")
        site.put("backends/left/expired", "127.0.0.1:1", f"--lease={lease}")
        site.etcd.etcdctl("lease", "revoke", lease)
        assert stream.until("departure", key="backends/left/expired").data["reason"] == "expired"
        api.put("/api/v1/backends/left/removed?ttl=60", "127.0.0.1:1")
        api.delete("/api/v1/backends/left/removed")
        assert stream.until("departure", key="backends/left/removed").data["reason"] == "removed"
        api.put("/api/v1/backends/left/drained", {"url": "127.0.0.1:1", "drain": True})
        revision = api.delete("/api/v1/backends/left/drained").json["revision"]
        assert stream.until("departure", key="backends/left/drained").data["reason"] == "drained"
    # Whoever had the change only is told what came behind it.
    with EventStream(api.address, f"?since={revision}") as stream:
        stream.until("departure", key="backends/left/drained")
