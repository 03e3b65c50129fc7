"""One instance for a module, under a prefix of its own; every test uses names of its own."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator

import pytest

from tests.support.admin import Api
from tests.support.etcd import EtcdServer
from tests.support.instance import Instance
from tests.support.site import Site

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def site(etcd_server: EtcdServer) -> Iterator[Site]:
    prefix = f"/admin-{os.getpid()}-{next(_numbers)}/"
    with Instance(etcd=etcd_server.endpoint, prefix=prefix) as weldr:
        weldr.wait_ready()
        yield Site(weldr, Api(weldr.admin), etcd_server, prefix)


@pytest.fixture
def api(site: Site) -> Api:
    return site.api
