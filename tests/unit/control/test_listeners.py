"""Listening sockets: one group for each address, and a port that is taken is never shared unnoticed."""

from __future__ import annotations

import contextlib
import ctypes
import socket
import struct
import sys
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
    ports = {listeners.of_worker(index)[0].sock.getsockname()[1] for index in range(3)}
    assert len(ports) == 1
    assert listeners.addresses == [f"127.0.0.1:{ports.pop()}"]
    listeners.close()


def test_every_address_of_the_machine_is_one_socket_for_both_protocols() -> None:
    listeners = Listeners([ListenAddress("", 0)], workers=1)
    port = listeners.of_worker(0)[0].sock.getsockname()[1]
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
    """One that may have a filter."""
    with socket.socket() as opened:
        try:
            _hear_nothing(opened)
        except PermissionError:
            pytest.skip("this kernel allows socket filters with CAP_NET_ADMIN only")
        opened.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)
        opened.bind(("127.0.0.1", 0))
        opened.listen()
        opened.settimeout(30)
        yield opened


def test_a_socket_that_takes_no_more_drops_new_connections_and_keeps_those_it_has(
    listener: socket.socket,
) -> None:
    where = listener.getsockname()
    with socket.create_connection(where, timeout=30) as queued, socket.socket() as late:
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


def _queued(listener: socket.socket) -> int:
    """How many connections wait on it; it takes them off."""
    listener.setblocking(False)
    count = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            listener.accept()[0].close()
            count += 1
    return count


def test_sockets_that_are_given_are_used_and_new_ones_wait_until_it_begins() -> None:
    first = Listeners([ListenAddress("127.0.0.1", 0)], workers=2)
    given, address = first.groups[0], ListenAddress("127.0.0.1", 0)
    second = Listeners([address, ListenAddress("127.0.0.2", 0)], workers=3, given=[given], at_once=False)
    assert second.groups[0] is given
    assert second.addresses[0] == first.addresses[0]
    assert [listener.listening for listener in given.listeners] == [True, True, False]
    port = given.listeners[0].sock.getsockname()[1]
    # A socket that listens is given connections, which nobody would accept if nothing comes of the upgrade.
    clients = [socket.create_connection(("127.0.0.1", port), timeout=5) for _ in range(30)]
    assert sum(_queued(listener.sock) for listener in given.listeners[:2]) == 30
    second.begin()
    clients += [socket.create_connection(("127.0.0.1", port), timeout=5) for _ in range(60)]
    queued = [_queued(listener.sock) for listener in given.listeners]
    assert sum(queued) == 60
    assert all(queued)
    assert [len(second.of_worker(index)) for index in range(3)] == [2, 2, 2]
    for client in clients:
        client.close()
    second.close()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's choice can be changed on Linux only")
def test_with_fewer_workers_new_connections_go_to_as_many_sockets_and_nobody_is_left_alone() -> None:
    first = Listeners([ListenAddress("127.0.0.1", 0)], workers=4)
    sockets = [listener.sock for listener in first.groups[0].listeners]
    port = sockets[0].getsockname()[1]

    def spread(workers: int) -> list[int]:
        listeners = Listeners([ListenAddress("127.0.0.1", 0)], workers=workers, given=first.groups)
        served = [listener for index in range(workers) for listener in listeners.of_worker(index)]
        assert {id(listener) for listener in served} == {id(each) for each in first.groups[0].listeners}
        assert len(served) == 4
        clients = [socket.create_connection(("127.0.0.1", port), timeout=5) for _ in range(80)]
        queued = [_queued(sock) for sock in sockets]
        for client in clients:
            client.close()
        assert sum(queued) == 80
        return queued

    assert [bool(count) for count in spread(2)] == [True, True, False, False]
    assert [bool(count) for count in spread(1)] == [True, False, False, False]
    assert all(spread(4))
    first.close()


def test_an_address_may_be_named_by_its_real_port_as_well() -> None:
    first = Listeners([ListenAddress("127.0.0.1", 0)], workers=1)
    port = first.groups[0].listeners[0].sock.getsockname()[1]
    second = Listeners([ListenAddress("127.0.0.1", port)], workers=1, given=first.groups, at_once=False)
    assert second.groups == first.groups
    first.close()
