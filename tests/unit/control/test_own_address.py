"""Which address of this host other instances reach it by."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import Any

import pytest

from weldr.control.own_address import own_address


async def test_what_is_reached_by_an_address_needs_no_name_server() -> None:
    assert await own_address([("127.0.0.1", 1)]) == "127.0.0.1"
    with pytest.raises(OSError, match="neither a virtual IP nor etcd"):
        await own_address([])


async def test_a_name_server_that_does_not_answer_holds_up_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ask = socket.getaddrinfo

    def ask_slowly(host: str, *arguments: Any, **options: Any) -> Any:
        if host == "etcd.example" and not options.get("flags", 0) & socket.AI_NUMERICHOST:
            time.sleep(1.5)
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return ask(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", ask_slowly)

    async def turns() -> None:
        nonlocal longest_s
        while True:
            before_s = time.monotonic()
            await asyncio.sleep(0.01)
            longest_s = max(longest_s, time.monotonic() - before_s)

    longest_s = 0.0
    others = asyncio.create_task(turns())
    await asyncio.sleep(0.05)
    with pytest.raises(OSError, match="name resolution"):
        await own_address([("etcd.example", 2379)])
    await asyncio.sleep(0.05)
    others.cancel()
    assert longest_s < 1.0
