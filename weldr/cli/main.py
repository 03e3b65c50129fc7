"""The command `weldr`."""

from __future__ import annotations

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
    """Entry point. Exit status: 0 done, 1 failed, 2 wrong usage."""
    try:
        cli.main(prog_name="weldr")
    except BrokenPipeError:
        # Whoever read our output has left: nothing to say, and nobody to say it to.
        sys.stderr.close()
        sys.exit(1)
