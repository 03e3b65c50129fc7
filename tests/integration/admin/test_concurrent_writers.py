"""Writers that use `If-Match`, at once and at two instances, against a model: nothing is lost or done twice."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.admin import Api
from tests.support.instance import Instance, wait_until
from tests.support.site import Site

_names = itertools.count(1)


@pytest.fixture(scope="module")
def apis(site: Site) -> Any:
    with Instance("--instance", "second", etcd=site.etcd.endpoint, prefix=site.prefix) as second:
        second.wait_ready()
        yield [site.api, Api(second.admin)]


@dataclass(frozen=True)
class Done:
    """A write that the API said that it did."""

    seen: int
    """The revision of the value that it was made from; 0 for none."""
    base: int
    """The number in that value."""
    number: int | None
    """The number that it wrote; `None` for a removal."""
    revision: int


STEPS = st.lists(st.sampled_from(["put", "patch", "transaction", "delete"]), min_size=1, max_size=6)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(STEPS, min_size=2, max_size=6))
def test_every_write_was_made_from_the_one_before_it(apis: list[Api], scripts: list[list[str]]) -> None:
    name = f"counter{next(_names)}"
    with ThreadPoolExecutor(len(scripts)) as pool:
        writers = [
            pool.submit(write, apis[index % 2], name, script, index) for index, script in enumerate(scripts)
        ]
        done = sorted((found for writer in writers for found in writer.result()), key=lambda one: one.revision)
    # The model: a register. Each write that succeeded has to have read exactly what the one before it left.
    held, number = 0, 0
    for one in done:
        assert (one.seen, one.base) == (held, number), done
        held, number = (0, 0) if one.number is None else (one.revision, one.number)
    for api in apis:
        # An instance reads what it follows: the last write at the other one comes a moment later.
        wait_until(lambda api=api: seen_at(api, name) == (held, number), f"both have {held}: {number}")


def seen_at(api: Api, name: str) -> tuple[int, int]:
    """Revision and number; zeros for none."""
    answer = api.get(f"/api/v1/overrides/{name}/b")
    if answer.status == 404:
        return 0, 0
    assert answer.status == 200
    return int(answer.etag.strip('"')), answer.json["weight"]


def write(api: Api, name: str, script: list[str], writer: int) -> list[Done]:
    path = f"/api/v1/overrides/{name}/b"
    done = []
    for step in script:
        read = api.get(path)
        seen = int(read.etag.strip('"')) if read.status == 200 else 0
        base = read.json["weight"] if seen else 0
        number = base + 10 + writer
        condition = {"if_match": f'"{seen}"'} if seen else {"if_none_match": "*"}
        if step == "delete":
            answer = api.delete(path, if_match=f'"{seen or 1}"')
        elif step == "transaction":
            operation = {"op": "put", "key": f"overrides/{name}/b", "value": {"weight": number}}
            answer = api.post("/api/v1/transaction", {"operations": [operation | {"if_revision": seen}]})
        elif step == "patch" and seen:
            answer = api.patch(path, {"weight": number}, **condition)
        else:
            answer = api.put(path, {"weight": number}, **condition)
        assert answer.status in (200, 201, 404, 412), answer.body
        if answer.status in (200, 201):
            done.append(Done(seen, base, None if step == "delete" else number, answer.json["revision"]))
    return done


def test_writers_without_a_condition_all_succeed(apis: list[Api]) -> None:
    def patch(index: int) -> int:
        member = {"meta": {f"m{index}": "x"}}
        return apis[index % 2].patch("/api/v1/backends/merged/b", member).status

    apis[0].put("/api/v1/backends/merged/b", {"url": "127.0.0.1:1"})
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(patch, range(24))) == {200}
    for api in apis:
        # As above: what was written at the other instance comes a moment later.
        wait_until(lambda api=api: members_at(api) == {f"m{index}" for index in range(24)}, "both have all 24")


def members_at(api: Api) -> set[str]:
    return set(api.get("/api/v1/backends/merged/b").json["meta"])
