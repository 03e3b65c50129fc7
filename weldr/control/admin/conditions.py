"""Conditional requests (RFC 9110, section 13) by modification revisions. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from http import HTTPStatus

from weldr.control.admin.problem import ProblemError

_TAG = r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"'
_TAGS = re.compile(rf"{_TAG}(?:[ \t]*,[ \t]*{_TAG})*")
_REVISION = re.compile(r'(W/)?"([0-9]{1,19})"')

ANY = "any"
_Tags = frozenset[int] | str | None


def tag(revision: int) -> str:
    """The entity tag of a key with this modification revision."""
    return f'"{revision}"'


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a request wants a key to be. `None` where it does not say."""

    match: _Tags = None
    none_match: _Tags = None

    @classmethod
    def of(cls, if_match: str | None, if_none_match: str | None) -> Conditions:
        """Read the two fields.

        Raises `ProblemError`.
        """
        # The first compares strongly, the second weakly (RFC 9110, section 13.1).
        return cls(_parse("If-Match", if_match, weak=False), _parse("If-None-Match", if_none_match, weak=True))

    def unchanged(self, revision: int) -> bool:
        """Whether a reader has what the key holds."""
        return _names(self.none_match, revision)

    def check(self, revision: int, path: str) -> None:
        """Whether a key at this revision, 0 if there is none, may be written.

        Raises `ProblemError`.
        """
        now = f"it is at revision {revision}" if revision else "it does not exist"
        if self.match is not None and not _names(self.match, revision):
            raise _failed(f"{path} is not what If-Match says: {now}; read it again, then decide", revision)
        if _names(self.none_match, revision):
            raise _failed(f"{path} is what If-None-Match says that it must not be: {now}", revision)


def _failed(detail: str, revision: int) -> ProblemError:
    headers = {"ETag": tag(revision)} if revision else {}
    return ProblemError(HTTPStatus.PRECONDITION_FAILED, detail, headers=headers, found_revision=revision)


def _names(tags: _Tags, revision: int) -> bool:
    if tags is None or not revision:
        return False
    return tags == ANY or (isinstance(tags, frozenset) and revision in tags)


def _parse(field: str, text: str | None, *, weak: bool) -> _Tags:
    """The revisions in a list of entity tags. A tag that is no revision is not ours, and names no key here."""
    if text is None:
        return None
    if text == "*":
        return ANY
    if not _TAGS.fullmatch(text):
        detail = f'{field} is no list of entity tags: expected * or "123", as the ETag of an answer gives it'
        # What cannot be read cannot be known to hold.
        raise ProblemError(HTTPStatus.PRECONDITION_FAILED, detail)
    found = (_REVISION.fullmatch(tag) for tag in re.findall(_TAG, text))
    return frozenset(int(revision[2]) for revision in found if revision and (weak or not revision[1]))
