"""One SQLite file, opened privately, shared by threads and processes, and replaced when broken."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from .._frames import callers_frame
from ..errors import BackendWarning

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows
    fcntl = None  # type: ignore[assignment]

T = TypeVar("T")

_APPLICATION_ID = 0x1C0DE001
_SETTINGS = (
    "PRAGMA trusted_schema = OFF",
    "PRAGMA synchronous = NORMAL",
    "PRAGMA journal_size_limit = 4194304",
)
_SCHEMA = (
    f"PRAGMA application_id = {_APPLICATION_ID}",
    "CREATE TABLE IF NOT EXISTS entries("
    "id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, value BLOB NOT NULL, expires REAL)",
    "CREATE INDEX IF NOT EXISTS entries_expires ON entries(expires) WHERE expires IS NOT NULL",
)
_OURS = {"entries", "entries_expires", "sqlite_autoindex_entries_1"}
_BROKEN = ("not a database", "malformed", "encrypted")  # as SQLite words it


class Database:
    """Runs work on a connection of its own for each thread at a time.

    Args:
        path: The file. Its folder is made if it isn't there, readable by this user only.
        timeout: Seconds to wait for another process's lock.
    """

    def __init__(self, path: Path, timeout: float) -> None:
        self.path = path
        self.read_only = False
        self._timeout = timeout
        self._inode = 0
        self._idle: deque[sqlite3.Connection] = deque()
        self._pid = os.getpid()
        self._inherited: list[Any] = []

    def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Give what *work* does with a connection; once more if the file had to be replaced."""
        try:
            return self._attempt(work)
        except (sqlite3.DatabaseError, IsADirectoryError) as error:
            if not self._recover(error):
                raise
        return self._attempt(work)

    def notice_removal(self) -> None:
        """Begin anew if somebody deleted the file: SQLite would go on writing to its ghost."""
        if self._idle and not self.read_only and self._is_gone():
            self.close()

    def close(self) -> None:
        """Close the connections that are not at work. The next use opens new ones."""
        while self._idle:
            with contextlib.suppress(IndexError):
                self._idle.pop().close()

    def __del__(self) -> None:
        if getattr(self, "_pid", None) == os.getpid():
            self.close()

    def _attempt(self, work: Callable[[sqlite3.Connection], T]) -> T:
        connection = self._take()
        try:
            result = work(connection)
        except BaseException:
            connection.close()
            raise
        self._idle.append(connection)
        return result

    def _take(self) -> sqlite3.Connection:
        if self._pid != os.getpid():
            # SQLite forbids using, and even closing, a connection that came through a fork.
            self._inherited.append(self._idle)
            self._idle, self._pid = deque(), os.getpid()
        try:
            return self._idle.pop()
        except IndexError:
            return self._open()

    # -- opening -------------------------------------------------------------------------

    def _open(self) -> sqlite3.Connection:
        try:
            self._create()
            connection = self._connect(f"{self.path.as_uri()}?mode=rw")
            try:
                self._set_up(connection)
            except BaseException:
                connection.close()
                raise
            return connection
        except (PermissionError, sqlite3.OperationalError) as error:
            if not self._must_not_write(error):
                raise
            return self._open_read_only()
        except OSError as error:
            if error.errno != errno.EROFS:
                raise
            return self._open_read_only()

    def _create(self) -> None:
        folder = self.path.parent
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        ignore = folder / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n")
        if self.path.is_symlink():
            raise OSError(f"{self.path} is a symbolic link; it must be a file of its own")
        if self.path.is_dir():
            raise IsADirectoryError(f"{self.path} is a folder; it must be a file")
        os.close(os.open(self.path, os.O_CREAT | os.O_RDWR | getattr(os, "O_NOFOLLOW", 0), 0o600))
        self._inode = self.path.stat().st_ino

    def _connect(self, uri: str) -> sqlite3.Connection:
        return sqlite3.connect(
            uri, uri=True, timeout=self._timeout, isolation_level=None, check_same_thread=False
        )

    def _set_up(self, connection: sqlite3.Connection) -> None:
        for setting in _SETTINGS:
            connection.execute(setting)
        if not self._is_ready(connection):
            with self._alone():  # changing to WAL fails while another process does the same
                if not self._is_ready(connection):
                    connection.execute("PRAGMA journal_mode = WAL").fetchall()
                    for statement in _SCHEMA:
                        connection.execute(statement)

    def _is_ready(self, connection: sqlite3.Connection) -> bool:
        """Whether the file holds our table; an error if it holds anything of somebody else's."""
        names = {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        if names - _OURS or (names and application != _APPLICATION_ID):
            raise sqlite3.DatabaseError(f"{self.path} is not a database of this cache")
        return names == _OURS

    def _must_not_write(self, error: Exception) -> bool:
        if isinstance(error, PermissionError):
            return self.path.exists()
        text = str(error).lower()
        return "readonly" in text or ("unable to open" in text and self.path.exists())

    def _open_read_only(self) -> sqlite3.Connection:
        if not self.read_only:
            self.read_only = True
            _warn(f"{self.path} can't be written: it answers with what it holds, and keeps no more")
        self._inode = self.path.stat().st_ino
        for mode in ("mode=ro", "mode=ro&immutable=1"):  # without a writable folder, no WAL index
            connection = self._connect(f"{self.path.as_uri()}?{mode}")
            try:
                connection.execute("SELECT 1 FROM entries LIMIT 1").fetchall()
                return connection
            except sqlite3.OperationalError:
                connection.close()
        raise sqlite3.OperationalError(f"{self.path} can be neither written nor read")

    # -- when it is broken or gone -------------------------------------------------------

    def _recover(self, error: Exception) -> bool:
        """Whether another attempt may help, the broken file being set aside."""
        if self._is_gone():
            self.close()
            return True
        text = str(error).lower()
        if self.read_only or not (
            isinstance(error, IsADirectoryError) or any(sign in text for sign in _BROKEN)
        ):
            return False
        self.close()
        with self._alone():
            if not self._is_gone():  # else another process was faster
                self._set_aside(error)
        return True

    def _is_gone(self) -> bool:
        try:
            return self.path.stat().st_ino != self._inode and not self.path.is_dir()
        except OSError:
            return True

    def _set_aside(self, error: Exception) -> None:
        stamp = f"corrupt-{time.time_ns() // 1_000_000}"
        for suffix in ("", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                os.rename(f"{self.path}{suffix}", f"{self.path}.{stamp}{suffix}")
        _warn(f"{self.path} was unreadable ({error}); it is kept as *.{stamp}, and a new one begun")

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the folder's lock file, or stop waiting for it after the timeout."""
        if fcntl is None:  # pragma: no cover - Windows
            yield
            return
        with open(self.path.with_suffix(".lock"), "wb") as file:
            deadline = time.monotonic() + self._timeout
            while time.monotonic() < deadline:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except OSError:
                    time.sleep(0.005)
            yield


def _warn(message: str) -> None:
    warnings.warn(message, BackendWarning, stacklevel=callers_frame()[1])
