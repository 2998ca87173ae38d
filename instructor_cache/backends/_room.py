"""How large the files of a store may get, and what goes when they are larger."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ._connection import PAGE, Connection

_EXPIRED = "DELETE FROM entries WHERE id IN (SELECT id FROM entries WHERE expires <= ? LIMIT ?)"
_OLDEST = "DELETE FROM entries WHERE id IN (SELECT id FROM entries ORDER BY id LIMIT ?)"
_PAGES = "SELECT page_count, freelist_count FROM pragma_page_count, pragma_freelist_count"
_TRUNCATE = "PRAGMA wal_checkpoint(TRUNCATE)"
_ROW_OVERHEAD = 120  # bytes that a row needs beside its key and value, roughly
_ENTRY = 8  # of them fit into the limit, or else an entry is not kept
_JOURNAL_SHARE = 0.18  # of the limit: what the journal may take
_JOURNAL = (2**16, 2**25)  # bytes: the least that it needs, and the most that helps
_CHECKS = 100  # looks at the size while as much as the limit is written: each process is 1 % off
_STEP = 2**20  # bytes written between two looks, at most: so there is never much to delete
_PAUSE = 0.002  # seconds for others to bring the journal into the file
_MOVED = 2**24  # bytes of entries that are moved to make the file small


class Room:
    """Room for *limit* bytes of files, made by whoever has just written.

    The journal has a share of it, since it takes what is written before the file does; the rest
    is for the entries.

    Args:
        limit: Bytes.
        journal: Where the journal is.
        clock: Seconds since the epoch.
        patience: Seconds that one writer spends on it; the next one goes on.

    Attributes:
        settings: What a connection has to be told.
        batch: Entries to delete in one transaction, so that the journal has room for it.
    """

    def __init__(
        self, limit: int, journal: Path, clock: Callable[[], float], patience: float
    ) -> None:
        self._journal, self._clock, self._patience = journal, clock, patience
        self._most_each = limit // _ENTRY
        self._most_journal = min(max(int(limit * _JOURNAL_SHARE), _JOURNAL[0]), _JOURNAL[1])
        self._most = limit - min(self._most_journal, limit // 2)
        self._step = min(limit // _CHECKS, _STEP)
        self._long = self._most_journal * 3 // 4  # what the journal may take before it is shortened
        self._unchecked = self._step  # bytes written since the size was last looked at
        pages = self._most_journal // PAGE
        self.batch = max(pages // 16, 8)  # of them each may change some pages
        self.settings = (
            f"PRAGMA wal_autocheckpoint = {pages // 2}",
            f"PRAGMA journal_size_limit = {self._most_journal}",
        )

    def is_enough(self, size: int) -> bool:
        """Whether an entry of *size* bytes is kept: a larger one would drive out too many."""
        return size <= self._most_each

    def shorten(self, db: Connection, is_patient: bool) -> None:
        """Bring the journal into the file if it is long, or wait until another process has done.

        Nobody writes meanwhile: while others write at will, what SQLite does by itself never comes
        to an end, and the journal grows without one. Raises OperationalError if the other process
        takes long. If somebody reads for long, the journal may grow.
        """
        if not self._is_long():
            return
        patience = self._patience if is_patient else 0
        deadline = time.monotonic() + patience * 8
        with db.waiting(patience):
            while self._is_long() and not self._truncate(db, time.monotonic() > deadline):
                time.sleep(_PAUSE)

    def _truncate(self, db: Connection, is_last: bool) -> bool:
        """Empty the journal if possible; tell if that's all for now, as it is *is_last*."""
        is_busy, frames, _ = db.execute(_TRUNCATE).fetchone()
        if is_busy and is_last and frames < 0:
            raise sqlite3.OperationalError("database is locked by a process that moves its journal")
        if is_busy and is_last:
            self._long = self._journal_size() * 2
        elif not is_busy:
            self._long = self._most_journal * 3 // 4
        return not is_busy or is_last

    def fill(self, db: Connection, size: int) -> None:
        """Delete what is too much, at times, now that *size* bytes more were written."""
        self._unchecked += size + _ROW_OVERHEAD
        if self._unchecked < self._step:
            return
        self._unchecked, is_done = 0, False
        with db.waiting(self._patience), suppress(sqlite3.OperationalError):  # locked: another time
            is_done = self._cull(db, time.monotonic() + self._patience)
        if not is_done:
            self._unchecked = self._step

    def shrink(self, db: Connection) -> int:
        """Give back what the file takes, if hardly anything is left in it."""
        pages, free = db.execute(_PAGES).fetchone()
        if free * 2 > pages and (pages - free) * PAGE <= _MOVED:
            with db.waiting(self._patience), suppress(sqlite3.OperationalError):
                db.execute("PRAGMA temp_store = MEMORY")
                db.execute("VACUUM")
                db.execute(_TRUNCATE).fetchall()
        return 0

    def _cull(self, db: Connection, deadline: float) -> bool:
        """Delete expired entries, then the oldest, in small transactions; tell if the rest fit."""
        if not self._is_excess(db):
            return True
        now, batch = self._clock(), min(64, self.batch)
        while db.execute(_EXPIRED, (now, batch)).rowcount == batch:
            if self._is_enough_for_now(deadline):
                return False
            batch = min(batch * 2, self.batch)
        batch = 8
        while (is_excess := self._is_excess(db)) and db.execute(_OLDEST, (batch,)).rowcount:
            if self._is_enough_for_now(deadline):
                break
            batch = min(batch * 2, self.batch)
        return not is_excess

    def _is_enough_for_now(self, deadline: float) -> bool:
        return time.monotonic() > deadline or self._is_long()

    def _is_excess(self, db: Connection) -> bool:
        pages, free = db.execute(_PAGES).fetchone()
        return bool((pages - free) * PAGE > self._most)

    def _is_long(self) -> bool:
        return self._journal_size() > self._long

    def _journal_size(self) -> int:
        try:
            return self._journal.stat().st_size
        except OSError:  # there is none, as with a file that was just deleted
            return 0
