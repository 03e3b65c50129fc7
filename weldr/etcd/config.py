"""Where etcd is and how to get in, checked before anything is started.

Every mistake is one line that names the bad part and what to write instead. URLs are shown without the
credentials that somebody may have put into them.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from weldr.model.keys import is_text

DEFAULT_ENDPOINTS = "127.0.0.1:2379"
DEFAULT_TIMEOUT_S = 5.0
_DEFAULT_PORT = 2379
_SCHEMES = ("http", "https")


class EtcdConfigError(ValueError):
    """What was said about etcd cannot be right; one line that says what to do."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One member's client address."""

    scheme: str
    host: str
    port: int

    @property
    def target(self) -> str:
        """As gRPC wants it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.target}"


@dataclass(frozen=True, slots=True)
class EtcdConfig:
    """All that a client needs to know. `from_text` checks it. The files are read anew at each connection."""

    endpoints: tuple[Endpoint, ...]
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    timeout_s: float = DEFAULT_TIMEOUT_S

    @classmethod
    def from_text(
        cls,
        endpoints: str,
        *,
        cacert: str | None = None,
        cert: str | None = None,
        key: str | None = None,
        user: str | None = None,
        password: str | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> EtcdConfig:
        """From a list of URLs and etcdctl's other options.

        Raises `EtcdConfigError`.
        """
        if user is not None and password is None and ":" in user:
            user, _, password = user.partition(":")
        _check_user(user or None, password)
        parsed = parse_endpoints(endpoints, tls=bool(cacert or cert or key))
        files = [Path(name) if name else None for name in (cacert, cert, key)]
        if parsed[0].scheme == "https":
            _check_files(*files)
        ca_file, cert_file, key_file = files
        return cls(parsed, ca_file, cert_file, key_file, user or None, password, timeout_s)

    @classmethod
    def from_environment(
        cls, endpoints: str | None = None, environment: Mapping[str, str] = os.environ
    ) -> EtcdConfig:
        """From `WELDR_…` or, for what those do not say, etcdctl's variables; with etcdctl's default endpoint.

        Raises `EtcdConfigError`.
        """

        def said(name: str, etcdctl_name: str) -> str | None:
            return environment.get(f"WELDR_{name}") or environment.get(f"ETCDCTL_{etcdctl_name}") or None

        return cls.from_text(
            endpoints or said("ETCD", "ENDPOINTS") or DEFAULT_ENDPOINTS,
            cacert=said("CACERT", "CACERT"),
            cert=said("CERT", "CERT"),
            key=said("KEY", "KEY"),
            user=said("USER", "USER"),
            password=said("PASSWORD", "PASSWORD"),
        )


def parse_endpoints(text: str, *, tls: bool = False) -> tuple[Endpoint, ...]:
    """From `http://a:2379,http://b:2379`. Without a scheme it is https where `tls` files are given, else http.

    Raises `EtcdConfigError`.
    """
    urls = [url.strip() for url in text.split(",") if url.strip()]
    if not urls:
        raise EtcdConfigError("no etcd URL was given: write one like http://127.0.0.1:2379")
    endpoints = tuple(dict.fromkeys(_parse_endpoint(url, tls) for url in urls))
    if len({endpoint.scheme for endpoint in endpoints}) > 1:
        raise EtcdConfigError("http:// and https:// etcd URLs are mixed: use one of them for all members")
    if tls and endpoints[0].scheme == "http":
        raise EtcdConfigError(
            f"TLS files were given for {endpoints[0]}: write https://, or leave the files out"
        )
    return endpoints


def _parse_endpoint(url: str, tls: bool) -> Endpoint:
    shown = _without_credentials(url)
    try:
        parts = urlsplit(url if "://" in url else f"{'https' if tls else 'http'}://{url}")
        port = parts.port
    except ValueError:
        raise EtcdConfigError(f"the etcd URL {shown!r} cannot be read: write http://host:2379") from None
    problem = _problem(parts, port)
    if problem is not None:
        raise EtcdConfigError(f"the etcd URL {shown!r} {problem}")
    assert parts.hostname is not None
    return Endpoint(parts.scheme, parts.hostname, _DEFAULT_PORT if port is None else port)


def _problem(parts: SplitResult, port: int | None) -> str | None:
    if parts.scheme not in _SCHEMES:
        return f"has the unknown scheme {parts.scheme!r}: use http:// or https://"
    if "@" in parts.netloc:
        return "holds credentials: give them with --user and --password, or WELDR_USER and WELDR_PASSWORD"
    if not parts.hostname or any(character.isspace() for character in parts.netloc):
        return "names no host: write http://host:2379"
    if not is_text(parts.netloc):
        return "names a host that is not UTF-8: write http://host:2379"
    if port == 0 or parts.netloc.endswith(":"):
        return f"has no usable port: write one from 1 to 65535, usually {_DEFAULT_PORT}"
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        return "has a path: write only scheme, host and port, and give weldr's keys a place with --prefix"
    return None


def _without_credentials(url: str) -> str:
    head, at, tail = url.rpartition("@")
    if not at:
        return url
    scheme, separator, _ = head.partition("://")
    return f"{scheme}://***@{tail}" if separator else f"***@{tail}"


def _check_user(user: str | None, password: str | None) -> None:
    if user is None and password:
        raise EtcdConfigError("an etcd password was given without a user: give --user too")
    if user is not None and not password:
        raise EtcdConfigError(f"no password was given for the etcd user {user!r}: set WELDR_PASSWORD")
    # Arguments and variables may hold any bytes: what is not UTF-8 stands in the text as lone surrogates.
    for what, text in (("user", user), ("password", password)):
        if text is not None and not is_text(text):
            raise EtcdConfigError(f"the etcd {what} is not UTF-8, which is all that etcd takes: write it so")


def _check_files(ca_file: Path | None, cert_file: Path | None, key_file: Path | None) -> None:
    for path in (ca_file, cert_file, key_file):
        if path is not None:
            _check_readable(path)
    if ca_file is not None:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(ca_file)
        except ssl.SSLError:
            raise EtcdConfigError(f"the CA file {ca_file} holds no PEM certificate") from None
    if cert_file is None and key_file is None:
        return
    if cert_file is None:
        raise EtcdConfigError(f"the client key {key_file} was given without its certificate: give --cert too")
    if key_file is None:
        raise EtcdConfigError(f"the client certificate {cert_file} was given without its key: give --key too")
    try:
        # The empty password makes an encrypted key an error here, where OpenSSL would ask on the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(cert_file, key_file, password="")
    except ssl.SSLError:
        raise EtcdConfigError(
            f"{cert_file} and {key_file} are no PEM certificate and its unencrypted key"
        ) from None


def _check_readable(path: Path) -> None:
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise EtcdConfigError(f"the file {path} cannot be read: {error.strerror}") from None
