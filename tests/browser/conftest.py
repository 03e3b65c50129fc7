"""A browser for all tests of a process, and an instance for all tests of a module."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.admin import Api
from tests.support.browser import Visit, chromium, visit, why_no_browser
from tests.support.etcd import EtcdServer
from tests.support.instance import Instance
from tests.support.site import Site

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def started_browser() -> Iterator[tuple[Any, asyncio.AbstractEventLoop]]:
    reason = why_no_browser()
    if reason is not None:
        pytest.skip(reason)
    with chromium() as found:
        loop = asyncio.get_running_loop()
        asyncio._set_running_loop(None)
        yield found, loop
        asyncio._set_running_loop(loop)


@pytest.fixture
def browser(started_browser: tuple[Any, asyncio.AbstractEventLoop]) -> Iterator[Any]:
    """The loop of Playwright, which counts as running from its start on, does so only while it is used: else no
    other test of this process could have a loop of its own.
    """
    found, loop = started_browser
    asyncio._set_running_loop(loop)
    yield found
    asyncio._set_running_loop(None)


def new_prefix() -> str:
    return f"/browser-{os.getpid()}-{next(_numbers)}/"


@pytest.fixture(scope="module")
def site(etcd_server: EtcdServer) -> Iterator[Site]:
    prefix = new_prefix()
    with Instance(etcd=etcd_server.endpoint, prefix=prefix) as weldr:
        weldr.wait_ready()
        yield Site(weldr, Api(weldr.admin), etcd_server, prefix)


@pytest.fixture
def visitor(browser: Any, site: Site) -> Iterator[Visit]:
    """Somebody who looks at the dashboard. Whatever a test does, the browser has nothing to complain of."""
    with visit(browser) as found:
        found.page.goto(site.url)
        found.page.get_by_text("live", exact=True).wait_for()
        yield found
        assert found.complaints == []
