"""Waits until every instance has done something, or says which has not and why."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import click
import msgspec

from weldr.cli.store import State, Store
from weldr.control.admin.mirror import News
from weldr.model.events import KeyValue
from weldr.model.keys import KeyName, Kind
from weldr.model.values import Instance

LateReason = Callable[[Instance], str | None]


def wait_options(command: Callable[..., None]) -> Callable[..., None]:
    """Adds `--wait` and `--timeout`; the command gets `wait` and `timeout_s`."""
    command = click.option(
        "--timeout",
        "timeout_s",
        type=click.FloatRange(0, 86_400),
        default=30.0,
        show_default=True,
        help="Seconds for --wait.",
    )(command)
    return click.option("--wait", is_flag=True, help="End when every live instance has done it.")(command)


async def wait_for_instances(store: Store, late: LateReason, timeout_s: float) -> None:
    """Until `late` has no reason for any instance.

    Raises `click.ClickException`, which names those that are late.
    """
    instances: dict[KeyName, KeyValue] = {}
    try:
        async with asyncio.timeout(timeout_s), contextlib.aclosing(store.follow()) as steps:  # type: ignore[type-var]
            async for step in steps:
                _note(instances, step)
                if not _late(instances, late):
                    return
    except TimeoutError:
        reasons = _late(instances, late) or {"nobody": "etcd told of no instance in time"}
        text = "; ".join(f"{name}: {reason}" for name, reason in sorted(reasons.items()))
        raise click.ClickException(f"not done after {timeout_s:g} s by {text}") from None


def _note(instances: dict[KeyName, KeyValue], step: object) -> None:
    if isinstance(step, State):
        instances.clear()
        instances.update({name: pair for name, pair in step.pairs.items() if name.kind is Kind.INSTANCE})
    elif isinstance(step, News):
        for moment in step.moments:
            for change in moment.changes:
                if change.name.kind is not Kind.INSTANCE:
                    continue
                if change.after is None:
                    instances.pop(change.name, None)
                else:
                    instances[change.name] = change.after


def _late(instances: dict[KeyName, KeyValue], late: LateReason) -> dict[str, str]:
    found = {}
    for name, pair in instances.items():
        try:
            instance = msgspec.json.decode(pair.value, type=Instance)
        except msgspec.MsgspecError:
            continue  # no instance of ours wrote it: it cannot say what it has done
        reason = late(instance)
        if reason is not None:
            found[name.names[0]] = reason
    return found


def not_applied(revision: int) -> LateReason:
    """Why an instance does not serve the configuration of this revision."""

    def late(instance: Instance) -> str | None:
        if instance.applied >= revision:
            return None
        return f"its workers serve revision {instance.applied}, not {revision}"

    return late


def not_idle(revision: int, backend: str) -> LateReason:
    """Why an instance is not done with a backend that is to drain from this revision on."""
    applied = not_applied(revision)

    def late(instance: Instance) -> str | None:
        count = instance.draining.get(backend, 0)
        return applied(instance) or (f"{count} requests in flight to {backend}" if count else None)

    return late
