"""The signs of life that a worker gives."""

from __future__ import annotations

import asyncio
import socket

import pytest

from weldr.proxy.worker import Worker


async def test_a_fault_in_what_is_told_with_a_beat_does_not_end_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, socket.create_server(("127.0.0.1", 0)) as listener:
        worker = Worker(theirs, [listener], 1.0, share=1.0, zone="")
        beats: list[object] = []
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(worker._channel, "send_beat", lambda beat: None)
        monkeypatch.setattr(worker._context.fleet, "loads", lambda: 1 / 0)
        with monkeypatch.context() as patch:
            patch.setattr(loop, "call_at", lambda *call: beats.append(call[1]))
            with pytest.raises(ZeroDivisionError):
                worker._beat(loop.time())
        assert beats == [worker._beat]
