"""Backends are replaced one after another under load, each stopped for good when the instance no longer needs
it: no request fails. Half of them are such that nothing may be sent again, so that nothing is made good.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator

import pytest

from tests.support.etcd import EtcdServer
from tests.support.instance import Instance, wait_until
from tests.support.servers import Load, NamedServer

_DELAY_S = 0.01
"""So that requests are in flight at any moment."""
_ROUNDS = 10


class Site:
    """An instance with two workers and three backends, under load on kept and on new connections."""

    def __init__(self, etcd: EtcdServer, prefix: str, weldr: Instance) -> None:
        self.weldr = weldr
        self.serving: list[NamedServer] = []
        self._etcd = etcd
        self._prefix = prefix
        self._number = 0
        self._loads: list[Load] = []

    def put(self, key: str, value: object) -> int:
        """The revision of it."""
        said = self._etcd.etcdctl("put", "-w", "json", f"{self._prefix}{key}", json.dumps(value))
        return int(json.loads(said)["header"]["revision"])

    def delete(self, key: str) -> int:
        said = self._etcd.etcdctl("del", "-w", "json", f"{self._prefix}{key}")
        return int(json.loads(said)["header"]["revision"])

    def add(self) -> None:
        """One more backend, and wait until it gets requests."""
        self._number += 1
        server = NamedServer(f"b{self._number}", delay_s=_DELAY_S)
        self.serving.append(server)
        self.put(f"backends/default/{server.name}", {"url": f"http://{server.address}"})
        if self._loads:
            wait_until(lambda: server.requests > 5, f"{server.name} gets requests")

    def wait_unused(self, server: NamedServer, revision: int) -> None:
        """Wait until the instance says that it serves this revision and has no request there any more."""

        def is_unused() -> bool:
            said = self._etcd.etcdctl("get", "--print-value-only", f"{self._prefix}instances/{self.weldr.name}")
            instance = json.loads(said)
            return instance["applied"] >= revision and f"default/{server.name}" not in instance["draining"]

        wait_until(is_unused, f"{server.name} is not needed any more")

    @contextlib.contextmanager
    def under_load(self) -> Iterator[None]:
        for method in ("GET", "POST"):
            for kept in (True, False):
                self._loads.append(Load(self.weldr.address, 4, method=method, kept=kept).start())
        yield
        wait_until(lambda: all(len(load.answers) > 50 for load in self._loads), "each load has asked often")
        answers = [answer for load in self._loads for answer in load.stop()]
        assert [answer for answer in answers if answer.status != 200] == []

    def close(self) -> None:
        for server in self.serving:
            server.close()


@pytest.fixture
def site(etcd_server: EtcdServer, etcd_prefix: str) -> Iterator[Site]:
    with Instance(etcd=etcd_server.endpoint, prefix=etcd_prefix, workers=2) as weldr:
        weldr.wait_ready()
        site = Site(etcd_server, etcd_prefix, weldr)
        for _ in range(3):
            site.add()
        wait_until(lambda: {weldr.get()[1] for _ in range(8)} == {"b1", "b2", "b3"}, "all are in rotation")
        yield site
        site.close()


def drained_and_deregistered(site: Site, server: NamedServer) -> None:
    """As registrations leave: a mark in the own key, and when nobody is there any more the key goes."""
    key = f"backends/default/{server.name}"
    revision = site.put(key, {"url": f"http://{server.address}", "drain": True})
    site.wait_unused(server, revision)
    server.close()
    site.delete(key)


def deregistered(site: Site, server: NamedServer) -> None:
    """Without a mark: what is in flight is finished all the same."""
    site.wait_unused(server, site.delete(f"backends/default/{server.name}"))
    server.close()


def drained_by_the_operator(site: Site, server: NamedServer) -> None:
    """The key stays, and the server is gone."""
    site.wait_unused(server, site.put(f"overrides/default/{server.name}", {"drain": True}))
    server.close()


def weighted_to_zero(site: Site, server: NamedServer) -> None:
    """That is a drain by another name."""
    site.wait_unused(server, site.put(f"overrides/default/{server.name}", {"weight": 0}))
    server.close()


@pytest.mark.parametrize(
    "leave", [drained_and_deregistered, deregistered, drained_by_the_operator, weighted_to_zero]
)
def test_no_request_fails_when_backends_are_replaced_one_after_another_under_load(
    site: Site, leave: Callable[[Site, NamedServer], None]
) -> None:
    with site.under_load():
        for _ in range(_ROUNDS):
            site.add()
            leave(site, site.serving.pop(0))


def test_no_request_fails_when_all_backends_are_replaced_by_all_others_at_one_instant(site: Site) -> None:
    with site.under_load():
        before = list(site.serving)
        for _ in range(3):
            site.add()
        revisions = [site.put(f"overrides/default/{server.name}", {"drain": True}) for server in before]
        for server in before:
            site.wait_unused(server, revisions[-1])
            site.serving.remove(server)
            server.close()
        wait_until(lambda: all(server.requests > 50 for server in site.serving), "the new ones are used")
