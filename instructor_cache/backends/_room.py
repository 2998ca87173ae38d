"""How large the entries may get, and what goes when they are larger."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress

from ._connection import Connection

_EXPIRED = "DELETE FROM entries WHERE id IN (SELECT id FROM entries WHERE expires <= ? LIMIT ?)"
_OLDEST = "DELETE FROM entries WHERE id IN (SELECT id FROM entries ORDER BY id LIMIT ?)"
_USED = (
    "SELECT (page_count - freelist_count) * page_size "
    "FROM pragma_page_count, pragma_freelist_count, pragma_page_size"
)
_ROW_OVERHEAD = 120  # bytes that a row needs beside its key and value, roughly
_CHECKS = 100  # looks at the size while as much as the limit is written: each process is 1 % off


class Room:
    """Room for *limit* bytes of entries, made by whoever has just written.

    Args:
        limit: Bytes.
        clock: Seconds since the epoch.
        patience: Seconds that one writer spends on it; the next one goes on.
    """

    def __init__(self, limit: int, clock: Callable[[], float], patience: float) -> None:
        self._limit, self._clock, self._patience = limit, clock, patience
        self._unchecked = limit  # bytes written since the size was last looked at

    def is_enough(self, size: int) -> bool:
        """Whether an entry of *size* bytes fits at all."""
        return size <= self._limit

    def fill(self, db: Connection, size: int) -> None:
        """Delete what is too much, at times, now that *size* bytes more were written."""
        self._unchecked += size + _ROW_OVERHEAD
        if self._unchecked * _CHECKS < self._limit:
            return
        self._unchecked, is_done = 0, False
        with db.waiting(self._patience), suppress(sqlite3.OperationalError):  # locked: another time
            is_done = self._cull(db, time.monotonic() + self._patience)
        if not is_done:
            self._unchecked = self._limit

    def _cull(self, db: Connection, deadline: float) -> bool:
        """Delete expired entries, then the oldest, in small transactions; tell if the rest fit."""
        if not self._excess(db):
            return True
        now, batch = self._clock(), 64
        while db.execute(_EXPIRED, (now, batch)).rowcount == batch:
            if time.monotonic() > deadline:
                return False
            batch = min(batch * 2, 1000)
        batch = 8
        while (is_excess := self._excess(db)) and db.execute(_OLDEST, (batch,)).rowcount:
            if time.monotonic() > deadline:
                break
            batch = min(batch * 2, 1000)
        return not is_excess

    def _excess(self, db: Connection) -> bool:
        return bool(db.execute(_USED).fetchone()[0] > self._limit)
