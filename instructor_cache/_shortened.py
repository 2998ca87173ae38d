"""Texts that are cut, never within an escape."""

from __future__ import annotations

import re

CUT = "…"
_ESCAPE = re.compile(r"\\(?:x..|u.{4}|U.{8}|.)", re.DOTALL)
_ESCAPED = 10  # characters of an escape at most


def shortened(text: str, longest: int) -> str:
    """Give *text*, or its beginning and its end; an escape in it stays whole, or is left out."""
    if len(text) <= longest:
        return text
    tail = longest // 4
    begin, _ = _around(text, longest - tail - 3)
    _, end = _around(text, len(text) - tail)
    return f"{text[:begin]} {CUT} {text[end:]}"


def _around(text: str, at: int) -> tuple[int, int]:
    """Where the escape begins and ends that has *at* inside; *at* twice if there is none."""
    start = max(at - _ESCAPED, 0)
    while start > 0 and text[start - 1] == "\\":
        start -= 1
    for escape in _ESCAPE.finditer(text, start, at + _ESCAPED):
        if escape.start() < at < escape.end():
            return escape.span()
    return at, at


def quoted_within(text: str, longest: int) -> str:
    """Give *text* in quotes, shortened so that there is room for its escapes, too."""
    quoted, size = repr(shortened(text, longest)), longest
    while len(quoted) > longest > 3 * _ESCAPED:
        size = min(size - 1, size * longest // len(quoted))
        quoted = repr(shortened(text, size))
    return quoted


def clean(text: str) -> str:
    """Give *text* without what can't be written."""
    return text.encode("utf-8", "backslashreplace").decode()
