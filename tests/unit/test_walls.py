"""Imports run one way: each package names only those below it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import weldr

ROOT = Path(weldr.__file__).parent

MAY_IMPORT: dict[str, set[str]] = {
    "model": {"model"},
    "etcd": {"model", "etcd", "version"},
    "proxy": {"model", "proxy", "logs", "privileges", "version"},
    "control": {"model", "etcd", "control", "logs", "privileges", "version"},
    "sdk": {"model", "etcd", "sdk", "logs", "version"},
    "cli": {"model", "etcd", "control", "sdk", "cli", "logs", "privileges", "version"},
}
GRPC = {"etcd3", "grpc", "google"}


def imports_of(file: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names if node.module == "weldr")
    return found


@pytest.mark.parametrize("package", sorted(MAY_IMPORT))
def test_a_package_imports_only_what_lies_below_it(package: str) -> None:
    files = list((ROOT / package).rglob("*.py"))
    assert files
    for file in files:
        for name in imports_of(file):
            top, _, rest = name.partition(".")
            if top == "weldr" and rest:
                assert rest.partition(".")[0] in MAY_IMPORT[package], f"{file} imports {name}"
            if package != "etcd":
                assert top not in GRPC, f"{file} imports {name}: only weldr/etcd may"


def test_the_model_is_pure() -> None:
    io = {
        "asyncio",
        "socket",
        "os",
        "time",
        "logging",
        "threading",
        "subprocess",
        "random",
        "uvloop",
        "aiohttp",
    }
    for file in (ROOT / "model").rglob("*.py"):
        assert not io & {name.partition(".")[0] for name in imports_of(file)}, file
