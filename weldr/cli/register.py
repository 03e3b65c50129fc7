"""`weldr register`: a registration from the shell, alone or around a command."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

import click

from weldr import logs
from weldr.cli.help import examples
from weldr.cli.options import Grace, etcd_options, log_options, prefix_option
from weldr.etcd.client import EtcdClient
from weldr.etcd.config import EtcdConfig
from weldr.model.address import Address, AddressError
from weldr.model.keys import KeySpace, Kind
from weldr.sdk.command import LEAVE_SIGNALS, PASSED_SIGNALS, Command, CommandNotStartedError, accepting
from weldr.sdk.own_address import address_of
from weldr.sdk.registrar import BackendValue, Registrar, RegistrationState
from weldr.sdk.registration import DEFAULT_LEAVE_LIMIT_S, DEFAULT_TTL_S, MOST_TTL_S, default_id

logger = logging.getLogger(__name__)

_MOST_WEIGHT = 1_000_000


@dataclass(frozen=True, slots=True)
class _Job:
    etcd: EtcdConfig
    keys: KeySpace
    service: str
    backend_id: str
    address: Address
    weight: int
    ttl_s: int
    check: str | None
    grace_s: float
    command: list[str]


def _check_url(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    if value is not None:
        try:
            parts = urlsplit(value)
            good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            good = False
        if not good:
            raise click.BadParameter(f"{value!r} is no URL: expected http://host:port/path")
    return value


@click.command(
    context_settings={"ignore_unknown_options": False},
    epilog=examples(
        "weldr register shop 10.0.0.5:8080",
        "weldr register shop 9001 -- python3 -m http.server 9001",
        "weldr register shop 9001 --check http://127.0.0.1:9001/healthz --weight 2 -- ./server",
    ),
)
@click.argument("service")
@click.argument("address")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.option("--id", "backend_id", help="Id of this backend. [default: host name and port]")
@click.option(
    "--ttl",
    "ttl_s",
    type=click.IntRange(1, MOST_TTL_S),
    default=DEFAULT_TTL_S,
    show_default=True,
    help="Seconds until a backend that died without a word is out of rotation.",
)
@click.option(
    "--weight",
    type=click.IntRange(0, _MOST_WEIGHT),
    default=1,
    show_default=True,
    help="Share of requests relative to the service's other backends.",
)
@click.option("--check", metavar="URL", callback=_check_url, help="Register only once this URL answers 2xx.")
@click.option(
    "--grace",
    type=Grace(),
    default=DEFAULT_LEAVE_LIMIT_S,
    show_default=True,
    help="Seconds to wait, when leaving, for requests in flight; 0 to leave at once.",
)
@etcd_options
@prefix_option
@log_options
def register(
    etcd: EtcdConfig | None,
    keys: KeySpace,
    service: str,
    address: str,
    command: tuple[str, ...],
    backend_id: str | None,
    ttl_s: int,
    weight: int,
    check: str | None,
    grace: float,
    log_format: str,
    log_level: str,
) -> None:
    """Keep ADDRESS registered as a backend of SERVICE.

    ADDRESS is host:port, or a port alone to have this machine's own address found. With a COMMAND (behind --):
    run it, register once it accepts connections, and leave when it ends, with its exit status.
    """
    logs.configure(log_format=log_format, level=log_level)
    config = etcd or EtcdConfig.from_environment(None)
    try:
        found = address_of(address, config.endpoints[0].host, config.endpoints[0].port)
        name = backend_id if backend_id is not None else default_id(found)
        keys.key(Kind.BACKEND, service, name)
    except (AddressError, ValueError) as error:
        raise click.UsageError(str(error)) from None
    job = _Job(config, keys, service, name, found, weight, ttl_s, check, grace, list(command))
    try:
        status = asyncio.run(_run(job))
    except CommandNotStartedError as error:
        raise click.ClickException(str(error)) from None
    finally:
        logs.flush()
    sys.exit(status)


async def _run(job: _Job) -> int:
    # Without a command that may have a use of its own for it, a closed terminal is the end as well.
    leave = _signals(LEAVE_SIGNALS if job.command else (*LEAVE_SIGNALS, signal.SIGHUP))
    command = await Command.start(job.command) if job.command else None
    if command is not None:
        for number in PASSED_SIGNALS:
            asyncio.get_running_loop().add_signal_handler(number, command.send, number)
    async with EtcdClient(job.etcd) as client:
        value = BackendValue(url=f"http://{job.address}", weight=job.weight)
        registrar = Registrar(client, job.keys, job.service, job.backend_id, value, job.ttl_s, _log_change)
        ended = asyncio.ensure_future(command.exit_status() if command else _never())
        asked = asyncio.ensure_future(leave.get())
        starting = asyncio.ensure_future(_start(registrar, job))
        await asyncio.wait({ended, asked}, return_when=asyncio.FIRST_COMPLETED)
        starting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await starting
        if ended.done():
            # Nothing answers any more: requests in flight there cannot be waited for.
            await registrar.leave(job.grace_s, wait_until_idle=False)
            return ended.result()
        await _leave_unless_asked_again(registrar, job.grace_s, leave)
        if command is None:
            return 0
        return await _end(command, ended, asked.result(), leave)


async def _start(registrar: Registrar, job: _Job) -> None:
    if job.command or job.check:
        await accepting(job.address, job.check)
    await registrar.start()


async def _leave_unless_asked_again(registrar: Registrar, grace_s: float, leave: asyncio.Queue[int]) -> None:
    """Leave the rotation; a second signal ends the waiting."""
    leaving = asyncio.ensure_future(registrar.leave(grace_s))
    again = asyncio.ensure_future(leave.get())
    await asyncio.wait({leaving, again}, return_when=asyncio.FIRST_COMPLETED)
    if not leaving.done():
        leaving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await leaving
        await registrar.leave(0)
    again.cancel()


async def _end(command: Command, ended: asyncio.Future[int], number: int, leave: asyncio.Queue[int]) -> int:
    """Pass the signal on, and any that follow, until the command has ended."""
    command.send(number)
    while not ended.done():
        again = asyncio.ensure_future(leave.get())
        await asyncio.wait({ended, again}, return_when=asyncio.FIRST_COMPLETED)
        if again.done():
            command.send(again.result())
        again.cancel()
    return ended.result()


def _signals(wanted: Iterable[signal.Signals]) -> asyncio.Queue[int]:
    """A queue that gets each of these signals."""
    numbers: asyncio.Queue[int] = asyncio.Queue()
    for number in wanted:
        asyncio.get_running_loop().add_signal_handler(number, numbers.put_nowait, int(number))
    return numbers


async def _never() -> int:
    await asyncio.Event().wait()
    return 0


def _log_change(state: RegistrationState, reason: str) -> None:
    logger.info(f"registration: {state}", extra={"reason": reason})
