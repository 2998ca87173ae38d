"""Where the user's code is, seen from inside this package."""

from __future__ import annotations

import sys
from types import FrameType

_PACKAGE = __name__.partition(".")[0]


def callers_frame() -> tuple[FrameType, int]:
    """Give the innermost frame outside this package, and the ``stacklevel`` that a caller of this
    function would pass to `warnings.warn` to point at it."""
    frame, depth = sys._getframe(1), 1  # pyright: ignore[reportPrivateUsage]
    while frame.f_back is not None and _is_ours(frame):
        frame, depth = frame.f_back, depth + 1
    return frame, depth


def _is_ours(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0] == _PACKAGE
