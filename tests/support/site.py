"""An instance with an etcd prefix of its own, as tests of its admin port need it."""

from __future__ import annotations

from dataclasses import dataclass

from tests.support.admin import Api
from tests.support.etcd import EtcdServer
from tests.support.instance import Instance


@dataclass(frozen=True)
class Site:
    """An instance, its API and its etcd."""

    weldr: Instance
    api: Api
    etcd: EtcdServer
    prefix: str

    @property
    def url(self) -> str:
        """Of the dashboard."""
        return f"http://{self.weldr.admin}/"

    def put(self, key: str, value: str, *options: str) -> None:
        """Write a key as somebody with etcdctl does, behind the API's back."""
        self.etcd.etcdctl("put", *options, self.prefix + key, value)

    def value(self, key: str) -> str:
        """What etcd has; empty for a key that does not exist."""
        return self.etcd.etcdctl("get", "--print-value-only", self.prefix + key).rstrip("\n")

    def configuration(self) -> str:
        """All keys but those that instances write of themselves."""
        lines = self.etcd.etcdctl("get", "--prefix", self.prefix, "-w", "fields")
        return "\n".join(part for part in lines.split('"Key"')[1:] if "instances/" not in part)
