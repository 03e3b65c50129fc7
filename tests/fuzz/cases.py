"""What the fuzzer has found: each scenario as small as it got, under what was wrong with it."""

from __future__ import annotations

from tests.fuzz.scenario import Answer, Client, Finish, Scenario

_PROXY_CONNECTION = b"GET /r0 HTTP/1.1\r\nHost: a\r\nProxy-Connection: close\r\n\r\n"
_IN_CHUNKS = b"HTTP/1.1 200 OK\r\nX-A: 1\r\nX-A: 1\r\nTransfer-Encoding: chunked\r\n\r\n"

CASES: dict[str, Scenario] = {
    "a refused request that waited behind a response that is none": Scenario(
        clients=(Client(b"GET /r0 HTTP/1.1\r\nHost: a\r\n\r\nGET /r1 HTTP/1.1\r\nHost: u@a\r\n\r\n"),),
        answers=(Answer(b"garbage\r\n\r\n"),),
    ),
    "a request after a Proxy-Connection field, which means nothing": Scenario(
        clients=(Client(_PROXY_CONNECTION + b"HEAD /r1 HTTP/1.1\r\nHost: a\r\n\r\n"),),
    ),
    "a body that comes while the connection to the backend is made": Scenario(
        clients=(
            Client(
                b"POST /r0 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
                cuts=b"\x40",
            ),
        ),
        connects=b"\x02",
    ),
    "a body that comes, after its head, while the connection to the backend is made": Scenario(
        clients=(
            Client(
                b"POST /r0 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
                cuts=b"\x3a",
            ),
        ),
        connects=b"\x02",
    ),
    "a refused body of a HEAD request": Scenario(
        clients=(
            Client(b"HEAD /r0 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nGET / HTTP/1.1\r\n\r\n"),
        ),
    ),
    "a retry at a backend that has left and returned meanwhile": Scenario(
        clients=(Client(b"GET /r0 HTTP/1.1\r\nHost: a\r\n\r\nGET /r1 HTTP/1.1\r\nHost: a\r\n\r\n"),),
        answers=(Answer(b"HTTP/1.1 503 \r\nContent-Length: 0\r\n\r\n"),),
        steps=b"\x00\x00\xda\xf8\xd6",
    ),
    "two equal requests, the first of which is answered by what is no response": Scenario(
        clients=(Client(b"GET /r0 HTTP/1.1\r\nHost: a\r\n\r\nGET /r0 HTTP/1.1\r\nHost: a\r\n\r\n"),),
        answers=(Answer(b"Content-Length: 0\r\n\r\n"),),
    ),
    "a retry at the backend that had closed a kept connection": Scenario(
        clients=(Client(b"".join(b"GET /r%d HTTP/1.1\r\nHost: a\r\n\r\n" % number for number in range(3))),),
        answers=(Answer(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", finish=Finish.FIN, cuts=b"\x01\x01"),),
        steps=b"\xec\x00\x00\x00\x00\x00\xee",
    ),
    "a head that is late before it can be seen to be a HEAD": Scenario(
        clients=(
            Client(
                b"POST /r0 HTTP/1.1\r\nHost: a\r\nContent-Length: 29\r\n\r\nGET /in HTTP/1.1\r\nHost: b\r\n\r\n"
                b"GET /r1 HTTP/1.1\r\nDate: x\r\nHost: a\r\nConnection: ,\t, X-A ,\r\n\r\n"
                b"HEAD /r2 HTTP/1.1\r\nHost: a\r\n\r\n",
                cuts=b"\x8d\x04",
            ),
        ),
        steps=b"\x00\x00\x00\x00\x00\xfd\x00\xfb",
        connects=b"\x02\x02",
    ),
    "a chunk extension that is longer than may be": Scenario(
        clients=(
            Client(
                b"POST /r0 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0;a"
                + b"b" * 5000
                + b"\r\n\r\n"
            ),
        ),
    ),
    "a client that leaves during a response that ends with the connection": Scenario(
        clients=(
            Client(
                b"GET /r0 HTTP/1.1\r\nHost: a\r\n\r\nGET /r1 HTTP/1.1\r\nHost: a\r\n\r\n"
                b"GET /r2 HTTP/1.0\r\nHost: a\r\n\r\nGET /r3 HTTP/1.1\r\nHost: a\r\n\r\n",
                cuts=b"\x01",
            ),
        ),
        answers=(
            Answer(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
            Answer(_IN_CHUNKS, b"1\r\na\r\n1\r\na\r\n0\r\n\r\n", cuts=b"\x00\x01\x01\x01\x01\x01"),
            Answer(_IN_CHUNKS, b"1\r\na\r\n1\r\na\r\n0\r\n\r\n", cuts=b"\x00\x01\x01\x01\x02\x3a"),
        ),
        steps=b"\x00" * 14 + b"\xdf",
    ),
}
