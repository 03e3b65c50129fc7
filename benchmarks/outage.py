"""etcd stopped for a while under load: failed requests, and how soon its return is noticed."""

from __future__ import annotations

import argparse
import time

from tests.support.etcd import EtcdServer, newest
from tests.support.instance import Instance, wait_until
from tests.support.servers import Load, named_servers

NAME = "outage"
_KEY = "/weldr/backends/default/"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--workers", type=int, default=2)


def run(options: argparse.Namespace) -> None:
    with (
        EtcdServer() as etcd,
        named_servers("one", "two") as (one, two),
        Instance("--log-level", "info", etcd=etcd.endpoint, workers=options.workers) as weldr,
    ):
        etcd.etcdctl("put", f"{_KEY}one", one.address)
        weldr.wait_ready()
        wait_until(lambda: weldr.get()[0] == 200, "the backend answers")
        load = Load(weldr.address, options.connections).start()
        etcd.stop()
        time.sleep(options.seconds)
        etcd.start()
        returned = time.monotonic()
        etcd.etcdctl("put", f"{_KEY}two", two.address)
        added = time.monotonic()
        wait_until(lambda: "two" in load.names_since(returned), "the new backend is used")
        answers = load.stop()
        used = min(answer.ended_s for answer in answers if answer.body == "two")
        etcd_said = f"etcd {newest().label}, stopped for {options.seconds:.0f} s"
        print(f"{etcd_said} under a load of {options.connections} connections")
        served = one.requests + two.requests
        print(f"requests {len(answers)}, served by the backends {served}, failed {len(load.failures())}")
        print(
            f"a backend, added {added - returned:.2f} s after its return, was used {used - added:.2f} s later"
        )
