"""Bodies in the chunked coding, good ones and such that only look so."""

from __future__ import annotations

from tests.fuzz.choices import Choices

CHUNKED = b"Transfer-Encoding: chunked\r\n"

PLAIN = (b"", b"a", b"abc", b"0\r\n\r\n", b"GET /in HTTP/1.1\r\nHost: b\r\n\r\n", b"x" * 3000)
"""What a body holds."""

_EXTENSIONS = (b"", b"", b"", b";a", b";a=b", b';a="b;c"', b' ; a\t= "\\""', b";" + b"e" * 100)
_SIZES = ("%x", "%x", "%x", "%X", "0%x", "%016x")
_LAST = (
    *([b"0\r\n\r\n"] * 6),
    b"0;a=b\r\n\r\n",
    b"000\r\n\r\n",
    b"0\r\nX-Trailer: 1\r\n\r\n",
    b"0\r\nContent-Length: 5\r\n\r\n",
    b"0\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"0\r\nX-Trailer: 1\r\nX-Other: 2\r\n\r\n",
)
_ODD = (
    b"1 \r\na\r\n0\r\n\r\n",
    b"0x1\r\na\r\n0\r\n\r\n",
    b"-1\r\na\r\n0\r\n\r\n",
    b"1\na\r\n0\r\n\r\n",
    b"1\r\nab\r\n0\r\n\r\n",
    b"1\r\na\n0\r\n\r\n",
    b"1\r\na0\r\n\r\n",
    b"0\n\n",
    b"0\r\n\n",
    b"0\n\r\n",
    b"\r\na\r\n0\r\n\r\n",
    b"10000000000000001\r\na\r\n0\r\n\r\n",
    b"ffffffffffffffff\r\na",
    b"1;a\na\r\n0\r\n\r\n",
    b'1;a="\r\na\r\n0\r\n\r\n',
    b"0\r\nX : 1\r\n\r\n",
    b"0\r\n X: 1\r\n\r\n",
    b"0\r\nX: 1\n\n",
    b"1;\x00\r\na\r\n0\r\n\r\n",
    b"1\r\na",
    b"5\r\nab",
    b"+1\r\na\r\n0\r\n\r\n",
    b"1_0\r\naaaaaaaaaaaaaaaa\r\n0\r\n\r\n",
    b"1\r\n\r\n0\r\n\r\n",
    b"1\r\ra\r\n0\r\n\r\n",
)


def chunked(choices: Choices) -> bytes:
    """One body: mostly good."""
    if choices.one_in(6):
        return choices.pick(_ODD)
    parts = []
    for _ in choices.few(2):
        data = choices.pick(PLAIN[1:])
        size = (choices.pick(_SIZES) % len(data)).encode("ascii")
        parts += [size, choices.pick(_EXTENSIONS), b"\r\n", data, b"\r\n"]
    return b"".join(parts) + choices.pick(_LAST)
