"""Asks instances themselves what they count, at their admin addresses."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import msgspec

from weldr.cli.connect import Where
from weldr.control.admin.views import Stats

if TYPE_CHECKING:
    import aiohttp

_ASK_LIMIT_S = 2.0


@contextlib.asynccontextmanager
async def stats_session() -> AsyncIterator[aiohttp.ClientSession]:
    """A client that asks quickly or not at all."""
    # Not every command should wait until an HTTP client is loaded.
    import aiohttp

    timeout = aiohttp.ClientTimeout(total=_ASK_LIMIT_S)
    async with aiohttp.ClientSession(timeout=timeout, trust_env=False) as session:
        yield session


async def ask_stats(session: aiohttp.ClientSession, url: str, where: Where) -> Stats | str:
    """What an instance says; or why nothing."""
    import aiohttp

    # A token goes to whom it was given for, and to no address that a key names.
    headers = {"Authorization": f"Bearer {where.token}"} if where.token and url == where.admin else {}
    address = f"{url.rstrip('/')}/api/v1/stats"
    try:
        async with session.get(address, headers=headers, allow_redirects=False) as response:
            if response.status != 200:
                return f"{url} answers with status {response.status}"
            return msgspec.json.decode(await response.read(), type=Stats)
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
        return f"{url} cannot be reached from here"
