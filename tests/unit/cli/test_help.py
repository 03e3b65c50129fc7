"""The help of every command stands alone: it says what the command does, and its examples are right."""

from __future__ import annotations

import shlex
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from weldr.cli.main import COMMANDS, cli

FOR_KEYS = (
    *("get", "put", "rm", "edit", "apply", "export", "check", "watch", "explain", "top"),
    *("history", "rollback", "drain", "undrain"),
)
"""Those that see and change keys; others run something."""


def _all() -> list[tuple[str, ...]]:
    context = click.Context(cli)
    found: list[tuple[str, ...]] = []
    for name in COMMANDS:
        command = cli.get_command(context, name)
        if isinstance(command, click.Group):
            found += [(name, inner) for inner in command.commands]
        else:
            found.append((name,))
    return found


def _command(path: tuple[str, ...]) -> click.Command:
    command: click.Command | None = cli
    for name in path:
        assert isinstance(command, click.Group)
        command = command.get_command(click.Context(command), name)
    assert command is not None
    return command


@pytest.mark.parametrize("path", _all(), ids=" ".join)
def test_the_examples_of_each_command_are_commands(
    path: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "shop.yaml").touch()
    done = CliRunner().invoke(cli, [*path, "--help"])
    assert done.exit_code == 0
    text, _, after = done.output.partition("Examples:\n")
    lines = [line.strip() for line in after.splitlines() if line.strip()]
    assert len(text.split()) > 10
    if not lines and path[0] not in FOR_KEYS:
        return
    own = [line for line in lines if line.startswith(" ".join(["weldr", *path]))]
    assert own, "none of the examples is of this command"
    for line in own:
        words = shlex.split(line.partition(" | ")[0].partition(" && ")[0])
        words = [word for word in words[: words.index(">") if ">" in words else None] if word != "<"]
        arguments = [word for word in words[1 + len(path) :] if not word.endswith(".json")]
        # Raises a usage error for what is no option or argument of the command.
        _command(path).make_context(" ".join(path), arguments)


@pytest.mark.parametrize("name", FOR_KEYS)
def test_whatever_shows_something_can_show_it_to_programs(name: str) -> None:
    options = {option for parameter in _command((name,)).params for option in parameter.opts}
    assert {"--output", "-o"} <= options
