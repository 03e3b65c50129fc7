"""The manager's end of the socket for commands."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable

import pytest

from weldr.control.control_socket import ControlSocket, Request, control_name

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="abstract names are Linux's")
_LIMIT_S = 30.0


async def test_who_asks_while_too_many_commands_are_under_way_is_told_so() -> None:
    async def never(request: Request, trusted: bool, progress: Callable[[str], None]) -> str:
        progress("asked")
        await asyncio.Event().wait()
        return ""

    name = control_name(f"test of {os.getpid()}")
    control = ControlSocket(name, never, lambda: None)
    await control.open(None)
    writers = []
    try:
        async with asyncio.timeout(_LIMIT_S):
            for _ in range(16):
                reader, writer = await asyncio.open_unix_connection(name)
                writers.append(writer)
                writer.write(b'{"command":"stop"}\n')
                assert await reader.readline() == b'{"progress":"asked"}\n'
            reader, writer = await asyncio.open_unix_connection(name)
            writers.append(writer)
            assert b"other commands are under way" in await reader.readline()
    finally:
        for writer in writers:
            writer.close()
        await control.close()
        await control.finish()
