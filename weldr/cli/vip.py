"""`weldr vip`: who holds which virtual IP, and moving one."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import click

from weldr.cli.help import examples
from weldr.cli.options import etcd_options, prefix_option
from weldr.cli.output import output_option, show, show_table
from weldr.control.vip.orders import OrderError, move, standings
from weldr.control.vip.standing import COLUMNS, Standing
from weldr.etcd.client import EtcdClient
from weldr.etcd.config import EtcdConfig
from weldr.etcd.errors import EtcdError
from weldr.model.keys import KeySpace

_MOVE_LIMIT_S = 10.0

Result = TypeVar("Result")


@click.group()
def vip() -> None:
    """Virtual IPs: see who holds them, move them."""


@vip.command("list", epilog=examples("weldr vip list", "weldr vip list -o json"))
@output_option
@etcd_options
@prefix_option
def list_vips(output: str, etcd: EtcdConfig | None, keys: KeySpace) -> None:
    """Who holds which virtual IP, since when, and who would follow."""

    async def read() -> list[Standing]:
        async with EtcdClient(_named(etcd)) as client:
            return await standings(client, keys)

    found = _finish(read())
    if output == "table":
        show_standings(found)
    else:
        show([{"name": standing.name, **standing.document()} for standing in found], output)


def show_standings(found: list[Standing]) -> None:
    """The table of `weldr vip list` and `weldr get vips`."""
    show_table(COLUMNS, [standing.row() for standing in found])


@vip.command("move", epilog=examples("weldr vip move web", "weldr vip move web --to proxy-2"))
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
