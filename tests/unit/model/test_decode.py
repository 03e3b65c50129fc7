"""Values: what is understood, and where exactly what is not."""

from __future__ import annotations

import json
import re

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from weldr.model.address import Address, AddressError, parse_address
from weldr.model.decode import DECODED, MAX_VALUE_BYTES, Fault, decode
from weldr.model.keys import Kind
from weldr.model.values import Backend, Override, Route


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.0.0.5:8080", Address("10.0.0.5", 8080)),
        ("http://10.0.0.5:8080", Address("10.0.0.5", 8080)),
        ("http://10.0.0.5:8080/", Address("10.0.0.5", 8080)),
        ("HTTP://Shop.Example", Address("shop.example", 80)),
        ("[::1]:9001", Address("::1", 9001)),
        ("http://[fe80::1]", Address("fe80::1", 80)),
        ("shop_1.internal:80", Address("shop_1.internal", 80)),
    ],
)
def test_an_address_is_host_and_port_with_or_without_http(text: str, expected: Address) -> None:
    assert parse_address(text) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("10.0.0.5", "no port"),
        ("10.0.0.5:", "no port"),
        ("10.0.0.5:0", "port 0"),
        ("10.0.0.5:65536", "malformed"),
        ("10.0.0.5:http", "malformed"),
        ("10.0.0.256:80", "no valid host"),
        ("1.2.3:80", "no valid host"),
        ("::1:80", "no valid host|malformed"),
        ("https://10.0.0.5", "scheme 'https' is not supported"),
        ("ftp://10.0.0.5", "scheme 'ftp' is not supported"),
        ("http://10.0.0.5:80/path", "path or query"),
        ("http://10.0.0.5:80?q", "path or query"),
        ("http://10.0.0.5:80#", "path or query"),
        ("http://:80", "no valid host"),
        ("http://-a-:80", "no valid host"),
        ("a b:80", "space"),
        ("a\r\nb:80", "control"),
        ("bücher.example:80", "non-ASCII"),
    ],
)
def test_what_is_no_address_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(AddressError, match=reason):
        parse_address(text)


def test_credentials_in_an_address_are_refused_and_not_repeated() -> None:
    with pytest.raises(AddressError, match="credentials") as refused:
        parse_address("http://user:hunter2@10.0.0.5:80")
    assert "hunter2" not in str(refused.value)


def test_a_backend_is_an_address_or_an_object() -> None:
    assert decode(Kind.BACKEND, b"10.0.0.5:8080\n") == Backend(host="10.0.0.5", port=8080)
    value = b'{"url": "http://10.0.0.5:8080", "weight": 3, "drain": true, "zone": "a", "meta": {"v": "1"}}'
    expected = Backend(host="10.0.0.5", port=8080, weight=3, drain=True, zone="a", meta={"v": "1"})
    assert decode(Kind.BACKEND, value) == expected


@pytest.mark.parametrize(
    "value",
    [
        {
            "id": "1",
            "name": "shop",
            "endpoints": ["grpc://10.0.0.5:9000", "http://10.0.0.5:8080?isSecure=false"],
        },
        {"Op": 0, "Addr": "10.0.0.5:8080", "Metadata": None},
        {"host": "10.0.0.5", "port": 8080, "priority": 10},
        {"URL": "http://10.0.0.5:8080"},
    ],
    ids=["kratos", "etcd gRPC naming", "SkyDNS", "vulcand"],
)
def test_a_backend_may_be_written_as_other_registrars_write_it(value: dict[str, object]) -> None:
    assert decode(Kind.BACKEND, json.dumps(value).encode()) == Backend(host="10.0.0.5", port=8080)


def test_a_skydns_weight_is_taken() -> None:
    found = decode(Kind.BACKEND, b'{"host": "::1", "port": 80, "weight": 7}')
    assert found == Backend(host="::1", port=80, weight=7)


def test_weight_zero_is_draining() -> None:
    found = decode(Kind.BACKEND, b'{"url": "10.0.0.5:80", "weight": 0}')
    assert isinstance(found, Backend)
    assert found.draining


