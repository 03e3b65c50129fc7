"""`scripts/mutants`: does each rule of the data plane have a case that fails without it, and each case a rule?

Each mutant of the table is a copy of weldr with one rule switched off. The conformance cases of that rule run
against it, whole, and byte by byte if none fails so. Told are mutants that survive, with which the exit
status is 1, and cases that failed under none but such as break nearly everything: what is plain, or caught by
several rules.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor

from tests.conformance.mutants.bench import BROAD, Bench, Run
from tests.conformance.mutants.mutant import Mutant, StaleMutantError, read_mutants


def _play(bench: Bench, mutant: Mutant, *, first_only: bool) -> Run:
    found = bench.run(mutant, mutant.modules, bytewise=False, first_only=first_only)
    if not found.failed:
        again = bench.run(mutant, mutant.modules, bytewise=True, first_only=first_only)
        if again.failed or again.out_of_time:
            return again
    return found


def _told(mutant: Mutant, found: Run) -> str:
    if not found.failed:
        return (
            f"SURVIVES  {mutant.rule} ({'out of time' if found.out_of_time else f'{len(found.passed)} passed'})"
        )
    return f"{len(found.failed):4} fail  {mutant.rule}: {min(found.failed, key=len)}"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/mutants", description=__doc__)
    parser.add_argument("rules", nargs="*", help="only mutants whose rule, file or table contains one of these")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--first", action="store_true", help="stop each mutant at its first failure")
    return parser.parse_args()


def _chosen(rules: list[str]) -> list[Mutant]:
    mutants = read_mutants()
    if not rules:
        return mutants
    return [each for each in mutants if any(rule in f"{each.rule} {each.file} {each.place}" for rule in rules)]


def main() -> int:
    options = _options()
    chosen = _chosen(options.rules)
    began_s = time.monotonic()
    failed_under: dict[str, list[str]] = defaultdict(list)
    survivors = []
    with Bench() as bench, ThreadPoolExecutor(options.jobs) as pool:
        sound = bench.run_sound(tuple(sorted({module for mutant in chosen for module in mutant.modules})))
        if sound.failed or not sound.passed:
            print(f"{sound.output}\nweldr as it is fails: mend that first")
            return 1
        runs = pool.map(lambda each: _play(bench, each, first_only=options.first), chosen)
        try:
            for mutant, found in zip(chosen, runs, strict=True):
                print(_told(mutant, found), flush=True)
                if not found.failed:
                    survivors.append(mutant)
                for case in found.failed:
                    failed_under[case].append(mutant.rule)
        except StaleMutantError as error:
            pool.shutdown(cancel_futures=True)
            print(error)
            return 1
    print(f"\n{len(chosen)} mutants, {len(sound.passed)} cases, {time.monotonic() - began_s:.0f} s")
    for mutant in survivors:
        print(f"survives: {mutant.rule} ({mutant.place})")
    idle = [] if options.first or options.rules else sorted(sound.passed - _shown(failed_under))
    for case in idle:
        print(f"failed under no mutant, or only under broad ones: {case}")
    return 1 if survivors else 0


def _shown(failed_under: dict[str, list[str]]) -> set[str]:
    """The cases that failed where not nearly everything did."""
    failed = Counter(rule for rules in failed_under.values() for rule in rules)
    return {case for case, rules in failed_under.items() if any(failed[rule] < BROAD for rule in rules)}


if __name__ == "__main__":
    sys.exit(main())
