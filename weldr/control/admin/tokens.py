"""The tokens that the admin API takes, from a file, and what each of them may do."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

_LEAST_CHARACTERS = 16
_MOST_TOKENS = 1000
_MOST_FILE_BYTES = 1024 * 1024


class Role(StrEnum):
    """What a caller may do: `write` may read as well."""

    READ = "read"
    WRITE = "write"


class TokenFileError(Exception):
    """A file of tokens that cannot be used; one line that says why and what to do."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"the token file {path} {reason}")
        self.path = path
        self.reason = reason


@dataclass(frozen=True, slots=True)
class _Token:
    role: Role
    name: str
    digest: bytes
    """Of equal length for all tokens, so that a comparison tells nothing of theirs."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Who a token belongs to, by the name in the file."""

    role: Role
    name: str


class Tokens:
    """All tokens of a file: each line a role (`read` or `write`), a token, and a name for the log."""

    def __init__(self, lines: Iterable[str], path: Path) -> None:
        """Raises `TokenFileError`; its text never holds a token."""
        self._tokens: list[_Token] = []
        for number, line in enumerate(lines, 1):
            words = line.split()
            if words and not words[0].startswith("#"):
                self._tokens.append(_token(words, number, path))
        if not self._tokens:
            raise TokenFileError(
                path, "holds no token: expected lines of `write TOKEN NAME` or `read TOKEN NAME`"
            )
        if len(self._tokens) > _MOST_TOKENS:
            raise TokenFileError(path, f"holds {len(self._tokens)} tokens: at most {_MOST_TOKENS} are taken")

    @classmethod
    def read(cls, path: Path) -> Tokens:
        """Read a file.

        Raises `TokenFileError`.
        """
        try:
            with path.open("rb") as file:
                text = file.read(_MOST_FILE_BYTES + 1).decode("utf-8")
        except OSError as error:
            raise TokenFileError(path, f"cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise TokenFileError(path, "is not UTF-8") from None
        if len(text) > _MOST_FILE_BYTES:
            raise TokenFileError(path, f"is larger than {_MOST_FILE_BYTES} bytes")
        return cls(text.splitlines(), path)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tokens) and self._tokens == other._tokens

    __hash__ = None  # type: ignore[assignment]

    def __len__(self) -> int:
        return len(self._tokens)

    def holder(self, secret: str) -> Holder | None:
        """Whose token this is. Takes equally long for every wrong one, however much of it is right."""
        given = _digest(secret)
        found = None
        for token in self._tokens:
            if hmac.compare_digest(token.digest, given):
                found = Holder(token.role, token.name)
        return found


def _token(words: list[str], number: int, path: Path) -> _Token:
    if words[0] not in (Role.READ, Role.WRITE) or len(words) not in (2, 3):
        raise TokenFileError(
            path, f"has a wrong line {number}: expected `read TOKEN [NAME]` or `write TOKEN [NAME]`"
        )
    if len(words[1]) < _LEAST_CHARACTERS:
        raise TokenFileError(
            path,
            f"has a token of {len(words[1])} characters in line {number}: take {_LEAST_CHARACTERS} or more",
        )
    return _Token(Role(words[0]), words[2] if len(words) == 3 else f"line {number}", _digest(words[1]))


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


class TokenFile:
    """The tokens of a file as it is now. A change that cannot be used leaves those before it in force."""

    def __init__(self, path: Path) -> None:
        """Raises `TokenFileError`."""
        self._path = path
        self._stamp = _stamp(path)
        self.tokens = Tokens.read(path)

    def look(self) -> bool:
        """Read the file again if it has changed; whether the tokens are others now.

        Raises `TokenFileError`, once for each change that cannot be used.
        """
        stamp = _stamp(self._path)
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        tokens = Tokens.read(self._path)
        changed = tokens != self.tokens
        self.tokens = tokens
        return changed


def _stamp(path: Path) -> tuple[int, ...] | None:
    """Another one whenever the file is; `None` while there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