NO_COOKIE = ("$.split_by.set_cookie", "goes with cookie")


@pytest.mark.parametrize(
    ("kind", "raw", "place", "reason"),
    [
        (Kind.BACKEND, b"", "$", "empty"),
        (Kind.BACKEND, b"  \n", "$", "empty"),
        (Kind.BACKEND, b"10.0.0.5:8080\xff", "byte 13", "not UTF-8"),
        (Kind.BACKEND, b"x" * (MAX_VALUE_BYTES + 1), "$", "at most"),
        (Kind.BACKEND, b'{"a":' * 20_000, "$", "nested|ends before it is complete"),
        (Kind.BACKEND, b'{"url": "10.0.0.5:80"', "$", "ends before it is complete"),
        (Kind.BACKEND, '{"zone": "é\\ud800"}'.encode(), "byte 12", "half of a pair"),
        (Kind.BACKEND, b'{"zone": "\\\\\\ud800"}', "byte 12", "half of a pair"),
        (Kind.BACKEND, b'{"url": "10.0.0.5:80", "zone": "1e400", "weight": 1e400}', "byte 50", "out of range"),
        (Kind.BACKEND, b'{"url": "10.0.0.5:80",}', "byte 22", "malformed"),
        (Kind.BACKEND, b'{"url": "10.0.0.5:80", "wieght": 2}', "$", "did you mean `weight`"),
        (Kind.BACKEND, b'{"url": "10.0.0.5:80", "weight": "2"}', "$.weight", "Expected `int`, got `str`"),
        (Kind.BACKEND, b'{"url": "10.0.0.5:80", "weight": -1}', "$.weight", ">= 0"),
        (Kind.BACKEND, b'{"url": "10.0.0.5:80", "meta": {"a": 1}}', "$.meta[...]", "Expected `str`"),
        (Kind.BACKEND, b'{"url": "http://10.0.0.5:80/x"}', "$.url", "path"),
        (Kind.BACKEND, b'{"weight": 1}', "$", "missing required field `url`"),
        (Kind.BACKEND, b'"10.0.0.5:80"', "$", "got text"),
        (Kind.BACKEND, b'{"endpoints": ["grpc://10.0.0.5:80"]}', "$.endpoints", "plain http"),
        (Kind.BACKEND, b'{"endpoints": [3]}', "$.endpoints[0]", "got int"),
        (Kind.BACKEND, b'{"Addr": "10.0.0.5"}', "$.Addr", "no port"),
        (Kind.BACKEND, b'{"host": "a", "port": "80"}', "$.port", "got str"),
        (Kind.ROUTE, b'{"path": "/x"}', "$", "exactly one of service, services, redirect, response"),
        (Kind.ROUTE, b'{"service": "a", "response": {}}', "$", "service and response"),
        (Kind.ROUTE, b'{"services": {"a": 0, "b": 0}}', "$.services", "sum to zero"),
        (Kind.ROUTE, b'{"services": {"a": -1}}', "$.services[...]", ">= 0"),
        (Kind.ROUTE, b'{"service": "a", "path": "/", "path_glob": "/*"}', "$.path_glob", "one kind of path"),
        (Kind.ROUTE, b'{"service": "a", "path_regex": "(a"}', "$.path_regex", "RE2"),
        (Kind.ROUTE, b'{"service": "a", "path_glob": "/%s"}' % (b"*a" * 2048), "$.path_glob", "<= 4096"),
        (Kind.ROUTE, b'{"service": "a", "path_regex": "(a{99}){99}{99}"}', "$.path_regex", "RE2"),
        (Kind.ROUTE, b'{"service": "a", "path_glob": "x"}', "$.path_glob", "slash"),
        (Kind.ROUTE, b'{"service": "a", "headers": {"a b": "1"}}', "$.headers", "no name of a field"),
        (Kind.ROUTE, b'{"service": "a", "headers": {"a": {}}}', "$.headers.a", "exactly one of"),
        (Kind.ROUTE, b'{"service": "a", "query": {"a": {"regex": "["}}}', "$.query.a.regex", "RE2"),
        (Kind.ROUTE, b'{"service": "a", "methods": ["GET "]}', "$.methods", "no name"),
        (Kind.ROUTE, b'{"service": "a", "clients": ["10.0.0.1/8"]}', "$.clients[0]", "host bits"),
        (Kind.ROUTE, b'{"service": "a", "allow": ["x"]}', "$.allow[0]", "IPv4 or IPv6"),
        (Kind.ROUTE, b'{"redirect": {"status": 301}}', "$.redirect", "lead to itself"),
        (Kind.ROUTE, b'{"redirect": {"host": "a b"}}', "$.redirect.host", "no host name"),
        (Kind.ROUTE, b'{"redirect": {"path": "/\\r\\nX: 1"}}', "$.redirect.path", "no path"),
        (Kind.ROUTE, b'{"redirect": {"scheme": "ftp"}}', "$.redirect.scheme", "Invalid enum value 'ftp'"),
        (Kind.ROUTE, b'{"service": "a", "split_by": {"cookie": "c"}}', "$.split_by", "services"),
        (
            Kind.ROUTE,
            b'{"service": "a", "response_headers": {"set": {"X": "1\\r\\nY: 2"}}}',
            "$.response_headers.set.X",
            "no value of a field",
        ),
        (
            Kind.ROUTE,
            b'{"service": "a", "request_headers": {"add": {"X\\r": "1"}}}',
            "$.request_headers.add",
            "no name of a field",
        ),
        (
            Kind.ROUTE,
            b'{"service": "a", "request_headers": {"set": {"Content-Length": "1"}}}',
            "$.request_headers.set",
            "weldr's own",
        ),
        (Kind.ROUTE, b'{"service": "a", "strip_prefix": "api"}', "$.strip_prefix", "no path"),
        (
            Kind.ROUTE,
            b'{"service": "a", "rate_limit": {"requests_per_s": 0}}',
            "$.rate_limit.requests_per_s",
            "> 0",
        ),
        (Kind.ROUTE, b'{"service": "a", "mirror": {"service": "b/c"}}', "$.service", "slash"),
        (Kind.ROUTE, b'{"response": {}, "mirror": {"service": "b"}}', "$.mirror", "goes with"),
        (Kind.ROUTE, b'{"service": "a", "path": "x"}', "$.path", "slash"),
        (Kind.ROUTE, b'{"service": "a", "host": "shop example"}', "$.host", "no host name"),
        (Kind.ROUTE, b'{"service": "a", "host": "*.*.example"}', "$.host", "no host name"),
        (Kind.ROUTE, b'{"service": "a", "host": "shop.example:80"}', "$.host", "port"),
        (Kind.ROUTE, b'{"service": "a/b"}', "$.service", "slash"),
        (Kind.OVERRIDE, b'{"until": "2030-01-31T12:00:00"}', "$.until", "time zone"),
        (Kind.OVERRIDE, b'{"weight": 1.5}', "$.weight", "Expected"),
        (Kind.SETTINGS, b'{"timeouts": {"connect_s": 0}}', "$.timeouts.connect_s", "> 0"),
        (Kind.SETTINGS, b'{"limits": {"head_bytes": 10}}', "$.limits.head_bytes", ">= 1024"),
        (
            Kind.SETTINGS,
            b'{"trusted_proxies": ["10.0.0.0/8", "10.0.0.1/8"]}',
            "$.trusted_proxies[1]",
            "host bits",
        ),
        (Kind.SETTINGS, b'{"forwarded_fields": "none"}', "$.forwarded_fields", "Invalid enum value"),
        (Kind.SERVICE, b'{"limits": {"pending_requests": -1}}', "$.limits.pending_requests", ">= 0"),
        (Kind.ROUTE, b'{"service": "a", "priority": 99999999999999999999}', "$.priority", "<= 1000000000"),
        (Kind.ROUTE, b'{"service": "a", "path": "/x?y=1"}', "$.path", "parameters go to query"),
        (Kind.ROUTE, b'{"service": "a", "path_exact": "/x#y"}', "$.path_exact", "as no path does"),
        (Kind.ROUTE, b'{"service": "a", "path": "/img/*"}', "$.path", "there is path_glob"),
        (Kind.ROUTE, b'{"services": {"a": 1}, "split_by": {"header": "X", "set_cookie": true}}', *NO_COOKIE),
        (Kind.SETTINGS, b'{"timeouts": {"conect_s": 1}}', "$.timeouts", "did you mean `connect_s`"),
        (Kind.ROUTE, b'{"service": "a", "headers": {"X": {"regx": "a"}}}', "$.headers[...]", "mean `regex`"),
        (Kind.ROUTE, b'{"service": "a", "rate_limit": {"x": 1}}', "$.rate_limit", "one of requests_per_s, b"),
        (Kind.SETTINGS, b'{"access_log": {"fields": ["methd"]}}', "$.access_log.fields[0]", "mean `method`"),
        (
            Kind.SETTINGS,
            b'{"forwarded_fields": "x"}',
            "$.forwarded_fields",
            "one of x-forwarded, forwarded, both",
        ),
        (Kind.SERVICE, b"[]", "$", "Expected `object`, got `array`"),
    ],
)
def test_a_bad_value_is_refused_with_the_place_in_it(kind: Kind, raw: bytes, place: str, reason: str) -> None:
    fault = decode(kind, raw)
    assert isinstance(fault, Fault)
    assert fault.place == place
    assert re.search(reason, fault.reason), fault
    assert "\n" not in fault.reason


