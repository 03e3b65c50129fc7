"""What `weldr check` finds among keys that do not fit together."""

from __future__ import annotations

from weldr.cli.check import Finding, judged
from weldr.model.keys import KeyName, Kind


def route(name: str) -> KeyName:
    return KeyName(Kind.ROUTE, (name,))


def test_a_route_that_every_instance_refuses_is_an_error_and_one_without_backends_a_warning() -> None:
    values = {
        route("a"): b'{"service": "s", "path": "/x"}',
        route("b"): b'{"service": "s", "path": "/x/"}',
        route("c"): b'{"service": "t", "path": "/t", "mirror": {"service": "t"}}',
        KeyName(Kind.BACKEND, ("t", "b1")): b"10.0.0.1:80",
    }

    def errors(**revisions: int) -> dict[str, str]:
        findings: list[Finding] = list(judged(values, {route(name): each for name, each in revisions.items()}))
        assert [found.key for found in findings if found.level == "warning"] in (["routes/a"], ["routes/b"])
        return {found.key: found.place for found in findings if found.level == "error"}

    # As files, all are written at one instant; in etcd, the revision decides before the name.
    assert errors() == {"routes/b": "$", "routes/c": "$.mirror.service"}
    assert errors(a=7, b=6, c=1) == {"routes/a": "$", "routes/c": "$.mirror.service"}
