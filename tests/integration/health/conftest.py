"""Keys for the tests of health."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.support.etcd import EtcdServer
from tests.support.faulty import FaultyServer
from tests.support.instance import Instance


class Keys:
    """What a person writes with etcdctl under one prefix, and reads."""

    def __init__(self, etcd: EtcdServer, prefix: str) -> None:
        self.etcd = etcd
        self.prefix = prefix

    def service(self, **policy: object) -> None:
        self.etcd.etcdctl("put", f"{self.prefix}services/default", json.dumps(policy))

    def backends(self, *servers: FaultyServer) -> None:
        for server in servers:
            self.etcd.etcdctl("put", self.key(server), server.address)

    def key(self, server: FaultyServer) -> str:
        return f"{self.prefix}backends/default/{server.name}"

    def health(self, weldr: Instance, name: str) -> dict[str, str]:
        """What the instance wrote of a backend's health; empty if nothing."""
        said = self.etcd.etcdctl(
            "get", "--print-value-only", f"{self.prefix}health/{weldr.name}/default/{name}"
        )
        return dict(json.loads(said)) if said.strip() else {}

    def instance(self, weldr: Instance) -> dict[str, object]:
        said = self.etcd.etcdctl("get", "--print-value-only", f"{self.prefix}instances/{weldr.name}")
        return dict(json.loads(said)) if said.strip() else {}


@pytest.fixture
def keys(etcd_server: EtcdServer, etcd_prefix: str) -> Keys:
    return Keys(etcd_server, etcd_prefix)


@pytest.fixture
def answers_of() -> Callable[[Instance, int], list[tuple[int, str]]]:
    """So many requests, one after the other."""

    def ask(weldr: Instance, count: int) -> list[tuple[int, str]]:
        return [weldr.get() for _ in range(count)]

    return ask
