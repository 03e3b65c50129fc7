"""TLS: a CA, a client certificate, and what does not match."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.etcd.recording import Recording, connect
from tests.support.etcd import EtcdServer, ServerTls
from tests.support.tls import Authority
from weldr.etcd.errors import EtcdUnavailableError


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"), "right")


@pytest.fixture(scope="module")
def other_authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("other"), "wrong")


@pytest.fixture(scope="module")
def server(authority: Authority) -> Iterator[EtcdServer]:
    """Serves TLS and asks for no client certificate."""
    pair = authority.issue("server")
    with EtcdServer(tls=ServerTls(pair.certificate, pair.key, authority.ca)) as running:
        yield running


@pytest.fixture(scope="module")
def strict_server(authority: Authority) -> Iterator[EtcdServer]:
    """Asks for a client certificate."""
    pair = authority.issue("strict-server")
    tls = ServerTls(pair.certificate, pair.key, authority.ca, client_ca=authority.ca)
    with EtcdServer(tls=tls) as running:
        yield running


async def test_the_right_ca_lets_everything_through(server: EtcdServer, authority: Authority) -> None:
    async with (
        connect(server.endpoint, cacert=str(authority.ca)) as client,
        Recording(client, b"/t/") as recording,
    ):
        await client.put(b"/t/a", b"1")
        await recording.holds(b"/t/a", b"1")


async def test_an_endpoint_without_a_scheme_is_https_where_a_ca_is_given(
    server: EtcdServer, authority: Authority
) -> None:
    bare = server.endpoint.removeprefix("https://")
    async with connect(bare, cacert=str(authority.ca)) as client:
        await client.put(b"a", b"1")


async def test_a_client_certificate_is_shown(strict_server: EtcdServer, authority: Authority) -> None:
    pair = authority.issue("client")
    files = {"cacert": str(authority.ca), "cert": str(pair.certificate), "key": str(pair.key)}
    async with connect(strict_server.endpoint, **files) as client:
        await client.put(b"a", b"1")


async def test_a_wrong_ca_is_told_as_what_it_is_and_only_once(
    server: EtcdServer, other_authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    async with connect(server.endpoint, cacert=str(other_authority.ca)) as client:
        with pytest.raises(EtcdUnavailableError, match=r"(?i)certificate") as failure:
            await client.put(b"a", b"1", timeout_s=3)
        assert not failure.value.maybe_applied
        assert "\n" not in str(failure.value)
    lines = [record for record in caplog.records if record.name.startswith("weldr")]
    assert [line.message for line in lines] == ["etcd is unreachable"]
    assert "certificate" in str(vars(lines[0])["reason"]).lower()


async def test_a_missing_client_certificate_is_no_connection(
    strict_server: EtcdServer, authority: Authority
) -> None:
    async with connect(strict_server.endpoint, cacert=str(authority.ca)) as client:
        with pytest.raises(EtcdUnavailableError):
            await client.put(b"a", b"1", timeout_s=1)


async def test_plain_http_to_a_tls_port_is_no_connection(server: EtcdServer) -> None:
    async with connect(server.endpoint.replace("https://", "http://")) as client:
        with pytest.raises(EtcdUnavailableError):
            await client.put(b"a", b"1", timeout_s=1)


async def test_renewed_files_are_used_at_the_next_connection(
    strict_server: EtcdServer, authority: Authority, other_authority: Authority
) -> None:
    stale, fresh = other_authority.issue("stale"), authority.issue("fresh")
    files = {"cacert": str(authority.ca), "cert": str(stale.certificate), "key": str(stale.key)}
    async with connect(strict_server.endpoint, **files) as client:
        with pytest.raises(EtcdUnavailableError):
            await client.put(b"a", b"1", timeout_s=2)
        stale.certificate.write_bytes(fresh.certificate.read_bytes())
        stale.key.write_bytes(fresh.key.read_bytes())
        await client.put(b"a", b"1", timeout_s=10)
