"""One request on its way under a route's rules: what they keep track of while it comes."""

from __future__ import annotations

import random
from dataclasses import replace

from weldr.proxy.chunked import chunk_parts
from weldr.proxy.context import Context
from weldr.proxy.forwarding import Forwarding
from weldr.proxy.mirror import MOST_BODY_BYTES, mirror
from weldr.proxy.request_head import RequestHead
from weldr.proxy.routing.rules import RouteRules
from weldr.proxy.service_table import ServiceTable


class RuledRequest:
    """See the module."""

    __slots__ = ("_body_bytes", "_context", "_cookie_line", "_copy", "edits_response", "rules")

    def __init__(self, rules: RouteRules, context: Context, cookie_line: bytes) -> None:
        """`cookie_line` is a field line for the response, or empty."""
        self.rules = rules
        self._cookie_line = cookie_line
        self.edits_response = bool(cookie_line) or rules.response_edits is not None
        """Whether the client sees other fields than the backend sent."""
        self._context = context
        self._body_bytes = 0
        chosen = rules.mirror is not None and random.random() < rules.mirror.share
        self._copy: list[bytes] | None = [] if chosen else None
        """What has come of the body, if it is to be mirrored."""

    def body_came(self, body: list[bytes]) -> bool:
        """More of the body has come; whether it is still one that the route takes."""
        self._body_bytes += sum(map(len, body))
        if self._copy is not None:
            self._copy += body
            if self._body_bytes > MOST_BODY_BYTES:
                self._copy = None
        return self._body_bytes <= self.rules.max_body_bytes

    def timed(self, service: ServiceTable) -> ServiceTable:
        """The service, with the timeouts and retries of the route where it has any."""
        timeouts, retries = self.rules.timeouts, self.rules.retries
        if timeouts is not None:
            service = replace(service, **timeouts)
        if retries is not None:
            supervised = service.supervised or retries.per_try_s is not None
            service = replace(service, retries=retries, supervised=supervised)
        return service

    def forwarded(self, head: RequestHead, forwarding: Forwarding, request_id_line: bytes) -> bytes:
        """The head for the backend."""
        edits, lines = self.rules.request_edits, head.fields.lines
        if edits is not None:
            lines = edits.apply(lines)
        return head.forwarded(forwarding, request_id_line, self.rules.target(head.target), lines)

    def response_lines(self, lines: bytes) -> bytes:
        """The lines of the response for the client."""
        edits = self.rules.response_edits
        return (lines if edits is None else edits.apply(lines)) + self._cookie_line

    def passable_lines(self, lines: bytes) -> bytes:
        """The lines of an interim response or a trailer section for the client."""
        edits = self.rules.response_edits
        return lines if edits is None else edits.without_removed(lines)

    def complete(self, head: RequestHead, forwarding: Forwarding, request_id_line: bytes) -> None:
        """All of the request has come, and is on its way: now a copy may follow."""
        copy, self._copy = self._copy, None
        if copy is None or self.rules.mirror is None or head.fields.upgrade is not None:
            return
        body = chunk_parts(copy, last=True) if head.fields.chunked else copy
        request = b"".join([self.forwarded(head, forwarding, request_id_line), *body])
        mirror(self._context, self.rules.mirror.service, head.method, request)
