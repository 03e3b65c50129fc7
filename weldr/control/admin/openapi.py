"""`/openapi.json`: the API described by OpenAPI 3.1, made from its endpoints and the types of values."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from weldr.control.admin.endpoint import Endpoint, Parameter
from weldr.control.admin.problem import MEDIA_TYPE
from weldr.version import __version__

_SCHEMAS = "#/components/schemas/{name}"
_NAME = {"type": "string", "minLength": 1, "pattern": "^[^/]+$"}


class ProblemDocument(msgspec.Struct, frozen=True):
    """Why a request was not done (RFC 9457). `detail` is a sentence that says what to do."""

    title: str
    status: int
    detail: str


def describe(endpoints: Iterable[Endpoint], *, needs_token: bool) -> dict[str, Any]:
    """The whole description."""
    schemas = _Schemas()
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        path = paths.setdefault(endpoint.path, {})
        path[endpoint.method.lower()] = _operation(endpoint, schemas, needs_token)
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "weldr",
            "version": __version__,
            "description": "Reads and changes the keys that weldr is driven by.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {"schemas": schemas.components},
    }
    if needs_token:
        document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"token": []}]
    return document


class _Schemas:
    """Turns types into references, and keeps what they refer to."""

    def __init__(self) -> None:
        self.components: dict[str, Any] = {}

    def of(self, schema: Any) -> Any:
        """A JSON Schema; every type in it becomes a reference."""
        if isinstance(schema, Mapping):
            return {key: self.of(value) for key, value in schema.items()}
        if isinstance(schema, list | tuple):
            return [self.of(value) for value in schema]
        if isinstance(schema, type):
            (reference,), found = msgspec.json.schema_components([schema], ref_template=_SCHEMAS)
            self.components |= found
            return reference
        return schema


def _operation(endpoint: Endpoint, schemas: _Schemas, needs_token: bool) -> dict[str, Any]:
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": _NAME}
        for name in re.findall(r"{(\w+)}", endpoint.path)
    ]
    parameters += [_parameter(parameter) for parameter in endpoint.parameters]
    answers = {
        str(status): _answer(endpoint, status, schema, schemas) for status, schema in endpoint.answers.items()
    }
    problem = {"schema": schemas.of(ProblemDocument)}
    for statuses in ("4XX", "5XX"):
        answers[statuses] = {"description": "The request was not done.", "content": {MEDIA_TYPE: problem}}
    operation = {
        "operationId": endpoint.name,
        "summary": endpoint.summary,
        "parameters": parameters,
        "responses": answers,
    }
    if needs_token:
        operation["description"] = f"Needs a token with the role {endpoint.role}."
    if endpoint.body is not None:
        content = {kind: {"schema": schemas.of(endpoint.body)} for kind in endpoint.body_types}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _parameter(parameter: Parameter) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "in": parameter.place,
        "required": parameter.required,
        "description": parameter.description,
        "schema": parameter.schema,
    }


def _answer(endpoint: Endpoint, status: int, schema: Any, schemas: _Schemas) -> dict[str, Any]:
    words = {200: "Done.", 201: "Created.", 204: "Done.", 304: "Not changed."}
    answer: dict[str, Any] = {"description": words.get(status, "Done.")}
    if schema is not None:
        answer["content"] = {endpoint.answer_type: {"schema": schemas.of(schema)}}
    if endpoint.answers_etag:
        description = "The key's modification revision."
        answer["headers"] = {"ETag": {"description": description, "schema": {"type": "string"}}}
    return answer
