"""Requests that must not reach a backend, each sent in one piece and byte by byte.

Every case names the status that the client gets. After it the connection is closed, since nobody can tell what
the bytes that follow belong to.
"""

from __future__ import annotations

import asyncio

import pytest

from tests.support.backends import ScriptedBackend
from tests.support.http import RawClient, get
from tests.support.worker import Worker

pytestmark = pytest.mark.asyncio(loop_scope="module")

START = b"GET / HTTP/1.1\r\n"
HEAD = START + b"Host: a\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"

REFUSED: dict[str, tuple[int, bytes]] = {
    # The request line.
    "garbage": (400, b"\x16\x03\x01\x02\x00\r\n\r\n"),
    "a method that is no token": (400, b"G(T / HTTP/1.1\r\nHost: a\r\n\r\n"),
    "no target": (400, b"GET HTTP/1.1\r\nHost: a\r\n\r\n"),
    "two spaces after the method": (400, b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n"),
    "two spaces after the target": (400, b"GET /  HTTP/1.1\r\nHost: a\r\n\r\n"),
    "a space after the version": (400, b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n"),
    "a tab in the request line": (400, b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    "a space in the target": (400, b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n"),
    "a leading space": (400, b" GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    "a leading bare LF": (400, b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    "a NUL in the target": (400, b"GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n"),
    "a control character in the target": (400, b"GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n"),
    "a DEL in the target": (400, b"GET /\x7f HTTP/1.1\r\nHost: a\r\n\r\n"),
    "a byte above ASCII in the target": (400, b"GET /\xe9 HTTP/1.1\r\nHost: a\r\n\r\n"),
    "a fragment in the target": (400, b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n"),
    "a target that is no path": (400, b"GET a/b HTTP/1.1\r\nHost: a\r\n\r\n"),
    "a target in authority form": (400, b"GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n"),
    "an empty target between spaces": (400, b"GET  HTTP/1.1\r\nHost: a\r\n\r\n"),
    "a request line of one word": (400, b"GET\r\nHost: a\r\n\r\n"),
    "no method": (400, b"/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    "a leading tab": (400, b"\tGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    "a leading CR": (400, b"\rGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    "a NUL before the method": (400, b"\x00GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    "a NUL in the method": (400, b"G\x00T / HTTP/1.1\r\nHost: a\r\n\r\n"),
    "a byte above ASCII in the method": (400, b"G\xc9T / HTTP/1.1\r\nHost: a\r\n\r\n"),
    "a colon in the method": (400, b"GET: / HTTP/1.1\r\nHost: a\r\n\r\n"),
    "a tab after the target": (400, b"GET /\tHTTP/1.1\r\nHost: a\r\n\r\n"),
    "a tab in the target": (400, b"GET /a\tb HTTP/1.1\r\nHost: a\r\n\r\n"),
    "a vertical tab in the request line": (400, b"GET\x0b/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    "a bare CR in the target": (400, b"GET /\r HTTP/1.1\r\nHost: a\r\n\r\n"),
    "a bare CR for a space": (400, b"GET /\rHTTP/1.1\r\nHost: a\r\n\r\n"),
    "two request lines": (400, b"GET / HTTP/1.1\r\nGET /admin HTTP/1.1\r\nHost: a\r\n\r\n"),
    "an asterisk with GET": (400, b"GET * HTTP/1.1\r\nHost: a\r\n\r\n"),
    "an absolute target without a host": (400, b"GET http:/// HTTP/1.1\r\nHost: a\r\n\r\n"),
    "an absolute target with a user": (400, b"GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    "an absolute target of another scheme": (400, b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    "an absolute target with an empty user": (400, b"GET http://@a/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    "an absolute target without authority": (400, b"GET http:/a HTTP/1.1\r\nHost: a\r\n\r\n"),
    "an absolute target with a port over 65535": (400, b"GET http://a:65536/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    "an absolute target with a bad escape in its host": (400, b"GET http://a%zz/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    "an absolute target beside two Hosts": (400, b"GET http://a/ HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"),
    "an absolute target with a fragment": (400, b"GET http://a/#b HTTP/1.1\r\nHost: a\r\n\r\n"),
    "an absolute target beside an invalid Host": (400, b"GET http://a/ HTTP/1.1\r\nHost: b c\r\n\r\n"),
    "an absolute target without Host": (400, b"GET http://a/ HTTP/1.1\r\n\r\n"),
    "a bare LF after the request line": (400, b"GET / HTTP/1.1\nHost: a\r\n\r\n"),
    "bare LFs throughout": (400, b"GET / HTTP/1.1\nHost: a\n\n"),
    "a bare CR after the request line": (400, b"GET / HTTP/1.1\rHost: a\r\n\r\n"),
    "the protocol in lower case": (400, b"GET / http/1.1\r\nHost: a\r\n\r\n"),
    "HTTP/0.9": (400, b"GET /\r\n\r\n"),
    "a version with two digits": (400, b"GET / HTTP/1.10\r\nHost: a\r\n\r\n"),
    "a version without a minor": (400, b"GET / HTTP/1 HTTP/1.1\r\nHost: a\r\n\r\n"),
    "a version of one number": (400, b"GET / HTTP/1\r\nHost: a\r\n\r\n"),
    "a version with a comma": (400, b"GET / HTTP/1,1\r\nHost: a\r\n\r\n"),
    "a version with a sign": (400, b"GET / HTTP/+1.1\r\nHost: a\r\n\r\n"),
    "a version with a zero before it": (400, b"GET / HTTP/01.1\r\nHost: a\r\n\r\n"),
    "a version with letters behind it": (400, b"GET / HTTP/1.1x\r\nHost: a\r\n\r\n"),
    "no version and fields": (400, b"GET /\r\nHost: a\r\n\r\n"),
    "another protocol": (400, b"GET / ICE/1.1\r\nHost: a\r\n\r\n"),
    "HTTP/1.2": (505, b"GET / HTTP/1.2\r\nHost: a\r\n\r\n"),
    "HTTP/0.9 by name": (505, b"GET / HTTP/0.9\r\nHost: a\r\n\r\n"),
    "a method with a slash": (400, b"G/T / HTTP/1.1\r\nHost: a\r\n\r\n"),
    "HTTP/9.9": (505, b"GET / HTTP/9.9\r\nHost: a\r\n\r\n"),
    "HTTP/2.0": (505, b"GET / HTTP/2.0\r\nHost: a\r\n\r\n"),
    "HTTP/3.0": (505, b"GET / HTTP/3.0\r\nHost: a\r\n\r\n"),
    "the preface of HTTP/2": (505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "CONNECT": (405, b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n"),
    "CONNECT without a port": (405, b"CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n"),
    "CONNECT from HTTP/1.0": (405, b"CONNECT a:80 HTTP/1.0\r\n\r\n"),
    "CONNECT with a body": (405, b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"),
    "TRACE with Max-Forwards": (405, b"TRACE / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n"),
    "TRACE": (405, b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n"),
    "a request line over the limit": (414, b"GET /" + b"a" * 8192 + b" HTTP/1.1\r\nHost: a\r\n\r\n"),
    "a request line without end": (414, b"GET /" + b"a" * 9000),
    # Host.
    "no Host": (400, START + b"Accept: */*\r\n\r\n"),
    "two Hosts": (400, HEAD + b"Host: b\r\n\r\n"),
    "the same Host twice": (400, HEAD + b"Host: a\r\n\r\n"),
    "two Hosts from HTTP/1.0": (400, b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n"),
    "an empty Host": (400, START + b"Host:\r\n\r\n"),
    "a Host of only a port": (400, START + b"Host: :80\r\n\r\n"),
    "a Host with a space": (400, START + b"Host: a b\r\n\r\n"),
    "a Host with a path": (400, START + b"Host: a/b\r\n\r\n"),
    "a Host with a user": (400, START + b"Host: u@a\r\n\r\n"),
    "a Host with a comma-joined second": (400, START + b"Host: a, b\r\n\r\n"),
    "a Host with a port that is no number": (400, START + b"Host: a:b\r\n\r\n"),
    "a Host with a byte above ASCII": (400, START + b"Host: \xe9\r\n\r\n"),
    "a Host of 300 characters": (400, START + b"Host: " + b"a" * 300 + b"\r\n\r\n"),
    "a Host with a port over 65535": (400, START + b"Host: a:65536\r\n\r\n"),
    "a Host with a port that overflows": (400, START + b"Host: a:18446744073709551696\r\n\r\n"),
    "a Host with a negative port": (400, START + b"Host: a:-80\r\n\r\n"),
    "a Host with two ports": (400, START + b"Host: a:80:81\r\n\r\n"),
    "a Host joined by a comma": (400, START + b"Host: a,b\r\n\r\n"),
    "a Host that is a URL": (400, START + b"Host: http://a\r\n\r\n"),
    "a Host with a query": (400, START + b"Host: a?b\r\n\r\n"),
    "a Host with a fragment": (400, START + b"Host: a#b\r\n\r\n"),
    "a Host with a backslash": (400, START + b"Host: a\\b\r\n\r\n"),
    "a Host with an empty user": (400, START + b"Host: @a\r\n\r\n"),
    "a Host with quotes": (400, START + b'Host: "a"\r\n\r\n'),
    "a Host with a tab": (400, START + b"Host: a\tb\r\n\r\n"),
    "a Host of a dot": (400, START + b"Host: .\r\n\r\n"),
    "a Host of spaces": (400, START + b"Host:  \t \r\n\r\n"),
    "a Host in brackets that is no address": (400, START + b"Host: [::1::]\r\n\r\n"),
    "a Host of nine groups": (400, START + b"Host: [1:2:3:4:5:6:7:8:9]\r\n\r\n"),
    "a Host with an IPv4 address in brackets": (400, START + b"Host: [127.0.0.1]\r\n\r\n"),
    "a Host with a zone": (400, START + b"Host: [fe80::1%25eth0]\r\n\r\n"),
    "a Host with letters behind a bracket": (400, START + b"Host: [::1]a\r\n\r\n"),
    "a Host of empty brackets": (400, START + b"Host: []\r\n\r\n"),
    "an IPv6 address without brackets": (400, START + b"Host: ::1\r\n\r\n"),
    "an empty Host from HTTP/1.0": (400, b"GET / HTTP/1.0\r\nHost:\r\n\r\n"),
    "an invalid Host from HTTP/1.0": (400, b"GET / HTTP/1.0\r\nHost: a b\r\n\r\n"),
    "a Host whose spelling differs, twice": (400, START + b"Host: a\r\nhOST: a\r\n\r\n"),
    "a Host with half a bracket": (400, START + b"Host: [::1\r\n\r\n"),
    "a Host with a bad escape": (400, START + b"Host: a%2\r\n\r\n"),
    # Fields.
    "a space before the colon": (400, HEAD + b"X : 1\r\n\r\n"),
    "a tab before the colon": (400, HEAD + b"X\t: 1\r\n\r\n"),
    "a folded field": (400, HEAD + b"X: 1\r\n 2\r\n\r\n"),
    "a field folded by a tab": (400, HEAD + b"X: 1\r\n\t2\r\n\r\n"),
    "a first field that begins with a space": (400, START + b" Host: a\r\n\r\n"),
    "a folded Host": (400, START + b"Host:\r\n a\r\n\r\n"),
    "a folded Content-Length": (400, POST + b"Content-Length:\r\n 3\r\n\r\nabc"),
    "a folded Transfer-Encoding": (400, POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n"),
    "a fold of nothing": (400, HEAD + b"X: 1\r\n \r\n\r\n"),
    "a space before the colon of Host": (400, START + b"Host : a\r\n\r\n"),
    "a space before the colon of Content-Length": (400, POST + b"Content-Length : 3\r\n\r\nabc"),
    "a space before the colon of Transfer-Encoding": (
        400,
        POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    ),
    "a space in a name": (400, HEAD + b"X Y: 1\r\n\r\n"),
    "a name in quotes": (400, HEAD + b'"X": 1\r\n\r\n'),
    "a vertical tab before a name": (400, POST + b"\x0bTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "a name with a DEL": (400, HEAD + b"X\x7f: 1\r\n\r\n"),
    "a name with a bare CR": (400, HEAD + b"X\rY: 1\r\n\r\n"),
    "a name with a bare LF": (400, HEAD + b"X\nY: 1\r\n\r\n"),
    "a NUL at the end of a value": (400, HEAD + b"X: a\x00\r\n\r\n"),
    "a NUL in the value of Host": (400, START + b"Host: a\x00b\r\n\r\n"),
    "a vertical tab in a value": (400, HEAD + b"X: a\x0bb\r\n\r\n"),
    "a form feed in a value": (400, HEAD + b"X: a\x0cb\r\n\r\n"),
    "a backspace in a value": (400, HEAD + b"X: a\x08b\r\n\r\n"),
    "an escape in a value": (400, HEAD + b"X: a\x1bb\r\n\r\n"),
    "a bare CR that ends a line": (400, HEAD + b"X: a\rY: b\r\n\r\n"),
    "a bare CR before CRLF": (400, HEAD + b"X: a\r\r\n\r\n"),
    "a bare CR that ends the head": (400, HEAD + b"X: a\r\n\r\r\n"),
    "LF CR": (400, HEAD + b"X: a\n\r\n\r\n"),
    "two LFs that end the head": (400, HEAD + b"X: a\n\n"),
    "Transfer-Encoding behind a bare LF": (
        400,
        POST + b"X: a\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + SMUGGLED,
    ),
    "Transfer-Encoding behind a bare CR": (
        400,
        POST + b"X: a\rTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + SMUGGLED,
    ),
    "a field without a colon": (400, HEAD + b"X\r\n\r\n"),
    "a field without a name": (400, HEAD + b": 1\r\n\r\n"),
    "a field name with a parenthesis": (400, HEAD + b"X(: 1\r\n\r\n"),
    "a field name with a slash": (400, HEAD + b"X/Y: 1\r\n\r\n"),
    "a field name with a NUL": (400, HEAD + b"X\x00: 1\r\n\r\n"),
    "a field name above ASCII": (400, HEAD + b"X\xe9: 1\r\n\r\n"),
    "a NUL in a value": (400, HEAD + b"X: a\x00b\r\n\r\n"),
    "a control character in a value": (400, HEAD + b"X: a\x01b\r\n\r\n"),
    "a DEL in a value": (400, HEAD + b"X: a\x7fb\r\n\r\n"),
    "a bare CR in a value": (400, HEAD + b"X: a\rb\r\n\r\n"),
    "a bare LF in a value": (400, HEAD + b"X: a\nY: b\r\n\r\n"),
    "a bare LF that ends the head": (400, HEAD + b"X: a\r\n\n"),
    "a CR CR LF": (400, HEAD + b"X: a\r\r\n\r\n"),
    "too many fields": (431, HEAD + b"".join(b"X%d: 1\r\n" % i for i in range(100)) + b"\r\n"),
    "too large a head": (431, HEAD + b"X: " + b"a" * 65536 + b"\r\n\r\n"),
    "a head without end": (431, HEAD + b"X: " + b"a" * 80000),
    "Max-Forwards below zero": (400, b"OPTIONS / HTTP/1.1\r\nHost: a\r\nMax-Forwards: -1\r\n\r\n"),
    "Max-Forwards twice": (400, b"OPTIONS * HTTP/1.1\r\nHost: a\r\nMax-Forwards: 1\r\nMax-Forwards: 1\r\n\r\n"),
    "an empty Max-Forwards": (400, b"OPTIONS / HTTP/1.1\r\nHost: a\r\nMax-Forwards:\r\n\r\n"),
    "Max-Forwards that is no number": (400, b"OPTIONS / HTTP/1.1\r\nHost: a\r\nMax-Forwards: x\r\n\r\n"),
    # Framing: whoever reads one of these differently than weldr sees a second request in it.
    "Content-Length before Transfer-Encoding": (
        400,
        POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    ),
    "Transfer-Encoding before Content-Length": (
        400,
        POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + SMUGGLED,
    ),
    "two Content-Lengths that differ": (
        400,
        POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef" + SMUGGLED,
    ),
    "Content-Length 0 and Transfer-Encoding": (
        400,
        POST + b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    ),
    "Content-Length and Transfer-Encoding that Connection names": (
        400,
        POST
        + b"Connection: transfer-encoding\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    "Content-Length and identity": (400, POST + b"Content-Length: 3\r\nTransfer-Encoding: identity\r\n\r\nabc"),
    "Content-Length and an unknown Transfer-Encoding": (
        400,
        POST + b"Content-Length: 3\r\nTransfer-Encoding: cow\r\n\r\nabc",
    ),
    "Content-Length and an empty Transfer-Encoding": (
        400,
        POST + b"Content-Length: 3\r\nTransfer-Encoding:\r\n\r\nabc",
    ),
    "Content-Length and Transfer-Encoding of a GET": (
        400,
        HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    ),
    "two Content-Lengths, the second good": (400, POST + b"Content-Length: x\r\nContent-Length: 3\r\n\r\nabc"),
    "two Content-Lengths, the second bad": (400, POST + b"Content-Length: 3\r\nContent-Length: x\r\n\r\nabc"),
    "a Content-Length and an empty one": (400, POST + b"Content-Length: 3\r\nContent-Length:\r\n\r\nabc"),
    "a list of Content-Lengths that differ": (400, POST + b"Content-Length: 5, 6\r\n\r\nabcde" + SMUGGLED),
    "a Content-Length with a comma behind": (400, POST + b"Content-Length: 3,\r\n\r\nabc"),
    "a Content-Length with a semicolon": (400, POST + b"Content-Length: 3;\r\n\r\nabc"),
    "a Content-Length with a fraction": (400, POST + b"Content-Length: 3.0\r\n\r\nabc"),
    "a Content-Length with an exponent": (400, POST + b"Content-Length: 3e0\r\n\r\nabc"),
    "a Content-Length with an underscore": (400, POST + b"Content-Length: 0_3\r\n\r\nabc"),
    "a Content-Length with a letter": (400, POST + b"Content-Length: 3a\r\n\r\nabc"),
    "a Content-Length in quotes": (400, POST + b'Content-Length: "3"\r\n\r\nabc'),
    "a Content-Length in other digits": (400, POST + b"Content-Length: \xb3\r\n\r\nabc"),
    "a Content-Length of 2 to the 63": (400, POST + b"Content-Length: 9223372036854775808\r\n\r\nabc"),
    "a Content-Length of 100 digits": (400, POST + b"Content-Length: " + b"9" * 100 + b"\r\n\r\nabc"),
    "a negative Content-Length of a GET": (400, HEAD + b"Content-Length: -1\r\n\r\n" + SMUGGLED),
    "Content_Length": (400, POST + b"Content_Length: 40\r\n\r\n" + SMUGGLED),
    "Transfer_Encoding": (400, POST + b"Transfer_Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED),
    "a list of Content-Lengths": (400, POST + b"Content-Length: 5, 5\r\n\r\nabcde"),
    "a Content-Length with a plus": (400, POST + b"Content-Length: +5\r\n\r\nabcde"),
    "a Content-Length with a minus": (400, POST + b"Content-Length: -5\r\n\r\nabcde"),
    "a hexadecimal Content-Length": (400, POST + b"Content-Length: 0x5\r\n\r\nabcde"),
    "a Content-Length with a space within": (400, POST + b"Content-Length: 1 0\r\n\r\nabcdeabcde"),
    "an empty Content-Length": (400, POST + b"Content-Length:\r\n\r\n"),
    "a Content-Length that overflows": (400, POST + b"Content-Length: 18446744073709551621\r\n\r\nabcde"),
    "an unknown Transfer-Encoding": (400, POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + SMUGGLED),
    "identity": (400, POST + b"Transfer-Encoding: identity\r\n\r\n" + SMUGGLED),
    "gzip before chunked": (400, POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    "chunked before gzip": (400, POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n"),
    "chunked twice": (400, POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
    "two Transfer-Encodings": (
        400,
        POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    "an empty Transfer-Encoding": (400, POST + b"Transfer-Encoding:\r\n\r\n0\r\n\r\n"),
    "chunked with a parameter": (400, POST + b"Transfer-Encoding: chunked;a=b\r\n\r\n0\r\n\r\n"),
    "chunked with a vertical tab": (400, POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n"),
    "chunked with a NUL": (400, POST + b"Transfer-Encoding: chunked\x00\r\n\r\n0\r\n\r\n"),
    "chunked with a bare CR before": (400, POST + b"Transfer-Encoding: \rchunked\r\n\r\n0\r\n\r\n"),
    "chunked with a bare LF before": (400, POST + b"Transfer-Encoding: \nchunked\r\n\r\n0\r\n\r\n"),
    "chunked with a form feed": (400, POST + b"Transfer-Encoding: chunked\x0c\r\n\r\n0\r\n\r\n"),
    "chunked with a no-break space": (400, POST + b"Transfer-Encoding: \xa0chunked\r\n\r\n0\r\n\r\n"),
    "chunked with a comma behind": (400, POST + b"Transfer-Encoding: chunked,\r\n\r\n0\r\n\r\n"),
    "chunked with a comma before": (400, POST + b"Transfer-Encoding: , chunked\r\n\r\n0\r\n\r\n"),
    "chunked in two words": (400, POST + b"Transfer-Encoding: chunk ed\r\n\r\n0\r\n\r\n"),
    "chunked with a semicolon": (400, POST + b"Transfer-Encoding: chunked;\r\n\r\n0\r\n\r\n"),
    "identity before chunked": (400, POST + b"Transfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n"),
    "chunked before identity": (400, POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"),
    "a second Transfer-Encoding of identity": (
        400,
        POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    ),
    "a first Transfer-Encoding of identity": (
        400,
        POST + b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    "a second Transfer-Encoding in other capitals": (
        400,
        POST + b"Transfer-Encoding: chunked\r\ntransfer-encoding: cow\r\n\r\n0\r\n\r\n",
    ),
    "a second, empty Transfer-Encoding": (
        400,
        POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding:\r\n\r\n0\r\n\r\n",
    ),
    "gzip": (400, POST + b"Transfer-Encoding: gzip\r\n\r\n" + SMUGGLED),
    "identity of a GET": (400, HEAD + b"Transfer-Encoding: identity\r\n\r\n" + SMUGGLED),
    "chunked in quotes": (400, POST + b'Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n'),
    "Transfer-Encoding from HTTP/1.0": (
        400,
        b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    "a chunk size that is no number": (400, CHUNKED + b"x\r\na\r\n0\r\n\r\n"),
    "a chunk size with 0x": (400, CHUNKED + b"0x1\r\na\r\n0\r\n\r\n"),
    "a chunk size with a minus": (400, CHUNKED + b"-1\r\na\r\n0\r\n\r\n"),
    "a chunk size with a space": (400, CHUNKED + b"1 \r\na\r\n0\r\n\r\n"),
    "a chunk size that overflows": (400, CHUNKED + b"10000000000000001\r\na\r\n0\r\n\r\n"),
    "a chunk size with a plus": (400, CHUNKED + b"+1\r\na\r\n0\r\n\r\n"),
    "a chunk size with a space before it": (400, CHUNKED + b" 1\r\na\r\n0\r\n\r\n"),
    "a chunk size with a tab": (400, CHUNKED + b"1\t\r\na\r\n0\r\n\r\n"),
    "a chunk size with an underscore": (400, CHUNKED + b"0_1\r\na\r\n0\r\n\r\n"),
    "a chunk size with an h": (400, CHUNKED + b"1h\r\na\r\n0\r\n\r\n"),
    "a chunk size in quotes": (400, CHUNKED + b'"1"\r\na\r\n0\r\n\r\n'),
    "a chunk size with a comma": (400, CHUNKED + b"1,a\r\na\r\n0\r\n\r\n"),
    "a chunk size of 2 to the 64": (400, CHUNKED + b"10000000000000000\r\n\r\n" + SMUGGLED),
    "a chunk size of 2 to the 63": (400, CHUNKED + b"8000000000000000\r\na"),
    "a chunk size of all Fs": (400, CHUNKED + b"ffffffffffffffff\r\na"),
    "a chunk size of 40 zeros": (400, CHUNKED + b"0" * 40 + b"1\r\na\r\n0\r\n\r\n"),
    "an empty line before a chunk": (400, CHUNKED + b"\r\n1\r\na\r\n0\r\n\r\n"),
    "a semicolon without a size": (400, CHUNKED + b";a=b\r\n0\r\n\r\n"),
    "a NUL in a chunk size": (400, CHUNKED + b"1\x00\r\na\r\n0\r\n\r\n"),
    "a bare CR after the chunk size": (400, CHUNKED + b"1\ra\r\n0\r\n\r\n"),
    "a CR CR LF after the chunk size": (400, CHUNKED + b"1\r\r\na\r\n0\r\n\r\n"),
    "a bare CR in a chunk extension": (400, CHUNKED + b"1;a\rb\r\na\r\n0\r\n\r\n"),
    "a NUL in a chunk extension": (400, CHUNKED + b"1;a\x00\r\na\r\n0\r\n\r\n"),
    "a bare LF in the extension of the last chunk": (400, CHUNKED + b"0;\n\r\n\r\n" + SMUGGLED),
    "an empty chunk size": (400, CHUNKED + b"\r\na\r\n0\r\n\r\n"),
    "a bare LF after the chunk size": (400, CHUNKED + b"1\na\r\n0\r\n\r\n"),
    "a bare LF within a chunk extension": (400, CHUNKED + b"1;a\nb\r\na\r\n0\r\n\r\n"),
    "a bare LF in a chunk extension": (400, CHUNKED + b"1;a\na\r\n0\r\n\r\n"),
    "a chunk longer than its size": (400, CHUNKED + b"1\r\nab\r\n0\r\n\r\n"),
    "a chunk without its CRLF": (400, CHUNKED + b"1\r\na0\r\n\r\n"),
    "a bare LF after a chunk": (400, CHUNKED + b"1\r\na\n0\r\n\r\n"),
    "a bare CR after a chunk": (400, CHUNKED + b"1\r\na\r0\r\n\r\n"),
    "no line break after a chunk, but two bytes": (400, CHUNKED + b"1\r\naXX0\r\n\r\n"),
    "a chunk shorter than its size": (400, CHUNKED + b"3\r\na\r\n0\r\n\r\n"),
    "no size after a chunk": (400, CHUNKED + b"1\r\na\r\n\r\n"),
    "a bare LF after the size of the last chunk": (400, CHUNKED + b"0\n\r\n" + SMUGGLED),
    "a bare LF for the last line": (400, CHUNKED + b"0\r\n\n" + SMUGGLED),
    "a bare CR for the last line": (400, CHUNKED + b"0\r\n\rX\r\n\r\n"),
    "something in place of the last line": (400, CHUNKED + b"0\r\nXX\r\n\r\n"),
    "a bare LF after the last chunk": (400, CHUNKED + b"0\n\n"),
    "a trailer field that is malformed": (400, CHUNKED + b"0\r\nX : 1\r\n\r\n"),
    "a trailer field with a NUL": (400, CHUNKED + b"0\r\nX: \x00\r\n\r\n"),
    "a trailer field with a bare LF": (400, CHUNKED + b"0\r\nX: a\nY: b\r\n\r\n"),
    "a trailer field without a colon": (400, CHUNKED + b"0\r\nX\r\n\r\n"),
    "a folded trailer field": (400, CHUNKED + b"0\r\nX: a\r\n b\r\n\r\n"),
    "a request in place of a trailer": (400, CHUNKED + b"0\r\n" + SMUGGLED),
    "a trailer without end": (400, CHUNKED + b"0\r\n" + b"X: 1\r\n" * 40000),
    "a chunk extension without end": (400, CHUNKED + b"1;" + b"a" * 200000),
}


@pytest.mark.parametrize("bytewise", [False, True], ids=["whole", "bytewise"])
@pytest.mark.parametrize("case", REFUSED)
async def test_a_request_is_refused(
    worker: Worker, recording_backend: ScriptedBackend, case: str, bytewise: bool
) -> None:
    status, data = REFUSED[case]
    recording_backend.received.clear()
    async with await RawClient.connect(worker.port) as client:
        sending = asyncio.create_task(client.send(data, bytewise=bytewise))
        answer = await client.receive()
        assert answer.status == status
        assert answer.get("connection") == "close"
        assert answer.get("date") is not None
        assert answer.body.count(b"\n") == 1
        assert answer.body.endswith(b"\n")
        assert answer.proxy_status == "weldr; error=http_request_error"
        assert await client.is_closed()
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
    # Whatever had reached the backend before was cut off, and nothing was smuggled behind it.
    async with await RawClient.connect(worker.port) as client:
        assert (await client.exchange(get("/after"))).status == 200
    assert [received.target for received in recording_backend.received] == ["/after"]


LINES = [case for case, (_, data) in REFUSED.items() if data.partition(b"\r\n")[2] == b"Host: a\r\n\r\n"]
"""Those in which only the request line is wrong."""


@pytest.mark.parametrize("case", LINES)
async def test_a_request_is_refused_behind_a_good_one_with_the_same_fields(
    worker: Worker, recording_backend: ScriptedBackend, case: str
) -> None:
    status, data = REFUSED[case]
    recording_backend.received.clear()
    async with await RawClient.connect(worker.port) as client:
        for _ in range(2):
            assert (await client.exchange(get("/before", "a"))).status == 200
        await client.send(data)
        assert (await client.receive()).status == status
        assert await client.is_closed()
    assert [received.target for received in recording_backend.received] == ["/before", "/before"]


async def test_the_allowed_methods_are_named(worker: Worker, recording_backend: ScriptedBackend) -> None:
    for refused in (b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n"):
        async with await RawClient.connect(worker.port) as client:
            allowed = (await client.exchange(refused)).get("allow") or ""
            assert "GET" in allowed
            assert "TRACE" not in allowed
            assert "CONNECT" not in allowed


async def test_the_answer_to_a_refused_head_request_has_no_body(
    worker: Worker, recording_backend: ScriptedBackend
) -> None:
    async with await RawClient.connect(worker.port) as client:
        answer = await client.exchange(b"HEAD / HTTP/1.1\r\nHost: a b\r\n\r\n")
        assert answer.status == 400
        assert await client.is_closed()
