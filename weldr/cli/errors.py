"""How a command fails."""

from __future__ import annotations

from typing import IO, Any

import click


class CommandError(click.ClickException):
    """Something that the user can do something about. Exit status 1, one line, no traceback."""

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the line."""
        click.echo(f"weldr: {self.message}", file=file, err=True)
