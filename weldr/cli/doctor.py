"""`weldr doctor`: what is wrong with the machine, etcd and the instances, and what to do, in order."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter

import click
import msgspec

from weldr.cli.diagnosis.cluster import (
    instances_of,
    judge_clocks,
    judge_instances,
    judge_keys,
    judge_permissions,
    measure,
)
from weldr.cli.diagnosis.finding import Finding, Level, in_order
from weldr.cli.diagnosis.machine import judge_machine
from weldr.cli.diagnosis.members import ask_members, judge_latency, judge_members
from weldr.cli.etcd_store import EtcdStore
from weldr.cli.help import examples
from weldr.cli.options import DEFAULT_ADMIN, Address, etcd_options, prefix_option
from weldr.cli.output import output_option, show, show_table
from weldr.cli.run import DEFAULT_LISTEN
from weldr.cli.store import StoreError
from weldr.control.listeners import ListenAddress
from weldr.etcd.client import EtcdClient
from weldr.etcd.config import EtcdConfig
from weldr.etcd.errors import EtcdAuthError, EtcdError
from weldr.model.events import KeyValue
from weldr.model.keys import KeyName, KeySpace, Kind


@click.command(epilog=examples("weldr doctor --etcd http://10.0.0.1:2379", "weldr doctor --listen :80 -o json"))
@etcd_options
@prefix_option
@click.option(
    "--listen",
    type=Address(),
    multiple=True,
    default=[DEFAULT_LISTEN, DEFAULT_ADMIN],
    show_default=True,
    envvar="WELDR_LISTEN",
    help="An address that an instance here is to have, its admin port among them. Can be given several times.",
)
@output_option
def doctor(etcd: EtcdConfig | None, keys: KeySpace, listen: tuple[ListenAddress, ...], output: str) -> None:
    """Look at this machine, etcd and the instances, and say what to do, the worst first.

    Run it where an instance is to run, as its user. Nothing is changed. Exit status: 0 if nothing is wrong, or
    only might be; 1 if something is.
    """
    findings = in_order(asyncio.run(_look(etcd or EtcdConfig.from_environment(None), keys, listen)))
    if output != "table":
        show(msgspec.to_builtins(findings), output)
    else:
        show_table(
            ("", "ABOUT", "FOUND", "WHAT TO DO"),
            [(finding.level.value, finding.area, finding.found, finding.do) for finding in findings],
        )
        counts = Counter(finding.level for finding in findings)
        click.echo(f"{counts[Level.ERROR]} errors, {counts[Level.WARNING]} warnings", err=True)
    sys.exit(1 if any(finding.level is Level.ERROR for finding in findings) else 0)


async def _look(etcd: EtcdConfig, keys: KeySpace, listen: tuple[ListenAddress, ...]) -> list[Finding]:
    asked = await ask_members(etcd)
    findings = judge_members(asked)
    pairs: dict[KeyName, KeyValue] = {}
    if any(not each.reason and (each.report is None or each.report.leader) for each in asked):
        async with EtcdClient(etcd) as client:
            try:
                findings += judge_latency(*await measure(client, keys))
                pairs = dict((await EtcdStore(client, keys).read()).pairs)
                findings += await judge_permissions(client, keys)
            except (EtcdError, StoreError) as error:
                do = "see what is told of the members"
                if isinstance(error, EtcdAuthError):
                    do = f"etcdctl role grant-permission ROLE --prefix=true readwrite {keys.prefix}"
                findings.append(Finding(Level.ERROR, "etcd", str(error), do))
            else:
                instances = instances_of(pairs)
                findings += [*judge_keys(pairs), *judge_instances(instances), *await judge_clocks(instances)]
    has_virtual_ips = any(name.kind is Kind.VIP for name in pairs)
    return [*findings, *judge_machine(has_virtual_ips=has_virtual_ips, addresses=listen)]
