"""How large the files of a store may get, and what goes when they are larger."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ._connection import PAGE, Connection

_EXPIRED = "DELETE FROM entries WHERE id IN (SELECT id FROM entries WHERE expires <= ? LIMIT ?)"
_LENGTHS = "SELECT length(value) FROM entries ORDER BY id LIMIT ?"
_OLDEST = "DELETE FROM entries WHERE id IN (SELECT id FROM entries ORDER BY id LIMIT ?)"
_PAGES = "SELECT page_count, freelist_count FROM pragma_page_count, pragma_freelist_count"
_TRUNCATE = "PRAGMA wal_checkpoint(TRUNCATE)"
_ROW_OVERHEAD = 120  # bytes that a row needs beside its key and value, roughly
_ENTRY = 8  # of them fit into the limit, or else an entry is not kept
_JOURNAL_SHARE = 0.18  # of the limit: what the journal may take
_JOURNAL = (2**16, 2**25)  # bytes: the least that it needs, and the most that helps
_RESERVE = 16  # 1/16 of the limit at least is for the journal: 15/16 + 1/8 is less than 1.1
_CHECKS = 100  # looks at the size while as much as the limit is written: each process is 1 % off
_STEP = 2**20  # bytes written between two looks, at most: so there is never much to delete
_PAUSE = 0.002  # seconds for others to bring the journal into the file
_TURNS = 8  # times its patience, a writer tries to make the room that it needs
_MOVED = 2**24  # bytes of entries that are moved to make the file small

FILLED = "database is locked by others, who fill its journal as fast as it is emptied"


class Room:
    """Room for *limit* bytes of files, made by whoever is about to write.

    The journal has a share of it, since it takes what is written before the file does; the rest
    is for the entries. Little is written between two looks at the size; what is much by itself
    is looked at while nobody else can write.

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
        self._most_each = min(limit // _ENTRY, _JOURNAL[1])
        self._most_journal = min(max(int(limit * _JOURNAL_SHARE), _JOURNAL[0]), _JOURNAL[1])
        self._most_kept_open = max(limit, self._most_journal)
        self._most = limit - max(min(self._most_journal, limit // 2), limit // _RESERVE)
        self._step = min(limit // _CHECKS, _STEP)
        self._long = self._most_journal * 3 // 4  # what the journal may take before it is shortened
        self._is_stuck = self._has_emptied = self._is_moved = False
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

    # -- the journal -----------------------------------------------------------------------

    def shorten(self, db: Connection, is_patient: bool, size: int = 0) -> None:
        """Bring the journal into the file if it is long, or wait until another process has done.

        It is long if it can't take another *size* bytes. Nobody writes meanwhile: while others
        write at will, what SQLite does by itself never comes to an end, and the journal grows
        without one. Raises OperationalError if the other process takes long. If somebody reads
        for long, the journal may grow up to the limit.
        """
        if not self._is_long(size):
            self._is_stuck = False
            return
        patience = self._patience if is_patient and not self._is_stuck else 0
        deadline, salt = time.monotonic() + patience * _TURNS, self._salt()
        with db.waiting(patience):
            while self._is_long(size) and not self._truncate(db):
                if time.monotonic() >= deadline:
                    self._give_up(size, patience > 0, self._salt() != salt)
                    break
                time.sleep(_PAUSE)

    def _truncate(self, db: Connection) -> bool:
        """Empty the journal if possible; tell if it was."""
        is_busy, frames, _ = db.execute(_TRUNCATE).fetchone()
        self._is_moved = frames < 0  # by another process, at this moment
        if not is_busy:
            self._long, self._is_stuck = self._most_journal * 3 // 4, False
            self._has_emptied = True
        return not is_busy

    def _give_up(self, size: int, has_waited: bool, was_emptied: bool) -> None:
        """Let the journal grow if nobody can empty it; else it is a matter of waiting longer."""
        if self._is_stuck:
            return
        if was_emptied:
            raise sqlite3.OperationalError(FILLED)
        if self._is_moved or not has_waited:
            raise sqlite3.OperationalError("database is locked by a process that moves its journal")
        wanted = self._journal_size() + size
        self._long = min(wanted * 2, self._most_kept_open)
        self._is_stuck = wanted > self._most_kept_open

    def _salt(self) -> bytes:
        """Give what is in the journal's header: another number each time that it was emptied."""
        try:
            with self._journal.open("rb") as file:  # no locks are on this file: it may be closed
                return file.read(24)[16:]
        except OSError:
            return b""

    def _is_long(self, size: int = 0) -> bool:
        return self._journal_size() > max(self._long - size, self._most_journal // 4)

    def _journal_size(self) -> int:
        try:
            return self._journal.stat().st_size
        except OSError:  # there is none, as with a file that was just deleted
            return 0

    # -- the file --------------------------------------------------------------------------

    def write(self, db: Connection, size: int, work: Callable[[Connection], int]) -> int:
        """Give what *work* gives, which writes *size* bytes, once there is room for them.

        Raises OperationalError, as for a full disk, if none can be made.
        """
        self._check_stuck()
        self._unchecked += size + _ROW_OVERHEAD
        if self._unchecked < self._step:
            return work(db)
        deadline = time.monotonic() + self._patience * _TURNS
        is_last = False
        while (rows := self._attempt(db, size, work, deadline)) is None:
            if is_last:
                raise _full(f"no room for {size} bytes, and too many entries to delete in time")
            is_last = time.monotonic() > deadline  # then what was deleted until now has to do
        return rows

    def _attempt(
        self, db: Connection, size: int, work: Callable[[Connection], int], deadline: float
    ) -> int | None:
        """Do *work* if there is room for it, or make some; nobody else can write meanwhile."""
        self.shorten(db, db.patience > 0, size)
        if size > (self._step if self._has_emptied else _STEP):
            time.sleep(_PAUSE)  # else who has had the lock has it again, and others never
        self._has_emptied = False
        db.execute("BEGIN IMMEDIATE")
        with db:  # which ends what was begun
            self._check_stuck()
            if self._is_long(size):
                raise sqlite3.OperationalError(FILLED)
            is_fit = self._make_room(db, size)
            if is_fit or (time.monotonic() > deadline and self._is_free(db, size)):
                self._unchecked = 0 if is_fit else self._step
                return work(db)
        return None

    def _make_room(self, db: Connection, size: int) -> bool:
        """Delete some expired entries, then some of the oldest; tell if *size* bytes will fit."""
        if (excess := self._excess(db, size)) <= 0:
            return True
        if db.execute(_EXPIRED, (self._clock(), self.batch)).rowcount:
            return self._excess(db, size) <= 0
        rows = db.execute(_OLDEST, (self._oldest(db, excess),)).rowcount
        return not rows or self._excess(db, size) <= 0

    def _oldest(self, db: Connection, excess: int) -> int:
        """Give how many of the oldest entries take *excess* bytes; at most a batch."""
        rows = 0
        for (length,) in db.execute(_LENGTHS, (self.batch,)):
            rows, excess = rows + 1, excess - length - _ROW_OVERHEAD
            if excess <= 0:
                break
        return rows

    def _excess(self, db: Connection, size: int) -> int:
        pages, free = db.execute(_PAGES).fetchone()
        return int((pages - free) * PAGE + size - self._most)

    def _is_free(self, db: Connection, size: int) -> bool:
        """Whether *size* bytes can be written without making the file larger."""
        _, free = db.execute(_PAGES).fetchone()
        return bool(free * PAGE > size)

    def shrink(self, db: Connection) -> int:
        """Give back what the file takes, if what is left in it is little: it is copied, twice."""
        pages, free = db.execute(_PAGES).fetchone()
        if free * 2 > pages and (pages - free) * PAGE <= min(_MOVED, self._most_journal // 2):
            with db.waiting(self._patience), suppress(sqlite3.OperationalError):
                db.execute("PRAGMA temp_store = MEMORY")
                db.execute("VACUUM")
                db.execute(_TRUNCATE).fetchall()
        return 0

    def _check_stuck(self) -> None:
        if self._is_stuck:
            raise _full("a journal as large as the limit, kept open by a program that reads")


def _full(found: str) -> sqlite3.OperationalError:
    return sqlite3.OperationalError(f"database or disk is full: found {found}")
