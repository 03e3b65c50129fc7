"""`POST /api/v1/explain`: where a request would go, and why; decided by the code of the data plane itself.

With the traffic and the standings that this instance's workers have. One question at a time, and few that wait:
it is for people.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from http import HTTPStatus

import msgspec
from aiohttp import web

from weldr.control.admin.endpoint import Call, Endpoint
from weldr.control.admin.key_endpoints import json_answer
from weldr.control.admin.problem import ProblemError
from weldr.control.explaining import UnexplainedError, explained
from weldr.model.explaining import AskedRequest, Explanation, QuestionError, question_of
from weldr.model.health import BackendKey, Standing
from weldr.model.traffic import Traffic

logger = logging.getLogger(__name__)

_MOST_WAITING = 8


class ExplainEndpoint:
    """Handles it."""

    def __init__(
        self, traffic: Callable[[], Traffic], standings: Callable[[], Mapping[BackendKey, Standing]]
    ) -> None:
        self._traffic = traffic
        self._standings = standings
        self._one_at_a_time = asyncio.Lock()
        self._waiting = 0

    def endpoints(self) -> list[Endpoint]:
        """The one that there is."""
        return [
            Endpoint(
                "POST",
                "/api/v1/explain",
                "explain",
                "Where a request would go, and why",
                self._serve,
                {200: Explanation},
                body=AskedRequest,
            )
        ]

    async def _serve(self, call: Call) -> web.Response:
        try:
            asked = msgspec.json.decode(await call.body(), type=AskedRequest)
        except msgspec.ValidationError as error:
            raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, str(error)) from None
        except msgspec.DecodeError as error:
            raise ProblemError(HTTPStatus.BAD_REQUEST, f"the question is no JSON: {error}") from None
        if self._waiting >= _MOST_WAITING:
            detail = "others are asking already: try again"
            raise ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers={"Retry-After": "1"})
        self._waiting += 1
        try:
            async with self._one_at_a_time:
                question = question_of(asked, self._traffic(), self._standings().items())
                return json_answer(await explained(question))
        except QuestionError as error:
            raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, str(error)) from None
        except UnexplainedError as error:
            logger.error("a request could not be explained", extra={"reason": str(error)})
            raise ProblemError(HTTPStatus.BAD_GATEWAY, str(error)) from None
        finally:
            self._waiting -= 1
