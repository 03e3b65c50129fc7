"""The command `weldr`."""

from __future__ import annotations

import importlib
import os
import sys

import click

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
    try:
        status = cli.main(prog_name="weldr", complete_var="_WELDR_COMPLETE", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        status = error.exit_code
    except click.ClickException as error:
        # click's own way takes three lines and says the same.
        command = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "weldr"
        click.echo(f"{command}: {' '.join(error.format_message().split())}", err=True)
        status = error.exit_code
    except click.Abort:
        status = 1
    except BrokenPipeError:
        # Whoever read our output has left. Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    sys.exit(status)
