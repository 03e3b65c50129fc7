"""A balancer for a service's value."""

from __future__ import annotations

import random
from collections.abc import Callable

from weldr.model.balancing import Balance
from weldr.proxy.balancing.balancer import Balancer, Chance, MemberType
from weldr.proxy.balancing.consistent_hash import ConsistentHash
from weldr.proxy.balancing.least_requests import LeastRequests
from weldr.proxy.balancing.peak_ewma import PeakEwma
from weldr.proxy.balancing.random_choice import RandomChoice
from weldr.proxy.balancing.round_robin import RoundRobin


def balancer(
    balance: Balance, name: Callable[[MemberType], bytes], chance: Chance = random.random
) -> Balancer[MemberType]:
    """An empty one of this policy. `name` is what `consistent_hash` knows a member by."""
    match balance.policy:
        case "round_robin":
            return RoundRobin(chance)
        case "least_requests":
            return LeastRequests(chance)
        case "random":
            return RandomChoice(chance)
        case "consistent_hash":
            return ConsistentHash(name, balance.hash_bound, chance)
        case "peak_ewma":
            return PeakEwma(chance)
