"""One gRPC channel to one etcd member."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio

from weldr.etcd.answers import MemberStatus, header_of
from weldr.etcd.config import Endpoint, EtcdConfig
from weldr.etcd.errors import EtcdAuthError, EtcdError, EtcdRefusedError, EtcdUnavailableError, from_grpc
from weldr.etcd.protocol import rpc, stubs

OPEN_TIMEOUT_S = 2.0
_LOGIN_TIMEOUT_S = 5.0
_GOODBYE_TURN_S = 0.2
_MAX_MESSAGE_BYTES = 64 * 1024 * 1024

_OPTIONS = (
    # gRPC's default of 4 MiB is less than a page of large values.
    ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
    # Channels share connections by target. A new channel must not get the dead connection of the last one.
    ("grpc.use_local_subchannel_pool", 1),
    # No second sending by gRPC itself: whether a request may be sent again is decided in one place, here.
    ("grpc.enable_retries", 0),
    # etcd is named by address; the http_proxy of an application's environment is not meant for it.
    ("grpc.enable_http_proxy", 0),
    # etcd closes connections that ping more often than every 5 s.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
    # A new channel is made for each attempt, so this bounds how long one waits on a silent host.
    ("grpc.min_reconnect_backoff_ms", int(OPEN_TIMEOUT_S * 1000)),
)

Method = Callable[..., Any]


class Session:
    """Made by `Session.open`, which returns only one to a member that answers and has a leader."""

    def __init__(self, endpoint: Endpoint, channel: Any, token: Callable[[], str | None]) -> None:
        """`token` gives the one to show, if there is one."""
        self.endpoint = endpoint
        self.kv = stubs.KVStub(channel)
        self.watch = stubs.WatchStub(channel)
        self.lease = stubs.LeaseStub(channel)
        self.maintenance = stubs.MaintenanceStub(channel)
        self.version = ""
        self._auth = stubs.AuthStub(channel)
        self._channel = channel
        self._token = token

    @classmethod
    def unchecked(cls, endpoint: Endpoint, config: EtcdConfig, token: Callable[[], str | None]) -> Session:
        """One to a member of which nothing is known, for whoever wants to know what is wrong with it."""
        return cls(endpoint, _channel(endpoint, config), token)

    @classmethod
    async def open(cls, endpoint: Endpoint, config: EtcdConfig, token: Callable[[], str | None]) -> Session:
        """Connect, and ask whether this member is of use.

        Raises `EtcdUnavailableError`.
        """
        session = cls(endpoint, _channel(endpoint, config), token)
        try:
            status = await session.status(OPEN_TIMEOUT_S)
            if status is not None:
                session._check(status)
        except BaseException:
            await session.close()
            raise
        return session

    async def status(self, timeout_s: float) -> MemberStatus | None:
        """The member's word about itself; `None` if this user may not ask for it."""
        try:
            message = await self.call(
                self.maintenance.Status, rpc.StatusRequest(), timeout_s, require_leader=False
            )
        except EtcdAuthError:
            return None
        return MemberStatus(header_of(message), message.version, message.leader, message.isLearner)

    def _check(self, status: MemberStatus) -> None:
        self.version = status.version
        if status.leader == 0 or status.is_learner:
            reason = "this member is a learner" if status.is_learner else "this member has no leader"
            raise EtcdUnavailableError(reason, endpoint=str(self.endpoint), maybe_applied=False)

    async def authenticate(self, config: EtcdConfig) -> str | None:
        """A new token; `None` where etcd needs none.

        Raises `EtcdAuthError` for a wrong password.
        """
        request = rpc.AuthenticateRequest(name=config.user, password=config.password)
        try:
            # With a token that etcd does not take, it would refuse even this.
            answer = await self.call(self._auth.Authenticate, request, _LOGIN_TIMEOUT_S, show_token=False)
        except EtcdRefusedError as error:
            # It was disabled since etcd asked for it.
            if "authentication is not enabled" in error.reason:
                return None
            raise EtcdAuthError(error.reason) from None
        return str(answer.token)

    @property
    def token(self) -> str | None:
        """What the next request shows."""
        return self._token()

    async def call(
        self,
        method: Method,
        request: Any,
        timeout_s: float,
        *,
        require_leader: bool = True,
        show_token: bool = True,
    ) -> Any:
        """One unary request.

        Raises `EtcdError`.
        """
        metadata = self._metadata(require_leader, show_token)
        try:
            return await method(request, timeout=timeout_s, metadata=metadata)
        except _CALL_ERRORS as error:
            raise self._error(error) from None

    async def exchange(self, method: Method, request: Any, timeout_s: float) -> Any:
        """One request and one answer on a stream of their own; `None` if the stream ended without one.

        Raises `EtcdError`.
        """
        try:
            stream = method(timeout=timeout_s, metadata=self._metadata())
            try:
                await stream.write(request)
                answer = await stream.read()
            finally:
                stream.cancel()
        except _CALL_ERRORS as error:
            raise self._error(error) from None
        return None if answer is grpc.aio.EOF else answer

    def stream(self, method: Method) -> Stream:
        """A stream both ways, for good."""
        try:
            return Stream(method(metadata=self._metadata()), self._error)
        except _CALL_ERRORS as error:
            raise self._error(error) from None

    def _metadata(self, require_leader: bool = True, show_token: bool = True) -> tuple[tuple[str, str], ...]:
        pairs: list[tuple[str, str]] = []
        if require_leader:
            # Without it a member that is cut off from its cluster keeps a watch open and silent.
            pairs.append(("hasleader", "true"))
        token = self._token()
        if show_token and token is not None:
            pairs.append(("token", token))
        return tuple(pairs)

    def _error(self, error: BaseException) -> BaseException:
        if isinstance(error, asyncio.CancelledError):
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                return error
            # gRPC says so, too, when the channel was closed under the request.
            return EtcdUnavailableError("the connection was given up", endpoint=str(self.endpoint))
        if isinstance(error, grpc.aio.AioRpcError):
            return from_grpc(error.code(), error.details(), str(self.endpoint))
        # Of the kind "channel is closed", before anything is sent.
        return EtcdUnavailableError(str(error), endpoint=str(self.endpoint), maybe_applied=False)

    async def left_by_member(self) -> None:
        """Wait until the member says goodbye, or the connection breaks.

        A member that stops in good order keeps open streams for seconds, and silent. But it tells at once that
        it takes no new ones, and then the channel is no longer ready.
        """
        # Asked for again and again: gRPC's own waiting for a change can neither be cancelled nor does it end
        # with the channel, and gives errors in other event loops when its own was closed meanwhile.
        while self._channel.get_state() is grpc.ChannelConnectivity.READY:  # noqa: ASYNC110
            await asyncio.sleep(_GOODBYE_TURN_S)

    async def close(self, grace_s: float = 0.0) -> None:
        """Close the channel; what is in flight on it after `grace_s` fails."""
        await self._channel.close(grace_s or None)


