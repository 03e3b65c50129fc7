"""Paths as requests write them, and the patterns that match them, in time linear in the path. Pure.

Patterns go to RE2, which never backtracks. It is imported only where there is a pattern.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    import re2

_SAFE = "/%:@!$&'()*+,;=-._~[]|^`{}\"<>\\"
_MAX_PROGRAM_BYTES = 256 * 1024
"""For the program of one pattern, and what matching it remembers."""
_GLOB_TOKEN = re.compile(r"(\*\*|\*|\?)")
_GLOB_REGEX = {"**": ".*", "*": "[^/]*", "?": "[^/]"}


class PatternError(Exception):
    """What was given is no pattern, or too large a one."""


def written_path(path: str) -> bytes:
    """The path as requests write it: what a URI cannot hold is percent-encoded (RFC 3986, section 2.1)."""
    return quote(path, safe=_SAFE + "?#").encode("ascii")


def glob_regex(glob: str) -> str:
    """The regular expression of a glob."""
    parts = enumerate(_GLOB_TOKEN.split(glob))
    return "".join(
        _GLOB_REGEX[part] if index % 2 else re.escape(quote(part, safe=_SAFE)) for index, part in parts
    )


def compiled(regex: str) -> re2._Regexp[bytes]:
    """For matching bytes.

    Raises `PatternError`.
    """
    import re2

    try:
        return re2.compile(regex.encode("utf-8"), _options())
    except re2.error as error:
        raise PatternError(_reason(error)) from None


def _options() -> re2.Options:
    """How all patterns are compiled: over bytes, with a bound on their memory."""
    import re2

    chosen = re2.Options()
    chosen.max_mem = _MAX_PROGRAM_BYTES
    chosen.log_errors = False
    chosen.encoding = re2.Options.Encoding.LATIN1
    chosen.dot_nl = True
    return chosen


def _reason(error: Exception) -> str:
    reason = error.args[0] if error.args else "it cannot be understood"
    text = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
    return f"no regular expression that RE2 takes: {text}"
