"""The command `weldr`."""

from __future__ import annotations

import os
import sys

import click

from weldr.cli.register import register
from weldr.cli.run import run
from weldr.version import __version__


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="weldr", message="%(prog)s %(version)s")
def cli() -> None:
    """An HTTP reverse proxy and load balancer that is driven by keys in etcd."""


cli.add_command(run)
cli.add_command(register)


def main() -> None:
    """Entry point. Exit status: 0 done, 1 failed, 2 wrong usage; an error is one line."""
    try:
        status = cli.main(prog_name="weldr", standalone_mode=False)
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
