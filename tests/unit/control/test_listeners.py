"""Listening sockets: one group for each address, and a port that is taken is never shared unnoticed."""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Iterator

import pytest

from weldr.control.listeners import ListenAddress, ListenError, Listeners, take_no_more

_SO_ATTACH_FILTER, _SO_DETACH_FILTER = 26, 27


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (":8080", ListenAddress("", 8080)),
        ("127.0.0.1:80", ListenAddress("127.0.0.1", 80)),
        ("[::1]:80", ListenAddress("::1", 80)),
        ("localhost:0", ListenAddress("localhost", 0)),
    ],
)
def test_an_address_is_read(text: str, expected: ListenAddress) -> None:
    assert ListenAddress.parse(text) == expected


@pytest.mark.parametrize("text", ["", "8080", "127.0.0.1", "::1:80", "a:b", "a:-1", "a:65536", "a:٣"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected \[ADDR\]:PORT|brackets"):
        ListenAddress.parse(text)


def test_each_worker_has_its_own_socket_on_the_same_port() -> None:
    listeners = Listeners([ListenAddress("127.0.0.1", 0)], workers=3)
    ports = {listeners.of_worker(index)[0].getsockname()[1] for index in range(3)}
    assert len(ports) == 1
    assert listeners.addresses == [f"127.0.0.1:{ports.pop()}"]
    listeners.close()


def test_every_address_of_the_machine_is_one_socket_for_both_protocols() -> None:
    listeners = Listeners([ListenAddress("", 0)], workers=1)
    port = listeners.of_worker(0)[0].getsockname()[1]
    with socket.create_connection(("127.0.0.1", port), timeout=5):
        pass
    listeners.close()


@pytest.mark.parametrize("shared", [False, True], ids=["plain", "SO_REUSEPORT"])
def test_a_port_that_is_taken_is_an_error(shared: bool) -> None:
    with socket.socket() as taken:
        if shared:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = ListenAddress("127.0.0.1", taken.getsockname()[1])
        with pytest.raises(ListenError, match=f"{address}: the port is in use .choose another with --listen"):
            Listeners([address], workers=2)


def test_a_name_without_an_address_is_an_error() -> None:
    with pytest.raises(ListenError, match="the name has no address"):
        Listeners([ListenAddress("no-such-host.invalid", 80)], workers=1)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        opened.listen()
        opened.settimeout(5)
        yield opened


def test_a_socket_that_takes_no_more_drops_new_connections_and_keeps_those_it_has(
    listener: socket.socket,
) -> None:
    where = listener.getsockname()
    with socket.create_connection(where, timeout=5) as queued, socket.socket() as late:
        take_no_more(listener)
        late.settimeout(0.2)
        with pytest.raises(TimeoutError):
            late.connect(where)
        accepted, _ = listener.accept()
        with accepted:
            queued.sendall(b"hello")
            assert accepted.recv(5) == b"hello"
    listener.close()
    with socket.socket() as later:
        assert later.connect_ex(where) != 0, "it is refused at once"


def test_a_handshake_that_is_under_way_gets_through_a_socket_that_takes_no_more(
    listener: socket.socket,
) -> None:
    with socket.socket() as slow:
        slow.setblocking(False)
        _hear_nothing(slow)
        slow.connect_ex(listener.getsockname())
        take_no_more(listener)
        # The server's half of the handshake comes again after a second.
        slow.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)
        accepted, peer = listener.accept()
        accepted.close()
        assert peer == slow.getsockname()


def _hear_nothing(client: socket.socket) -> None:
    """As if whatever is sent to it took its time."""
    drop_all = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0), 8)
    program = struct.pack("HP", 1, ctypes.addressof(drop_all))
    client.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
