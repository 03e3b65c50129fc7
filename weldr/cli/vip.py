"""`weldr vip`: who holds which virtual IP, and moving one."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.table import Table

from weldr.cli.options import etcd_options, prefix_option
from weldr.control.vip.orders import OrderError, Standing, move, standings
from weldr.etcd.client import EtcdClient
from weldr.etcd.config import EtcdConfig
from weldr.etcd.errors import EtcdError
from weldr.model.keys import KeySpace

_MOVE_LIMIT_S = 10.0

Result = TypeVar("Result")


@click.group()
def vip() -> None:
    """Virtual IPs: see who holds them, move them."""


@vip.command("list")
@etcd_options
@prefix_option
def list_vips(etcd: EtcdConfig | None, keys: KeySpace) -> None:
    """Who holds which virtual IP, since when, and who would follow."""

    async def read() -> list[Standing]:
        async with EtcdClient(_named(etcd)) as client:
            return await standings(client, keys)

    show_standings(_finish(read()))


def show_standings(found: list[Standing]) -> None:
    """The table of `weldr vip list`."""
    table = Table(box=None, pad_edge=False)
    for title in ("VIP", "ADDRESS", "STATE", "HOLDER", "SINCE", "TOKEN", "WHY", "STANDING"):
        table.add_column(title, overflow="fold")
    for standing in found:
        holder = standing.holder
        told = (holder.instance, holder.since, str(holder.token), holder.reason) if holder else ("", "", "", "")
        table.add_row(
            standing.name, standing.vip.ip, standing.state, *told, ", ".join(standing.candidates) or "nobody"
        )
    console = Console()
    console.print(table, width=console.width if console.is_terminal else 200)


@vip.command("move")
@click.argument("name")
@click.option("--to", metavar="INSTANCE", help="Where to. [default: whoever is next]")
@etcd_options
@prefix_option
def move_vip(name: str, to: str | None, etcd: EtcdConfig | None, keys: KeySpace) -> None:
    """Have another instance hold the virtual IP NAME, and wait until it does."""

    async def order() -> str:
        async with EtcdClient(_named(etcd)) as client:
            return (await move(client, keys, name, to, _MOVE_LIMIT_S)).instance

    click.echo(f"{name} is held by {_finish(order())}")


def _named(etcd: EtcdConfig | None) -> EtcdConfig:
    if etcd is None:
        raise click.UsageError("no etcd is named: give --etcd URL")
    return etcd


def _finish(work: Coroutine[Any, Any, Result]) -> Result:
    try:
        return asyncio.run(work)
    except (EtcdError, OrderError) as error:
        raise click.ClickException(str(error)) from None
