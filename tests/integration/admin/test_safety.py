"""Who is answered: no page of another site, no rebound name, nobody without a token where tokens are set."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.admin import Api, EventStream
from tests.support.etcd import EtcdServer
from tests.support.instance import Instance, WeldrProcess, wait_until
from tests.support.site import Site

READ, WRITE = "r" * 32, "w" * 32


@pytest.fixture(scope="module")
def guarded(etcd_server: EtcdServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """An instance with tokens, on every address of the machine."""
    file = tmp_path_factory.mktemp("tokens") / "tokens"
    file.write_text(f"# who may what\nread {READ} dashboard\n\nwrite {WRITE} deploy\n")
    arguments = ("--admin", ":0", "--admin-token-file", str(file))
    with Instance(*arguments, etcd=etcd_server.endpoint, prefix="/guarded/") as weldr:
        yield weldr.wait_ready()


def local(weldr: Instance) -> str:
    return f"127.0.0.1:{weldr.admin.rpartition(':')[2]}"


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Host": "evil.example:8687"}, 421),
        ({"Host": "localhost.evil.example"}, 421),
        ({"Host": "127.0.0.1.evil.example"}, 421),
        ({"Host": ""}, 421),
        ({"Host": "[::1"}, 421),
        ({"Host": "127.0.0.1:1@evil.example"}, 421),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Origin": "file://"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Host": "localhost"}, 200),
        ({"Host": "LOCALHOST:8687"}, 200),
        ({"Host": "[::1]:8687"}, 200),
        ({"Host": "10.0.0.1"}, 200),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
    ],
)
def test_hostile_pages_and_rebound_names_are_refused(
    site: Site, api: Api, headers: dict[str, str], status: int
) -> None:
    before = site.configuration()
    written = api.call("PUT", "/api/v1/services/hostile", {}, headers)
    read = api.call("GET", "/api/v1/keys", headers=headers)
    assert (written.status // 100 == 2, read.status) == (status == 200, status)
    if status != 200:
        assert written.detail
        assert b"routes" not in read.body
        assert site.configuration() == before
    api.delete("/api/v1/services/hostile")


def test_our_own_page_may_ask(api: Api) -> None:
    origin = f"http://{api.address}"
    assert api.call("GET", "/api/v1/keys", headers={"Origin": origin}).status == 200


def test_one_origin_of_several_that_is_foreign_is_enough(api: Api) -> None:
    connection = http.client.HTTPConnection(api.address, timeout=30)
    connection.putrequest("PUT", "/api/v1/services/hostile")
    for origin in (f"http://{api.address}", "http://evil.example"):
        connection.putheader("Origin", origin)
    connection.putheader("Content-Length", "2")
    connection.endheaders(b"{}")
    assert connection.getresponse().status == 403
    connection.close()


def test_no_browser_is_told_that_another_site_may_ask(api: Api) -> None:
    preflight = {"Origin": "http://evil.example", "Access-Control-Request-Method": "PUT"}
    answer = api.call("OPTIONS", "/api/v1/routes/x", headers=preflight)
    assert answer.status in (403, 405)
    assert not [name for name in answer.headers if name.lower().startswith("access-control")]


@pytest.mark.parametrize(
    "authorization", [None, "Bearer", "Bearer ", "Bearer " + "x" * 32, f"Basic {WRITE}", WRITE]
)
def test_a_missing_or_wrong_token_is_told_and_nothing_else(
    guarded: Instance, authorization: str | None
) -> None:
    api = Api(local(guarded), {"Authorization": authorization} if authorization is not None else {})
    for method, path in (
        ("GET", "/api/v1/keys"),
        ("GET", "/api/v1/events"),
        ("GET", "/openapi.json"),
        ("GET", "/servers"),
        ("POST", "/servers"),
        ("PUT", "/api/v1/routes/x"),
    ):
        answer = api.call(method, path, {"service": "x"} if method != "GET" else None)
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        assert "token" in answer.detail
    assert api.get("/healthz").status == 200
    assert api.get("/readyz").status == 200


def test_a_reading_token_reads_and_does_not_write(guarded: Instance) -> None:
    api = Api(local(guarded), bearer(READ))
    assert api.get("/api/v1/keys").status == 200
    assert "only read" in api.put("/api/v1/routes/x", {"service": "x"}).detail
    assert api.delete("/api/v1/routes/x").status == 403
    assert api.post("/api/v1/transaction", {"operations": []}).status == 403


def test_a_write_is_logged_with_who_what_and_both_revisions(guarded: Instance) -> None:
    api = Api(local(guarded), bearer(WRITE))
    created = api.put("/api/v1/services/audited", {})
    removed = api.delete("/api/v1/services/audited")
    assert (created.status, removed.status) == (201, 200)
    log = guarded.wait_logged("a key was written by the API", action="delete", key="services/audited")
    assert (log["who"], log["from"]) == ("deploy", "127.0.0.1")
    assert log["old_revision"] == created.json["revision"]
    assert log["new_revision"] == 0
    assert guarded.logged("a key was written by the API", action="create", who="deploy")
    assert not [line for line in guarded.lines if WRITE in line or READ in line]


def test_with_a_token_the_name_does_not_matter_but_the_origin_does(guarded: Instance) -> None:
    api = Api(local(guarded), bearer(READ))
    assert api.get("/api/v1/keys", host="weldr.internal").status == 200
    assert api.get("/api/v1/keys", origin="http://evil.example").status == 403


@pytest.mark.parametrize("address", [":0", "0.0.0.0:0", "[::]:0"])
def test_on_other_addresses_than_loopback_it_does_not_start_without_a_token(address: str) -> None:
    command = ["run", "--etcd", "127.0.0.1:1", "--listen", "127.0.0.1:0", "--admin", address]
    with WeldrProcess(*command) as weldr:
        assert weldr.wait() == 1
        assert len(weldr.lines) == 1, weldr.lines
        assert "--admin-token-file" in weldr.lines[0]


def test_insecure_is_what_it_says(etcd_server: EtcdServer) -> None:
    with Instance("--admin", ":0", "--admin-insecure", etcd=etcd_server.endpoint, prefix="/insecure/") as weldr:
        weldr.wait_ready()
        assert Api(local(weldr)).put("/api/v1/services/x", {}).status == 201


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no token"),
        ("admin abcdefghijklmnopqrst me\n", "wrong line 1"),
        ("write short\n", "5 characters in line 1"),
        ("write abcdefghijklmnopqrst a b c\n", "wrong line 1"),
        (None, "cannot be read"),
    ],
)
def test_a_token_file_that_cannot_be_used_is_told_in_one_line(
    tmp_path: Path, text: str | None, words: str
) -> None:
    file = tmp_path / "tokens"
    if text is not None:
        file.write_text(text)
    command = ["run", "--etcd", "127.0.0.1:1", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]
    with WeldrProcess(*command, "--admin-token-file", str(file)) as weldr:
        assert weldr.wait() == 1
        assert len(weldr.lines) == 1, weldr.lines
        assert words in weldr.lines[0]
        assert "abcdefgh" not in weldr.lines[0]


def test_tokens_follow_their_file_without_a_restart(etcd_server: EtcdServer, tmp_path: Path) -> None:
    file, other = tmp_path / "tokens", "o" * 32
    file.write_text(f"write {WRITE} deploy\n")
    arguments = ("--admin-token-file", str(file))
    with Instance(*arguments, etcd=etcd_server.endpoint, prefix="/rotated/") as weldr:
        weldr.wait_ready()
        before, after = Api(weldr.admin, bearer(WRITE)), Api(weldr.admin, bearer(other))
        with EventStream(weldr.admin, headers={"Authorization": f"Bearer {WRITE}"}) as stream:
            # Nobody is locked out by a file that is only half written.
            file.write_text("write")
            weldr.wait_logged("the admin tokens stay as they were")
            assert before.get("/api/v1/keys").status == 200
            assert after.get("/api/v1/keys").status == 401
            file.write_text(f"read {other} deploy\n")
            assert list(stream)[:1]
        wait_until(lambda: after.get("/api/v1/keys").status == 200, "the new token is taken")
        assert before.get("/api/v1/keys").status == 401
        assert after.put("/api/v1/services/x", {}).status == 403
        assert not [line for line in weldr.lines if WRITE in line or other in line]
