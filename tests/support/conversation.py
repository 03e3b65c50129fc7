"""A conversation between a client, weldr and a backend, as a table writes it: who does or sees what, in order.

Each step is a value. Clients and the backend's connections are numbered from 1, connections in the order in
which the backend accepted them. At the end nothing may be left over: no connection that no step named, and no
byte at the backend that no step has taken.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from dataclasses import dataclass, field
from typing import Protocol

from tests.support.backends import BackendConnection, Received, ScriptedBackend, scripted_backend
from tests.support.http import LIMIT_S, IncompleteResponseError, RawClient
from tests.support.ports import free_port
from tests.support.worker import Worker, traffic
from weldr.model.values import Service, Settings


class Stage:
    """The clients and the backend of one conversation."""

    def __init__(self, worker: Worker, *, bytewise: bool) -> None:
        self.worker = worker
        self.bytewise = bytewise
        self.backend: ScriptedBackend
        self.clients: dict[int, RawClient] = {}
        self._accepted = asyncio.Condition()
        self._over = asyncio.Event()

    async def accept(self, _: BackendConnection) -> None:
        """The backend's script: it leaves everything to the steps."""
        async with self._accepted:
            self._accepted.notify_all()
        await self._over.wait()

    async def client(self, number: int) -> RawClient:
        if number not in self.clients:
            self.clients[number] = await RawClient.connect(self.worker.port)
        return self.clients[number]

    async def connection(self, number: int) -> BackendConnection:
        """The backend's connection of this number, once it has been accepted."""
        async with asyncio.timeout(LIMIT_S), self._accepted:
            await self._accepted.wait_for(lambda: len(self.backend.connections) >= number)
        return self.backend.connections[number - 1]

    def check_nothing_left(self, named: int) -> None:
        assert len(self.backend.connections) <= named, "there is one more connection to the backend"
        for connection in self.backend.connections:
            assert not connection.unread, "the backend got more than it should"

    def close(self) -> None:
        self._over.set()
        for client in self.clients.values():
            # One that only closes may still want its answer: a request that is in flight would then be given to
            # the backend of the next conversation.
            if not client.writer.transport.is_closing():
                client.reset()


class Step(Protocol):
    """One thing that is done or seen."""

    async def play(self, stage: Stage) -> None: ...


@dataclass(frozen=True)
class Conversation:
    """A case: its steps, and what weldr is told before they begin."""

    steps: tuple[Step, ...]
    settings: Settings = field(default_factory=Settings)
    policy: Service = field(default_factory=Service)
    refusing: int = 0
    """How many more backends there are, which refuse connections."""

    async def play(self, worker: Worker, *, bytewise: bool) -> None:
        stage = Stage(worker, bytewise=bytewise)
        async with scripted_backend(stage.accept) as stage.backend:
            ports = [free_port() for _ in range(self.refusing)]
            await worker.serve(traffic(*ports, stage.backend.port, settings=self.settings, policy=self.policy))
            try:
                for step in self.steps:
                    try:
                        await step.play(stage)
                    except (AssertionError, OSError, EOFError, IncompleteResponseError) as error:
                        raise AssertionError(f"at {step}: {error!r}") from error
                stage.check_nothing_left(max((getattr(step, "on", 0) for step in self.steps), default=0))
            finally:
                stage.close()


# What a client does and sees.


@dataclass(frozen=True)
class Asks:
    """A client sends these bytes. weldr may have closed the connection meanwhile: what is seen then tells."""

    data: bytes
    by: int = 1

    async def play(self, stage: Stage) -> None:
        client = await stage.client(self.by)
        with contextlib.suppress(ConnectionError):
            await client.send(self.data, bytewise=stage.bytewise)


@dataclass(frozen=True)
class Connects:
    """A client connects and says nothing."""

    by: int = 1

    async def play(self, stage: Stage) -> None:
        await stage.client(self.by)


@dataclass(frozen=True)
class Shuts:
    """A client shuts its sending side."""

    by: int = 1

    async def play(self, stage: Stage) -> None:
        (await stage.client(self.by)).writer.write_eof()


@dataclass(frozen=True)
class Leaves:
    """A client cuts its connection: closing it would look as if it had only shut its sending side."""

    by: int = 1

    async def play(self, stage: Stage) -> None:
        (await stage.client(self.by)).reset()


@dataclass(frozen=True)
class Sees:
    """A client gets a whole response. `body` is not compared where weldr made it itself."""

    status: int = 200
    body: bytes | None = b"ok"
    interim: tuple[int, ...] | None = ()
    """The statuses of the interim ones before it; `None` for any."""
    method: str = "GET"
    connection: str | None = None
    """Of the field of this name, `*` for any value."""
    error: str | None = None
    """The RFC 9209 type of weldr's own answer."""
    by: int = 1

    async def play(self, stage: Stage) -> None:
        answer = await (await stage.client(self.by)).receive(method=self.method)
        assert answer.status == self.status, answer
        if self.error is not None:
            assert answer.proxy_status == f"weldr; error={self.error}", answer
        elif self.body is not None:
            assert answer.body == self.body, answer
        interim = tuple(each.status for each in answer.interim)
        assert self.interim in (None, interim), answer
        assert self.connection in ("*", answer.get("connection")), answer


@dataclass(frozen=True)
class SeesHead:
    """A client gets the head of a response, an interim or a final one."""

    status: int = 200
    fields: tuple[str, ...] = ()
    """Some that it has, as `name: value`, the names in small letters."""
    by: int = 1

    async def play(self, stage: Stage) -> None:
        head = await (await stage.client(self.by)).receive_head()
        assert head.status == self.status, head
        for each in self.fields:
            name, _, value = each.partition(": ")
            assert head.get(name) == value, head