_CALL_ERRORS = (grpc.aio.AioRpcError, grpc.aio.UsageError, asyncio.CancelledError)


class Stream:
    """Messages both ways, with our errors."""

    def __init__(self, call: Any, translate: Callable[[BaseException], BaseException]) -> None:
        self._call = call
        self._translate = translate

    async def write(self, request: Any) -> None:
        """Send one message.

        Raises `EtcdError`.
        """
        await self._translated(self._call.write(request))

    async def read(self) -> Any:
        """The next message, `None` at the end. A cancelled read ends the stream: gRPC has no other way.

        Raises `EtcdError`.
        """
        message = await self._translated(self._call.read())
        return None if message is grpc.aio.EOF else message

    async def _translated(self, operation: Awaitable[Any]) -> Any:
        try:
            return await operation
        except asyncio.InvalidStateError as error:
            # What grpc.aio says of a write to a stream that has ended; its status is in the call.
            raise await self._end_reason() or self._translate(grpc.aio.UsageError(str(error))) from None
        except _CALL_ERRORS as error:
            raise self._translate(error) from None

    async def _end_reason(self) -> EtcdError | None:
        if not self._call.done():
            return None
        code, details = await self._call.code(), await self._call.details()
        return None if code is grpc.StatusCode.OK else from_grpc(code, details, "the stream")

    def close(self) -> None:
        """End it."""
        self._call.cancel()


def _channel(endpoint: Endpoint, config: EtcdConfig) -> Any:
    if endpoint.scheme == "http":
        return grpc.aio.insecure_channel(endpoint.target, options=_OPTIONS)
    try:
        # At each connection: files may have been renewed since the last one.
        ca, key, certificate = (
            path.read_bytes() if path is not None else None
            for path in (config.ca_file, config.key_file, config.cert_file)
        )
    except OSError as error:
        reason = f"{error.filename} cannot be read: {error.strerror}"
        raise EtcdUnavailableError(reason, endpoint=str(endpoint), maybe_applied=False) from None
    credentials = grpc.ssl_channel_credentials(ca, key, certificate)
    return grpc.aio.secure_channel(endpoint.target, credentials, options=_OPTIONS)