@given(st.sampled_from(sorted(DECODED)), st.binary() | st.text().map(str.encode))
@example(Kind.BACKEND, b"[" * 100_000)
@example(Kind.ROUTE, b'{"a":' * 40_000)
def test_no_bytes_raise_past_the_decoder(kind: Kind, raw: bytes) -> None:
    decode(kind, raw)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["url", "weight", "endpoints", "Addr", "host", "port", "service", "until", "timeouts"]
            )
            | st.text(max_size=3),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


@given(st.sampled_from(sorted(DECODED)), json_values)
def test_no_json_raises_past_the_decoder(kind: Kind, value: object) -> None:
    found = decode(kind, json.dumps(value).encode("utf-8", "surrogatepass"))
    if isinstance(found, Fault):
        assert found.place
        assert found.reason
    elif isinstance(found, Backend):
        assert 0 < found.port < 65536
        assert found.weight >= 0


@given(st.sampled_from(sorted(DECODED)), json_values)
@example(Kind.ROUTE, {"service": "a", "priority": 2**80})
@example(Kind.ROUTE, {"service": "\ud800"})
@example(Kind.BACKEND, {"url": "a:80", "meta": {"\ud800": "\udfff"}})
def test_whatever_is_understood_can_be_sent_to_a_worker(kind: Kind, value: object) -> None:
    found = decode(kind, json.dumps(value).encode("utf-8"))
    if not isinstance(found, Fault):
        msgspec.msgpack.encode(found)


def test_an_override_leaves_alone_what_it_does_not_name() -> None:
    backend = Backend(host="10.0.0.5", port=80, weight=5, zone="a")
    assert Override(drain=True).applied_to(backend) == Backend(
        host="10.0.0.5", port=80, weight=5, zone="a", drain=True
    )
    assert Override(weight=0).applied_to(backend).draining
    assert Override().applied_to(backend) == backend


def test_a_routes_host_is_brought_into_the_form_that_requests_have() -> None:
    for host, known in (
        ("Shop.Example.", "shop.example"),
        ("*.Bücher.example", "*.xn--bcher-kva.example"),
        ("[::1]", "[::1]"),
    ):
        value = json.dumps({"service": "s", "host": host}).encode()
        assert decode(Kind.ROUTE, value) == Route(service="s", host=known)


def test_a_route_needs_only_a_service() -> None:
    assert decode(Kind.ROUTE, b'{"service": "shop"}') == Route(service="shop")