@dataclass(frozen=True)
class SeesBytes:
    """A client gets exactly these bytes next."""

    data: bytes
    by: int = 1

    async def play(self, stage: Stage) -> None:
        client = await stage.client(self.by)
        async with asyncio.timeout(LIMIT_S):
            assert await client.reader.readexactly(len(self.data)) == self.data


@dataclass(frozen=True)
class SeesEnd:
    """A client's connection ends in good order, and nothing comes before that."""

    by: int = 1
    or_cut: bool = False
    """It may also be cut, since the client has sent more than weldr took."""

    async def play(self, stage: Stage) -> None:
        with contextlib.suppress(*((ConnectionError,) if self.or_cut else ())):
            assert await (await stage.client(self.by)).receive_rest() == b""


@dataclass(frozen=True)
class SeesCut:
    """A client's connection is reset: nothing that it got can be taken for complete."""

    by: int = 1

    async def play(self, stage: Stage) -> None:
        client = await stage.client(self.by)
        try:
            rest = await client.receive_rest()
        except ConnectionResetError:
            return
        raise AssertionError(f"the connection ended in good order after {rest!r}")


# What the backend sees and does.


@dataclass(frozen=True)
class Gets:
    """The backend gets a whole request."""

    line: str = "GET / HTTP/1.1"
    body: bytes = b""
    fields: tuple[str, ...] = ()
    """Some that it has, as `name: value`."""
    on: int = 1

    async def play(self, stage: Stage) -> None:
        await _check_request(await stage.connection(self.on), self.line, self.fields, self.body)


@dataclass(frozen=True)
class GetsHead:
    """The backend gets the head of a request, whose body may still be to come."""

    line: str = "POST / HTTP/1.1"
    fields: tuple[str, ...] = ()
    on: int = 1

    async def play(self, stage: Stage) -> None:
        await _check_request(await stage.connection(self.on), self.line, self.fields, None)


async def _check_request(
    connection: BackendConnection, line: str, fields: tuple[str, ...], body: bytes | None
) -> None:
    async with asyncio.timeout(LIMIT_S):
        received = await (connection.head() if body is None else connection.request())
    assert isinstance(received, Received), "there is no request"
    assert received.line == line, received
    for each in fields:
        name, _, value = each.partition(": ")
        assert received.get(name) == value, received
    if body is not None:
        assert received.body == body, received


@dataclass(frozen=True)
class GetsBody:
    """The backend gets a body in chunks, however it is cut into them."""

    data: bytes
    on: int = 1

    async def play(self, stage: Stage) -> None:
        connection = await stage.connection(self.on)
        chunked = Received("", [("Transfer-Encoding", "chunked")])
        async with asyncio.timeout(LIMIT_S):
            assert await connection.body(chunked) == self.data


@dataclass(frozen=True)
class GetsBytes:
    """The backend gets exactly these bytes next."""

    data: bytes
    on: int = 1

    async def play(self, stage: Stage) -> None:
        connection = await stage.connection(self.on)
        async with asyncio.timeout(LIMIT_S):
            assert await connection.reader.readexactly(len(self.data)) == self.data


@dataclass(frozen=True)
class Sends:
    """The backend sends these bytes."""

    data: bytes
    on: int = 1

    async def play(self, stage: Stage) -> None:
        connection = await stage.connection(self.on)
        with contextlib.suppress(ConnectionError):
            await (connection.send_bytewise if stage.bytewise else connection.send)(self.data)


@dataclass(frozen=True)
class Closes:
    """The backend closes a connection."""

    on: int = 1

    async def play(self, stage: Stage) -> None:
        (await stage.connection(self.on)).close()


@dataclass(frozen=True)
class Resets:
    """The backend cuts a connection."""

    on: int = 1

    async def play(self, stage: Stage) -> None:
        connection = await stage.connection(self.on)
        await connection.until_read()
        connection.reset()


@dataclass(frozen=True)
class Ends:
    """The backend shuts its side of a connection."""

    on: int = 1

    async def play(self, stage: Stage) -> None:
        (await stage.connection(self.on)).writer.write_eof()


@dataclass(frozen=True)
class Loses:
    """The backend's connection is closed by weldr, and nothing comes before that."""

    on: int = 1

    async def play(self, stage: Stage) -> None:
        connection = await stage.connection(self.on)
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(LIMIT_S):
                assert await connection.reader.read() == b""


@dataclass(frozen=True)
class AtOnce:
    """weldr stands still meanwhile, and then finds all of this in one look at its sockets, in this order."""

    steps: tuple[Step, ...]

    async def play(self, stage: Stage) -> None:
        process = stage.worker.process
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)  # noqa: ASYNC222
        try:
            for step in self.steps:
                await step.play(stage)
                for connection in stage.backend.connections:
                    if connection.writer.is_closing():
                        with contextlib.suppress(ConnectionError):
                            await connection.writer.wait_closed()
        finally:
            process.send_signal(signal.SIGCONT)


@dataclass(frozen=True)
class Pauses:
    """Time passes: for what must come too late, or would put something off if it counted as progress."""

    for_s: float

    async def play(self, stage: Stage) -> None:
        await asyncio.sleep(self.for_s)


@dataclass(frozen=True)
class Nothing:
    """For a moment nothing comes: neither to the backend, beyond `on` connections, nor to the client."""

    on: int = 1
    by: int = 1
    for_s: float = 0.15

    async def play(self, stage: Stage) -> None:
        client = await stage.client(self.by)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.for_s):
                raise AssertionError(f"the client got {await client.reader.read(1000)!r}")
        stage.check_nothing_left(self.on)
