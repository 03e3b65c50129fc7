"""The site that the tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.hosts.namespaces import require_namespaces
from tests.hosts.site import Site


@pytest.fixture(scope="session")
def site() -> Iterator[Site]:
    require_namespaces()
    with Site() as made:
        yield made
