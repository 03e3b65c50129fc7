"""`--watch`: the same again after each change."""

from __future__ import annotations

import contextlib
import inspect
import sys
from collections.abc import Callable

import click

from weldr.cli.store import State, Store, with_news
from weldr.control.admin.mirror import News


def watch_option(command: Callable[..., None]) -> Callable[..., None]:
    """Adds `--watch`; the command gets `watch`."""
    return click.option("--watch", "-w", is_flag=True, help="Show it again after each change, until Ctrl-C.")(
        command
    )


async def show_again(store: Store, show: Callable[[State], object]) -> None:
    """Show the state, and again whenever a key has changed, for good."""
    state = State(0, {})
    async with contextlib.aclosing(store.follow()) as steps:  # type: ignore[type-var]
        async for step in steps:
            if isinstance(step, State):
                state = step
            elif isinstance(step, News) and step.moments:
                state = with_news(state, step)
            else:
                continue
            if sys.stdout.isatty():
                click.clear()
            shown = show(state)
            if inspect.isawaitable(shown):
                await shown
