"""The keys through the admin API of an instance."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from typing import Any
from urllib.parse import urlencode

import aiohttp
import msgspec

from weldr.cli.store import Left, State, StoreError
from weldr.control.admin.mirror import KeyChange, Moment, News
from weldr.etcd.commit import Committed, Outcome
from weldr.model.catalog import Problem
from weldr.model.collections import parse_path, path_of
from weldr.model.departure import Departure
from weldr.model.documents import document_of, raw_of
from weldr.model.edits import Action, Edit
from weldr.model.events import KeyValue
from weldr.model.keys import KeyName, KeySpace
from weldr.model.past import Past, PastChange, PastStep

_TIMEOUT_S = 10.0
_PAST_TIMEOUT_S = 40.0
_MOST_PAST = 1000
# Streams say that they live every 10 s.
_SILENCE_S = 25.0
_MOST_LINE_BYTES = 8 * 1024 * 1024


class AdminStore:
    """Reads and writes by HTTP."""

    hides_secrets = True

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        """`session` has the token, if there is one."""
        self.keys = KeySpace()
        self._session = session
        self._url = url.rstrip("/")

    async def read(self, revision: int = 0) -> State:
        """All keys, now or as they were."""
        query = f"?revision={revision}" if revision else ""
        answer = await self._ask("GET", f"/api/v1/keys{query}")
        with self._understood():
            pairs = {}
            for item in answer["items"]:
                name = parse_path(item["key"], self.keys)
                pairs[name] = self._pair(name, item)
            return State(answer["revision"], pairs)

    async def commit(self, edits: Sequence[Edit], *, dry_run: bool = False) -> Committed:
        """Make edits at one instant."""
        body = {"operations": [_operation(edit) for edit in edits]}
        answer = await self._ask("POST", f"/api/v1/transaction{'?dry_run=1' if dry_run else ''}", body)
        with self._understood():
            outcomes = [
                Outcome(
                    parse_path(found["key"], self.keys),
                    Action(found["action"]),
                    found["old_revision"],
                    found["new_revision"],
                )
                for found in answer["outcomes"]
            ]
            return Committed(answer["revision"], tuple(outcomes))

    async def past(self, limit: int, only: KeyName | None = None) -> Past:
        """The last changes of configuration."""
        query = urlencode({"limit": min(limit, _MOST_PAST)} | ({"key": path_of(only)} if only else {}))
        answer = await self._ask("GET", f"/api/v1/history?{query}", limit_s=_PAST_TIMEOUT_S)
        with self._understood():
            steps = [
                PastStep(step["revision"], tuple(self._past_change(change) for change in step["changes"]))
                for step in answer["steps"]
            ]
            return Past(answer["first_revision"], answer["omitted"], tuple(steps))

    def _past_change(self, change: Any) -> PastChange:
        sides = (change["before"], change["after"])
        before, after = (None if value is None else raw_of(value) for value in sides)
        return PastChange(parse_path(change["key"], self.keys), before, after)

    async def follow(self) -> AsyncIterator[State | News | Left]:
        """First the state, then everything that happens, for good; the state again where events are missing."""
        while True:
            state = await self.read()
            yield state
            async with contextlib.aclosing(self._events(state.revision)) as events:
                async for kind, data in events:
                    if kind == "reset":
                        break
                    with self._understood():
                        step = self._step(kind, data)
                    if step is not None:
                        yield step

    def _step(self, kind: str, data: Any) -> News | Left | None:
        if kind == "change":
            return News((self._moment(data),), {}, {}, restarted=False)
        if kind == "problems":
            appeared = msgspec.convert(data["appeared"], list[Problem])
            gone = {key.encode(): Problem(key, 0, "", "") for key in data["gone"]}
            return News((), gone, {found.key.encode(): found for found in appeared}, restarted=False)
        if kind == "departure":
            return Left(parse_path(data["key"], self.keys), Departure(data["reason"]))
        return None

    async def _events(self, since: int) -> AsyncGenerator[tuple[str, Any], None]:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_TIMEOUT_S, sock_read=_SILENCE_S)
        try:
            async with self._session.get(
                f"{self._url}/api/v1/events?since={since}", timeout=timeout, read_bufsize=_MOST_LINE_BYTES
            ) as response:
                if response.status != 200:
                    raise StoreError(_detail(response.status, await response.read()))
                kind = ""
                async for line in response.content:
                    field, _, value = line.rstrip(b"\n").partition(b": ")
                    if field == b"event":
                        kind = value.decode()
                    elif field == b"data":
                        yield kind, msgspec.json.decode(value)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise StoreError(f"the event stream of {self._url} broke: {_words(error)}") from None
        raise StoreError(f"{self._url} ended the event stream")

    def _moment(self, data: Any) -> Moment:
        changes = []
        for change in data["changes"]:
            name = parse_path(change["key"], self.keys)
            sides = [self._pair(name, change[side]) if side in change else None for side in ("before", "after")]
            changes.append(KeyChange(name, *sides))
        return Moment(data["revision"], tuple(changes))

    def _pair(self, name: KeyName, item: Any) -> KeyValue:
        lease = int(item["lease"], 16) if item.get("lease") else 0
        key = self.keys.key(name.kind, *name.names)
        return KeyValue(key, raw_of(item["value"]), item["create_revision"], item["mod_revision"], lease)

    async def _ask(self, method: str, path: str, body: Any = None, limit_s: float = _TIMEOUT_S) -> Any:
        data = None if body is None else msgspec.json.encode(body)
        headers = {"Content-Type": "application/json"} if data is not None else {}
        try:
            async with asyncio.timeout(limit_s):
                async with self._session.request(
                    method, self._url + path, data=data, headers=headers
                ) as response:
                    answer = await response.read()
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise StoreError(f"{self._url} cannot be asked: {_words(error)}") from None
        if response.status != 200:
            raise StoreError(_detail(response.status, answer))
        try:
            return msgspec.json.decode(answer)
        except msgspec.DecodeError:
            raise self._stranger() from None

    @contextlib.contextmanager
    def _understood(self) -> Iterator[None]:
        """Where an answer is JSON, but that of another program or of a version that we do not know."""
        try:
            yield
        except (LookupError, TypeError, ValueError):
            raise self._stranger() from None

    def _stranger(self) -> StoreError:
        return StoreError(f"{self._url} does not answer as the admin API of this version of weldr does")


def _operation(edit: Edit) -> dict[str, Any]:
    found: dict[str, Any] = {"op": "delete" if edit.value is None else "put", "key": path_of(edit.name)}
    if edit.value is not None:
        found["value"] = document_of(edit.value)
    if edit.expected is not None:
        found["if_revision"] = edit.expected
    return found


def _detail(status: int, body: bytes) -> str:
    try:
        return str(msgspec.json.decode(body)["detail"])
    except (msgspec.DecodeError, KeyError, TypeError):
        return f"the admin API answered with status {status}"


def _words(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return " ".join(str(error).split()) or type(error).__name__
