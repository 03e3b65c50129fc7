"""Waits until every instance has done something, or says which has not and why."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping

import click
import msgspec

from weldr.cli.asking import ask_stats, stats_session
from weldr.cli.connect import Where
from weldr.cli.store import State, Store
from weldr.control.admin.mirror import News
from weldr.control.admin.views import Stats
from weldr.model.events import KeyValue
from weldr.model.keys import KeyName, Kind
from weldr.model.values import Instance

_MOST_ASKED = 16
_HOLDING = ("claiming", "announcing", "releasing")

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


def say(text: str, output: str) -> None:
    """A word for people; programs are told by the exit status."""
    click.echo(text, err=output != "table")


async def wait_for_instances(
    where: Where, store: Store, late: LateReason, timeout_s: float, *, only: str | None = None
) -> None:
    """Until `late` has no reason for any instance, or for the one that `only` names.

    Raises `click.ClickException`, which names those that are late and why.
    """
    instances: dict[KeyName, KeyValue] = {}
    try:
        async with asyncio.timeout(timeout_s), contextlib.aclosing(store.follow()) as steps:  # type: ignore[type-var]
            async for step in steps:
                _note(instances, step)
                if only is not None and instances and KeyName(Kind.INSTANCE, (only,)) not in instances:
                    raise click.ClickException(f"the instance {only} has left")
                if not _late(instances, late, only):
                    if not instances:
                        click.echo("no instance is running: there is nobody to wait for", err=True)
                    return
    except TimeoutError:
        reasons = _late(instances, late, only)
        text = "; ".join([f"{name}: {reason}" for name, reason in await _explained(where, instances, reasons)])
        text = text or "nobody: etcd told of no instance in time"
        raise click.ClickException(f"not done after {timeout_s:g} s by {text}") from None


async def _explained(
    where: Where, instances: Mapping[KeyName, KeyValue], reasons: Mapping[str, str]
) -> list[tuple[str, str]]:
    """The reasons, with what the instances themselves say of their workers."""
    names = sorted(reasons)
    addresses = [_decoded(instances[KeyName(Kind.INSTANCE, (name,))]) for name in names]
    urls = [f"http://{found.admin}" if found else "" for found in addresses]
    async with stats_session() as session:
        told = await asyncio.gather(*(ask_stats(session, url, where) for url in urls[:_MOST_ASKED]))
    words = [*map(_workers, told), *[""] * (len(names) - len(told))]
    return [(name, f"{reasons[name]}{word}") for name, word in zip(names, words, strict=True)]


def _workers(stats: Stats | str) -> str:
    if isinstance(stats, str):
        return f" ({stats})"
    told = [f"worker {each.worker} is {each.state} at {each.applied_revision}" for each in stats.workers]
    return f" ({', '.join(told)})"


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


def _decoded(pair: KeyValue) -> Instance | None:
    """`None` if no instance of ours wrote it: it cannot say what it has done."""
    try:
        return msgspec.json.decode(pair.value, type=Instance)
    except msgspec.MsgspecError:
        return None


def _late(instances: Mapping[KeyName, KeyValue], late: LateReason, only: str | None) -> dict[str, str]:
    found = {}
    for name, pair in instances.items():
        instance = _decoded(pair)
        if instance is None or only not in (None, name.names[0]):
            continue
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


def not_out(revision: int) -> LateReason:
    """Why an instance is not out of service that is to be drained from this revision on."""
    applied = not_applied(revision)

    def late(instance: Instance) -> str | None:
        reason = applied(instance)
        if reason is not None:
            return reason
        if not instance.drained:
            return "it does not know that it is drained"
        held = sorted(name for name, vip in instance.vips.items() if vip.state in _HOLDING)
        if held:
            return f"it holds the virtual IP {', '.join(held)}: nobody else stands for it"
        if instance.in_flight is None:
            return "not all of its workers have said what is in flight"
        return f"{instance.in_flight} requests in flight" if instance.in_flight else None

    return late


def not_back(applied: LateReason) -> LateReason:
    """Why an instance that was drained is not in service."""

    def late(instance: Instance) -> str | None:
        return applied(instance) or ("it is still drained" if instance.drained else None)

    return late
