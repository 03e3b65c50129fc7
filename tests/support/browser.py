"""A real Chromium, driven by Playwright, that notes what the page complains about."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
LIMIT_MS = 30_000.0


def why_no_browser() -> str | None:
    """What is missing, and how to get it; `None` if nothing is."""
    if importlib.util.find_spec("playwright") is None:
        return "playwright is not installed: pip install '.[dev]'"
    if _program() is None:
        return f"none of {', '.join(PROGRAMS)} is on PATH: on Debian, apt install chromium fonts-dejavu-core"
    return None


def _program() -> str | None:
    return next((found for name in PROGRAMS if (found := shutil.which(name))), None)


@contextlib.contextmanager
def chromium() -> Iterator[Any]:
    """The browser."""
    from playwright.sync_api import sync_playwright

    # As root, which only containers run tests as, Chromium has no sandbox of its own.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=_program(),
            args=[*arguments, "--disable-gpu", "--disable-dev-shm-usage"],
            timeout=4 * LIMIT_MS,
        )
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Visit:
    """A page in a window of its own, without storage from before. `complaints` are what its console said:
    errors, and whatever the security policy refused."""

    page: Any
    complaints: list[str] = field(default_factory=list)


@contextlib.contextmanager
def visit(browser: Any, *, width: int = 1440, height: int = 900, scheme: str = "light") -> Iterator[Visit]:
    """A new window."""
    size = {"width": width, "height": height}
    with browser.new_context(viewport=size, color_scheme=scheme, reduced_motion="reduce") as context:
        page = context.new_page()
        page.set_default_timeout(LIMIT_MS)
        found = Visit(page)
        page.on("pageerror", lambda error: found.complaints.append(f"error: {error}"))
        page.on("console", lambda message: _note(found, message))
        yield found


def _note(found: Visit, message: Any) -> None:
    # That the API said no is told on the console, too, and is no fault of the page.
    if message.type in ("error", "warning") and "responded with a status of 4" not in message.text:
        found.complaints.append(f"{message.type}: {message.text}")
