"""Listening sockets: opened and kept by the manager, one for each worker and address.

The sockets of one address form a SO_REUSEPORT group, over which the kernel spreads connections. A worker
inherits its own. When it dies, the manager's copy keeps the socket and the connections queued on it alive for
the worker that replaces it.

A listening socket that is closed for good resets what is queued on it and every handshake under way. So before
the end it takes no more of them (`take_no_more`), while the worker accepts what has come until then.

Sockets may come from elsewhere: from the manager that this one takes over from, or from systemd. Whoever gave
them, or takes them later, goes on with the same sockets and their queues, so these are never closed to new
connections here (`Listener.shared`). An address keeps every socket that it has ever had: fewer workers serve
several each, and the kernel is told to spread new connections over as many sockets as there are workers.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import socket
import struct
import sys
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field

_BACKLOG = 4096

_SO_ATTACH_FILTER = 26
_SO_ATTACH_REUSEPORT_CBPF = 51
_SO_DETACH_REUSEPORT_BPF = 68
_RANDOM_NUMBER = 0xFFFFF000 + 56
"""SKF_AD_OFF + SKF_AD_RANDOM."""
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
    # Without it (a kernel may be built so, or want CAP_NET_ADMIN) a few connections are reset, as with others.
    with contextlib.suppress(OSError):
        _attach(listener, _SO_ATTACH_FILTER, _DROP_FIRST_SEGMENTS)


def _spread_over_first(of_group: socket.socket, workers: int, sockets: int) -> None:
    """Have the kernel choose among the first `workers` sockets of a group only, if it has more.

    Each new connection goes to one of them by chance. Where the kernel cannot be told, some workers get more
    than others.
    """
    if sys.platform != "linux":
        return
    with contextlib.suppress(OSError):
        if sockets <= workers:
            of_group.setsockopt(socket.SOL_SOCKET, _SO_DETACH_REUSEPORT_BPF, 0)
            return
        program = (
            (0x20, 0, 0, _RANDOM_NUMBER),  # load it
            (0x94, 0, 0, workers),  # modulo
            (0x16, 0, 0, 0),  # return it
        )
        _attach(of_group, _SO_ATTACH_REUSEPORT_CBPF, program)


def _attach(sock: socket.socket, option: int, instructions: Sequence[tuple[int, int, int, int]]) -> None:
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in instructions)
    buffer = ctypes.create_string_buffer(code, len(code))
    sock.setsockopt(socket.SOL_SOCKET, option, struct.pack("HP", len(instructions), ctypes.addressof(buffer)))


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


@dataclass(slots=True, eq=False)
class Listener:
    """One listening socket."""

    sock: socket.socket
    listening: bool = True
    """Not yet, if it is only bound: then nothing queues up on it."""
    shared: bool = False
    """Whether others go on with it when this instance ends."""


@dataclass(slots=True)
class Group:
    """The sockets of one address."""

    asked: str
    """As it was asked for, with port 0 if any port would do."""
    address: str
    """Where they listen."""
    listeners: list[Listener] = field(default_factory=list)
    activated: bool = False
    """Whether they are systemd's, which keeps them, and has no more of them to give."""

    @property
    def where(self) -> tuple[socket.AddressFamily, tuple[str, int]]:
        """Family and address of the sockets."""
        sock = self.listeners[0].sock
        host, port = sock.getsockname()[:2]
        return sock.family, (host, port)

    @property
    def takes_all(self) -> bool:
        """Whether connections to every address of the machine, of IPv6 and of IPv4, arrive here."""
        family, (host, _) = self.where
        if family != socket.AF_INET6 or host != "::":
            return False
        return not self.listeners[0].sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)


class Listeners:
    """All listening sockets of an instance: for each worker at least one on each address."""

    def __init__(
        self,
        addresses: list[ListenAddress],
        workers: int,
        option: str = "--listen",
        *,
        given: Iterable[Group] = (),
        at_once: bool = True,
    ) -> None:
        """Open them, but for those that are `given`: of these it takes the ones that it is to listen on, and
        all that systemd gave. Unless `at_once`, new ones do not listen before `begin`.

        Raises `ListenError`.
        """
        self.groups: list[Group] = []
        self._workers = workers
        self._option = option
        self._at_once = at_once
        unused = list(given)
        try:
            for group in [group for group in unused if group.activated]:
                unused.remove(group)
                self.groups.append(group)
            for address in addresses:
                self._open_all(address, unused)
            if at_once:
                self.begin()
        except ListenError:
            self.close()
            raise

    @property
    def addresses(self) -> list[str]:
        """Where they listen, with the real port where 0 was asked for."""
        return [group.address for group in self.groups]

    @property
    def reached_by(self) -> list[str]:
        """The same, but `*:PORT` for a socket that takes every address of IPv6 and of IPv4."""
        return [f"*:{group.where[1][1]}" if group.takes_all else group.address for group in self.groups]

    def _open_all(self, address: ListenAddress, unused: list[Group]) -> None:
        """The groups of an address as the user wrote it; a name may stand for several."""
        same = [group for group in unused if group.asked == str(address)]
        if not same:
            for family, where in resolve(address, self._option):
                if any(group.where == (family, where) for group in self.groups):
                    continue
                found = next((group for group in unused if group.where == (family, where)), None)
                same.append(found or self._open_group(family, where, address))
        for group in same:
            if group in unused:
                unused.remove(group)
            group.asked = str(address)
            self.groups.append(group)
            self._grow(group, address)

    def _open_group(
        self, family: socket.AddressFamily, where: tuple[str, int], address: ListenAddress
    ) -> Group:
        # A socket without SO_REUSEPORT cannot bind beside another program's; ours could, and would then
        # share that program's connections without a word.
        with _open(family, where, shared=False, address=address, option=self._option) as probe:
            port = probe.getsockname()[1]
        first = _open(family, (where[0], port), shared=True, address=address, option=self._option)
        return Group(str(address), str(ListenAddress(where[0], port)), [Listener(first, listening=False)])

    def _grow(self, group: Group, address: ListenAddress) -> None:
        """A socket for each worker."""
        family, where = group.where
        while len(group.listeners) < self._workers:
            sock = _open(family, where, shared=True, address=address, option=self._option)
            group.listeners.append(Listener(sock, listening=False))

    def begin(self) -> None:
        """Listen on all, in the order in which the kernel then numbers them.

        Raises `ListenError`.
        """
        for group in self.groups:
            for listener in group.listeners:
                if not listener.listening:
                    try:
                        listener.sock.listen(_BACKLOG)
                    except OSError as error:
                        raise ListenError(group.asked, *_explain(error, self._option)) from None
                    listener.listening = True
            if not group.activated:
                _spread_over_first(group.listeners[0].sock, self._workers, len(group.listeners))

    def of_worker(self, index: int) -> list[Listener]:
        """The sockets that worker `index` is to inherit: its own on each address, and of those beyond the
        number of workers its part."""
        found: list[Listener] = []
        for group in self.groups:
            count = len(group.listeners)
            if count < self._workers:
                found.append(group.listeners[index % count])
            else:
                found += group.listeners[index :: self._workers]
        return found

    def share(self, taken: Container[int]) -> None:
        """Another process goes on with those whose descriptor is in `taken`."""
        for group in self.groups:
            for listener in group.listeners:
                listener.shared = listener.shared or listener.sock.fileno() in taken

    def close(self) -> None:
        """Close the manager's copies; the workers' go on until they close them."""
        for group in self.groups:
            for listener in group.listeners:
                listener.sock.close()
