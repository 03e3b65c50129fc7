"""Plays a scenario: one worker's context, its clients and its backends, on a clock of its own."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from tests.fuzz.loop import MemoryLoop
from tests.fuzz.scenario import Answer, Scenario
from tests.fuzz.sides import ClientSide, Forwarded, Link
from tests.fuzz.transport import MemoryTransport
from weldr.model.traffic import ServiceDelta, TrafficDelta
from weldr.model.values import Backend, Service
from weldr.proxy.client_connection import ClientConnection
from weldr.proxy.context import Context
from weldr.proxy.line_writer import LineWriter

_OK = Answer(head=b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", body=b"ok")
_UNASKED = b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nunasked"
_FIRST_DISRUPTION = 208
_FIRST_TOGETHER = 192
"""Steps from here on are in one turn of the loop with the next one."""
_LONGEST_WAIT_S = 100.0
_MOST_PROGRESS = 2000
_LOG = LineWriter(1)
"""Of all worlds: each writer has a thread, and those do not end before the process does."""
_BACKENDS = {f"b{number}": Backend(host=f"10.1.0.{number}", port=80) for number in (1, 2)}

Action = Callable[[], None]


class World:
    """See the module. After `play` it holds what everybody got."""

    def __init__(self, scenario: Scenario, policy: Service | None = None) -> None:
        """`policy` is the service's."""
        self.policy = policy or Service()
        self.loop = _loop()
        self.loop.connect = self._connect
        self.loop.set_exception_handler(self._unhandled)
        self.errors: list[str] = []
        """What was logged as an error, or let out by a protocol or task."""
        self.clients: list[ClientSide] = []
        self.links: list[Link] = []
        self.forwarded: list[Forwarded] = []
        """By all links, in the order in which weldr sent them."""
        self.refused = 0
        """Connections that a backend did not take."""
        self.disrupted = False
        """Whether anything was done that may fail requests."""
        self._registered: dict[str, tuple[str, int]] = {}
        self._registrations: Counter[tuple[str, int]] = Counter()
        self._scenario = scenario
        self._answers = list(scenario.answers)[::-1]
        self._connects = list(scenario.connects)[::-1]
        self._connecting: list[asyncio.Future[None]] = []
        self.transports: list[MemoryTransport] = []
        self.context = Context(self.loop, on_backend_idle=lambda: None)
        self.context.accounts.access_log.writer = _LOG

    def play(self) -> World:
        """All of it, to the end of every connection."""
        with _same_chances(), _errors_logged(self.errors):
            self._apply(put=dict(_BACKENDS), policy=self.policy)
            self._learn_latency()
            for number, plan in enumerate(self._scenario.clients):
                protocol = ClientConnection(self.context)
                address = (f"10.0.0.{number}", 40000 + number)
                transport = self._transport(protocol, address)
                self.clients.append(ClientSide(number, plan, transport))
            for choice in self._scenario.steps:
                self._step(choice)
            self._finish()
        return self

    # What happens.

    def _step(self, choice: int) -> None:
        if choice < (_FIRST_DISRUPTION if self.policy.hedging is None else _FIRST_DISRUPTION // 2):
            self._progress(choice)
            return
        actions = self._disruptions()
        self.disrupted = True
        actions[choice % len(actions)]()
        self.loop.settle()

    def _progress(self, choice: int) -> bool:
        actions: list[Action] = [client.send for client in self.clients if client.can_send]
        actions += [link.answer for link in self.links if link.can_answer]
        actions += [functools.partial(self._let_connect, waiting) for waiting in self._connecting]
        if not actions:
            return False
        actions[choice % len(actions)]()
        if choice < _FIRST_TOGETHER:
            self.loop.settle()
        return True

    def _disruptions(self) -> list[Action]:
        actions: list[Action] = [functools.partial(self._pass, 0.5), functools.partial(self._pass, 61.0)]
        if self.policy.hedging is not None:
            # Time is what this is about.
            actions = [actions[0]] * 20 + actions
        for client in self.clients:
            if client.transport.takes:
                actions.append(client.end)
            if not client.transport.lost:
                reads = not client.transport.peer_reads
                actions += [client.abort, functools.partial(client.transport.set_peer_reads, reads)]
        for link in self.links:
            if link.transport.takes:
                actions += [link.end, functools.partial(link.send, _UNASKED)]
            if not link.transport.lost:
                reads = not link.transport.peer_reads
                actions += [link.abort, functools.partial(link.transport.set_peer_reads, reads)]
        actions += [
            lambda: self._apply(put={"b1": Backend(host="10.1.0.1", port=80, drain=True)}),
            lambda: self._apply(put={"b1": Backend(host="10.1.0.1", port=81, weight=3)}),
            lambda: self._apply(removed=["b1", "b2"]),
            lambda: self._apply(put=dict(_BACKENDS)),
            self._drain,
        ]
        return actions

    def _pass(self, seconds: float) -> None:
        self.loop.advance(seconds)
        self.context.tick()

    def _drain(self) -> None:
        self.context.begin_draining()
        self.context.clients.drain()

    def _learn_latency(self) -> None:
        """As if many requests had been answered at once: so that a later one is slow, and hedged."""
        latency = self.context.fleet.table.services["default"].guard.latency
        if latency is not None:
            for _ in range(20):
                latency.add(0.0)
            latency.tick(self.loop.time())

    def _apply(
        self,
        *,
        put: dict[str, Backend] | None = None,
        removed: list[str] | None = None,
        policy: Service | None = None,
    ) -> None:
        for name in removed or []:
            self._registered.pop(name, None)
        for name, backend in (put or {}).items():
            address = (backend.host, backend.port)
            if self._registered.get(name) != address:
                self._registered[name] = address
                self._registrations[address] += 1
        delta = ServiceDelta(policy=policy, put=put or {}, removed=removed or [])
        self.context.fleet.apply(TrafficDelta(services={"default": delta}))

    def _finish(self) -> None:
        """Everybody reads and sends the rest; then the clients leave, and time passes until all is over."""
        for transport in self.transports:
            transport.set_peer_reads(True)
        self.loop.settle()
        self._progress_to_the_end()
        for client in self.clients:
            if client.transport.takes:
                client.end()
        self.loop.settle()
        self._progress_to_the_end()
        for _ in range(8):
            if all(transport.lost for transport in self.transports) and not self._connecting:
                break
            self._pass(_LONGEST_WAIT_S)
            self.loop.settle()
            for link in self.links:
                # A tunnel has no limit of its own: it ends by its sides.
                if link.transport.takes and link.requests and link.requests[-1].switched:
                    link.end()
            self.loop.settle()
        for transport in self.transports:
            self.errors += [repr(error) for error in transport.errors]

    def _progress_to_the_end(self) -> None:
        for _ in range(_MOST_PROGRESS):
            if not self._progress(0):
                return
        self.errors.append("it never ends")

    # Connections.

    def _transport(self, protocol: asyncio.Protocol, peer: tuple[str, int]) -> MemoryTransport:
        local = ("10.9.9.9", 8080)
        transport = MemoryTransport(self.loop, protocol, peer=peer, local=local, limit=self._scenario.limit)
        self.transports.append(transport)
        return transport

    async def _connect(self, factory: Callable[[], asyncio.Protocol], host: str, port: int) -> Any:
        way = self._connects.pop() % 4 if self._connects else 0
        if way == 1:
            self.refused += 1
            raise ConnectionRefusedError
        if way >= 2:
            waiting = self.loop.create_future()
            if way == 2:
                self._connecting.append(waiting)
            try:
                await waiting
            except asyncio.CancelledError:
                self.refused += 1
                raise
            finally:
                if waiting in self._connecting:
                    self._connecting.remove(waiting)
        protocol = factory()
        transport = self._transport(protocol, (host, port))
        registration = self._registrations[host, port]
        self.links.append(Link(transport, self.forwarded.append, self._next_answer, registration))
        return transport, protocol

    def _let_connect(self, waiting: asyncio.Future[None]) -> None:
        self._connecting.remove(waiting)
        waiting.set_result(None)

    def _next_answer(self) -> Answer:
        return self._answers.pop() if self._answers else _OK

    def _unhandled(self, _: asyncio.AbstractEventLoop, details: dict[str, Any]) -> None:
        self.errors.append(str(details))


@functools.cache
def _loop() -> MemoryLoop:
    # One for all worlds: to make one costs as much as to play a scenario.
    return MemoryLoop()


@contextlib.contextmanager
def _same_chances() -> Iterator[None]:
    """Let the balancer begin at the same backend each time."""
    state = random.getstate()
    random.seed(0)
    try:
        yield
    finally:
        random.setstate(state)


class _ErrorsTo(logging.Handler):
    """Keeps records of level ERROR, with their tracebacks; those below are what backends deserve."""

    def __init__(self, errors: list[str]) -> None:
        super().__init__(logging.ERROR)
        self._errors = errors

    def emit(self, record: logging.LogRecord) -> None:
        self._errors.append(logging.Formatter().format(record))


@contextlib.contextmanager
def _errors_logged(errors: list[str]) -> Iterator[None]:
    logger = logging.getLogger("weldr")
    handler = _ErrorsTo(errors)
    propagate, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate
