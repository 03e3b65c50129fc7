"""The past of the configuration: `GET /api/v1/history`."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any

import msgspec
from aiohttp import web

from weldr.control.admin.endpoint import Call, Endpoint, Parameter
from weldr.control.admin.items import value_for
from weldr.control.admin.key_endpoints import json_answer
from weldr.control.admin.problem import ProblemError
from weldr.etcd.client import EtcdClient
from weldr.etcd.history import read_past
from weldr.model.collections import COLLECTIONS, PathError, parse_path, path_of
from weldr.model.keys import KeyName, KeySpace
from weldr.model.past import Past

_DEFAULT_LIMIT = 50
_MOST_AT_ONCE = 2
_TIME_LIMIT_S = 30.0

_LAYOUTS = "|".join("/".join([each.name, *["[^/]+"] * len(each.parts)]) for each in COLLECTIONS.values())
KEY = Parameter(
    "key",
    "Only the changes of this key, as in `routes/cart`.",
    {"type": "string", "pattern": f"^({_LAYOUTS})$"},
)
LIMIT = Parameter(
    "limit",
    f"The last so many changes; {_DEFAULT_LIMIT} if it is not given.",
    {"type": "integer", "minimum": 1, "maximum": 1000},
)


class HistoryChange(msgspec.Struct, frozen=True):
    """A key before and after, without what is secret; `null` where there was none."""

    key: str
    before: Any
    after: Any


class HistoryStep(msgspec.Struct, frozen=True):
    """What one revision changed."""

    revision: int
    changes: list[HistoryChange]


class History(msgspec.Struct, frozen=True):
    """The last changes, the earliest first. etcd has compacted what was before `first_revision`, if that is not
    0; `omitted` changes were between it and the first of `steps`.
    """

    first_revision: int
    omitted: int
    steps: list[HistoryStep]


class HistoryEndpoint:
    """Reads the past from etcd, for a few at a time: it may be long."""

    def __init__(self, client: EtcdClient, keys: KeySpace) -> None:
        self._client = client
        self._keys = keys
        self._at_once = asyncio.Semaphore(_MOST_AT_ONCE)

    def endpoints(self) -> list[Endpoint]:
        """The one that there is."""
        return [
            Endpoint(
                "GET",
                "/api/v1/history",
                "history",
                "The last changes of configuration that etcd remembers, until it compacts",
                self._history,
                {200: History},
                (KEY, LIMIT),
            )
        ]

    async def _history(self, call: Call) -> web.Response:
        limit = call.number(LIMIT.name) or _DEFAULT_LIMIT
        only = self._key(call.text(KEY.name))
        try:
            async with asyncio.timeout(_TIME_LIMIT_S), self._at_once:
                past = await read_past(self._client, self._keys, limit, only)
        except TimeoutError:
            detail = f"etcd's history could not be read within {_TIME_LIMIT_S:.0f} s: try again, or compact it"
            raise ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers={"Retry-After": "10"}) from None
        return json_answer(history_of(past))

    def _key(self, text: str | None) -> KeyName | None:
        if text is None:
            return None
        try:
            return parse_path(text, self._keys)
        except PathError as error:
            raise ProblemError(HTTPStatus.BAD_REQUEST, f"{KEY.name}: {error}") from None


def history_of(past: Past) -> History:
    """The past, as it is shown."""
    steps = [
        HistoryStep(
            step.revision,
            [
                HistoryChange(
                    path_of(change.name),
                    value_for(change.name, change.before),
                    value_for(change.name, change.after),
                )
                for change in step.changes
            ],
        )
        for step in past.steps
    ]
    return History(past.first_revision, past.omitted, steps)
