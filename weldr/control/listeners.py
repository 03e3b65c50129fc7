"""Listening sockets: opened and kept by the manager, one for each worker and address.

The sockets of one address form a SO_REUSEPORT group, over which the kernel spreads connections. A worker
inherits its own. When it dies, the manager's copy keeps the socket and the connections queued on it alive for
the worker that replaces it.

A listening socket that is closed for good resets what is queued on it and every handshake under way. So before
the end it takes no more of them (`take_no_more`), while the worker accepts what has come until then.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import socket
import struct
import sys
from dataclasses import dataclass

_BACKLOG = 4096

_SO_ATTACH_FILTER = 26
_SYN, _SYN_AND_ACK = 0x02, 0x12
_FLAGS_OFFSET = 13
# Classic BPF on a TCP segment: (code, jump if true, jump if false, operand).
_DROP_FIRST_SEGMENTS = (
    (0x30, 0, 0, _FLAGS_OFFSET),  # load the byte with the flags
    (0x54, 0, 0, _SYN_AND_ACK),  # keep these two
    (0x15, 0, 1, _SYN),  # is SYN alone set?
    (0x06, 0, 0, 0),  # drop
    (0x06, 0, 0, 0xFFFFFFFF),  # pass
)


class ListenError(Exception):
    """An address cannot be listened on; one line that says why and what to do."""

    def __init__(self, address: str, reason: str, option: str) -> None:
        super().__init__(f"cannot listen on {address}: {reason} ({option})")
        self.address = address
        self.reason = reason
        self.option = option


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """`host:port` as the user wrote it; an empty host is every address of the machine."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> ListenAddress:
        """Read `host:port`, `[v6]:port` or `:port`.

        Raises `ValueError` with one line.
        """
        host, separator, port_text = text.rpartition(":")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            raise ValueError(f"{text!r}: put an IPv6 address in brackets, as in [::1]:8080")
        if not separator or not port_text.isascii() or not port_text.isdigit() or int(port_text) > 65535:
            raise ValueError(f"{text!r} is no address to listen on: expected [ADDR]:PORT")
        return cls(host, int(port_text))


def resolve(address: ListenAddress, option: str) -> list[tuple[socket.AddressFamily, tuple[str, int]]]:
    """The family and socket address of each address that the name stands for.

    Raises `ListenError`.
    """
    if not address.host:
        # One IPv6 socket takes IPv4 too, where the machine has IPv6.
        return [_any_address(address.port)]
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError):
        raise ListenError(str(address), "the name has no address", f"check {option}") from None
    unique = {(family, (str(where[0]), int(where[1]))): None for family, _, _, _, where in found}
    return list(unique)


def _any_address(port: int) -> tuple[socket.AddressFamily, tuple[str, int]]:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::", 0))
    except OSError:
        return socket.AF_INET, ("0.0.0.0", port)
    return socket.AF_INET6, ("::", port)


def _open(
    family: socket.AddressFamily, where: tuple[str, int], *, shared: bool, address: ListenAddress, option: str
) -> socket.socket:
    """A bound socket; `shared` makes it one of a SO_REUSEPORT group."""
    try:
        listener = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise ListenError(str(address), *_explain(error, option)) from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(bool(address.host)))
        listener.bind(where)
    except OSError as error:
        listener.close()
        raise ListenError(str(address), *_explain(error, option)) from None
    return listener


def take_no_more(listener: socket.socket) -> None:
    """Have the kernel drop new connections to this socket, for all who hold it and for good.

    Those under way get through. Clients that come later try again after a second, by themselves; by then the
    socket is closed, and they are refused or another program has taken its place.
    """
    if sys.platform != "linux":
        return
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in _DROP_FIRST_SEGMENTS)
    buffer = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("HP", len(_DROP_FIRST_SEGMENTS), ctypes.addressof(buffer))
    # Without it (a kernel may be built so) a few connections are reset, as with any other server.
    with contextlib.suppress(OSError):
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


def _explain(error: OSError, option: str) -> tuple[str, str]:
    if error.errno == errno.EADDRINUSE:
        return "the port is in use", f"choose another with {option}"
    if error.errno == errno.EACCES:
        return "no permission", f"choose a port from 1024 with {option}, or grant CAP_NET_BIND_SERVICE"
    if error.errno == errno.EADDRNOTAVAIL:
        return "this machine does not have the address", f"choose another with {option}"
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return "too many files are open", "raise the limit (ulimit -n) or take fewer --workers"
    return error.strerror or str(error), f"check {option}"


class Listeners:
    """All listening sockets of an instance: for each worker one on each address."""

    def __init__(self, addresses: list[ListenAddress], workers: int, option: str = "--listen") -> None:
        """Open them.

        Raises `ListenError`.
        """
        self.addresses: list[str] = []
        """Where they listen, with the real port where 0 was asked for."""
        self._of_worker: list[list[socket.socket]] = [[] for _ in range(workers)]
        try:
            for address in addresses:
                for family, where in resolve(address, option):
                    self._open_group(family, where, address, option)
        except ListenError:
            self.close()
            raise

    def _open_group(
        self, family: socket.AddressFamily, where: tuple[str, int], address: ListenAddress, option: str
    ) -> None:
        # A socket without SO_REUSEPORT cannot bind beside another program's; ours could, and would then
        # share that program's connections without a word.
        with _open(family, where, shared=False, address=address, option=option) as probe:
            port = probe.getsockname()[1]
        for sockets in self._of_worker:
            listener = _open(family, (where[0], port), shared=True, address=address, option=option)
            sockets.append(listener)
            listener.listen(_BACKLOG)
        self.addresses.append(str(ListenAddress(where[0], port)))

    def of_worker(self, index: int) -> list[socket.socket]:
        """The sockets that worker `index` is to inherit."""
        return self._of_worker[index]

    def close(self) -> None:
        """Close the manager's copies; the workers' go on until they close them."""
        for sockets in self._of_worker:
            for listener in sockets:
                listener.close()
            sockets.clear()
