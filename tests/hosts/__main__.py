"""`scripts/hosts`: every case on three hosts, as often as one likes, and random faults."""

from __future__ import annotations

import argparse
import random
import sys
import time
import traceback

from tests.hosts.cases import CASES
from tests.hosts.cases.terms import Value
from tests.hosts.rounds import play
from tests.hosts.site import VIP, VIP6, Site

FAMILIES: dict[str, Value] = {"ipv4": {"address": VIP}, "ipv6": {"address": VIP6}}


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/hosts", description=__doc__)
    parser.add_argument("cases", nargs="*", help=f"which: {', '.join(CASES)}; all without it")
    parser.add_argument("--times", type=int, default=1, help="how often each, for each address family")
    parser.add_argument(
        "--rounds", type=int, default=0, help="random sequences of faults, in place of the cases"
    )
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    options = parser.parse_args()
    if unknown := set(options.cases) - set(CASES):
        parser.error(f"no such case: {', '.join(sorted(unknown))}")
    failed = 0
    with Site() as site:
        if options.rounds:
            print(f"seed {options.seed}", flush=True)
            for index, value in enumerate(FAMILIES.values()):
                rounds = (options.rounds + 1 - index) // len(FAMILIES)
                failed += not _attempt(
                    lambda value=value, n=rounds: play(site, value, n, options.seed), "rounds"
                )
        else:
            for name in options.cases or CASES:
                for family, value in FAMILIES.items():
                    for _ in range(options.times):
                        run = CASES[name]
                        failed += not _attempt(
                            lambda run=run, value=value: run(site, value), f"{name} {family}"
                        )
    sys.exit(f"{failed} failed" if failed else 0)


def _attempt(run, words: str) -> bool:  # type: ignore[no-untyped-def]
    began_s = time.monotonic()
    try:
        run()
    except Exception:
        traceback.print_exc()
        print(f"{words}: failed", flush=True)
        return False
    print(f"{words}: passed in {time.monotonic() - began_s:.1f} s", flush=True)
    return True


if __name__ == "__main__":
    main()
