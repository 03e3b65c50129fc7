"""The key layout under weldr's prefix.

A key is `<prefix><kind>/<name>[/<name>]`; how many names a kind takes is in `NAMES_OF_KIND`. Names are text
here and bytes in etcd. A name may hold anything that etcd takes but `/`: bytes that are no UTF-8 become
`\\xNN`, and a literal backslash is doubled, so that the text is readable, can be sent in any encoding, and
turns back into exactly the same bytes.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """The first segment of a key after the prefix."""

    BACKEND = "backends"
    OVERRIDE = "overrides"
    INSTANCE_OVERRIDE = "instance_overrides"
    SERVICE = "services"
    ROUTE = "routes"
    VIP = "vips"
    CERT = "certs"
    SETTINGS = "settings"
    STICKY_KEY = "sticky_key"
    INSTANCE = "instances"
    ELECTION = "elections"
    HOLDER = "holders"
    HEALTH = "health"
    MOVE = "moves"
    SECRET = "secrets"
    VIEWER = "viewers"


NAMES_OF_KIND: dict[Kind, tuple[str, ...]] = {
    Kind.BACKEND: ("service", "id"),
    Kind.OVERRIDE: ("service", "id"),
    Kind.INSTANCE_OVERRIDE: ("instance",),
    Kind.SERVICE: ("service",),
    Kind.ROUTE: ("name",),
    Kind.VIP: ("name",),
    Kind.CERT: ("name",),
    Kind.SETTINGS: (),
    Kind.STICKY_KEY: (),
    Kind.INSTANCE: ("instance",),
    Kind.ELECTION: ("vip", "lease"),
    Kind.HOLDER: ("vip",),
    Kind.HEALTH: ("instance", "service", "id"),
    Kind.MOVE: ("vip",),
    Kind.SECRET: ("name",),
    Kind.VIEWER: ("instance",),
}

REPORTED = frozenset(
    {Kind.INSTANCE, Kind.ELECTION, Kind.HOLDER, Kind.HEALTH, Kind.MOVE, Kind.SECRET, Kind.VIEWER}
)
"""The kinds that instances write for themselves and each other. All others are configuration."""

DEFAULT_PREFIX = "/weldr/"

MOST_NAME_BYTES = 1024
"""Names are told in logs, metrics, and what instances write of themselves, which has to fit into etcd."""


@dataclass(frozen=True, slots=True)
class KeyName:
    """A key taken apart: its kind and the names behind it."""

    kind: Kind
    names: tuple[str, ...]


class KeyLayoutError(Exception):
    """A key under the prefix that is not of the layout. `reason` is one line that says what to do."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


_UNDECODABLE = re.compile("[\udc80-\udcff]")
_ESCAPE = re.compile(rb"\\(?:\\|x([0-9a-f]{2}))")


def name_from_bytes(raw: bytes) -> str:
    """The name as text; see the module's head for the escapes. The inverse of `name_to_bytes`."""
    text = raw.decode("utf-8", "surrogateescape").replace("\\", "\\\\")
    return _UNDECODABLE.sub(lambda match: f"\\x{ord(match[0]) - 0xDC00:02x}", text)


def name_to_bytes(name: str) -> bytes:
    """The name as etcd keeps it."""

    def unescape(match: re.Match[bytes]) -> bytes:
        return b"\\" if match[1] is None else bytes((int(match[1], 16),))

    return _ESCAPE.sub(unescape, name.encode("utf-8"))


def canonical_name(name: str) -> str:
    r"""The name as `name_from_bytes` would write it: `a\b` and `a\\b` both stand for the bytes of the first."""
    return name_from_bytes(name_to_bytes(name)) if "\\" in name and is_text(name) else name


def is_text(name: str) -> bool:
    """Whether it can be encoded: half of a surrogate pair cannot."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


class KeySpace:
    """The keys under one prefix: makes them and takes them apart."""

    def __init__(self, prefix: str = DEFAULT_PREFIX) -> None:
        """`prefix` is used with exactly one trailing slash, so that `/weldr` never matches `/weldrx/`."""
        self.prefix = prefix.rstrip("/") + "/"
        self.prefix_bytes = self.prefix.encode("utf-8")
        self._reported = tuple(self.of_kind(kind) for kind in REPORTED)

    def key(self, kind: Kind, *names: str) -> bytes:
        """The key of `kind` with these names.

        Raises `ValueError` for a wrong number of names, or a name that is empty, too long, no text or holds a
        slash.
        """
        expected = NAMES_OF_KIND[kind]
        if len(names) != len(expected):
            raise ValueError(f"{kind} takes {len(expected)} names, not {len(names)}")
        for part, name in zip(expected, names, strict=True):
            if not name or "/" in canonical_name(name):
                raise ValueError(f"{part} {name!r} is empty or holds a slash")
            if not is_text(name):
                raise ValueError(f"{part} {name!r} is no text: write other bytes as \\xNN")
            if len(name_to_bytes(name)) > MOST_NAME_BYTES:
                raise ValueError(f"{part} {name[:40]!r}… is longer than {MOST_NAME_BYTES} bytes")
        return self.prefix_bytes + b"/".join([kind.value.encode(), *map(name_to_bytes, names)])

    def of_kind(self, kind: Kind, *names: str) -> bytes:
        """The prefix of all keys of `kind` (with these first names)."""
        return self.prefix_bytes + b"".join(
            part + b"/" for part in (kind.value.encode(), *map(name_to_bytes, names))
        )

    def is_reported(self, key: bytes) -> bool:
        """Whether instances write this key of themselves."""
        return key.startswith(self._reported)

    def parse(self, key: bytes) -> KeyName:
        """Take a key apart.

        Raises `KeyLayoutError` for a key that is not of the layout.
        """
        if not key.startswith(self.prefix_bytes):
            raise KeyLayoutError(f"the key is outside the prefix {self.prefix}")
        head, *rest = key[len(self.prefix_bytes) :].split(b"/")
        names = tuple(map(name_from_bytes, rest))
        try:
            kind = Kind(name_from_bytes(head))
        except ValueError:
            raise KeyLayoutError(_unknown_kind(name_from_bytes(head))) from None
        expected = NAMES_OF_KIND[kind]
        layout = "/".join([kind.value, *(f"<{part}>" for part in expected)])
        if len(names) != len(expected):
            amount = "few" if len(names) < len(expected) else "many"
            raise KeyLayoutError(f"the key has too {amount} segments: expected {self.prefix}{layout}")
        if not all(names):
            raise KeyLayoutError(f"the key has an empty segment: expected {self.prefix}{layout}")
        if any(len(part) > MOST_NAME_BYTES for part in rest):
            raise KeyLayoutError(f"the key has a segment of more than {MOST_NAME_BYTES} bytes")
        return KeyName(kind, names)


def _unknown_kind(word: str) -> str:
    close = difflib.get_close_matches(word, [kind.value for kind in Kind], n=1)
    if close:
        return f"weldr has no keys under {word!r}: did you mean {close[0]!r}?"
    return f"weldr has no keys under {word!r}: expected one of {', '.join(kind.value for kind in Kind)}"
