"""What a route asks of a request beside its host and path. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import parse_qs

from weldr.model.patterns import compiled
from weldr.model.routes import Match, Route
from weldr.proxy.networks import NetworkSet
from weldr.proxy.request_head import RequestHead

_MOST_PARAMETERS = 1000


class Asked(NamedTuple):
    """A request, as conditions see it."""

    head: RequestHead
    client: str
    """The address."""


Test = Callable[[Asked], bool]


class Condition(NamedTuple):
    """One, with what it asks for in words."""

    test: Test
    words: str


def conditions_of(route: Route) -> tuple[Condition, ...]:
    """All of a route's, the cheapest first."""
    found = []
    if route.methods:
        methods = frozenset(method.encode("ascii") for method in route.methods)
        found.append(
            Condition(lambda asked: asked.head.method in methods, f"method {' or '.join(route.methods)}")
        )
    if route.clients:
        clients = NetworkSet(route.clients)
        words = f"a client in {', '.join(route.clients)}"
        found.append(Condition(lambda asked: asked.client in clients, words))
    for name, match in route.headers.items():
        found.append(Condition(_header_test(name, match), f"header {name} {_words(match)}"))
    for name, match in route.query.items():
        found.append(Condition(_query_test(name, match), f"parameter {name} {_words(match)}"))
    return tuple(found)


def field_pattern(name: str) -> re.Pattern[bytes]:
    """Finds a field's value in canonical lines."""
    return re.compile(rb"\r\n" + re.escape(name.encode("ascii")) + rb": ([^\r]*+)", re.IGNORECASE)


def _header_test(name: str, match: str | Match) -> Test:
    pattern, wanted = field_pattern(name), _value_test(match)

    def test(asked: Asked) -> bool:
        values = pattern.findall(asked.head.fields.lines)
        return wanted(b", ".join(values) if values else None)

    return test


def _query_test(name: str, match: str | Match) -> Test:
    wanted = _value_test(match)

    def test(asked: Asked) -> bool:
        query = asked.head.target.partition(b"?")[2].decode("ascii")
        try:
            parameters = parse_qs(
                query, keep_blank_values=True, errors="surrogateescape", max_num_fields=_MOST_PARAMETERS
            )
        except ValueError:
            return wanted(None)
        values = parameters.get(name)
        return wanted(values[0].encode("utf-8", "surrogateescape") if values else None)

    return test


def _value_test(match: str | Match) -> Callable[[bytes | None], bool]:
    if isinstance(match, str):
        match = Match(exact=match)
    if match.regex is not None:
        regex = compiled(match.regex)
        return lambda value: value is not None and regex.fullmatch(value) is not None
    if match.present is not None:
        present = match.present
        return lambda value: (value is not None) == present
    exact = (match.exact or "").encode("utf-8")
    return lambda value: value == exact


def _words(match: str | Match) -> str:
    if isinstance(match, str):
        return f"= {match!r}"
    if match.regex is not None:
        return f"matching {match.regex!r}"
    if match.present is not None:
        return "present" if match.present else "absent"
    return f"= {match.exact!r}"
