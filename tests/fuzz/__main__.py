"""`scripts/fuzz`: new scenarios until the time is over or one of them breaks a promise."""

from __future__ import annotations

import argparse
import random
import sys
import time
import traceback
from dataclasses import dataclass

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.fuzz.checks import check
from tests.fuzz.pieces import check_pieces
from tests.fuzz.scenario import Client, Scenario
from tests.fuzz.scenarios import clients, scenarios
from tests.fuzz.world import World

_EXAMPLES_IN_ROUND = 1000


@dataclass
class Tally:
    """What was played."""

    scenarios: int = 0
    requests: int = 0
    forwarded: int = 0
    failed: Scenario | Client | None = None
    """The last that failed, which is the smallest."""


def play(scenario: Scenario, tally: Tally) -> None:
    """Anything goes, and no promise is broken."""
    world = World(scenario).play()
    tally.scenarios += 1
    tally.requests += world.context.counters.requests
    tally.forwarded += len(world.forwarded)
    check(world)


def play_round(number: int, tally: Tally) -> None:
    """One round of hypothesis; raises what the smallest failing input raises."""
    options = settings(
        max_examples=_EXAMPLES_IN_ROUND,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )

    @seed(number)
    @options
    @given(st.one_of(scenarios, scenarios, scenarios, clients))
    def attempt(tried: Scenario | Client) -> None:
        try:
            if isinstance(tried, Scenario):
                play(tried, tally)
            else:
                check_pieces(tried)
        except Exception:
            tally.failed = tried
            raise

    attempt()


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, help="of the first round; each next one has the next number")
    options = parser.parse_args()
    number = random.randrange(1 << 32) if options.seed is None else options.seed
    started = time.monotonic()
    tally = Tally()
    print(f"seed {number}", flush=True)
    try:
        while time.monotonic() < started + options.minutes * 60:
            play_round(number, tally)
            number += 1
    except Exception:
        traceback.print_exc()
        print(f"\nround {number} failed; the smallest input, for tests/fuzz/cases.py:\n\n{tally.failed!r}\n")
        sys.exit(1)
    finally:
        seconds = time.monotonic() - started
        print(
            f"{tally.scenarios} scenarios in {seconds:.0f} s, {tally.requests} requests taken,"
            f" {tally.forwarded} forwarded ({tally.requests / seconds:.0f} requests a second)"
        )


if __name__ == "__main__":
    main()
