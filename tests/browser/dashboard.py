"""The parts of the page, as its user knows them."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import expect


def service(page: Any, name: str) -> Any:
    """A service's row."""
    return page.locator(".service").filter(has=page.get_by_role("button", name=name, exact=True))


def opened(page: Any, name: str) -> Any:
    """A service's row with its backends shown."""
    row = service(page, name)
    button = row.get_by_role("button", name=name, exact=True)
    if button.get_attribute("aria-expanded") != "true":
        button.click()
    expect(button).to_have_attribute("aria-expanded", "true")
    return row


def backend(page: Any, name: str, id: str) -> Any:
    """A backend's row."""
    return opened(page, name).locator(".backend").filter(has=page.locator(".id").get_by_text(id, exact=True))


def route(page: Any, name: str) -> Any:
    """A route's row."""
    return page.locator(".route").filter(has=page.locator(".id").get_by_text(name, exact=True))


def problem(page: Any, what: str) -> Any:
    """An entry of what needs attention."""
    return page.locator(".problem").filter(has=page.locator(".what").get_by_text(what, exact=True))


def story(page: Any) -> Any:
    """The lines of the story, the newest first."""
    return page.locator("#story-list .line .text")
