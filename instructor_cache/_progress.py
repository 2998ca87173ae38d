"""How far something is, in one line of a terminal that is written again and again."""

from __future__ import annotations

import shutil
import sys
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Self

_EVERY = 0.1  # seconds between two drawings
_WIDTH = 24  # of the bar


class Bar:
    """Draws on standard error, if that is a terminal; use it in a ``with``."""

    def __init__(self) -> None:
        self._stream = sys.stderr
        self.is_seen = self._stream is not None and self._stream.isatty()
        self._start = self._drawn_at = monotonic()

    def show(self, done: int, total: int | None) -> None:
        """Draw that *done* of *total* are done, unless something was drawn a moment ago."""
        now = monotonic()
        if now - self._drawn_at >= _EVERY:
            self._drawn_at = now
            self.say(line(done, total, now - self._start))

    def say(self, text: str) -> None:
        """Write *text* in the place of what was there."""
        room = max(shutil.get_terminal_size().columns - 1, 1)  # the last column would wrap
        self._stream.write(f"\r{text[:room]}\x1b[K")
        self._stream.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.write("\n")
        self._stream.flush()


def line(done: int, total: int | None, seconds: float) -> str:
    """Give the text for *done* of *total* after *seconds*: a bar, the rate, the time it needs.

    Without a total only the counts.
    """
    rate = done / seconds if seconds > 0 else 0.0
    if not total or done > total:
        return f"{done:,} entries  {rate:,.0f}/s  {_clock(seconds)}"
    bar = ("#" * (done * _WIDTH // total)).ljust(_WIDTH, "-")
    left = f"  {_clock((total - done) / rate)} left" if rate else ""
    return f"[{bar}] {100 * done // total} %  {done:,} of {total:,}  {rate:,.0f}/s{left}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
