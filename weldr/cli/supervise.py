"""`weldr upgrade` and `weldr stop`: commands to a weldr that runs on this machine."""

from __future__ import annotations

import contextlib
import os
import pwd
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from weldr.cli.options import DEFAULT_ADMIN, Address, Grace
from weldr.control.control_socket import Answer, Request, control_name, peer_uid
from weldr.control.listeners import ListenAddress, ListenError, resolve
from weldr.control.upgrade.launch import own_program

Command = TypeVar("Command", bound=Callable[..., Any])


def _admin_option(command: Command) -> Command:
    return click.option(
        "--admin",
        type=Address(),
        default=DEFAULT_ADMIN,
        show_default=True,
        envvar="WELDR_ADMIN",
        help="The admin address of the weldr that is meant, as it was given to weldr run.",
    )(command)


@click.command()
@_admin_option
@click.option(
    "--limit",
    type=click.FloatRange(min=0, min_open=True, max=3600),
    default=60.0,
    show_default=True,
    help="Seconds that the new manager may take to become ready.",
)
@click.option(
    "--with-environment",
    is_flag=True,
    help="Give it this command's WELDR_… and ETCDCTL_… variables instead of those that weldr run was given.",
)
@click.argument("arguments", nargs=-1, metavar="[-- RUN_OPTIONS…]")
def upgrade(admin: ListenAddress, limit: float, with_environment: bool, arguments: tuple[str, ...]) -> None:
    """Have the weldr that runs on this machine replaced by this version, without losing a request.

    The new manager takes over listening sockets, virtual IPs and leadership; the old one finishes what it has
    in flight. If the new one does not become ready, the old one goes on as if nothing had been. Behind `--` can
    stand the options that it is to have in place of all that `weldr run` was given.
    """
    environment = {name: value for name, value in os.environ.items() if name.startswith(("WELDR_", "ETCDCTL_"))}
    _ask(
        admin,
        Request(
            command="upgrade",
            program=[os.path.abspath(part) if os.sep in part else part for part in own_program()],
            arguments=list(arguments) if arguments else None,
            environment=environment if with_environment else None,
            limit_s=limit,
        ),
    )


@click.command()
@_admin_option
@click.option(
    "--drain", is_flag=True, help="First fail /readyz, and go on accepting for the time of --shutdown-delay."
)
@click.option("--shutdown-delay", type=Grace(), help="[default: what weldr run was given]")
def stop(admin: ListenAddress, drain: bool, shutdown_delay: float | None) -> None:
    """Stop the weldr that runs on this machine; returns when it has ended.

    It stops accepting and finishes what is in flight, for no longer than the --grace of weldr run.
    """
    if shutdown_delay is not None and not drain:
        raise click.UsageError("--shutdown-delay goes with --drain")
    _ask(admin, Request(command="stop", drain=drain, shutdown_delay_s=shutdown_delay), ends=True)


def _ask(admin: ListenAddress, request: Request, *, ends: bool = False) -> None:
    """Tell what the manager answers. `ends`: it answers by ending."""
    with _connect(admin) as sock, sock.makefile("rwb") as stream:
        _check_who_listens(peer_uid(sock), request)
        stream.write(msgspec.json.encode(request) + b"\n")
        stream.flush()
        for line in stream:
            answer = msgspec.json.decode(line, type=Answer)
            if answer.error:
                raise click.ClickException(answer.error)
            click.echo(answer.progress or answer.done)
            if answer.done:
                return
    if not ends:
        raise click.ClickException("the manager ended before it answered: its log says why")
    click.echo("stopped")


def _check_who_listens(uid: int, request: Request) -> None:
    """Anybody on this machine may have bound the name before weldr did. What may hold a password goes only to
    a user who is known to be the manager's: root, our own, or the one of the process that root names."""
    if uid in (0, os.geteuid()):
        return
    name = _user_name(uid)
    if os.geteuid() != 0:
        raise click.ClickException(f"{name} listens there: only that user and root may give it commands")
    if uid == _user_of_main_process():
        return
    if request.arguments is None and request.environment is None:
        click.echo(f"the manager that is asked is a process of {name}", err=True)
        return
    raise click.ClickException(
        f"{name} listens there, who may be anybody, so options and variables are not sent: "
        "use `systemctl reload`, or name the manager's process in the variable MAINPID"
    )


def _user_of_main_process() -> int | None:
    """Whom the process `MAINPID` runs as, which systemd names to what it starts for a reload. Root alone
    believes in it: nobody else can set its variables."""
    pid = os.environ.get("MAINPID", "")
    with contextlib.suppress(OSError):
        if pid.isdecimal():
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith("Uid:"):
                    return int(line.split()[2])
    return None


def _user_name(uid: int) -> str:
    try:
        return f"the user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"the user {uid}"


def _connect(admin: ListenAddress) -> socket.socket:
    if sys.platform != "linux":
        raise click.ClickException("this command works on Linux only: send the process a signal")
    try:
        places = [str(ListenAddress(*where)) for _, where in resolve(admin, "--admin")]
    except ListenError as error:
        raise click.ClickException(str(error)) from None
    for place in places:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with contextlib.suppress(OSError):
            sock.connect(control_name(place))
            return sock
        sock.close()
    raise click.ClickException(
        f"no weldr with the admin address {admin} runs on this machine: name it with --admin, as for weldr run"
    )
