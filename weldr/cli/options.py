"""Options that several commands share: where etcd is, the prefix, the logs.

Each of these has an environment variable `WELDR_…`; those of etcd fall back to etcdctl's, so that a shell that
is set up for etcdctl is set up for weldr.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from weldr import logs
from weldr.control.listeners import ListenAddress
from weldr.etcd.config import EtcdConfig, EtcdConfigError
from weldr.model.keys import DEFAULT_PREFIX, KeySpace

Command = TypeVar("Command", bound=Callable[..., Any])


DEFAULT_ADMIN = "127.0.0.1:8687"


class Address(click.ParamType[ListenAddress]):
    """Where to listen."""

    name = "[ADDR]:PORT"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> ListenAddress:
        try:
            return ListenAddress.parse(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Grace(click.FloatRange):
    """Seconds, finite ones."""

    name = "seconds"

    def __init__(self) -> None:
        super().__init__(min=0)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        seconds: float = super().convert(value, param, ctx)
        if not math.isfinite(seconds):
            self.fail(f"{value!r} is no finite number of seconds", param, ctx)
        return seconds


ETCD_PARAMETERS = ("endpoints", "cacert", "cert", "key", "user", "password")


def etcd_config(given: Mapping[str, str | None]) -> EtcdConfig | None:
    """What etcd's options, by `ETCD_PARAMETERS`, say together.

    Raises `click.UsageError`.
    """
    endpoints, *others = (given.get(name) for name in ETCD_PARAMETERS)
    # An empty text is no wish for the embedded etcd, but a variable of somebody's script that is not set.
    if endpoints is not None:
        cacert, cert, key, user, password = others
        try:
            return EtcdConfig.from_text(
                endpoints, cacert=cacert, cert=cert, key=key, user=user, password=password
            )
        except EtcdConfigError as error:
            raise click.UsageError(str(error)) from None
    if any(others):
        raise click.UsageError("options for etcd were given, but no --etcd URL that they are for")
    return None


def etcd_options(command: Command) -> Command:
    """Adds etcd's options; the command gets them as one `etcd: EtcdConfig | None`."""

    @functools.wraps(command)
    def wrapper(*arguments: Any, **options: Any) -> Any:
        etcd = etcd_config({name: options.pop(name) for name in ETCD_PARAMETERS})
        return command(*arguments, etcd=etcd, **options)

    for option in reversed(
        [
            click.option(
                "--etcd",
                "endpoints",
                metavar="URL[,URL…]",
                envvar=["WELDR_ETCD", "ETCDCTL_ENDPOINTS"],
                help="Where etcd is.",
            ),
            click.option(
                "--cacert",
                metavar="FILE",
                envvar=["WELDR_CACERT", "ETCDCTL_CACERT"],
                help="CA file for etcd's TLS.",
            ),
            click.option(
                "--cert", metavar="FILE", envvar=["WELDR_CERT", "ETCDCTL_CERT"], help="Client certificate file."
            ),
            click.option("--key", metavar="FILE", envvar=["WELDR_KEY", "ETCDCTL_KEY"], help="Client key file."),
            click.option(
                "--user", envvar=["WELDR_USER", "ETCDCTL_USER"], metavar="NAME[:PASSWORD]", help="etcd user."
            ),
            click.option(
                "--password",
                envvar=["WELDR_PASSWORD", "ETCDCTL_PASSWORD"],
                help="etcd password; better in the environment, where other users cannot read it.",
            ),
        ]
    ):
        wrapper = option(wrapper)
    return wrapper  # type: ignore[return-value]


def prefix_option(command: Command) -> Command:
    """Adds `--prefix`; the command gets `keys: KeySpace`."""

    def parse(context: click.Context, parameter: click.Parameter, value: str) -> KeySpace:
        if not value.strip("/"):
            raise click.BadParameter("the prefix is empty: it would take every key of this etcd")
        if not value.isprintable():
            raise click.BadParameter(f"{value!r} holds what cannot be printed")
        return KeySpace(value)

    return click.option(
        "--prefix",
        "keys",
        default=DEFAULT_PREFIX,
        show_default=True,
        envvar="WELDR_PREFIX",
        callback=parse,
        help="Prefix of all keys.",
    )(command)


def log_options(command: Command) -> Command:
    """Adds `--log-format` and `--log-level`."""
    command = click.option(
        "--log-level",
        type=click.Choice(logs.LEVELS),
        default="info",
        show_default=True,
        envvar="WELDR_LOG_LEVEL",
        help="Least severe level to log.",
    )(command)
    return click.option(
        "--log-format",
        type=click.Choice(logs.FORMATS),
        default="auto",
        show_default=True,
        envvar="WELDR_LOG_FORMAT",
        help="auto: text on a terminal, JSON elsewhere.",
    )(command)
