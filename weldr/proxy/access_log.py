"""The access log: which requests are written, and how.

What a client sent cannot forge a line or drive a terminal: JSON escapes control characters, and the combined
format escapes them as Apache does. Values of secret parameters are masked. No field is longer than
`_MOST_CHARACTERS`, and no line than what is written in one piece: of one that is, the fields are cut.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from typing import Protocol

import msgspec

from weldr.model.access_log import AccessField, AccessLogSettings
from weldr.proxy.line_writer import WRITE_BYTES, LineWriter
from weldr.proxy.request_fields import RequestRefusedError
from weldr.proxy.request_head import RequestHead
from weldr.proxy.routing.compiled import CompiledRoute
from weldr.proxy.routing.rules import Verdict

_MOST_CHARACTERS = 2048
_SHORTER = (1024, 512, 256, 64)
_MASK = "***"
_MICROSECONDS = 6


class LoggedRequest(Protocol):
    """What is known of a request that has ended."""

    head: RequestHead
    request_bytes: int
    response_bytes: int
    verdict: Verdict | None
    """What weldr answered itself, or why it cut the response off."""
    route: CompiledRoute | None
    """That took it."""

    @property
    def request_id(self) -> bytes: ...

    @property
    def client_address(self) -> str: ...


class AccessLog:
    """Chooses by the settings in force, and writes."""

    def __init__(self, writer: LineWriter) -> None:
        self.writer = writer
        self.adopt(AccessLogSettings())

    def adopt(self, settings: AccessLogSettings) -> None:
        """Go by these settings from now on."""
        self._settings = settings
        self.sample = settings.sample if settings.format != "off" else 0.0
        self.slow_ns = int(settings.slow_s * 1e9)
        """A request that took longer is written, as is a failed one."""
        self._due = 0.0
        names = "|".join(map(_however_written, settings.masked_query))
        self._secrets = re.compile(rf"(?<=[?&])({names})=[^&#]*", re.IGNORECASE) if names else None

    def samples(self) -> bool:
        """Whether an ordinary request is one of the sample: as evenly as can be."""
        self._due += self.sample
        if self._due < 1:
            return False
        self._due -= 1
        return True

    def write(self, request: LoggedRequest, way: tuple[str, str], status: int, elapsed_s: float) -> None:
        """Write a request that went this way (service and backend)."""
        if self._settings.format == "off":
            return
        line = _Line(request, way, status, elapsed_s, self._masked)
        if self._settings.format == "combined":
            self.writer.write(_combined(line))
            return
        self.writer.write(
            _json({name: value for name in self._settings.fields if (value := _READ[name](line)) is not None})
        )

    def write_refused(
        self, client: str, refusal: RequestRefusedError, error: str | None, request_id: str
    ) -> None:
        """Write what was no request that could be routed: of it is known only where it came from."""
        settings = self._settings
        if settings.format == "combined":
            self.writer.write(
                f'{client} - - [{_apache_time()}] "-" {refusal.status} - "-" "-"\n'.encode("ascii")
            )
        elif settings.format == "json":
            known: dict[AccessField, str | int | None] = {
                "time": _iso_time(time.time()),
                "client": client,
                "status": refusal.status,
                "request_id": request_id,
                "error": error,
                "details": refusal.reason[:_MOST_CHARACTERS],
            }
            self.writer.write(
                _json({name: value for name in settings.fields if (value := known.get(name)) is not None})
            )

    def _masked(self, target: str) -> str:
        if self._secrets is None or "?" not in target:
            return target
        return self._secrets.sub(rf"\1={_MASK}", target)


class _Line:
    """One request on its way into the log."""

    __slots__ = ("elapsed_s", "masked", "request", "status", "way")

    def __init__(
        self,
        request: LoggedRequest,
        way: tuple[str, str],
        status: int,
        elapsed_s: float,
        masked: Callable[[str], str],
    ) -> None:
        self.request = request
        self.way = way
        self.status = status
        self.elapsed_s = elapsed_s
        self.masked = masked

    @property
    def target(self) -> str:
        return self.masked(_text(self.request.head.target))

    @property
    def protocol(self) -> str:
        return "HTTP/1.1" if self.request.head.version_11 else "HTTP/1.0"

    @property
    def referer(self) -> str | None:
        value = self.field(_REFERER)
        return None if value is None else self.masked(value)

    @property
    def request_id(self) -> str | None:
        return _text(self.request.request_id) or None

    @property
    def details(self) -> str | None:
        verdict = self.request.verdict
        return None if verdict is None or verdict.error is None else verdict.reason[:_MOST_CHARACTERS]

    def field(self, pattern: re.Pattern[bytes]) -> str | None:
        found = pattern.search(self.request.head.fields.lines)
        return None if found is None else _text(found[1])


def _however_written(name: str) -> str:
    """A pattern of this parameter's name, any of whose characters may be percent-encoded."""
    return "".join(map(_character_pattern, name))


