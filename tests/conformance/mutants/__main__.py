"""`scripts/mutants`: does each rule of the data plane have a case that fails without it, and each case a rule?

Each mutant of the table is a copy of weldr with one rule switched off. The conformance cases of that rule run
against it, whole, and byte by byte if none fails so. Told are mutants that survive, and cases that failed under
none; with either, the exit status is 1.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor

from tests.conformance.mutants.bench import Run, run
from tests.conformance.mutants.mutant import Mutant, StaleMutantError, read_mutants

_BROAD = 40
"""Under a mutant with so many failed cases a case is not shown to be of use by itself."""


def _play(mutant: Mutant, *, first_only: bool) -> Run:
    found = run(mutant, mutant.modules, first_only=first_only)
    if not found.failed:
        again = run(mutant, mutant.modules, bytewise=True, first_only=first_only)
        if again.failed or again.out_of_time:
            return again
    return found


def _told(mutant: Mutant, found: Run) -> str:
    if not found.failed:
        return (
            f"SURVIVES  {mutant.rule} ({'out of time' if found.out_of_time else f'{len(found.passed)} passed'})"
        )
    return f"{len(found.failed):4} fail  {mutant.rule}: {min(found.failed, key=len)}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/mutants", description=__doc__)
    parser.add_argument("rules", nargs="*", help="only mutants whose rule or file contains one of these")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--first", action="store_true", help="stop each mutant at its first failure")
    options = parser.parse_args()
    chosen = [
        mutant
        for mutant in read_mutants()
        if not options.rules
        or any(each in (mutant.rule, mutant.file) or each in mutant.rule for each in options.rules)
    ]
    began_s = time.monotonic()
    modules = tuple(sorted({module for mutant in chosen for module in mutant.modules}))
    sound = run(None, modules)
    if sound.failed or not sound.passed:
        print(sound.output)
        print("weldr as it is fails: mend that first")
        return 1
    failed_under: dict[str, list[Mutant]] = defaultdict(list)
    survivors = []
    counts = {}
    with ThreadPoolExecutor(options.jobs) as pool:
        try:
            for mutant, found in zip(
                chosen, pool.map(lambda each: _play(each, first_only=options.first), chosen), strict=True
            ):
                print(_told(mutant, found), flush=True)
                counts[mutant.rule] = len(found.failed)
                if not found.failed:
                    survivors.append(mutant)
                for case in found.failed:
                    failed_under[case].append(mutant)
        except StaleMutantError as error:
            pool.shutdown(cancel_futures=True)
            print(error)
            return 1
    print(f"\n{len(chosen)} mutants, {len(sound.passed)} cases, {time.monotonic() - began_s:.0f} s")
    for mutant in survivors:
        print(f"survives: {mutant.rule} ({mutant.file})")
    idle = []
    if not (options.first or options.rules):
        idle = sorted(sound.passed - set(failed_under))
        for case in idle:
            print(f"never failed: {case}")
        for case in sorted(sound.passed & set(failed_under)):
            if all(counts[mutant.rule] >= _BROAD for mutant in failed_under[case]):
                print(f"failed under broad mutants only: {case}")
    return 1 if survivors or idle else 0


if __name__ == "__main__":
    sys.exit(main())
