"""The own zone comes first, while enough of it is usable."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.unit.proxy.balancing.backends import Backend, backends, name_of, seeded
from weldr.proxy.balancing.consistent_hash import ConsistentHash
from weldr.proxy.balancing.round_robin import RoundRobin
from weldr.proxy.balancing.zones import ZonePreference


def preference(own: list[Backend], others: list[Backend]) -> ZonePreference[Backend]:
    chosen = ZonePreference[Backend](
        RoundRobin(seeded(1).random), RoundRobin(seeded(2).random), lambda member: member in own
    )
    for member in (*own, *others):
        chosen.put(member, 1)
    return chosen


def test_with_enough_all_requests_stay() -> None:
    members = backends(6)
    chosen = preference(members[:2], members[2:])
    counts = Counter(chosen.pick(()) for _ in range(100))
    assert counts == {members[0]: 50, members[1]: 50}


@pytest.mark.parametrize("share", [0.0, 0.25, 0.9])
def test_with_less_just_the_share_stays(share: float) -> None:
    members = backends(6)
    chosen = preference(members[:2], members[2:])
    chosen.share = share
    counts = Counter(chosen.pick(()) for _ in range(1000))
    assert counts[members[0]] + counts[members[1]] == pytest.approx(1000 * share, abs=2)
    assert max(counts[member] for member in members[2:]) == pytest.approx(250 * (1 - share), abs=2)


def test_if_nobody_is_left_on_one_side_the_other_takes_all() -> None:
    members = backends(4)
    chosen = preference(members[:2], members[2:])
    assert chosen.pick(members[:2]) in members[2:]
    chosen.share = 0.0
    assert chosen.pick(members[2:]) in members[:2]
    assert chosen.pick(members) is None
    for member in members[:2]:
        chosen.remove(member)
    assert chosen.pick(()) in members[2:]


def test_a_key_stays_on_its_side() -> None:
    members = backends(10)
    own = members[:5]
    chosen = ZonePreference[Backend](
        ConsistentHash(name_of, 1.5), ConsistentHash(name_of, 1.5), lambda member: member in own
    )
    for member in members:
        chosen.put(member, 100)
    chosen.share = 0.6
    keys = [seeded(3).getrandbits(64) for _ in range(1)] + [hash_of(number) for number in range(4000)]
    homes = [chosen.pick((), key) for key in keys]
    assert homes == [chosen.pick((), key) for key in keys]
    assert sum(home in own for home in homes) / len(keys) == pytest.approx(0.6, abs=0.04)
    assert len(set(homes)) == 10


def hash_of(number: int) -> int:
    return seeded(number).getrandbits(64)
