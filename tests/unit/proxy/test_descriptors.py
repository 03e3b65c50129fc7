"""How clients and backends share a worker's descriptors."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from weldr.proxy import descriptors
from weldr.proxy.descriptors import OpenDescriptors, for_clients, for_kept, raise_soft_limit


@pytest.mark.parametrize(
    ("connections", "in_flight", "clients"),
    [
        (20_000, 0, 18_976),
        (20_000, 1024, 18_976),
        (20_000, 5000, 15_000),
        (400, 0, 300),
        (400, 100, 300),
        (400, 200, 200),
        (2, 0, 2),
        (2, 5, 1),
    ],
)
def test_clients_may_take_all_but_what_requests_need_or_may_need(
    connections: int, in_flight: int, clients: int
) -> None:
    assert for_clients(connections, in_flight) == clients


def test_ten_thousand_idle_clients_fit_into_twenty_thousand_descriptors() -> None:
    assert for_clients(20_000 - 64, 0) > 10_000


def test_what_is_kept_is_what_others_leave() -> None:
    assert for_kept(400, clients=100, in_flight=50) == 250
    assert for_kept(400, clients=390, in_flight=50) == 0


def test_many_listening_sockets_leave_fewer_descriptors_for_connections(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 1024))
    monkeypatch.setattr(resource, "setrlimit", lambda *_: None)
    assert raise_soft_limit(listening=5) == 960
    assert raise_soft_limit(listening=500) == 492


def test_open_descriptors_are_counted_by_the_kernel_or_else_by_a_list_or_what_is_known(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    listed = len(os.listdir("/proc/self/fd")) - 1
    open_descriptors = OpenDescriptors()
    assert open_descriptors.count(0) == listed
    monkeypatch.setattr(os, "stat", lambda path: os.stat_result((0,) * 10))
    assert open_descriptors.count(3) == listed
    assert open_descriptors.count(100_000) == 100_000 + listed - 3
    monkeypatch.setattr(descriptors, "_OPEN", str(tmp_path / "nothing"))
    assert OpenDescriptors().count(3) == 0
