"""The strict grammar of RFC 9112, for what h11 is lenient about: bare LF, folded fields, odd spaces."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_FIELDS = rb"(?:" + _TOKEN + rb":[\t -~\x80-\xff]*\r\n)*\r\n"
_REQUEST_HEAD = re.compile(_TOKEN + rb" [!-~]+ HTTP/1\.[01]\r\n" + _FIELDS)
_RESPONSE_HEAD = re.compile(rb"HTTP/1\.[01] [1-9][0-9][0-9] [\t -~\x80-\xff]*\r\n" + _FIELDS)
_QUOTED = rb'"(?:[^"\\\x00-\x08\n-\x1f\x7f]|\\[\t -~\x80-\xff])*"'
_EXTENSION = rb"[ \t]*;[ \t]*" + _TOKEN + rb"(?:[ \t]*=[ \t]*(?:" + _TOKEN + rb"|" + _QUOTED + rb"))?"
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})(?:" + _EXTENSION + rb")*+\r\n")
_TRAILER = re.compile(_FIELDS)
_AUTHORITY = re.compile(rb"(?:[A-Za-z0-9\-._~!$&'()*+;=]|%[0-9A-Fa-f]{2}|\[[0-9A-Fa-f:.]+\])+(?::([0-9]*))?")

_MOST_HOST_BYTES = 261
"""No name in the DNS is longer than 255, and a port takes up to six."""

_LENGTH = re.compile(rb"^content-length:", re.IGNORECASE | re.MULTILINE)
_CODING = re.compile(rb"^transfer-encoding:[^\r\n]*\r\n", re.IGNORECASE | re.MULTILINE)
_CHUNKED = re.compile(rb"transfer-encoding:[ \t]*chunked[ \t]*\r\n", re.IGNORECASE)


def is_request_head(head: bytes) -> bool:
    """Whether nobody can read it, or where its body ends, in another way."""
    if _REQUEST_HEAD.fullmatch(head) is None:
        return False
    codings = _CODING.findall(head)
    if not codings:
        # RFC 9112, section 6.3: the same length again may be taken for one; h11 sees to it that it is the same.
        return True
    # Section 6.1: in HTTP/1.0 there is no such framing, and beside a length it is not to be trusted.
    return (
        len(codings) == 1
        and _CHUNKED.fullmatch(codings[0]) is not None
        and not _LENGTH.search(head)
        and head.partition(b"\r\n")[0].endswith(b" HTTP/1.1")
    )


def is_response_head(head: bytes) -> bool:
    return _RESPONSE_HEAD.fullmatch(head) is not None


def is_authority(host: bytes) -> bool:
    found = _AUTHORITY.fullmatch(host)
    return found is not None and int(found[1] or 0) <= 65535 and len(host) <= _MOST_HOST_BYTES


@dataclass
class Chunked:
    """A body in the chunked coding, as far as it is one."""

    body: bytes = b""
    trailers: list[tuple[bytes, bytes]] = field(default_factory=list)
    length: int | None = None
    """Its own, with all of the coding, if it is complete."""


def decode_chunked(data: bytes) -> Chunked:
    """What `data` begins with."""
    found = Chunked()
    position = 0
    while size := _CHUNK_SIZE.match(data, position):
        position = size.end()
        length = int(size[1], 16)
        if length == 0:
            if trailer := _TRAILER.match(data, position):
                lines = trailer[0].split(b"\r\n")[:-2]
                pairs = [line.partition(b":") for line in lines]
                found.trailers = [(name.lower(), value.strip(b" \t")) for name, _, value in pairs]
                found.length = trailer.end()
            break
        found.body += data[position : position + length]
        position += length
        if data[position : position + 2] != b"\r\n":
            break
        position += 2
    return found
