"""What is built to be installed, and what the image is made of."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import click
import pytest

from weldr.cli.main import COMMANDS, cli
from weldr.version import __version__

ROOT = Path(__file__).resolve().parents[3]


def tracked(folder: str) -> set[str]:
    done = subprocess.run(["git", "ls-files", folder], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode == 0 and done.stdout:
        return set(done.stdout.split())
    # An unpacked sdist has no history.
    return {
        str(path.relative_to(ROOT))
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built")
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)
    return folder


def test_the_wheel_has_all_of_weldr_and_nothing_else(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        assert tracked("weldr") <= names
        assert {name.partition("/")[0] for name in names} == {"weldr", f"weldr-{__version__}.dist-info"}
        scripts = archive.read(f"weldr-{__version__}.dist-info/entry_points.txt").decode()
    assert "weldr = weldr.cli.start:main" in scripts


def test_the_sdist_can_be_built_and_tested_from(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE", "Dockerfile"} <= names
    assert tracked("weldr") | tracked("tests") | tracked("docs") | tracked("compose") <= names
    assert not [name for name in names if name.startswith((".venv", ".git/"))]


def test_a_wheel_alone_runs(built: Path, tmp_path: Path) -> None:
    (wheel,) = built.glob("*.whl")
    script = "import sys; from weldr.cli.start import main; sys.argv = ['weldr', '--version']; main()"
    done = subprocess.run(
        [sys.executable, "-P", "-c", f"import sys; sys.path.insert(0, {str(wheel)!r}); {script}"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=True,
    )
    assert done.stdout == f"weldr {__version__}\n"


def test_the_image_has_no_root_and_copies_only_what_is_there() -> None:
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    instructions = [line.split(maxsplit=1) for line in text.splitlines() if line and not line.startswith("#")]
    known = {
        "FROM",
        "WORKDIR",
        "COPY",
        "RUN",
        "ENV",
        "USER",
        "EXPOSE",
        "STOPSIGNAL",
        "HEALTHCHECK",
        "ENTRYPOINT",
        "CMD",
    }
    assert [word for word, _ in instructions if word not in known] == []
    (user,) = [rest for word, rest in instructions if word == "USER"]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)
    ignored = (ROOT / ".dockerignore").read_text().split()
    for word, rest in instructions:
        if word == "COPY" and not rest.startswith("--from"):
            for source in rest.split()[:-1]:
                assert (ROOT / source).exists()
                assert f"!{source.removeprefix('./')}" in ignored
        if word in ("ENTRYPOINT", "CMD"):
            assert json.loads(rest)
    command = json.loads(next(rest for word, rest in instructions if word == "CMD"))
    cli.get_command(click.Context(cli), command[0]).make_context("run", command[1:])  # type: ignore[union-attr]


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_each_command_stands_alone(name: str) -> None:
    context = click.Context(cli, info_name="weldr")
    command = cli.get_command(context, name)
    assert command is not None
    unexplained = []

    def look(command: click.Command, path: str) -> None:
        if not command.help:
            unexplained.append(path)
        for parameter in command.params:
            if isinstance(parameter, click.Option) and not parameter.help and not parameter.hidden:
                unexplained.append(f"{path} {parameter.opts[0]}")
        if isinstance(command, click.Group):
            for child in command.list_commands(context):
                found = command.get_command(context, child)
                assert found is not None
                look(found, f"{path} {child}")

    look(command, name)
    assert unexplained == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_can_complete_commands(shell: str) -> None:
    environment = {
        "PATH": "/usr/bin:/bin",
        "_WELDR_COMPLETE": f"{shell}_complete",
        "COMP_WORDS": "weldr doc",
        "COMP_CWORD": "doc" if shell == "fish" else "1",
    }
    done = subprocess.run(
        [sys.executable, "-P", "-m", "weldr"], env=environment, capture_output=True, text=True, check=False
    )
    assert "doctor" in done.stdout, done
    printed = subprocess.run(
        [sys.executable, "-P", "-m", "weldr", "completion", shell], capture_output=True, text=True, check=True
    )
    assert "_WELDR_COMPLETE" in printed.stdout
