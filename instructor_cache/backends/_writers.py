"""Writers of one store take turns in a process, and wait for those of other processes."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from threading import Lock

from .._fork import renew_after_fork
from ._connection import Connection
from ._room import FILLED
from ._sqlite import Database

_FULL = "database or disk is full"  # SQLite's words
_TRUNCATE = "PRAGMA wal_checkpoint(TRUNCATE)"
_IN_VAIN = 4.0  # seconds without waiting for a lock that was waited for in vain


class Writers:
    """Writes to *database*, one thread at a time.

    Threads that compete for SQLite's own lock sleep and try again, so that some are always too
    late; here they wait until it is their turn.

    Args:
        database: What they write to.
        timeout: Seconds that one of them waits, for the others and for other processes.
        before: What is to be done first, with patience or without.
    """

    def __init__(
        self, database: Database, timeout: float, before: Callable[[Connection, bool], None]
    ) -> None:
        self._database, self._timeout, self._before = database, timeout, before
        self._in_vain_until = 0.0  # another process has kept the lock: nobody waits for it
        self._turn = Lock()
        renew_after_fork(self, Writers._renew)

    def write(self, work: Callable[[Connection], int]) -> int:
        """Give the number of rows that *work* changed; -1 if the store is read-only."""
        patience = None if self._turn.acquire(blocking=False) else self._wait()
        try:
            return self._write(work, patience)
        finally:
            self._turn.release()

    def _wait(self) -> float:
        """Wait for a turn; give the seconds that are left."""
        deadline = time.monotonic() + self._timeout
        if not self._turn.acquire(timeout=min(self._timeout, 1e6)):
            raise sqlite3.OperationalError("database is locked by other threads")
        return max(deadline - time.monotonic(), 0.0)

    def _write(self, work: Callable[[Connection], int], patience: float | None) -> int:
        def attempt(db: Connection) -> int:
            if db.trouble is not None:
                raise db.trouble
            if db.read_only:
                return -1
            self._before(db, is_patient)
            if is_patient:
                return _work(db, work)
            with db.waiting(0):
                return _work(db, work)

        self._database.look()
        is_patient = time.monotonic() > self._in_vain_until
        try:
            changed = self._database.run(attempt, patience if is_patient else 0)
        except sqlite3.OperationalError as error:
            has_waited = is_patient and (patience is None or patience > self._timeout / 2)
            if has_waited and "locked" in str(error) and str(error) != FILLED:
                self._in_vain_until = time.monotonic() + _IN_VAIN
            raise
        self._in_vain_until = 0.0
        return changed

    def _renew(self) -> None:
        self._turn = Lock()  # another thread may have held it


def _work(db: Connection, work: Callable[[Connection], int]) -> int:
    """Do *work*; if the disk is full, once more in the space that the journal has taken of it."""
    try:
        return work(db)
    except sqlite3.OperationalError as error:
        if str(error) != _FULL or db.execute(_TRUNCATE).fetchone()[0]:
            raise
    return work(db)
