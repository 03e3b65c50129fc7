"""`scripts/bench NAME`."""

from __future__ import annotations

import argparse

from benchmarks import (
    catalog,
    checks,
    dashboard,
    failover,
    kernel_lifetime,
    metrics,
    outage,
    policies,
    recording,
    registration,
    routes,
    streams,
)
from benchmarks.faults import command as faults
from benchmarks.peers import command as peers
from benchmarks.peers import install


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench")
    commands = parser.add_subparsers(required=True, metavar="NAME")
    modules = (
        registration,
        catalog,
        policies,
        routes,
        outage,
        failover,
        kernel_lifetime,
        checks,
        streams,
        dashboard,
        metrics,
        recording,
        faults,
        peers,
        install,
    )
    for module in modules:
        command = commands.add_parser(module.NAME, help=module.__doc__)
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
