"""What weldr answers itself in place of a backend. The errors are types of RFC 9209."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

from weldr.model.traffic import DEFAULT_SERVICE
from weldr.proxy.routing.rules import Verdict

if TYPE_CHECKING:
    from weldr.proxy.service_table import ServiceTable

RETRY_AFTER = b"Retry-After: 1"
"""For what may be better at any moment."""

CLOSED_AT_ONCE = Verdict(502, "the backend closed the connection, or spoke, unasked", "connection_terminated")
LOST = Verdict(502, "the backend closed the connection without a response", "connection_terminated")
INCOMPLETE = Verdict(502, "the backend closed before the response was complete", "http_response_incomplete")
NOT_READING = Verdict(504, "the backend does not read the request", "connection_write_timeout")
SILENT = Verdict(504, "the backend did not respond in time", "http_response_timeout")
TRY_TOO_LONG = Verdict(504, "the backend did not respond in the time for one try", "http_response_timeout")
TOO_LONG = Verdict(504, "the request took longer than it may in all", "http_response_timeout")
UNASKED_SWITCH = Verdict(502, "the backend changes to a protocol that nobody asked for", "http_upgrade_failed")


def gave_up(status: int) -> Verdict:
    """A backend answered with a status for which another was to be tried, and then there was none."""
    reason = f"a backend answered with {status}, and no other is there"
    return Verdict(status, reason, "destination_unavailable")


def full(service_name: str) -> Verdict:
    """Nobody can take the request now, nor has soon enough."""
    reason = f"the service {service_name} and its backends have as many requests as they may"
    return Verdict(503, reason, "connection_limit_reached", RETRY_AFTER)


def left(service_name: str) -> Verdict:
    """Nobody can take the request now, and its client does not seem to wait for that."""
    reason = f"the client ended its side while all of the service {service_name} was taken"
    return Verdict(503, reason, "connection_limit_reached", RETRY_AFTER)


def circuit_open(service_name: str, wait_s: float) -> Verdict:
    """Too many requests have failed."""
    reason = f"too many requests to the service {service_name} have failed: it gets none for a while"
    return Verdict(503, reason, "destination_unavailable", b"Retry-After: %d" % max(1, ceil(wait_s)))


def unserved(service_name: str, service: ServiceTable | None) -> Verdict:
    """There is no backend for the request."""
    if service is not None and service.has_backends:
        reason = f"every backend of the service {service_name} {service.why_none}"
    elif service is not None or service_name != DEFAULT_SERVICE:
        reason = f"the service {service_name} has no backend"
    else:
        reason = f"no route takes this request, and the service {DEFAULT_SERVICE} has no backend"
    return Verdict(503, reason, "destination_unavailable")
