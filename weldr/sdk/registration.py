"""`weldr.register`: puts the calling program into rotation for as long as it runs.

The registration lives on an event loop in a thread of its own. So it works the same under `with` and `async
with`, in synchronous and asynchronous programs, and a busy event loop of the application does not let the lease
expire. It ends on leaving the block, at the interpreter's exit, and, if it was made in the main thread, on
SIGTERM if the program has no handler of its own for it.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import socket
import threading
from collections.abc import Callable, Mapping
from types import TracebackType

import msgspec

from weldr.etcd.client import EtcdClient
from weldr.etcd.config import EtcdConfig
from weldr.model.address import Address
from weldr.model.decode import Fault, decode
from weldr.model.keys import DEFAULT_PREFIX, KeySpace, Kind, is_text
from weldr.sdk.background import background_loop
from weldr.sdk.callbacks import Callbacks
from weldr.sdk.own_address import address_of
from weldr.sdk.registrar import BackendValue, Registrar, RegistrationState
from weldr.sdk.sigterm import has_left, leave_on_sigterm

logger = logging.getLogger(__name__)

DEFAULT_TTL_S = 10
MOST_TTL_S = 86_400
DEFAULT_LEAVE_LIMIT_S = 30.0
_MOST_LEAVE_LIMIT_S = 86_400
_ENTER_WAIT_S = 5.0
_THREAD_END_S = 10.0
_CALLBACK_END_S = 1.0


def default_id(address: Address) -> str:
    """The same after a restart, so that it replaces its former self; different for each server of a service."""
    return f"{socket.gethostname()}-{address.port}"


class Registration:
    """A registration that is kept up in the background. Made by `weldr.register`."""

    def __init__(
        self,
        config: EtcdConfig,
        keys: KeySpace,
        service: str,
        backend_id: str,
        value: BackendValue,
        ttl_s: int,
        on_change: Callable[[RegistrationState, str], None] | None,
        leave_limit_s: float,
    ) -> None:
        """Start it.

        Raises `ForkedProcessError`.
        """
        self._loop = background_loop()
        self.state = RegistrationState.REGISTERING
        self.service = service
        self.id = backend_id
        self.address = value.url.removeprefix("http://")
        self._config = config
        self._keys = keys
        self._value = value
        self._ttl_s = ttl_s
        self._callbacks = Callbacks(on_change) if on_change is not None else None
        self._leave_limit_s = leave_limit_s
        self._pid = os.getpid()
        self._settled = threading.Event()
        """Set while there is nothing to wait for: registered, or left."""
        self._leave_asked = asyncio.Event()
        self._left = threading.Event()
        leave_on_sigterm(self, self._ask_to_leave)
        asyncio.run_coroutine_threadsafe(self._run(), self._loop)
        atexit.register(self.leave)

    def wait_registered(self, timeout_s: float | None = None) -> bool:
        """Wait until the key is in etcd; whether it is."""
        self._settled.wait(timeout_s)
        return self.state is RegistrationState.REGISTERED

    def leave(self) -> None:
        """Leave the rotation and wait until that is done, or its limit is over. Can be called again."""
        if os.getpid() != self._pid:
            return
        self._ask_to_leave()
        self._left.wait(self._leave_limit_s + _THREAD_END_S)
        if self._callbacks is not None:
            self._callbacks.close(_CALLBACK_END_S)
        atexit.unregister(self.leave)

    def __enter__(self) -> Registration:
        try:
            self.wait_registered(_ENTER_WAIT_S)
        except BaseException:
            self._ask_to_leave()  # the block does not run, so nothing else ever would
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()

    async def __aenter__(self) -> Registration:
        try:
            await asyncio.to_thread(self.wait_registered, _ENTER_WAIT_S)
        except BaseException:
            self._ask_to_leave()  # the block does not run, so nothing else ever would
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A cancelled task leaves the rotation all the same, and so does one that no thread is free for.
        self._ask_to_leave()
        await asyncio.to_thread(self.leave)

    def _ask_to_leave(self) -> None:
        if os.getpid() != self._pid:
            return  # a fork of the program: the thread is in the parent, and so is the registration
        self._loop.call_soon_threadsafe(self._leave_asked.set)

    async def _run(self) -> None:
        try:
            await self._keep_registered()
        except Exception:
            logger.exception("the registration failed")
        finally:
            self._left.set()
            self._settled.set()
            has_left(self)

    async def _keep_registered(self) -> None:
        async with EtcdClient(self._config) as client:
            registrar = Registrar(
                client, self._keys, self.service, self.id, self._value, self._ttl_s, self._changed
            )
            await registrar.start()
            await self._leave_asked.wait()
            await registrar.leave(self._leave_limit_s)

    def _changed(self, state: RegistrationState, reason: str) -> None:
        self.state = state
        if state is RegistrationState.REGISTERED:
            self._settled.set()
        elif state in (RegistrationState.REGISTERING, RegistrationState.TAKEN):
            self._settled.clear()
        if self._callbacks is not None:
            self._callbacks.tell(state, reason)


def register(
    service: str,
    address: str | None = None,
    *,
    port: int | None = None,
    id: str | None = None,
    ttl_s: int = DEFAULT_TTL_S,
    weight: int = 1,
    zone: str = "",
    meta: Mapping[str, str] | None = None,
    etcd: str | EtcdConfig | None = None,
    prefix: str = DEFAULT_PREFIX,
    on_change: Callable[[RegistrationState, str], None] | None = None,
    leave_limit_s: float = DEFAULT_LEAVE_LIMIT_S,
) -> Registration:
    """Put this program into rotation as a backend of `service`, until the returned registration is left.

    Use it with `with` or `async with`, or keep it and call `leave()`. It registers again after every loss of
    its lease, but never touches the key of another that has registered under the same id since. Leaving waits
    until no weldr instance has a request in flight to it, at most `leave_limit_s`.

    `address` is `host:port`, or give `port` alone to have this machine's own address found. `etcd` is a list of
    URLs or a configuration; by default the environment's `WELDR_ETCD` or `ETCDCTL_ENDPOINTS`, and what else
    etcdctl reads there. `on_change(state, reason)` is called from another thread with each new state.

    Raises `ValueError` with one line for a wrong argument, and `ForkedProcessError` in a process that was
    forked from one that had registered.
    """
    if (address is None) == (port is None):
        raise ValueError("give either an address or a port")
    if not isinstance(ttl_s, int) or not 1 <= ttl_s <= MOST_TTL_S:
        raise ValueError(f"ttl_s is {ttl_s!r}: expected a whole number of seconds from 1 to {MOST_TTL_S}")
    if not isinstance(leave_limit_s, int | float) or not 0 <= leave_limit_s <= _MOST_LEAVE_LIMIT_S:
        raise ValueError(
            f"leave_limit_s is {leave_limit_s!r}: expected seconds from 0 to {_MOST_LEAVE_LIMIT_S}"
        )
    optional = {"address": address, "id": id}
    texts = {"service": service, "zone": zone, "prefix": prefix}
    texts |= {word: text for word, text in optional.items() if text is not None}
    for word, text in texts.items():
        if not _is_text(text):
            raise ValueError(f"{word} is {text!r}: expected text")
    if meta is not None and not (isinstance(meta, Mapping) and all(map(_is_text, [*meta, *meta.values()]))):
        raise ValueError(f"meta is {meta!r}: expected a mapping of text to text")
    if on_change is not None and not callable(on_change):
        raise ValueError(f"on_change is {on_change!r}: expected a function")
    if not isinstance(etcd, str | EtcdConfig | None):
        raise ValueError(f"etcd is {etcd!r}: expected URLs with commas between them, or an EtcdConfig")
    if not prefix.strip("/"):
        raise ValueError("the prefix is empty")
    config = etcd if isinstance(etcd, EtcdConfig) else EtcdConfig.from_environment(etcd)
    first = config.endpoints[0]
    found = address_of(address if address is not None else str(port), first.host, first.port)
    keys = KeySpace(prefix)
    backend_id = default_id(found) if id is None else id
    keys.key(Kind.BACKEND, service, backend_id)
    value = BackendValue(url=f"http://{found}", weight=weight, zone=zone, meta=dict(meta or {}))
    # By the same rules as every instance will read it.
    understood = decode(Kind.BACKEND, msgspec.json.encode(value))
    if isinstance(understood, Fault):
        raise ValueError(f"in the backend's value, {understood.place}: {understood.reason}")
    return Registration(config, keys, service, backend_id, value, ttl_s, on_change, leave_limit_s)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and is_text(value)
