"""Servers of the oldest and the newest etcd, and clients for them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.support.etcd import EtcdBinary, EtcdCluster, EtcdServer, newest, oldest
from weldr.etcd.client import EtcdClient
from weldr.etcd.config import EtcdConfig

VERSIONS = sorted({oldest(), newest()})


@pytest.fixture(scope="session", params=VERSIONS, ids=lambda binary: binary.label)
def each_etcd(request: pytest.FixtureRequest) -> Iterator[EtcdServer]:
    """A shared server of each version."""
    with EtcdServer(request.param) as server:
        yield server


@pytest.fixture(params=VERSIONS, ids=lambda binary: binary.label)
def each_binary(request: pytest.FixtureRequest) -> EtcdBinary:
    binary: EtcdBinary = request.param
    return binary


@pytest.fixture
def own_cluster() -> Iterator[EtcdCluster]:
    """Three members of the newest version, the test's own."""
    with EtcdCluster(3) as cluster:
        yield cluster


@pytest.fixture
async def client(each_etcd: EtcdServer) -> AsyncIterator[EtcdClient]:
    async with EtcdClient(EtcdConfig.from_text(each_etcd.endpoint, timeout_s=30.0)) as connected:
        yield connected
