"""Who may ask: address, Host and Origin, token, rate.

A browser runs the pages of anybody, on machines that reach addresses which nobody else does. So a request that
a page of another site caused is refused (its `Origin` or `Sec-Fetch-Site` says so), and so is one whose `Host`
is a name that is not ours: a page can have its own name resolve to our address, but cannot have it be an
address. Where tokens are set any `Host` will do, since no browser adds a token by itself.
"""

from __future__ import annotations

import ipaddress
import math
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

from aiohttp import web

from weldr.control.admin.problem import ProblemError
from weldr.control.admin.rates import Rates
from weldr.control.admin.tokens import Role, TokenFile, Tokens

ANYBODY = "anybody"


class AdminAddressError(Exception):
    """The admin API would be open to others than this machine, and nobody said that it may be."""

    def __init__(self, address: str) -> None:
        self.address = address
        super().__init__(
            f"the admin API on {address} would be open to everybody who reaches it: give --admin-token-file,"
            " or --admin 127.0.0.1:8687, or --admin-insecure if that is meant"
        )


@dataclass(frozen=True, slots=True)
class Access:
    """What `weldr run` was told about the admin API."""

    token_file: Path | None = None
    insecure: bool = False


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, as the log names it."""

    name: str
    address: str
    role: Role


class Guard:
    """Decides whether a request is answered at all."""

    def __init__(self, access: Access, addresses: Iterable[str]) -> None:
        """`addresses` are where the API listens.

        Raises `AdminAddressError` and `TokenFileError`.
        """
        self._token_file = TokenFile(access.token_file) if access.token_file else None
        if self._token_file is None and not access.insecure:
            for address in addresses:
                if not _is_loopback(address):
                    raise AdminAddressError(address)
        self._names = {"localhost", socket.gethostname().lower(), socket.getfqdn().lower()}
        self._rates = Rates()

    @property
    def has_tokens(self) -> bool:
        """Whether a request needs one."""
        return self._token_file is not None

    def reload(self) -> bool:
        """Look whether the file of tokens has changed; whether the tokens have.

        Raises `TokenFileError` if it has become one that cannot be used: then the tokens stay as they are.
        """
        return self._token_file is not None and self._token_file.look()

    def admit(self, request: web.Request, needed: Role, now_s: float) -> Caller:
        """The caller, if it may do what needs this role.

        Raises `ProblemError`.
        """
        address = (request.remote or "unknown").removeprefix("::ffff:")
        try:
            self._check_host(request)
            self._check_origin(request)
            caller = self._caller(request, needed, address)
        except ProblemError:
            # Counted apart: no page in a browser here, and no guesser of tokens, may use up what others have.
            self._count(f"refused {address}", now_s)
            raise
        self._count(f"{caller.name} {address}", now_s)
        return caller

    def _count(self, client: str, now_s: float) -> None:
        wait_s = self._rates.wait_s(client, now_s)
        if wait_s:
            retry = {"Retry-After": str(max(1, math.ceil(wait_s)))}
            raise ProblemError(HTTPStatus.TOO_MANY_REQUESTS, "too many requests from here", headers=retry)

    def _caller(self, request: web.Request, needed: Role, address: str) -> Caller:
        if self._token_file is None:
            return Caller(ANYBODY, address, Role.WRITE)
        return self._by_token(self._token_file.tokens, request, needed, address)

    def _check_host(self, request: web.Request) -> None:
        if self._token_file is None and not self._is_ours(request.host):
            detail = "the Host of the request is no name of this machine: use its address or localhost"
            raise ProblemError(HTTPStatus.MISDIRECTED_REQUEST, detail)

    def _is_ours(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name.removesuffix(".") in self._names
        return True

    def _check_origin(self, request: web.Request) -> None:
        origins = request.headers.getall("Origin", [])
        sites = request.headers.getall("Sec-Fetch-Site", [])
        foreign = any(not _same_origin(origin, request.host) for origin in origins)
        if foreign or any(site not in ("same-origin", "none") for site in sites):
            raise ProblemError(HTTPStatus.FORBIDDEN, "pages of other sites may not use this API")

    @staticmethod
    def _by_token(tokens: Tokens, request: web.Request, needed: Role, address: str) -> Caller:
        challenge = {"WWW-Authenticate": 'Bearer realm="weldr"'}
        scheme, _, secret = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not secret.strip():
            detail = "this API needs a token: send `Authorization: Bearer TOKEN`"
            raise ProblemError(HTTPStatus.UNAUTHORIZED, detail, headers=challenge)
        holder = tokens.holder(secret.strip())
        if holder is None:
            raise ProblemError(HTTPStatus.UNAUTHORIZED, "this token is not known here", headers=challenge)
        if needed is Role.WRITE and holder.role is Role.READ:
            raise ProblemError(HTTPStatus.FORBIDDEN, "this token may only read: use one with the role write")
        return Caller(holder.name, address, holder.role)


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address.rpartition(":")[0].strip("[]")).is_loopback


def _same_origin(origin: str, host: str) -> bool:
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and parts.netloc.lower() == host.lower()
