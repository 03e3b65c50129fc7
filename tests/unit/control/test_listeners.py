"""Listening sockets: one group for each address, and a port that is taken is never shared unnoticed."""

from __future__ import annotations

import socket

import pytest

from weldr.control.listeners import ListenAddress, ListenError, Listeners


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
