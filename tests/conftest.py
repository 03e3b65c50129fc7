"""Fixtures that every test may use."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator

import pytest

from tests.support.etcd import EtcdServer

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def etcd_server() -> Iterator[EtcdServer]:
    """The newest etcd there is, shared: use `etcd_prefix`, and leave it running."""
    with EtcdServer() as server:
        yield server


@pytest.fixture
def etcd_prefix() -> str:
    """A prefix that no other test uses."""
    return f"/test-{os.getpid()}-{next(_numbers)}/"


@pytest.fixture
def own_etcd() -> Iterator[EtcdServer]:
    """A running etcd of the test's own, to stop, freeze or wipe."""
    with EtcdServer() as server:
        yield server
