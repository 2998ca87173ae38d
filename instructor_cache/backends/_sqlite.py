"""Connections to one SQLite file, each used by one thread at a time and by no other process."""

from __future__ import annotations

import sqlite3
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from .._fork import renew_after_fork
from ._file import Connection, StoreFile

T = TypeVar("T")

_KEPT = 32  # idle connections; asyncio's worker threads are as many at most
_LOOK_EVERY = 1.0  # seconds: to look at the file costs a third of a read

# SQLite forbids using, and even closing, a connection that came through a fork.
_inherited: list[deque[Connection]] = []


class Database:
    """Runs work on a connection to the file at *path*, which is made if it isn't there.

    Args:
        path: The file. Its folder is made if it isn't there, readable by this user only.
        timeout: Seconds to wait for another process's lock.
    """

    def __init__(self, path: Path, timeout: float) -> None:
        self._file = StoreFile(path, timeout)
        self._idle: deque[Connection] = deque()
        self._inode = 0
        self._looked_at = 0.0
        renew_after_fork(self, Database._renew)

    def run(self, work: Callable[[Connection], T]) -> T:
        """Give what *work* does with a connection; once more if the file had to be replaced."""
        connection = self._take()
        try:
            return self._attempt(connection, work)
        except sqlite3.DatabaseError as error:
            if not self._file.discard(connection.inode, error):
                raise
        self.look()
        return self._attempt(self._take(), work)

    def look(self) -> None:
        """Notice that the file was deleted or replaced: SQLite would go on with its ghost."""
        self._inode = self._file.inode()
        self._looked_at = time.monotonic()

    def close(self) -> None:
        """Close the connections that are not at work. The next use opens new ones."""
        try:
            while True:
                self._idle.pop().close()
        except IndexError:  # the builtin only: at the end of a process, this module is gone
            return

    def _renew(self) -> None:
        _inherited.append(self._idle)
        self._idle = deque()

    def __del__(self) -> None:
        self.close()

    def _attempt(self, connection: Connection, work: Callable[[Connection], T]) -> T:
        try:
            result = work(connection)
        except BaseException:
            connection.close()
            raise
        if len(self._idle) < _KEPT:
            self._idle.append(connection)
        else:
            connection.close()
        return result

    def _take(self) -> Connection:
        if time.monotonic() - self._looked_at > _LOOK_EVERY:
            self.look()
        return self._reuse() or self._open()

    def _reuse(self) -> Connection | None:
        try:
            while (connection := self._idle.pop()).inode != self._inode:
                connection.close()
        except IndexError:
            return None
        return connection

    def _open(self) -> Connection:
        connection = self._file.open()
        self._inode = connection.inode
        return connection
