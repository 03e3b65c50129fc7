"""W3C Trace Context: what a request says of the trace that it belongs to. Pure.

A `traceparent` that is malformed, or comes twice, is none, and then `tracestate` is none either.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_TRACEPARENT = re.compile(rb"\r\ntraceparent:([^\r]*+)", re.IGNORECASE)
_TRACESTATE = re.compile(rb"\r\ntracestate:([^\r]*+)", re.IGNORECASE)
_EITHER = re.compile(rb"\r\ntrace(?:parent|state):[^\r]*+", re.IGNORECASE)
_VALUE = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-[!-~]*)?")
_MEMBER = re.compile(
    rb"(?:[a-z][a-z0-9_\-*/]{0,255}|[a-z0-9][a-z0-9_\-*/]{0,240}@[a-z][a-z0-9_\-*/]{0,13})="
    rb"[ -+\--<>-~]{0,255}[!-+\--<>-~]"
)
_NO_TRACE, _NO_SPAN = b"0" * 32, b"0" * 16
_SAMPLED = 1
_MOST_MEMBERS = 32


class TraceContext(NamedTuple):
    """Where in which trace a request stands."""

    trace_id: bytes
    """32 digits."""
    span_id: bytes
    """Of the caller; 16 digits."""
    sampled: bool
    """Whether the caller records it."""


def trace_context(lines: bytes) -> TraceContext | None:
    """That of a section whose lines begin with a CRLF each; `None` if it has none."""
    values = _TRACEPARENT.findall(lines)
    if len(values) != 1:
        return None
    found = _VALUE.fullmatch(values[0].strip(b" \t"))
    if found is None:
        return None
    version, trace_id, span_id, flags, rest = found.groups()
    if version == b"ff" or (version == b"00" and rest) or trace_id == _NO_TRACE or span_id == _NO_SPAN:
        return None
    return TraceContext(trace_id, span_id, bool(int(flags, 16) & _SAMPLED))


def has_good_state(lines: bytes) -> bool:
    """Whether the `tracestate` of such a section can be passed on, its lines joined; also if there is none."""
    members = [member.strip(b" \t") for value in _TRACESTATE.findall(lines) for member in value.split(b",")]
    members = [member for member in members if member]
    keys = {member.partition(b"=")[0] for member in members}
    return (
        len(members) <= _MOST_MEMBERS
        and len(keys) == len(members)
        and all(_MEMBER.fullmatch(member) for member in members)
    )


def with_parent(head: bytes, trace_id: bytes, span_id: bytes, *, sampled: bool, keep_state: bool) -> bytes:
    """A request's head with this place in a trace in place of its own, if it had one."""
    head = (_TRACEPARENT if keep_state else _EITHER).sub(b"", head)
    return b"%b\r\ntraceparent: 00-%b-%b-%02d\r\n\r\n" % (head[:-4], trace_id, span_id, sampled)
