"""The command `weldr`."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys

import click

from weldr.control.upgrade import ENVIRONMENT
from weldr.version import __version__

COMMANDS = {
    "run": "run:run",
    "upgrade": "supervise:upgrade",
    "stop": "supervise:stop",
    "register": "register:register",
    "get": "keys:get",
    "put": "keys:put",
    "rm": "keys:rm",
    "edit": "keys:edit",
    "apply": "apply:apply",
    "export": "apply:export",
    "check": "check:check",
    "watch": "story:watch",
    "explain": "explain:explain",
    "top": "top:top",
    "history": "past:show_history",
    "rollback": "past:rollback",
    "drain": "draining:drain",
    "undrain": "draining:undrain",
    "vip": "vip:vip",
    "doctor": "doctor:doctor",
    "completion": "completion:completion",
}
"""Each command's module and function. A command is loaded when it is used: others do not wait for it."""


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, function = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(f"weldr.cli.{module}"), function)
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="weldr", message="%(prog)s %(version)s")
def cli() -> None:
    """An HTTP reverse proxy and load balancer that is driven by keys in etcd."""


def main() -> None:
    """Entry point. Exit status: 0 done, 1 failed, 2 wrong usage; an error is one line."""
    if os.getpid() == 1:
        # Of a container, which ends with this process, and whose orphans are ours to reap.
        from weldr.cli.init import run_as_init

        sys.exit(run_as_init())
    _open_streams()
    try:
        status = cli.main(prog_name="weldr", complete_var="_WELDR_COMPLETE", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        status = error.exit_code
    except click.ClickException as error:
        # click's own way takes three lines and says the same.
        command = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "weldr"
        reason = " ".join(error.format_message().split())
        click.echo(f"{command}: {reason}", err=True)
        _tell_old_manager(reason)
        status = error.exit_code
    except click.Abort:
        status = 1
    except OSError as error:
        # Nobody has to be told that whoever read our output has left.
        if not isinstance(error, BrokenPipeError):
            click.echo(f"weldr: {error}", err=True)
            _tell_old_manager(str(error))
        # Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    except Exception as error:
        _tell_old_manager(f"{type(error).__name__}: {error}")
        raise
    sys.exit(status)


def _tell_old_manager(reason: str) -> None:
    """Where this is to be the new manager of an upgrade: who has asked for that should read why it is not."""
    if ENVIRONMENT in os.environ:
        # Whatever is broken here may break this, too.
        with contextlib.suppress(Exception):
            from weldr.control.upgrade.taking import refuse_early

            refuse_early(reason)


def _open_streams() -> None:
    """Have all three, also where we were started without: otherwise a socket would be taken for one of them."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode))
