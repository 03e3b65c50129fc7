"""Streams of pipelined requests, from good to broken."""

from __future__ import annotations

from tests.fuzz.bodies import CHUNKED, PLAIN, chunked
from tests.fuzz.choices import Choices
from tests.fuzz.mutations import mutated
from tests.fuzz.request_parts import (
    GOOD_FIELDS,
    GOOD_HOSTS,
    GOOD_METHODS,
    GOOD_TARGETS,
    GOOD_VERSIONS,
    ODD_FIELDS,
    ODD_HOSTS,
    ODD_METHODS,
    ODD_TARGETS,
    ODD_VERSIONS,
)

_WITH_BODY = (b"POST", b"PUT", b"PATCH")


def stream(requests: list[bytes], choices: Choices) -> bytes:
    """What a client sends; each of `requests` is read as choices too. Their targets are numbered."""
    found = [
        _request(Choices(each)).replace(b"{number}", b"r%d" % number) for number, each in enumerate(requests)
    ]
    if choices.one_in(12):
        # The requests are the lines here: one is cut off, sent twice, in another order …
        found = mutated(found, choices)
    return b"".join(found)


def _request(choices: Choices) -> bytes:
    broken = choices.one_in(2)
    # One odd thing at a time gets further than many.
    odd = choices.number() % 8 if broken else 0
    method = choices.pick(ODD_METHODS if odd == 1 else GOOD_METHODS)
    target = choices.pick(ODD_TARGETS if odd == 2 else GOOD_TARGETS)
    version = choices.pick(ODD_VERSIONS if odd == 3 else GOOD_VERSIONS)
    host = choices.pick(ODD_HOSTS if odd == 4 else GOOD_HOSTS)
    lines = [method + b" " + target + b" " + version + b"\r\n", host]
    lines += [choices.pick(GOOD_FIELDS) for _ in choices.few(3)]
    if odd >= 5:
        lines.insert(1 + choices.number() % len(lines), choices.pick(ODD_FIELDS))
    body = b""
    if method in _WITH_BODY or (broken and choices.one_in(4)):
        if choices.one_in(2):
            body = chunked(choices)
            lines.append(CHUNKED)
        else:
            body = choices.pick(PLAIN)
            lines.append(b"Content-Length: %d\r\n" % len(body))
    lines += [b"\r\n", body]
    if broken and choices.one_in(3):
        lines = mutated(lines, choices)
    return b"".join(lines)
