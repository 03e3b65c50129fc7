"""Options of the commands for people: where the keys are, how to show them, and what becomes of failures."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import click
from click.core import ParameterSource

from weldr.cli.etcd_store import EtcdStore
from weldr.cli.options import etcd_config, etcd_options, prefix_option
from weldr.cli.store import Store, StoreError
from weldr.etcd.client import EtcdClient
from weldr.etcd.config import EtcdConfig
from weldr.model.keys import KeySpace

Command = TypeVar("Command", bound=Callable[..., Any])
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Where:
    """Where the keys are: in etcd, or behind an instance's admin API."""

    etcd: EtcdConfig | None
    keys: KeySpace
    admin: str | None
    token: str | None

    @contextlib.asynccontextmanager
    async def store(self) -> AsyncIterator[Store]:
        """The keys there."""
        if self.admin is None:
            async with EtcdClient(self.etcd or EtcdConfig.from_environment(None)) as client:
                yield EtcdStore(client, self.keys)
            return
        # Not every command should wait until an HTTP client is loaded.
        import aiohttp

        from weldr.cli.admin_store import AdminStore

        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        async with aiohttp.ClientSession(headers=headers, trust_env=False) as session:
            yield AdminStore(session, self.admin)


def where_of(context: click.Context) -> Where:
    """Where the keys are, while a command with `store_options` is only being typed.

    Raises `click.ClickException`.
    """
    given = context.params
    return Where(etcd_config(given), given.get("keys") or KeySpace(), given.get("admin"), given.get("token"))


def store_options(command: Command) -> Command:
    """Adds the options for etcd, `--prefix`, `--admin` and `--token-file`; the command gets `where`."""

    @functools.wraps(command)
    def wrapper(
        *arguments: Any,
        etcd: EtcdConfig | None,
        keys: KeySpace,
        admin: str | None,
        token: str | None,
        **options: Any,
    ) -> Any:
        _check_one_way(admin)
        return command(*arguments, where=Where(etcd, keys, admin, token), **options)

    for option in (
        click.option(
            "--token-file",
            "token",
            type=click.Path(dir_okay=False, path_type=Path),
            envvar="WELDR_TOKEN_FILE",
            callback=_read_token,
            help="File with the token for --admin.",
        ),
        click.option(
            "--admin",
            metavar="URL",
            envvar="WELDR_ADMIN_URL",
            callback=_admin_url,
            help="Use the admin API of an instance, and not etcd itself.",
        ),
        prefix_option,
        etcd_options,
    ):
        wrapper = option(wrapper)
    return wrapper  # type: ignore[return-value]


def _check_one_way(admin: str | None) -> None:
    """Who says by word of mouth where the keys are in etcd is not to be led elsewhere without a word."""
    context = click.get_current_context()
    for name, option in (("keys", "--prefix"), ("endpoints", "--etcd")):
        if admin is not None and context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"{option} and --admin lead to different places: give one of them")


def _admin_url(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    if value is None:
        return None
    url = value if "://" in value else f"http://{value}"
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good or "@" in url:
        raise click.BadParameter(f"{value.rpartition('@')[2]!r} is no URL: expected http://host:port")
    return url


def _read_token(context: click.Context, parameter: click.Parameter, value: Path | None) -> str | None:
    if value is None:
        return None
    try:
        words = value.read_text("utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise click.BadParameter(f"{value} cannot be read: {getattr(error, 'strerror', error)}") from None
    if len(words) != 1 or not words[0].isascii():
        raise click.BadParameter(f"{value} has to hold a token and nothing else")
    return words[0]


def finish(work: Coroutine[Any, Any, Result]) -> Result:
    """Run the work of a command. Whatever goes wrong becomes one line."""
    try:
        return asyncio.run(work)
    except StoreError as error:
        raise click.ClickException(str(error)) from None
    except KeyboardInterrupt:
        raise click.Abort from None
