"""User and password: tokens that expire, change or are forgotten; refusals that are not repeated."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.etcd.recording import Recording, connect, until
from tests.support.etcd import EtcdBinary, EtcdServer
from weldr.etcd.client import EtcdClient
from weldr.etcd.errors import EtcdAuthError, EtcdUnavailableError

ROOT = ("--user=root", "--password=rootpw")


COMMANDS = (
    "user add root:rootpw",
    "user grant-role root root",
    "role add weldr",
    "role grant-permission --prefix weldr readwrite /weldr/",
    "user add weldr:secret",
    "user grant-role weldr weldr",
    "auth enable",
)


@contextlib.contextmanager
def guarded_server(binary: EtcdBinary, *arguments: str) -> Iterator[EtcdServer]:
    """User `weldr` with password `secret` may use all below `/weldr/`."""
    # The least cost of a password's hash: most of what these tests would wait for.
    with EtcdServer(binary, "--bcrypt-cost=4", *arguments) as server:
        for command in COMMANDS:
            server.etcdctl(*command.split())
        yield server


@pytest.fixture
def guarded(each_binary: EtcdBinary) -> Iterator[EtcdServer]:
    with guarded_server(each_binary, "--auth-token-ttl=2") as server:
        yield server


def as_weldr(server: EtcdServer, password: str = "secret") -> EtcdClient:
    return connect(server.endpoint, user="weldr", password=password)


def logins(server: EtcdServer) -> int:
    """How often anybody asked to log in, by the server's own count."""
    return server.handled("Authenticate")


async def test_a_user_reads_writes_watches_and_leases_what_is_permitted(guarded: EtcdServer) -> None:
    async with as_weldr(guarded) as client, Recording(client, b"/weldr/") as recording:
        lease = await client.grant_lease(20)
        await client.put(b"/weldr/a", b"1", lease=lease.id)
        await recording.holds(b"/weldr/a", b"1")
        await client.renew_lease(lease.id)
        await client.revoke_lease(lease.id)
        await recording.holds(b"/weldr/a", None)


async def test_a_token_that_expired_or_was_forgotten_is_replaced(guarded: EtcdServer) -> None:
    async with as_weldr(guarded) as client, Recording(client, b"/weldr/") as recording:
        session = await client.connection.session(5)
        token = session.token
        await client.put(b"/weldr/a", b"1")
        await asyncio.sleep(5)  # the token lives for 2 s; etcd looks every second
        await client.put(b"/weldr/a", b"2")
        assert session.token != token, "it was the expired token that was replaced"
        await recording.holds(b"/weldr/a", b"2")
        await asyncio.to_thread(guarded.restart)  # forgets all tokens
        await client.put(b"/weldr/a", b"3", timeout_s=30)
        await recording.holds(b"/weldr/a", b"3")
        assert [value for _, value in recording.events] == [b"1", b"2", b"3"]
        assert len(recording.snapshots) == 1


