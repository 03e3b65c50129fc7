"""`weldr watch`: the changes under the prefix as a readable story."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import click
import msgspec

from weldr.cli.connect import Where, finish, store_options
from weldr.cli.help import examples
from weldr.cli.output import compact, output_option, plain, show_next
from weldr.cli.store import Left, State
from weldr.control.admin.mirror import KeyChange, News
from weldr.model.collections import COLLECTIONS, Collection, path_of
from weldr.model.decode import decode
from weldr.model.departure import Departure
from weldr.model.documents import shown
from weldr.model.keys import Kind
from weldr.model.values import Backend

_COLOURS = {"+": "green", "-": "red", "!": "yellow", "*": "cyan"}
_WHY = {
    Departure.DRAINED: "after it had been drained",
    Departure.EXPIRED: "since its lease expired",
    Departure.REMOVED: "removed by hand, or it deregistered",
}


@click.command(epilog=examples("weldr watch", "weldr watch -o json | jq 'select(.event == \"departure\")'"))
@output_option
@store_options
def watch(where: Where, output: str) -> None:
    """Tell what happens under the prefix: who comes, who goes and how, who leads, what breaks. Until Ctrl-C."""
    finish(_watch(where, output))


async def _watch(where: Where, output: str) -> None:
    async with where.store() as store:
        async for step in store.follow():
            if output != "table":
                for document in _documents(step):
                    show_next(msgspec.to_builtins(document), output)
            else:
                for line in told(step):
                    clock = datetime.now().strftime("%H:%M:%S")
                    click.echo(click.style(f"{clock} {plain(line)}", fg=_COLOURS.get(line[:1])))


def _documents(step: State | News | Left) -> Iterator[dict[str, object]]:
    if isinstance(step, State):
        yield {"event": "state", "revision": step.revision, "keys": len(step.pairs)}
    elif isinstance(step, Left):
        yield {"event": "departure", "key": path_of(step.name), "reason": step.reason.value}
    else:
        for moment in step.moments:
            changes = [
                {
                    "key": path_of(change.name),
                    "before": change.before and shown(_collection(change), change.before.value),
                    "after": change.after and shown(_collection(change), change.after.value),
                }
                for change in moment.changes
            ]
            yield {"event": "change", "revision": moment.revision, "changes": changes}
        appeared = [found for key, found in step.problems.items() if step.problems_before.get(key) != found]
        gone = [found.key for key, found in step.problems_before.items() if key not in step.problems]
        if appeared or gone:
            yield {"event": "problems", "appeared": appeared, "gone": gone}


def _collection(change: KeyChange) -> Collection:
    return COLLECTIONS[change.name.kind.value]


def told(step: State | News | Left) -> Iterator[str]:
    """A step of the story, as lines; the first character is the kind of news."""
    if isinstance(step, State):
        instances = sum(name.kind is Kind.INSTANCE for name in step.pairs)
        backends = sum(name.kind is Kind.BACKEND for name in step.pairs)
        yield f"* revision {step.revision}: {len(step.pairs)} keys, {backends} backends, {instances} instances"
    elif isinstance(step, Left):
        yield f"- backend {'/'.join(step.name.names)} left, {_WHY[step.reason]}"
    else:
        for moment in step.moments:
            for change in moment.changes:
                yield from _change(change)
        for key, problem in step.problems.items():
            if step.problems_before.get(key) != problem:
                yield f"! {problem.key} has a problem, at {problem.place}: {problem.reason}"
        for key, problem in step.problems_before.items():
            if key not in step.problems:
                yield f"+ {problem.key} has no problem any more, or is gone"


def _change(change: KeyChange) -> Iterator[str]:
    match change.name.kind:
        case Kind.BACKEND:
            yield from _backend(change)
        case Kind.INSTANCE:
            yield from _instance(change)
        case Kind.HOLDER if change.after is not None:
            value = compact(shown(COLLECTIONS[change.name.kind.value], change.after.value))
            yield f"* the virtual IP {change.name.names[0]} has a new holder: {value}"
        case Kind.ELECTION | Kind.VIEWER:
            return
        case Kind.INSTANCE_OVERRIDE:
            yield from _instance_override(change)
        case _:
            yield from _any(change)


def _backend(change: KeyChange) -> Iterator[str]:
    name = "/".join(change.name.names)
    if change.after is None:
        return  # told with how it left
    before = decode(Kind.BACKEND, change.before.value) if change.before else None
    after = decode(Kind.BACKEND, change.after.value)
    if not isinstance(after, Backend):
        return  # told as a problem
    lease = f", under lease {change.after.lease:x}" if change.after.lease else ""
    if before is None:
        yield f"+ backend {name} came: {after.authority}{lease}"
    elif after.draining and not (isinstance(before, Backend) and before.draining):
        yield f"! backend {name} is draining"
    elif isinstance(before, Backend) and before != after:
        yield f"* backend {name} changed: {compact(shown(COLLECTIONS['backends'], change.after.value))}"
    elif change.before is not None and change.before.lease != change.after.lease:
        yield f"+ backend {name} registered again{lease}"


def _instance(change: KeyChange) -> Iterator[str]:
    # Each change of configuration makes every instance write its key: only its coming and going is news.
    if change.before is None:
        yield f"+ instance {change.name.names[0]} came"
    elif change.after is None:
        yield f"- instance {change.name.names[0]} left"


def _instance_override(change: KeyChange) -> Iterator[str]:
    before, after = (
        pair is not None and getattr(decode(Kind.INSTANCE_OVERRIDE, pair.value), "drain", False)
        for pair in (change.before, change.after)
    )
    name = change.name.names[0]
    if after and not before:
        yield f"! instance {name} is taken out of service"
    elif before and not after:
        yield f"+ instance {name} is put back into service"
    else:
        yield from _any(change)


def _any(change: KeyChange) -> Iterator[str]:
    path = path_of(change.name)
    if change.after is None:
        yield f"- {path} was removed"
        return
    value = compact(shown(_collection(change), change.after.value))
    yield f"+ {path} came: {value}" if change.before is None else f"* {path} changed: {value}"
