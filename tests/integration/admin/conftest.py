"""One instance for a module, under a prefix of its own; every test uses names of its own."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.support.admin import Api
from tests.support.etcd import EtcdServer
from tests.support.instance import Instance

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Site:
    """An instance, its API and its etcd."""

    weldr: Instance
    api: Api
    etcd: EtcdServer
    prefix: str

    def put(self, key: str, value: str, *options: str) -> None:
        """Write a key behind the API's back."""
        self.etcd.etcdctl("put", *options, self.prefix + key, value)

    def value(self, key: str) -> str:
        """What etcd has; empty for a key that does not exist."""
        return self.etcd.etcdctl("get", "--print-value-only", self.prefix + key).rstrip("\n")

    def configuration(self) -> str:
        """All keys but those that instances write of themselves."""
        lines = self.etcd.etcdctl("get", "--prefix", self.prefix, "-w", "fields")
        return "\n".join(part for part in lines.split('"Key"')[1:] if "instances/" not in part)


@pytest.fixture(scope="module")
def site(etcd_server: EtcdServer) -> Iterator[Site]:
    prefix = f"/admin-{os.getpid()}-{next(_numbers)}/"
    with Instance(etcd=etcd_server.endpoint, prefix=prefix) as weldr:
        weldr.wait_ready()
        yield Site(weldr, Api(weldr.admin), etcd_server, prefix)


@pytest.fixture
def api(site: Site) -> Api:
    return site.api
