"""Many keys at one instant: `POST /api/v1/transaction`."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, Any

import msgspec
from aiohttp import web

from weldr.control.admin.endpoint import DRY_RUN, Call, Endpoint
from weldr.control.admin.items import Written, written
from weldr.control.admin.key_endpoints import json_answer
from weldr.control.admin.problem import ProblemError
from weldr.control.admin.tokens import Role
from weldr.control.admin.writes import Writes, checked
from weldr.model.collections import COLLECTIONS, PathError, parse_path, path_of
from weldr.model.documents import DocumentError, parse_json, patched, raw_of
from weldr.model.edits import MAX_OPERATIONS, MAX_TRANSACTION_BYTES, Edit, Held
from weldr.model.keys import KeyName, KeySpace

# No longer than a path can be, in which a key is named as well.
_Key = Annotated[str, msgspec.Meta(min_length=1, max_length=8192)]
_Revision = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class PutKey(msgspec.Struct, frozen=True, tag_field="op", tag="put", forbid_unknown_fields=True):
    """Write a key. `key` is without the prefix, as in `routes/cart`."""

    key: _Key
    value: Any
    if_revision: _Revision | None = None
    """The modification revision that the key must have, 0 if it must not exist."""


class PatchKey(msgspec.Struct, frozen=True, tag_field="op", tag="patch", forbid_unknown_fields=True):
    """Change a key by a JSON merge patch."""

    key: _Key
    value: dict[str, Any]
    if_revision: _Revision | None = None


class DeleteKey(msgspec.Struct, frozen=True, tag_field="op", tag="delete", forbid_unknown_fields=True):
    """Remove a key, if there is one."""

    key: _Key
    if_revision: _Revision | None = None


KeyOperation = PutKey | PatchKey | DeleteKey


class Transaction(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Operations that take effect together, or none of them. Each key at most once."""

    operations: Annotated[list[KeyOperation], msgspec.Meta(min_length=1, max_length=MAX_OPERATIONS)]


class TransactionEndpoint:
    """Handles transactions."""

    def __init__(self, keys: KeySpace, writes: Writes) -> None:
        self._keys = keys
        self._writes = writes

    def endpoints(self) -> list[Endpoint]:
        """The one that there is."""
        return [
            Endpoint(
                "POST",
                "/api/v1/transaction",
                "transaction",
                "Change many keys at one instant",
                self._commit,
                {200: Written},
                (DRY_RUN,),
                body=Transaction,
                role=Role.WRITE,
            )
        ]

    async def _commit(self, call: Call) -> web.Response:
        dry_run = call.flag(DRY_RUN.name)
        operations = self._parsed(await call.body())

        def decide(held: Mapping[KeyName, Held]) -> list[Edit]:
            edits = []
            for index, (name, operation) in enumerate(operations.items()):
                value = _value(index, name, operation, held.get(name))
                edits.append(Edit(name, value, operation.if_revision))
            size = sum(edit.size_bytes(self._keys) for edit in edits)
            if size > MAX_TRANSACTION_BYTES:
                detail = (
                    f"the values have {size} bytes together: etcd takes {MAX_TRANSACTION_BYTES} at one instant"
                )
                raise ProblemError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail)
            return edits

        committed = await self._writes.commit(list(operations), decide, call.caller, dry_run=dry_run)
        return json_answer(written(committed, dry_run=dry_run))

    def _parsed(self, body: bytes) -> dict[KeyName, KeyOperation]:
        try:
            operations = msgspec.convert(parse_json(body), Transaction).operations
        except DocumentError as error:
            raise ProblemError(HTTPStatus.BAD_REQUEST, f"the body is no JSON, at {error}") from None
        except msgspec.ValidationError as error:
            reason, _, place = str(error).partition(" - at `")
            raise _wrong(place.rstrip("`") or "$", reason) from None
        found: dict[KeyName, KeyOperation] = {}
        for index, operation in enumerate(operations):
            place = f"$.operations[{index}].key"
            try:
                name = parse_path(operation.key, self._keys)
                self._keys.key(name.kind, *name.names)
            except (PathError, UnicodeEncodeError) as error:
                raise _wrong(place, str(error)) from None
            if not COLLECTIONS[name.kind.value].writable:
                raise _wrong(place, f"{name.kind} are written by weldr alone")
            if name in found:
                raise _wrong(place, f"{path_of(name)} is in the transaction twice")
            found[name] = operation
        return found


def _value(index: int, name: KeyName, operation: KeyOperation, held: Held | None) -> bytes | None:
    place = f"$.operations[{index}]"
    if isinstance(operation, DeleteKey):
        return None
    try:
        if isinstance(operation, PutKey):
            return checked(name, raw_of(operation.value))
        if held is None:
            raise _wrong(f"{place}.key", f"there is no {path_of(name)} to be changed")
        return checked(name, patched(COLLECTIONS[name.kind.value], held.value, operation.value))
    except ProblemError as problem:
        problem.members["operation"] = index
        raise


def _wrong(place: str, reason: str) -> ProblemError:
    detail = f"the transaction cannot be understood, at {place}: {reason}"
    return ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, detail, place=place, reason=reason)
