"""`weldr completion`: the shell's own completion of commands and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from weldr.cli.help import examples


@click.command(
    epilog=examples(
        "source <(weldr completion bash)",
        "weldr completion zsh > ~/.zfunc/_weldr",
        "weldr completion fish > ~/.config/fish/completions/weldr.fish",
    )
)
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion for SHELL: of commands, options, and keys as they are in etcd."""
    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(context.find_root().command, {}, "weldr", "_WELDR_COMPLETE").source())
