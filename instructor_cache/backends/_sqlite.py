"""Work on one SQLite file: on a connection of its own, within a deadline, twice if need be."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import TypeVar

from ._connection import Connection
from ._file import StoreFile, says_outdated
from ._pool import Pool

T = TypeVar("T")

_TURN = 0.02  # seconds: SQLite asks for a lock ever more seldom, so let it begin again
_PAUSE = 0.001  # seconds between two attempts
_LOOK_EVERY = 1.0  # seconds: to look at the file costs a third of a read


class Database:
    """Runs work on a connection to the file at *path*, which is made if it isn't there.

    Args:
        path: The file. Its folder is made if it isn't there, readable by this user only.
        timeout: Seconds for all that one piece of work waits for other processes.
        settings: Statements for each new connection.
    """

    def __init__(self, path: Path, timeout: float, settings: tuple[str, ...] = ()) -> None:
        self.pool: Pool[Connection] = Pool(f"the store at {path.parent}")
        self._file = StoreFile(path, settings)
        self._timeout = timeout
        self._now = (0, 0)  # which file is there, and which journal
        self._looked_at = -inf

    def run(self, work: Callable[[Connection], T], timeout: float | None = None) -> T:
        """Give what *work* does with a connection; once more if the file had to be replaced.

        While another process has the lock that *work* needs first of all, it is tried again, for
        *timeout* seconds; by default, as long as the database waits.
        """
        start = time.monotonic()
        if start - self._looked_at > _LOOK_EVERY:
            self._look_closely(start)
        deadline = start + (self._timeout if timeout is None else timeout)
        while True:
            try:
                return self._run(work, deadline)
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() >= deadline:
                    raise
            time.sleep(_PAUSE)

    def _run(self, work: Callable[[Connection], T], deadline: float) -> T:
        connection = self._take()
        if connection is None:
            return self._afresh(work, deadline)
        try:
            result = work(connection)
        except BaseException as error:
            self._recover(connection, error)
            if not self._may_help(connection, error, deadline):
                raise
        else:
            self.pool.put(connection)
            return result
        return self._afresh(work, deadline)

    def look(self) -> None:
        """Notice that the file was deleted or replaced: SQLite would go on with its ghost."""
        if (inode := self._file.inode()) != self._now[0]:
            self._now = (inode, self._file.journal())

    def _look_closely(self, now: float) -> None:
        self._now = (self._file.inode(), self._file.journal())
        self._looked_at = now

    def _take(self) -> Connection | None:
        while (connection := self.pool.take()) is not None and connection.file != self._now:
            self.pool.drop(connection)
        return connection

    def _recover(self, connection: Connection, error: BaseException) -> None:
        """Keep *connection* if *error* says nothing about it, as "full" and "locked" do not."""
        if not isinstance(error, sqlite3.OperationalError) or connection.in_transaction:
            self.pool.drop(connection)
        elif says_outdated(error):
            self.pool.drop(connection)
            self.pool.empty()  # SQLite lets go of a journal's index with its last connection
        else:
            self.pool.put(connection)

    def _may_help(self, connection: Connection, error: BaseException, deadline: float) -> bool:
        """Whether to try again on a new connection, for the file was set aside or has changed."""
        if not isinstance(error, sqlite3.DatabaseError):
            return False
        return says_outdated(error) or self._file.discard(connection.file[0], error, deadline)

    def _afresh(self, work: Callable[[Connection], T], deadline: float) -> T:
        """Work on a new connection, to a new file if the present one turns out to be broken."""
        try:
            return self._work(work, deadline)
        except sqlite3.DatabaseError as error:
            if not self._file.discard(self._now[0], error, deadline):
                raise
        return self._work(work, deadline)

    def _work(self, work: Callable[[Connection], T], deadline: float) -> T:
        connection = self.pool.open(lambda: self._file.open(deadline))
        self._now = connection.file
        try:
            result = work(connection)
            connection.wait(min(self._timeout, _TURN))
        except BaseException:
            self.pool.drop(connection)
            raise
        (self.pool.put if connection.trouble is None else self.pool.drop)(connection)
        return result
