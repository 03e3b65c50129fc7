"""`weldr run`: one instance."""

from __future__ import annotations

import asyncio
import importlib.util
import ipaddress
from pathlib import Path
from urllib.parse import urlsplit

import click

from weldr import logs
from weldr.cli.help import examples
from weldr.cli.options import DEFAULT_ADMIN, Address, Grace, etcd_options, log_options, prefix_option
from weldr.cli.start import leave_signals
from weldr.control.admin.guard import Access, AdminAddressError
from weldr.control.admin.tokens import TokenFileError
from weldr.control.descriptors import raise_hard_limit
from weldr.control.embedded import EmbeddedEtcdError
from weldr.control.listeners import ListenAddress, ListenError
from weldr.control.manager import Manager
from weldr.control.manager_config import ManagerConfig, default_workers
from weldr.control.rights import settle
from weldr.control.upgrade.taking import TakeoverError
from weldr.etcd.config import EtcdConfig
from weldr.model.keys import KeySpace
from weldr.privileges import PrivilegeError

DEFAULT_LISTEN = "127.0.0.1:8080"
_MOST_OF_NAME = 200
"""Characters, which take up to four bytes each; something may have to stand behind it (`MOST_NAME_BYTES`)."""


def _instance_name(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    if value is not None and (not 0 < len(value) <= _MOST_OF_NAME or "/" in value or not value.isprintable()):
        raise click.BadParameter(
            f"{value[:40]!r} is empty, longer than {_MOST_OF_NAME} characters, or holds a slash or"
            " what cannot be printed"
        )
    return value


def _networks(context: click.Context, parameter: click.Parameter, value: str) -> tuple[str, ...]:
    found = tuple(each.strip() for each in value.split(",") if each.strip())
    for each in found:
        try:
            ipaddress.ip_network(each)
        except ValueError as error:
            raise click.BadParameter(f"{each!r} is no network: {error}") from None
    return found


def _collector(context: click.Context, parameter: click.Parameter, value: str) -> str:
    if not value:
        return value
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise click.BadParameter(f"{value!r} is no URL such as http://127.0.0.1:4318")
    try:
        found = importlib.util.find_spec("opentelemetry.exporter.otlp.proto.http")
    except ModuleNotFoundError:
        found = None
    if found is None:
        raise click.BadParameter("the packages for it are missing: pip install 'weldr[otel]'")
    return value


def _was_asked(context: click.Context, option: str) -> bool:
    return context.get_parameter_source(option) is not click.core.ParameterSource.DEFAULT


@click.command(
    epilog=examples(
        "weldr run",
        "weldr run --etcd http://10.0.0.1:2379,http://10.0.0.2:2379 --listen :8080",
        "weldr run --etcd http://10.0.0.1:2379 --admin :8687 --admin-token-file /etc/weldr/tokens",
    )
)
@etcd_options
@prefix_option
@click.option(
    "--listen",
    type=Address(),
    multiple=True,
    default=[DEFAULT_LISTEN],
    show_default=True,
    envvar="WELDR_LISTEN",
    help="Where to take requests; without ADDR, on every address of the machine. Can be given several times.",
)
@click.option(
    "--admin",
    type=Address(),
    default=DEFAULT_ADMIN,
    show_default=True,
    envvar="WELDR_ADMIN",
    help="Where to serve the admin API, /healthz and /readyz.",
)
@click.option(
    "--admin-token-file",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar="WELDR_ADMIN_TOKEN_FILE",
    help="Who may use the admin API: lines of `read TOKEN NAME` or `write TOKEN NAME`.",
)
@click.option(
    "--admin-insecure",
    is_flag=True,
    envvar="WELDR_ADMIN_INSECURE",
    help="Let everybody who reaches --admin read and write, on other addresses than loopback too.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 512),
    default=default_workers,
    show_default="one for each core",
    envvar="WELDR_WORKERS",
    help="Number of worker processes.",
)
@click.option(
    "--instance",
    callback=_instance_name,
    envvar="WELDR_INSTANCE",
    help="Name of this instance. [default: host name and first port]",
)
@click.option(
    "--zone",
    default="",
    envvar="WELDR_ZONE",
    help="Where this instance is: backends of the same zone are preferred.",
)
@click.option(
    "--debug-headers",
    is_flag=False,
    flag_value="127.0.0.0/8,::1/128",
    default="",
    callback=_networks,
    metavar="[NETWORK,…]",
    envvar="WELDR_DEBUG_HEADERS",
    help="Tell clients in these networks, or on this machine, the way of their requests: fields Weldr-Route,"
    " -Service, -Backend, -Tries, -Revision. Behind another proxy, name that one in `trusted_proxies` first.",
)
@click.option(
    "--otlp",
    default="",
    callback=_collector,
    metavar="URL",
    envvar="WELDR_OTLP",
    help="Export spans of recorded traces to this collector, by OTLP over HTTP (extra `otel`).",
)
@click.option(
    "--grace",
    type=Grace(),
    default=30.0,
    show_default=True,
    envvar="WELDR_GRACE",
    help="Seconds that requests in flight may take to finish at the end.",
)
@click.option(
    "--embedded-data",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="WELDR_EMBEDDED_DATA",
    help="Where the embedded etcd keeps its data. [default: a temporary directory]",
)
@click.option(
    "--commands",
    type=click.Path(file_okay=False, exists=True, path_type=Path),
    envvar="WELDR_COMMANDS",
    help="Directory of the programs that virtual IPs in etcd may name. [default: none may be run]",
)
@click.option(
    "--worker-user",
    metavar="USER",
    envvar="WELDR_WORKER_USER",
    help="Whom workers run as, if root starts weldr. [default: weldr if there is such a user, or nobody]",
)
@click.option(
    "--no-vip",
    is_flag=True,
    envvar="WELDR_NO_VIP",
    help="Hold no virtual IPs here, and give up the capabilities for them.",
)
@click.option(
    "--shutdown-delay",
    type=Grace(),
    default=0.0,
    show_default=True,
    envvar="WELDR_SHUTDOWN_DELAY",
    help="Seconds between saying in /readyz that it stops and stopping to accept.",
)
@click.option(
    "--drain-limit",
    type=Grace(),
    default=600.0,
    show_default=True,
    envvar="WELDR_DRAIN_LIMIT",
    help="Seconds that connections of the old version may stay after an upgrade.",
)
@log_options
@click.pass_context
def run(
    context: click.Context,
    etcd: EtcdConfig | None,
    keys: KeySpace,
    listen: tuple[ListenAddress, ...],
    admin: ListenAddress,
    admin_token_file: Path | None,
    admin_insecure: bool,
    workers: int,
    instance: str | None,
    zone: str,
    debug_headers: tuple[str, ...],
    otlp: str,
    grace: float,
    embedded_data: Path | None,
    commands: Path | None,
    worker_user: str | None,
    no_vip: bool,
    shutdown_delay: float,
    drain_limit: float,
    log_format: str,
    log_level: str,
) -> None:
    """Run an instance: a proxy that is fed by the keys under the prefix.

    Without --etcd it starts an embedded etcd, for trying out.
    """
    if etcd is not None and embedded_data is not None:
        raise click.UsageError("--embedded-data is for the embedded etcd, but --etcd names another one")
    if log_format == "auto":
        # Decided once, for the workers too.
        log_format = "text" if logs.on_terminal() else "json"
    raise_hard_limit()
    try:
        # While there are no threads: each has capabilities of its own.
        rights = settle(
            worker_user,
            [*listen, admin],
            vips=not no_vip,
            reads_files=admin_token_file is not None
            or (etcd is not None and etcd.endpoints[0].scheme == "https"),
            embedded=etcd is None,
        )
    except PrivilegeError as error:
        raise click.ClickException(str(error)) from None
    logs.configure(log_format=log_format, level=log_level, fields={"process": "manager"})
    manager = Manager(
        ManagerConfig(
            etcd=etcd,
            embedded_data=embedded_data,
            keys=keys,
            listen=list(listen),
            admin=admin,
            access=Access(admin_token_file, admin_insecure),
            workers=workers,
            instance=instance,
            zone=zone,
            debug_networks=debug_headers,
            otlp_url=otlp,
            grace_s=grace,
            rights=rights,
            log_format=log_format,
            log_level=log_level,
            commands=commands,
            listen_was_asked=_was_asked(context, "listen"),
            admin_was_asked=_was_asked(context, "admin"),
            vips=not no_vip,
            shutdown_delay_s=shutdown_delay,
            drain_limit_s=drain_limit,
        )
    )
    try:
        asyncio.run(manager.run())
    except (ListenError, AdminAddressError, TokenFileError, EmbeddedEtcdError, TakeoverError) as error:
        raise click.ClickException(str(error)) from None
    except OSError as error:
        raise click.ClickException(f"weldr cannot start: {error.strerror or error}") from None
    finally:
        leave_signals()
        logs.flush()
