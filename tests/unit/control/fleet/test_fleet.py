"""The port and the key by which other instances tell their numbers."""

from __future__ import annotations

import asyncio
import contextlib
from types import SimpleNamespace
from typing import Any, cast

from weldr.control.fleet.fleet import Fleet, FleetParts
from weldr.etcd.errors import EtcdUnavailableError
from weldr.model.keys import KeySpace, Kind


class FakeClient:
    """An etcd that answers no put, whatever becomes of it."""

    def __init__(self, port: int) -> None:
        self.config = SimpleNamespace(endpoints=[SimpleNamespace(host="127.0.0.1", port=port)])
        self.deleted: list[bytes] = []

    async def put(self, key: bytes, value: bytes, *, lease: int) -> None:
        raise EtcdUnavailableError("no answer", endpoint="there")

    async def delete(self, key: bytes) -> tuple[int, Any]:
        self.deleted.append(key)
        return 1, SimpleNamespace(revision=7)


async def test_port_and_key_go_with_the_last_look_though_etcd_never_answered_the_put() -> None:
    keys = KeySpace()
    there = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    client = FakeClient(there.sockets[0].getsockname()[1])
    other = SimpleNamespace(key=keys.key(Kind.INSTANCE, "other"))
    mirror = SimpleNamespace(of_kind=lambda kind: [other], pair=lambda name: None, revision=1)
    pool = SimpleNamespace(statistics=SimpleNamespace(), slots=[])
    parts = FleetParts(
        cast(Any, client),
        keys,
        "own",
        cast(Any, pool),
        cast(Any, mirror),
        lambda: 5,
        lambda _: None,
        lambda: True,
    )
    fleet = Fleet(parts)
    try:
        fleet.look()
        with contextlib.suppress(EtcdUnavailableError):
            await fleet._arrange_once()
        assert fleet.address
        fleet._merged = None
        await fleet._arrange_once()
        assert fleet.address == ""
        assert client.deleted == [keys.key(Kind.VIEWER, "own")]
        await fleet._arrange_once()
        assert len(client.deleted) == 1
    finally:
        await fleet.close()
        there.close()
