"""A TCP relay that can go silent, as a network does when a cable is pulled: nothing closes, nothing passes."""

from __future__ import annotations

import asyncio
import contextlib

from tests.support.ports import free_port


class TcpRelay:
    """Forwards to `target` (`host:port`), until it is told to be silent. Each way takes `delay_s`."""

    def __init__(self, target: str, delay_s: float = 0.0) -> None:
        self.port = free_port()
        self._delay_s = delay_s
        self.connections = 0
        self._host, _, port = target.rpartition("/")[2].rpartition(":")
        self._target_port = int(port)
        self._passing = asyncio.Event()
        self._passing.set()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def go_silent(self) -> None:
        """From now on nothing passes, in either direction, on old connections and new ones."""
        self._passing.clear()

    def go_on(self) -> None:
        """New connections are served again; what was silent stays so, as after a change of routes."""
        self._passing = asyncio.Event()
        self._passing.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        passing = self._passing
        try:
            back_reader, back_writer = await asyncio.open_connection(self._host, self._target_port)
        except OSError:
            writer.close()
            return
        for source, sink in ((reader, back_writer), (back_reader, writer)):
            task = asyncio.ensure_future(_pump(source, sink, passing, self._delay_s))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def __aenter__(self) -> TcpRelay:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def _pump(
    source: asyncio.StreamReader, sink: asyncio.StreamWriter, passing: asyncio.Event, delay_s: float
) -> None:
    with contextlib.suppress(OSError):
        while data := await source.read(65536):
            await asyncio.sleep(delay_s)
            await passing.wait()
            sink.write(data)
            await sink.drain()
    sink.close()
