"""TLS: a CA, a client certificate, and what does not match."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.integration.etcd.recording import Recording, connect
from tests.support.etcd import EtcdServer, ServerTls
from weldr.etcd.errors import EtcdUnavailableError


@dataclass(frozen=True)
class Pair:
    certificate: Path
    key: Path


class Authority:
    """A CA and the certificates that it signs, as PEM files."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.ca = folder / f"{name}.pem"
        self._certificate = self._sign(self._name, self._key, authority=True)
        self.ca.write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str) -> Pair:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        pair = Pair(self._folder / f"{name}.crt", self._folder / f"{name}.key")
        certificate = self._sign(subject, key, authority=False)
        pair.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        pair.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return pair

    def _sign(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, *, authority: bool
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(authority, None), critical=True)
        )
        if not authority:
            address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
            builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
        return builder.sign(self._key, hashes.SHA256())


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
            await client.put(b"a", b"1", timeout_s=3)


async def test_plain_http_to_a_tls_port_is_no_connection(server: EtcdServer) -> None:
    async with connect(server.endpoint.replace("https://", "http://")) as client:
        with pytest.raises(EtcdUnavailableError):
            await client.put(b"a", b"1", timeout_s=3)


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
