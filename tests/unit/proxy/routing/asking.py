"""Requests for tests of routes."""

from __future__ import annotations

from weldr.model.routes import Route
from weldr.model.values import Limits
from weldr.proxy.request_head import RequestHead, read_head
from weldr.proxy.routing.table import RouteTable


def head(target: str = "/", host: str = "h", *fields: str, method: str = "GET") -> RequestHead:
    """The head of a request."""
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", *fields, "", ""]
    found = read_head("\r\n".join(lines).encode("latin-1"), 0, Limits(), b"")
    assert found is not None
    return found[0]


def table(routes: dict[str, Route]) -> RouteTable:
    return RouteTable().changed((), routes)


def found(routes: RouteTable, asked: RequestHead, client: str = "192.0.2.1") -> str | None:
    """The name of the route that takes it."""
    route = routes.find(asked, client)
    return None if route is None else route.name
