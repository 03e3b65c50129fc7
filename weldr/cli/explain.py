"""`weldr explain`: where a request would go, and why; decided by the code of the data plane itself."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime

import click
import msgspec

from weldr.cli.connect import Where, finish, store_options
from weldr.cli.help import examples
from weldr.cli.output import output_option, plain, show, show_next, show_table
from weldr.cli.repeating import show_again, watch_option
from weldr.cli.store import State
from weldr.control.explaining import UnexplainedError, explained
from weldr.model.catalog import Catalog
from weldr.model.explaining import AskedRequest, Explanation, QuestionError, head_of, question_of
from weldr.model.health import BackendKey, HealthChange, Standing
from weldr.model.keys import KeySpace, Kind
from weldr.model.traffic import Traffic


@click.command(
    epilog=examples(
        "weldr explain http://shop.example/cart",
        "weldr explain shop.example/cart -X POST -H 'X-Beta: 1' --client 10.0.0.7",
        "weldr explain http://shop.example/cart --watch",
    )
)
@click.argument("url")
@click.option("--header", "-H", "headers", metavar="NAME: VALUE", multiple=True, help="A field of the request.")
@click.option("--method", "-X", default="GET", show_default=True, help="The request's method.")
@click.option("--client", default="127.0.0.1", show_default=True, help="The address that it comes from.")
@output_option
@watch_option
@store_options
def explain(
    where: Where,
    url: str,
    headers: tuple[str, ...],
    method: str,
    client: str,
    output: str,
    watch: bool,
) -> None:
    """Explain where a request for URL would go: the route taken and why, the others and why not, the backends.

    Exit status 1 if no backend would get it.
    """
    asked = AskedRequest(url, method, list(headers), client)
    try:
        head_of(asked)
    except QuestionError as error:
        raise click.UsageError(str(error)) from None

    async def tell(state: State) -> bool:
        return await _explained(state, where.keys, asked, output, show_next if watch else show)

    sys.exit(0 if finish(_explain(where, tell, watch)) else 1)


async def _explain(where: Where, tell: Callable[[State], Awaitable[bool]], watch: bool) -> bool:
    async with where.store() as store:
        if watch:
            await show_again(store, tell)
        return await tell(await store.read())


async def _explained(
    state: State,
    keys: KeySpace,
    asked: AskedRequest,
    output: str,
    show_one: Callable[[object, str], None],
) -> bool:
    """Tell what becomes of the request; whether a backend would get it."""
    traffic = _traffic(state, keys)
    changes = _health(state)
    standings = [(key, Standing.DOWN) for key in _backends(traffic) if _is_down(key, changes)]
    try:
        found = await explained(question_of(asked, traffic, standings))
    except UnexplainedError as error:
        raise click.ClickException(str(error)) from None
    if output != "table":
        show_one(msgspec.to_builtins(found), output)
    else:
        _tell(found, traffic, changes)
    return bool(found.backends)


def _traffic(state: State, keys: KeySpace) -> Traffic:
    """What the keys mean for requests. A value that cannot be understood counts as none: its last good one,
    which instances may still go by, is not known here."""
    catalog = Catalog(keys).resync(state.revision, state.pairs.values())
    return catalog.end_overrides(datetime.now(UTC)).traffic


_Health = dict[tuple[str, str], list[tuple[str, HealthChange]]]


def _health(state: State) -> _Health:
    """What each instance last saw of each backend."""
    found: _Health = {}
    for name, pair in state.pairs.items():
        if name.kind is Kind.HEALTH:
            try:
                change = msgspec.json.decode(pair.value, type=HealthChange)
            except msgspec.MsgspecError:
                continue
            instance, service, backend = name.names
            found.setdefault((service, backend), []).append((instance, change))
    return found


def _backends(traffic: Traffic) -> Iterator[BackendKey]:
    for service, held in traffic.services.items():
        for name, backend in held.backends.items():
            yield service, name, backend.host, backend.port


def _is_down(key: BackendKey, changes: _Health) -> bool:
    """Whether any instance says so."""
    return any(change.state == "down" for _, change in changes.get(key[:2], ()))


def _tell(found: Explanation, traffic: Traffic, changes: _Health) -> None:
    for route in found.routes:
        word = "taken" if route.wins else "not taken"
        click.echo(click.style(plain(f"route {route.name}: {word}, {route.reason}"), bold=route.wins))
    if found.status is not None:
        click.echo(plain(f"answered by weldr itself, with status {found.status}: {found.reason}"))
        return
    assert found.service is not None
    if not any(route.wins for route in found.routes):
        click.echo("no route takes it: it goes to the service default")
    click.echo(plain(f"service {found.service}"))
    if found.why_none:
        click.echo(plain(f"answered with status 503: {found.why_none}"))
    held = traffic.services[found.service].backends if found.service in traffic.services else {}
    rows = []
    for place, name in enumerate([*found.backends, *found.unused], 1):
        backend = held[name]
        turn = str(place) if name in found.backends else "-"
        seen = [
            f"{change.state} for {instance}: {change.reason}"
            for instance, change in changes.get((found.service, name), ())
        ]
        state = ["draining"] if backend.draining else []
        rows.append((turn, name, backend.authority, f"weight {backend.weight}", "; ".join(state + seen)))
    show_table(("TRIED", "BACKEND", "ADDRESS", "WEIGHT", "STATE"), rows)
