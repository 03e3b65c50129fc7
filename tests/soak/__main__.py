"""`scripts/soak`: a real instance under mixed traffic, crashes and changes; fails on anything unexplained."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import sys

from tests.soak.churn import STEADY, Backend, Churn
from tests.soak.meter import HEADING, Process, sample_all
from tests.soak.tally import Kills, Tally
from tests.soak.visitor import Visitor
from tests.support.etcd import EtcdServer
from tests.support.instance import Instance
from weldr.etcd.client import EtcdClient
from weldr.etcd.config import EtcdConfig

_WARM_UP_SHARE = 0.2
_KILL_INTERVAL_S = 4.0
_REST_S = 8.0


async def soak(etcd: EtcdServer, weldr: Instance, options: argparse.Namespace) -> list[str]:
    """All of it; what went wrong."""
    chance = random.Random(options.seed)
    kills = Kills()
    tally = Tally(kills)
    workers = weldr.worker_pids()
    processes = [Process("manager", weldr.pid)]
    processes += [Process(f"worker {number}", pid) for number, pid in enumerate(workers)]
    backends = [Backend(name) for name in (STEADY, "b1", "b2", "b3")]
    stopping = asyncio.Event()
    async with EtcdClient(EtcdConfig.from_text(etcd.endpoint)) as client, contextlib.AsyncExitStack() as stack:
        for backend in backends:
            stack.push_async_callback(backend.kill)
            await backend.start()
        churn = Churn(client, backends, kills, chance)
        for process in processes:
            process.descriptors_before = process.count_descriptors()
        await churn.put_all()
        await asyncio.sleep(1)
        seconds = options.minutes * 60
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(churn.change_keys(stopping))
            tasks.create_task(churn.kill_backends(stopping, _KILL_INTERVAL_S))
            tasks.create_task(sample_all(processes, stopping, seconds * _WARM_UP_SHARE))
            for number in range(options.clients):
                visitor = Visitor(number, weldr.port, tally, random.Random(chance.random()))
                tasks.create_task(visitor.come(stopping))
            await asyncio.sleep(seconds)
            stopping.set()
        await churn.delete_all()
        await asyncio.sleep(_REST_S)
        for process in processes:
            process.descriptors_after = process.count_descriptors()
    report(processes, tally, churn)
    wrong = tally.errors + [fault for process in processes for fault in process.faults()]
    if weldr.worker_pids() != workers:
        wrong.append("a worker has died")
    wrong += [str(record) for record in weldr.records if record.get("level") in ("error", "critical")]
    return wrong


def report(processes: list[Process], tally: Tally, churn: Churn) -> None:
    """The table and the counts."""
    print(HEADING)
    for process in processes:
        print(process.row())
    good = ", ".join(f"{count} {name}" for name, count in tally.good.most_common())
    print(f"good: {good}")
    explained = ", ".join(f"{count} {what}" for what, count in tally.explained.most_common())
    print(f"in flight to one of {len(tally.kills)} killed backends: {explained or 'none'}")
    print(f"keys changed: {churn.changes}; unexplained: {tally.error_count}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--clients", type=int, default=24)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=None)
    options = parser.parse_args()
    with EtcdServer() as etcd, contextlib.ExitStack() as stack:
        weldr = Instance("--log-level", "info", etcd=etcd.endpoint, workers=options.workers)
        stack.enter_context(weldr)
        weldr.wait_ready()
        wrong = asyncio.run(soak(etcd, weldr, options))
    for line in wrong:
        print(f"WRONG: {line}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
