"""Asks one backend once. A connection of its own each time: that the next client gets one is half of the
question.

Our own and not aiohttp's client: a check follows no redirect, keeps no cookie, sends its target as it is
written, and a thousand a second must stay cheap.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket

from weldr.control.health.answer import Answer
from weldr.model.health import HealthCheck
from weldr.version import __version__

_READ_BYTES = 64 * 1024
_OWN_LIMITS = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL))


# By so much later than it was due: it is not the backend that took the time.
_LATE_S = 0.25


class OwnLimitError(Exception):
    """The check could not be made, which says nothing of the backend."""


async def probe(check: HealthCheck, host: str, port: int) -> str | None:
    """Ask; why the backend fails, in one line, or `None` if it passes.

    Raises `OwnLimitError`.
    """
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + check.timeout_s
    try:
        async with asyncio.timeout_at(deadline_s):
            return await _ask(check, host, port if check.port is None else check.port)
    except TimeoutError:
        if loop.time() - deadline_s > _LATE_S:
            # The answer may have come long ago.
            raise OwnLimitError("this process was held up") from None
        what = "took no connection" if check.type == "tcp" else "did not answer"
        return f"it {what} within {check.timeout_s:g} s"
    except ConnectionRefusedError:
        return "it refused the connection"
    except ConnectionError:
        return "it broke the connection"
    except (socket.gaierror, UnicodeError):
        return "its name has no address"
    except OSError as error:
        if error.errno in _OWN_LIMITS:
            raise OwnLimitError(str(error)) from None
        return f"it cannot be reached: {error.strerror or error}"


async def _ask(check: HealthCheck, host: str, port: int) -> str | None:
    with await _connected(host, port) as connection:
        if check.type == "tcp":
            return None
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(connection, _request(check, host, port))
        answer = Answer(check)
        while data := await loop.sock_recv(connection, _READ_BYTES):
            if answer.feed(data):
                break
        return answer.failure()


def _request(check: HealthCheck, host: str, port: int) -> bytes:
    authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    lines = (
        f"{check.method} {check.path} HTTP/1.1",
        f"Host: {check.host or authority}",
        f"User-Agent: weldr/{__version__} (health check)",
        "Accept: */*",
        "Connection: close",
        "\r\n",
    )
    return "\r\n".join(lines).encode("ascii")


async def _connected(host: str, port: int) -> socket.socket:
    """A connection to the first address that takes one."""
    loop = asyncio.get_running_loop()
    failure: OSError = socket.gaierror("no address")
    for family, address in await _addresses(host, port):
        connection = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            await loop.sock_connect(connection, address)
        except OSError as error:
            connection.close()
            failure = error
        except BaseException:
            connection.close()
            raise
        else:
            return connection
    raise failure


async def _addresses(host: str, port: int) -> list[tuple[int, tuple[str, int]]]:
    try:
        version = ipaddress.ip_address(host).version
    except ValueError:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return [(family, address) for family, _, _, _, address in found]  # type: ignore[misc]
    return [(socket.AF_INET6 if version == 6 else socket.AF_INET, (host, port))]
