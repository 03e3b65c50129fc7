"""Looks for two holders in all that can happen.

`python -m tests.unit.control.vip_search WORLDS [SEED]` looks for as long as one likes.
"""

from __future__ import annotations

import random
import sys
from dataclasses import dataclass
from typing import Any, get_args

from tests.unit.control.vip_steps import choices, do, kind, start, told
from tests.unit.control.vip_world import Limits, Scene, World


@dataclass
class Found:
    """What an exploration found."""

    worlds: int = 0
    whole: bool = False
    """Whether there are no more."""
    claims: int = 0
    double: list[str] | None = None
    """How two hosts came to hold the address."""


def explore(limits: Limits, most: int) -> Found:
    """Every world that can come of the first, in order of steps, until `most` of them were seen."""
    first = start(limits)
    seen = {first.key()}
    frontier: list[tuple[World, tuple[Any, ...]]] = [(first, ())]
    found = Found()
    while frontier and found.worlds < most:
        upcoming: list[tuple[World, tuple[Any, ...]]] = []
        for world, path in frontier:
            for choice in choices(world, limits):
                after = do(world, choice)
                key = after.key()
                if key in seen:
                    continue
                seen.add(key)
                found.worlds += 1
                found.claims += after.claims > world.claims
                steps = (path, told(world, choice))
                if len(after.holders()) > 1:
                    found.double = _unfold(steps)
                    return found
                upcoming.append((after, steps))
                if found.worlds >= most:
                    return found
        frontier = upcoming
    found.whole = not frontier
    return found


def wander(limits: Limits, seed: int, walks: int) -> Found:
    """Random ways through far more worlds than can all be seen; the same for the same seed.

    On each way other things are likely. Where everything is as likely as everything else, what takes many
    unlikely steps in a row never happens.
    """
    chance = random.Random(seed)
    found = Found()
    for _ in range(walks):
        world = start(limits)
        steps: list[str] = []
        likely: dict[Any, float] = {}
        while possible := choices(world, limits):
            kinds = [kind(world, choice) for choice in possible]
            weights = [likely.setdefault(like, chance.choice(_LIKELY)) for like in kinds]
            (choice,) = chance.choices(possible, weights)
            steps.append(told(world, choice))
            after = do(world, choice)
            found.worlds += 1
            found.claims += after.claims > world.claims
            world = after
            if len(world.holders()) > 1:
                found.double = steps
                return found
    return found


_LIKELY = (0.02, 0.3, 1.0, 10.0)


def _unfold(steps: tuple[Any, ...]) -> list[str]:
    lines: list[str] = []
    while steps:
        steps, line = steps
        lines.append(line)
    return lines[::-1]


def main() -> None:
    """Search for as long as one likes."""
    worlds, seed = int(sys.argv[1]), random.randrange(1 << 32) if len(sys.argv) < 3 else int(sys.argv[2])
    print(f"seed {seed}")
    for scene in get_args(Scene):
        for found in (
            explore(Limits(scene=scene), worlds),
            wander(Limits(24, 0.5, faults=4, messages=4, scene=scene), seed, worlds // 50),
        ):
            print(
                f"{scene}: {found.worlds} worlds, {found.claims} claims",
                *(found.double or ["no double holder"]),
                sep="\n",
            )


if __name__ == "__main__":
    main()
