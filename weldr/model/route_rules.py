"""What a route's value has to satisfy beyond its types. Pure.

Whatever makes no sense is refused here, so that a worker never meets it.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping

import idna
import msgspec

from weldr.model.field_names import LOAD_BEARING
from weldr.model.patterns import PatternError, compiled, glob_regex
from weldr.model.resilience import Retries, RetryBudget, invalid_retries
from weldr.model.routes import FieldEdits, Match, Route

_PATHS = ("path", "path_exact", "path_glob", "path_regex")
_TARGETS = ("service", "services", "redirect", "response")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_PREFIX = re.compile(r"/[!-\"$->@-~]*")
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(r"(?![\t ])[^\x00-\x08\x0a-\x1f\x7f]*(?<![\t ])")
"""What a field line can hold (RFC 9110, section 5.5)."""
_LOCATION = re.compile(r"/[!-~]*")
_AUTHORITY = re.compile(r"[A-Za-z0-9.\-_]+(?::[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](?::[0-9]{1,5})?")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?")
_IPV6 = re.compile(r"\[[0-9a-f:.]+\]")


class RouteError(Exception):
    """A route that makes no sense: the place in it and one line."""

    def __init__(self, place: str, reason: str) -> None:
        super().__init__(reason)
        self.place = place
        self.reason = reason


def checked_route(route: Route) -> Route:
    """The route, with its host in the form that requests have.

    Raises `RouteError`.
    """
    _check_paths(route)
    if route.retries is not None:
        _check_retries(route.retries)
    for method in route.methods:
        _check_token("$.methods", method)
    for name in route.headers:
        _check_token("$.headers", name)
    _check_conditions("$.headers", route.headers)
    _check_conditions("$.query", route.query)
    for name in ("clients", "allow", "deny"):
        _check_networks(f"$.{name}", getattr(route, name))
    _check_target(route)
    _check_tokens(route)
    for name in ("strip_prefix", "add_prefix"):
        value = getattr(route, name)
        if value is not None and not _PREFIX.fullmatch(value):
            raise RouteError(f"$.{name}", f"{value!r} is no path: expected one such as /api")
    _check_edits("$.request_headers", route.request_headers)
    _check_edits("$.response_headers", route.response_headers)
    if route.host is None:
        return route
    return msgspec.structs.replace(route, host=_host(route.host))


def _host(host: str) -> str:
    """In lower case, and international names in their ASCII form (RFC 5890)."""
    wildcard = host.startswith("*.")
    bare = host[2:] if wildcard else host
    if re.fullmatch(r"[^:]+:\d*|\[.*\]:\d*", bare):
        raise RouteError("$.host", f"{host!r} has a port: routes match the host name alone")
    bare = bare.removesuffix(".").lower()
    if not bare.isascii():
        try:
            bare = idna.encode(bare, uts46=True).decode("ascii")
        except idna.IDNAError as error:
            raise RouteError("$.host", f"{host!r} is no host name: {error}") from None
    if not (all(map(_LABEL.fullmatch, bare.split("."))) or (_IPV6.fullmatch(bare) and not wildcard)):
        raise RouteError("$.host", f"{host!r} is no host name: expected shop.example or *.shop.example")
    return f"*.{bare}" if wildcard else bare


def _check_paths(route: Route) -> None:
    given = [name for name in _PATHS if getattr(route, name) is not None]
    if len(given) > 1:
        raise RouteError(f"$.{given[1]}", f"there is a {given[0]} already: a route has one kind of path")
    for name in given:
        value = getattr(route, name)
        if name != "path_regex" and not value.startswith("/"):
            raise RouteError(f"$.{name}", f"{value!r} does not begin with a slash")
        if name != "path_regex" and _CONTROL.search(value):
            raise RouteError(f"$.{name}", f"{value!r} holds a control character")
        if name in ("path", "path_exact") and re.search(r"[?#]", value):
            raise RouteError(f"$.{name}", f"{value!r} holds a ? or #, as no path does: parameters go to query")
        if name == "path" and "*" in value:
            raise RouteError("$.path", f"{value!r} holds a *: for a pattern there is path_glob")
        if name == "path_glob":
            _check_pattern("$.path_glob", glob_regex(value))
        elif name == "path_regex":
            _check_pattern("$.path_regex", value)


def _check_pattern(place: str, regex: str) -> None:
    try:
        compiled(regex)
    except PatternError as error:
        raise RouteError(place, str(error)) from None


def _check_conditions(place: str, conditions: Mapping[str, str | Match]) -> None:
    for name, match in conditions.items():
        if isinstance(match, str):
            continue
        if _count(match.exact, match.regex, match.present) != 1:
            raise RouteError(f"{place}.{name}", "expected exactly one of exact, regex, present")
        if match.regex is not None:
            _check_pattern(f"{place}.{name}.regex", match.regex)


def _check_networks(place: str, networks: Iterable[str]) -> None:
    for index, network in enumerate(networks):
        try:
            ipaddress.ip_network(network)
        except ValueError as error:
            raise RouteError(f"{place}[{index}]", str(error)) from None


def _check_target(route: Route) -> None:
    given = [name for name in _TARGETS if getattr(route, name)]
    if len(given) != 1:
        found = " and ".join(given) or "none of them"
        raise RouteError("$", f"expected exactly one of {', '.join(_TARGETS)}: there is {found}")
    if route.services and not sum(route.services.values()):
        raise RouteError("$.services", "the weights sum to zero: no request could go anywhere")
    for name in route.service_names:
        if "/" in name:
            raise RouteError("$.service", f"{name!r} holds a slash: no service can be named so")
    split = route.split_by
    if split is not None and not route.services:
        raise RouteError("$.split_by", "there is nothing to split: it goes with services")
    if split is not None and _count(split.cookie, split.header) != 1:
        raise RouteError("$.split_by", "expected exactly one of cookie, header")
    if split is not None and split.set_cookie and split.cookie is None:
        raise RouteError("$.split_by.set_cookie", "there is no cookie to set: it goes with cookie")
    redirect = route.redirect
    if redirect is not None and not _count(redirect.scheme, redirect.host, redirect.path):
        raise RouteError("$.redirect", "it would lead to itself: expected scheme, host or path")
    if redirect is not None and redirect.host is not None and not _AUTHORITY.fullmatch(redirect.host):
        raise RouteError("$.redirect.host", f"{redirect.host!r} is no host name, with or without a port")
    if redirect is not None and redirect.path is not None and not _LOCATION.fullmatch(redirect.path):
        raise RouteError("$.redirect.path", f"{redirect.path!r} is no path as a URL has it")
    if route.mirror is not None and not (route.service or route.services):
        raise RouteError("$.mirror", "it goes with service or services")


def _check_edits(place: str, edits: FieldEdits) -> None:
    for kind, names in (("remove", edits.remove), ("set", edits.set), ("add", edits.add)):
        for name in names:
            _check_token(f"{place}.{kind}", name)
            if name.lower() in LOAD_BEARING:
                raise RouteError(f"{place}.{kind}", f"{name} is weldr's own: a route cannot change it")
    for kind, values in (("set", edits.set), ("add", edits.add)):
        for name, value in values.items():
            _check_value(f"{place}.{kind}.{name}", value)


def _check_retries(retries: Retries) -> None:
    invalid = invalid_retries(retries)
    if invalid is not None:
        raise RouteError(f"$.{invalid.field}", invalid.reason)
    if retries.budget != RetryBudget():
        raise RouteError("$.retries.budget", "the budget belongs to the service: set it there")


def _check_tokens(route: Route) -> None:
    split, limit = route.split_by, route.rate_limit
    if split is not None:
        _check_token("$.split_by", split.cookie or split.header or "")
    if limit is not None and limit.by_header is not None:
        _check_token("$.rate_limit.by_header", limit.by_header)
    if route.response is not None:
        _check_value("$.response.content_type", route.response.content_type)


def _check_token(place: str, name: str) -> None:
    if not _TOKEN.fullmatch(name):
        raise RouteError(place, f"{name!r} is no name of a field, method or cookie (RFC 9110, section 5.6.2)")


def _check_value(place: str, value: str) -> None:
    if not _VALUE.fullmatch(value):
        raise RouteError(place, f"{value!r} is no value of a field: no control characters, no space around it")


def _count(*values: object) -> int:
    return sum(value is not None for value in values)
