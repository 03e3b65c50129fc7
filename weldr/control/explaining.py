"""Asks the data plane itself what it would do with a request, in a process of its own."""

from __future__ import annotations

import asyncio
import sys

import msgspec

from weldr.model.explaining import Explanation, Question

_LIMIT_S = 10.0


class UnexplainedError(Exception):
    """The data plane did not answer; one line that says why."""


async def explained(question: Question) -> Explanation:
    """The answer.

    Raises `UnexplainedError`.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-m",
            "weldr.proxy.explain",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    except OSError as error:
        raise UnexplainedError(f"the data plane cannot be asked: {error}") from None
    try:
        async with asyncio.timeout(_LIMIT_S):
            output, errors = await process.communicate(msgspec.msgpack.encode(question))
    except TimeoutError:
        raise UnexplainedError(f"the data plane did not answer within {_LIMIT_S:.0f} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        last = errors.decode(errors="replace").strip().rpartition("\n")[2]
        raise UnexplainedError(f"the data plane cannot be asked: {last}")
    return msgspec.msgpack.decode(output, type=Explanation)