async def test_a_change_of_roles_asks_for_one_new_login(each_binary: EtcdBinary, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_bytes(b"0123456789abcdef" * 4)
    # Only these tokens are bound to the revision of users and roles that they were made at.
    tokens = f"--auth-token=jwt,priv-key={key},sign-method=HS256,ttl=10m"
    with guarded_server(each_binary, tokens) as server:
        async with as_weldr(server) as client, Recording(client, b"/weldr/") as recording:
            await client.put(b"/weldr/a", b"1")
            await asyncio.to_thread(server.etcdctl, *ROOT, "role", "add", "other")
            before = logins(server)
            # Many at once: one login serves them all.
            await asyncio.gather(*(client.put(b"/weldr/%d" % number, b"2") for number in range(50)))
            assert logins(server) - before == 1
            await recording.holds(b"/weldr/49", b"2")
            assert len(recording.snapshots) == 1


async def test_a_token_is_kept_over_lost_connections(guarded: EtcdServer) -> None:
    async with as_weldr(guarded) as client:
        await client.put(b"/weldr/a", b"1")
        before = logins(guarded)
        for _ in range(5):
            session = await client.connection.session(5)
            reason = EtcdUnavailableError("the test says so", endpoint=str(session.endpoint))
            client.connection.failed(session, reason)
            await client.put(b"/weldr/a", b"2")
        assert logins(guarded) == before


@pytest.mark.real_time
async def test_who_gives_no_user_is_told_so_at_once(guarded: EtcdServer) -> None:
    async with connect(guarded.endpoint) as client:
        with pytest.raises(EtcdAuthError):
            await client.get(b"/weldr/a")
        began_s = time.monotonic()
        asked = (client.get(b"/weldr/a") for _ in range(50))
        failures = await asyncio.gather(*asked, return_exceptions=True)
        assert time.monotonic() - began_s < 0.5, "none waits for a login that cannot be made"
        assert {str(failure) for failure in failures} == {
            "etcd refuses this user: etcd asks for a user: give --user"
        }
        assert logins(guarded) == 0


async def test_no_login_where_none_is_needed(own_etcd: EtcdServer) -> None:
    async with connect(own_etcd.endpoint, user="weldr", password="secret") as client:
        await client.put(b"a", b"1")
        assert logins(own_etcd) == 0


@pytest.mark.real_time
async def test_a_wrong_password_is_told_once_and_does_not_hammer_etcd(
    guarded: EtcdServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with as_weldr(guarded, "wrong") as client:
        before = logins(guarded)
        end_s = time.monotonic() + 2
        while time.monotonic() < end_s:
            with pytest.raises(EtcdAuthError, match="invalid user ID or password"):
                await client.get(b"/weldr/a")
        assert logins(guarded) - before <= 2
    lines = [
        record for record in caplog.records if record.name.startswith("weldr") and "login" in record.message
    ]
    assert len(lines) == 1
    assert not any("wrong" in str(vars(record)) for record in caplog.records), "the password is in no line"


async def test_a_corrected_password_is_used_after_a_while(guarded: EtcdServer) -> None:
    async with as_weldr(guarded, "corrected") as client:
        with pytest.raises(EtcdAuthError):
            await client.get(b"/weldr/a")
        await asyncio.to_thread(
            guarded.etcdctl, *ROOT, "user", "passwd", "weldr", stdin="corrected\ncorrected\n"
        )
        end_s = time.monotonic() + 30
        while True:
            try:
                await client.put(b"/weldr/a", b"1")
                break
            except EtcdAuthError:
                assert time.monotonic() < end_s
                await asyncio.sleep(0.1)


async def test_what_is_not_permitted_is_refused_without_trying_again(guarded: EtcdServer) -> None:
    async with as_weldr(guarded) as client:
        await client.get(b"/weldr/a")
        before = logins(guarded)
        for _ in range(20):
            with pytest.raises(EtcdAuthError, match="permission denied"):
                await client.put(b"/elsewhere", b"1")
        assert logins(guarded) == before
        assert client.connection.endpoint == guarded.endpoint


async def test_a_forbidden_prefix_is_told_once_and_followed_once_permitted(
    guarded: EtcdServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "weldr.etcd.trouble")
    async with as_weldr(guarded) as client:
        starting = asyncio.create_task(_record_one(client, b"/elsewhere/"))
        await until(lambda: _told(caplog), "the trouble is told")
        assert not starting.done()
        grant = ("role", "grant-permission", "--prefix", "weldr", "readwrite", "/elsewhere/")
        await asyncio.to_thread(guarded.etcdctl, *ROOT, *grant)
        await asyncio.wait_for(starting, 30)
    assert _told(caplog) == ["etcd cannot be followed", "following etcd works again"]


async def test_authentication_that_is_enabled_later_is_met_with_a_login(each_binary: EtcdBinary) -> None:
    with EtcdServer(each_binary) as server:
        for command in ("user add root:rootpw", "user grant-role root root"):
            server.etcdctl(*command.split())
        async with connect(server.endpoint, user="root", password="rootpw") as client:
            await client.put(b"a", b"1")
            await asyncio.to_thread(server.etcdctl, "auth", "enable")
            await client.put(b"a", b"2")


def _told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.name == "weldr.etcd.trouble"]


async def _record_one(client: EtcdClient, prefix: bytes) -> None:
    async with Recording(client, prefix):
        pass


async def test_whether_a_lease_lives_is_told_whatever_else_is_under_it(guarded: EtcdServer) -> None:
    # A backend may keep a key for others under the lease of its registration.
    async with as_weldr(guarded) as client:
        lease = await client.grant_lease(20)
        await client.put(b"/weldr/k", b"v", lease=lease.id)
        guarded.etcdctl("--user=root:rootpw", "put", f"--lease={lease.id:x}", "/others/k", "v")
        assert await client.lease_lives(lease.id)
        guarded.etcdctl("--user=root:rootpw", "lease", "revoke", f"{lease.id:x}")
        assert not await client.lease_lives(lease.id)
