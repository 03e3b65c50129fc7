"""Fixtures that every test may use."""

from __future__ import annotations

import itertools
import os
from collections.abc import Generator, Iterator

import hypothesis
import pytest

from tests.support import order, real_time
from tests.support.etcd import EtcdServer

# What an example takes depends on what else the machine does.
hypothesis.settings.register_profile("weldr", deadline=None)
hypothesis.settings.load_profile("weldr")

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def etcd_server() -> Iterator[EtcdServer]:
    """The newest etcd there is, shared: use `etcd_prefix`, and leave it running."""
    with EtcdServer() as server:
        yield server


@pytest.fixture
def etcd_prefix() -> str:
    """A prefix that no other test uses."""
    return f"/test-{os.getpid()}-{next(_numbers)}/"


@pytest.fixture
def own_etcd() -> Iterator[EtcdServer]:
    """A running etcd of the test's own, to stop, freeze or wipe."""
    with EtcdServer() as server:
        yield server


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if processes > 1:
        items[:] = order.for_processes(items, processes)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """See `tests/support/real_time.py`."""
    if item.get_closest_marker(real_time.MARK) is None:
        return None
    real_time.run(item, nextitem)
    return True


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With CI=true nothing may be skipped: a machine that lacks what a test needs has to be mended."""
    report = yield
    report.inexcusable = real_time.is_inexcusable(call)
    if report.skipped and os.environ.get("CI") == "true" and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI does not allow: {report.longrepr}"
    return report
