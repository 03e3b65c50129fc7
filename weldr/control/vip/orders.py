"""What people ask of virtual IPs from outside of any instance: how they stand, and to move one."""

from __future__ import annotations

import asyncio
import time

import msgspec

from weldr.control.vip.standing import Standing, standings_of
from weldr.etcd.client import Compare, EtcdClient, Put
from weldr.etcd.errors import EtcdError
from weldr.model.keys import KeySpace, Kind
from weldr.model.vips import Holder, Move

_MOVE_TTL_S = 10
_LOOK_S = 0.1
_KINDS = (Kind.VIP, Kind.HOLDER, Kind.ELECTION, Kind.INSTANCE, Kind.MOVE)


class OrderError(Exception):
    """It cannot be done. One line that says why."""


async def standings(client: EtcdClient, keys: KeySpace) -> list[Standing]:
    """Of all virtual IPs, as etcd knows them.

    Raises `EtcdError`.
    """
    pairs = [pair for kind in _KINDS for pair in (await client.read_prefix(keys.of_kind(kind))).key_values]
    return standings_of(pairs, keys)


async def move(client: EtcdClient, keys: KeySpace, name: str, to: str | None, limit_s: float) -> Holder:
    """Have another instance hold it, and wait until it does; the new holder.

    Raises `OrderError` and `EtcdError`.
    """
    standing = next((found for found in await standings(client, keys) if found.name == name), None)
    if standing is None:
        raise OrderError(f"there is no virtual IP {name!r}")
    holder, candidates = standing.holder, standing.candidates
    if holder is None or holder.state != "held":
        raise OrderError(f"nobody holds {name!r} now: there is nothing to move")
    if holder.instance not in candidates[:1]:
        raise OrderError(
            f"{holder.instance} holds {name!r} out of touch with etcd, which cannot tell it to move: wait until"
            " it is back, or has lost it (weldr get vips)"
        )
    if to == holder.instance:
        return holder
    if to is not None and to not in candidates:
        raise OrderError(f"{to!r} does not stand for {name!r}: those that do are {', '.join(candidates)}")
    if not set(candidates) - {holder.instance}:
        raise OrderError(f"nobody but {holder.instance} stands for {name!r}")
    found = await _ask_and_wait(client, keys, name, Move(token=holder.token, to=to or ""), limit_s)
    if to is not None and found.instance != to:
        raise OrderError(f"{name!r} went to {found.instance} and not to {to}: see their logs")
    return found


async def _ask_and_wait(client: EtcdClient, keys: KeySpace, name: str, wish: Move, limit_s: float) -> Holder:
    lease = await client.grant_lease(_MOVE_TTL_S)
    key = keys.key(Kind.MOVE, name)
    try:
        asked = await client.transaction(
            [Compare.create_revision(key, "==", 0)], [Put(key, msgspec.json.encode(wish), lease.id)]
        )
        if not asked.succeeded:
            raise OrderError(f"{name!r} is being moved already: see {key.decode('utf-8', 'backslashreplace')}")
        deadline_s = time.monotonic() + limit_s
        while time.monotonic() < deadline_s:
            found = await client.get(keys.key(Kind.HOLDER, name))
            record = msgspec.json.decode(found.value, type=Holder) if found is not None else None
            if record is not None and record.state == "held" and record.token != wish.token:
                return record
            await asyncio.sleep(_LOOK_S)
        raise OrderError(f"{name!r} did not move within {limit_s:g} s: see the logs of the instances")
    finally:
        await _end(client, lease.id)


async def _end(client: EtcdClient, lease_id: int) -> None:
    try:
        await client.revoke_lease(lease_id)
    except EtcdError:
        return  # it expires
