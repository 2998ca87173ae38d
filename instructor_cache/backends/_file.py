"""One SQLite file of ours: begun whole, opened privately, set aside when it is broken."""

from __future__ import annotations

import os
import sqlite3
import stat
import sys
import tempfile
import time
import warnings
from collections.abc import Generator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from .._frames import callers_frame
from ..errors import BackendWarning

if sys.platform != "win32":
    import fcntl

_SETTINGS = (
    "PRAGMA trusted_schema = OFF",
    "PRAGMA cell_size_check = ON",
    "PRAGMA synchronous = NORMAL",
    "PRAGMA journal_size_limit = 4194304",
)
_SCHEMA = (
    """CREATE TABLE entries(
    id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, value BLOB NOT NULL, expires REAL)""",
    "CREATE INDEX entries_expires ON entries(expires) WHERE expires IS NOT NULL",
)
_ATTEMPTS = 3  # to open it, while others delete it or set it aside
_BROKEN = ("not a database", "malformed", "encrypted", "unsupported file format")  # SQLite's words


class Connection(sqlite3.Connection):
    """A connection that knows which file it was opened on, whatever has its name now."""

    inode = 0
    read_only = False


class StoreFile:
    """The file at *path*, for connections that wait *timeout* seconds for other processes.

    The file is never opened except by SQLite: to close another descriptor of it would release
    the locks that this process's connections hold (POSIX), and let two processes write at once.
    """

    def __init__(self, path: Path, timeout: float) -> None:
        self.path = path
        self._name = str(path)
        self._timeout = timeout
        self._has_told = False

    def inode(self) -> int:
        """Give the identity of what is at the path now, or 0 for nothing."""
        try:
            return os.lstat(self._name).st_ino
        except (FileNotFoundError, NotADirectoryError):
            return 0

    def open(self) -> Connection:
        """Give a new connection; to a new file if there was none, or none that can be used."""
        for attempt in range(_ATTEMPTS):
            inode = self.inode()
            try:
                return self._open(inode)
            except (sqlite3.DatabaseError, FileNotFoundError) as error:
                if attempt == _ATTEMPTS - 1 or not self.discard(inode, error):
                    raise
        raise AssertionError("unreachable")

    def discard(self, inode: int, error: Exception) -> bool:
        """Whether another attempt may help, after *error* from the file that was *inode*.

        If it was broken, it is set aside, unless another thread or process was faster.
        """
        if _says_broken(error) and self._is_writable():
            with self._alone():
                if self.inode() == inode:
                    self._set_aside(error)
        return isinstance(error, FileNotFoundError) or self.inode() != inode

    # -- opening -------------------------------------------------------------------------

    def _open(self, inode: int) -> Connection:
        if not inode:
            self._begin()
            inode = self.inode()
        self._check_kind()
        if self._is_writable():
            return self._connect("mode=rw", inode)
        return self._open_read_only(inode)

    def _open_read_only(self, inode: int) -> Connection:
        try:
            connection = self._connect("mode=ro", inode)
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise
            # A journal needs an index file, which can't be made here: read what is in the file.
            connection = self._connect("mode=ro&immutable=1", inode)
        connection.read_only = True
        if not self._has_told:
            self._has_told = True
            _warn(f"{self.path} can't be written: it answers with what it holds, and keeps no more")
        return connection

    def _connect(self, mode: str, inode: int) -> Connection:
        connection = _connect(f"{self.path.as_uri()}?{mode}", self._timeout)
        try:
            for setting in _SETTINGS:
                connection.execute(setting)
            self._check_schema(connection)
        except BaseException:
            connection.close()
            raise
        connection.inode = inode
        return connection

    def _check_kind(self) -> None:
        mode = os.lstat(self._name).st_mode
        if stat.S_ISLNK(mode):
            raise OSError(f"{self.path} is a symbolic link; it must be a file of its own")
        if not stat.S_ISREG(mode):
            raise sqlite3.DatabaseError("it is not a file, so not a database")

    def _check_schema(self, connection: Connection) -> None:
        """Refuse a file with anything in it that we did not put there, such as a trigger."""
        found = connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")
        if {sql for (sql,) in found} != set(_SCHEMA):
            raise sqlite3.DatabaseError("it is not a database of this cache")

    def _is_writable(self) -> bool:
        return os.access(self._name, os.W_OK) and os.access(self.path.parent, os.W_OK)

    # -- beginning and setting aside -----------------------------------------------------

    def _begin(self) -> None:
        """Make the file under another name and move it here: nobody ever sees half of it."""
        folder = self.path.parent
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not any(folder.iterdir()):  # else it holds something of the user's
            (folder / ".gitignore").write_text("*\n")
        with self._alone(), tempfile.TemporaryDirectory(dir=folder, prefix="new-") as workshop:
            if self.inode():
                return
            draft = Path(workshop, self.path.name)
            with closing(_connect(f"{draft.as_uri()}?mode=rwc", self._timeout)) as connection:
                connection.executescript(f"BEGIN; {'; '.join(_SCHEMA)}; COMMIT;")
                connection.execute("PRAGMA journal_mode = WAL").fetchall()
            draft.chmod(0o600)
            for orphan in ("-wal", "-shm"):  # SQLite would take them for the new file's
                Path(f"{self.path}{orphan}").unlink(missing_ok=True)
            with suppress(FileExistsError):  # Windows, where nothing is locked
                draft.rename(self.path)

    def _set_aside(self, error: Exception) -> None:
        stamp = f"corrupt-{time.time_ns() // 1_000_000}"
        for suffix in ("-wal", "-shm", ""):
            if os.path.lexists(f"{self.path}{suffix}"):
                os.rename(f"{self.path}{suffix}", f"{self.path}.{stamp}{suffix}")
        _warn(f"{self.path} was unusable ({error}); it is kept as *.{stamp}, and a new one begun")

    @contextmanager
    def _alone(self) -> Generator[None]:
        """Hold the folder's lock file, or go on without it after the timeout."""
        flags = os.O_CREAT | os.O_RDWR | getattr(os, "O_NOFOLLOW", 0)
        descriptor = os.open(self.path.with_suffix(".lock"), flags, 0o600)
        try:
            deadline = time.monotonic() + self._timeout
            while not _try_lock(descriptor) and time.monotonic() < deadline:
                time.sleep(0.005)
            yield
        finally:
            os.close(descriptor)


def _connect(uri: str, timeout: float) -> Connection:
    return sqlite3.connect(
        uri,
        uri=True,
        timeout=timeout,
        isolation_level=None,
        check_same_thread=False,
        factory=Connection,
    )


def _try_lock(descriptor: int) -> bool:
    if sys.platform == "win32":  # there a file that is open can't be replaced anyway
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _says_broken(error: Exception) -> bool:
    text = str(error).lower()
    return any(sign in text for sign in _BROKEN)


def _warn(message: str) -> None:
    warnings.warn(message, BackendWarning, stacklevel=callers_frame()[1])