def _character_pattern(character: str) -> str:
    written = {"+"} if character == " " else set()
    for each in (character, character.lower(), character.upper()):
        written |= {each, "".join(f"%{byte:02x}" for byte in each.encode("utf-8", "backslashreplace"))}
    return "(?:" + "|".join(map(re.escape, sorted(written))) + ")"


def _pattern(name: bytes) -> re.Pattern[bytes]:
    return re.compile(rb"\r\n" + name + rb": ([^\r]*+)", re.IGNORECASE)


_REFERER = _pattern(b"Referer")
_USER_AGENT = _pattern(b"User-Agent")

_READ: dict[AccessField, Callable[[_Line], str | int | float | None]] = {
    "time": lambda line: _iso_time(time.time()),
    "client": lambda line: line.request.client_address,
    "method": lambda line: _text(line.request.head.method),
    "host": lambda line: _text(line.request.head.host),
    "target": lambda line: line.target,
    "protocol": lambda line: line.protocol,
    "status": lambda line: line.status,
    "duration_s": lambda line: round(line.elapsed_s, _MICROSECONDS),
    "request_bytes": lambda line: line.request.request_bytes,
    "response_bytes": lambda line: line.request.response_bytes,
    "service": lambda line: line.way[0],
    "backend": lambda line: line.way[1] or None,
    "request_id": lambda line: line.request_id,
    "referer": lambda line: line.referer,
    "user_agent": lambda line: line.field(_USER_AGENT),
    "error": lambda line: None if line.request.verdict is None else line.request.verdict.error,
    "details": lambda line: line.details,
    "route": lambda line: None if line.request.route is None else line.request.route.name,
}


def _text(value: bytes) -> str:
    return value[:_MOST_CHARACTERS].decode("utf-8", "backslashreplace")


def _iso_time(now_s: float) -> str:
    whole, rest = divmod(now_s, 1)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + f".{int(rest * 1000):03d}Z"


def _apache_time() -> str:
    return time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime())


def _json(values: Mapping[str, str | int | float]) -> bytes:
    text = msgspec.json.encode(values) + b"\n"
    for most in _SHORTER:
        if len(text) <= WRITE_BYTES:
            break
        short = {name: value[:most] if isinstance(value, str) else value for name, value in values.items()}
        text = msgspec.json.encode(short) + b"\n"
    return text


def _combined(line: _Line) -> bytes:
    request = line.request
    asked = f"{_text(request.head.method)} {line.target} {line.protocol}"
    referer, agent = line.referer or "-", line.field(_USER_AGENT) or "-"
    before = f"{request.client_address} - - [{_apache_time()}]"
    between = f"{line.status} {request.response_bytes or '-'}"
    for most in (_MOST_CHARACTERS, *_SHORTER):
        texts = [_escaped(text[:most]) for text in (asked, referer, agent)]
        written = f'{before} "{texts[0]}" {between} "{texts[1]}" "{texts[2]}"\n'
        if len(written) <= WRITE_BYTES:
            break
    return written.encode("ascii")


def _escaped(text: str) -> str:
    """As in Apache's logs: a quote, a backslash and whatever is not printable ASCII."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    if escaped.isascii() and escaped.isprintable():
        return escaped
    return "".join(each if each.isascii() and each.isprintable() else _hex(each) for each in escaped)


def _hex(character: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in character.encode("utf-8"))
