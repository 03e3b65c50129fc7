"""A claim counts only if the keys are as the claimant knows them: its watch may be behind."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from tests.unit.control.vip_site import Site, holder
from weldr.control.announce.nothing import NoAnnouncer
from weldr.control.vip.driver import VirtualIp
from weldr.etcd.client import EtcdClient, prefix_end
from weldr.etcd.follow import Snapshot
from weldr.model.events import Event, KeyValue, Revision
from weldr.model.keys import KeySpace, Kind
from weldr.model.vips import Vip

ADDRESS, ANOTHER = "10.0.0.100", "10.0.0.101"


def wish(address: str) -> dict[str, Any]:
    """Whose claims may take longer than a busy machine lets them."""
    return {"address": address, "failover": "lease", "ttl_s": 60}


class Claimant(Site):
    """Instance a, which knows of etcd what it was last told."""

    def __init__(self, client: EtcdClient, prefix: str) -> None:
        super().__init__()
        self.client = self.context.client = client
        self.keys = self.context.keys = self.view.keys = KeySpace(prefix)

    async def put(self, name: str, address: str) -> None:
        """An operator does."""
        await self.client.put(self.keys.key(Kind.VIP, name), msgspec.json.encode(wish(address)))

    async def delete(self, name: str) -> None:
        """An operator does."""
        await self.client.delete(self.keys.key(Kind.VIP, name))

    async def stand(self, name: str) -> VirtualIp:
        """It wants to claim, and has found nobody else at the address."""
        running = VirtualIp(name, msgspec.convert(wish(ADDRESS), Vip), self.context, NoAnnouncer())
        running._claiming.probed = True
        await running._seat.stand()
        return running

    async def catch_up(self) -> None:
        """It is told of all."""
        read = await self.client.read_prefix(self.keys.prefix_bytes)
        self.view.fold([Snapshot(read.revision, tuple(read.key_values), "start")], 0.0)


async def one_that_stands(client: EtcdClient, prefix: str) -> tuple[Claimant, VirtualIp]:
    site = Claimant(client, prefix)
    await site.put("web", ADDRESS)
    await site.catch_up()
    return site, await site.stand("web")


async def older_key_gets_the_address(site: Claimant) -> None:
    await site.put("older", ADDRESS)


async def older_key_gets_a_value_that_nobody_understands(site: Claimant) -> None:
    await site.client.put(site.keys.key(Kind.VIP, "older"), b"{")


async def a_key_that_is_none_is_put(site: Claimant) -> None:
    await site.client.put(site.keys.of_kind(Kind.VIP) + b"web/of/the/east", b"{}")


async def own_key_is_deleted(site: Claimant) -> None:
    await site.delete("web")


async def other_keys_are_deleted(site: Claimant) -> None:
    await site.delete("older")


async def nothing_happens(site: Claimant) -> None:
    return None


Change = Callable[[Claimant], Awaitable[None]]


@pytest.mark.parametrize(
    ("change", "claimed"),
    [
        (older_key_gets_the_address, False),
        (older_key_gets_a_value_that_nobody_understands, False),
        (a_key_that_is_none_is_put, False),
        (own_key_is_deleted, False),
        (other_keys_are_deleted, True),
        (nothing_happens, True),
    ],
    ids=lambda value: value.__name__ if callable(value) else "claimed" if value else "not claimed",
)
async def test_a_claim_fails_if_another_key_may_have_the_address_by_now(
    client: EtcdClient, etcd_prefix: str, change: Change, claimed: bool
) -> None:
    site = Claimant(client, etcd_prefix)
    await site.put("older", ANOTHER)
    await site.put("web", ADDRESS)
    await site.catch_up()
    running = await site.stand("web")
    await change(site)
    await running._claim()
    assert (await client.get(site.keys.key(Kind.HOLDER, "web")) is not None) == claimed
    assert (running.holding.hold is not None) == claimed


async def test_nobody_claims_by_a_key_whose_address_is_an_older_ones(
    client: EtcdClient, etcd_prefix: str
) -> None:
    site = Claimant(client, etcd_prefix)
    for name in ("older", "web"):
        await site.put(name, ADDRESS)
    await site.catch_up()
    for name in ("web", "older"):
        running = await site.stand(name)
        await running._claim()
        assert (await client.get(site.keys.key(Kind.HOLDER, name)) is not None) == (name == "older")


async def test_a_key_that_is_none_keeps_nobody_from_claiming_once_it_is_known(
    client: EtcdClient, etcd_prefix: str
) -> None:
    site, running = await one_that_stands(client, etcd_prefix)
    key = site.keys.of_kind(Kind.VIP) + b"web/of/the/east"
    revision = (await client.put(key, b"{}")).revision
    await running._claim()
    assert running.holding.hold is None
    site.view.fold([Revision(revision, (Event(KeyValue(key, b"{}", revision, revision)),))], 0.0)
    await running._claim()
    assert running.holding.hold is not None


async def test_who_is_told_too_late_what_has_changed_leaves_the_others_the_time_to_claim(
    client: EtcdClient, etcd_prefix: str
) -> None:
    site, running = await one_that_stands(client, etcd_prefix)
    await client.put(running._seat._candidate.key + b"1", b"b")
    await site.put("other", ANOTHER)
    for _ in range(20):
        assert running.holding.problem == ""
        await running._claim()
    assert "too late" in running.holding.problem


async def test_nothing_is_left_of_a_virtual_ip_whose_key_is_gone(client: EtcdClient, etcd_prefix: str) -> None:
    site, running = await one_that_stands(client, etcd_prefix)
    await running._claim()
    assert running.holding.hold is not None
    await site.delete("web")
    await site.catch_up()
    running.start()
    await running.stop("its key in etcd is gone")
    left = await client.range(site.keys.prefix_bytes, prefix_end(site.keys.prefix_bytes))
    assert left.key_values == ()


async def test_an_address_that_had_hundreds_of_keys_is_claimed(client: EtcdClient, etcd_prefix: str) -> None:
    """etcd takes 128 comparisons and no more."""
    site = Claimant(client, etcd_prefix)
    for number in range(150):
        record = msgspec.structs.replace(holder("b"), state="released")
        await client.put(site.keys.key(Kind.HOLDER, f"old{number}"), msgspec.json.encode(record))
    await site.put("web", ADDRESS)
    await site.catch_up()
    running = await site.stand("web")
    await running._claim()
    assert running.holding.hold is not None
