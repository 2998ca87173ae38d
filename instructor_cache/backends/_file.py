"""One SQLite file of ours: begun whole, opened privately, set aside when it is broken."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import tempfile
import time
import warnings
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from .._frames import callers_frame
from ..errors import BackendWarning
from ._connection import Connection, Row, connect, create
from ._lockfile import alone
from ._salvage import salvage

_ATTEMPTS = 3  # to open it, while others delete it or set it aside
_BROKEN = ("not a database", "malformed", "encrypted", "unsupported file format")  # SQLite's words
_OUTDATED = ("disk i/o error", "readonly database", "unable to open", "no such ")
_DRAFTS = "entries.new-"  # folders in which files are made


class StoreFile:
    """The file at *path*, in a folder of its own, in the folder that the user has named.

    Each new connection to it gets the statements *settings*.

    The file is never opened except by SQLite: to close another descriptor of it would release
    the locks that this process's connections hold (POSIX), and let two processes write at once.

    What waits for others takes a *deadline*, a time of the monotonic clock; past it,
    OperationalError is raised.
    """

    def __init__(self, path: Path, settings: tuple[str, ...] = ()) -> None:
        self.path = path
        self._settings = settings
        self._name = str(path)
        self._journal = f"{path}-wal"
        self._lock = path.with_suffix(".lock")
        self._has_told = False

    def inode(self) -> int:
        """Give the identity of what is at the path now, or 0 for nothing."""
        return _inode(self._name)

    def journal(self) -> int:
        """Give the identity of the journal that a new connection would use, or 0 for none."""
        return _inode(self._journal)

    def open(self, deadline: float) -> Connection:
        """Give a new connection; to a new file if there was none, or none that can be used."""
        for attempt in range(_ATTEMPTS):
            inode = self.inode()
            try:
                connection = self._open(inode or self._begin(deadline), deadline)
            except (sqlite3.DatabaseError, FileNotFoundError) as error:
                if attempt == _ATTEMPTS - 1 or not self.discard(inode, error, deadline):
                    raise
            else:
                connection.file = (connection.file[0], self.journal())
                return connection
        raise AssertionError("unreachable")

    def discard(self, inode: int, error: Exception, deadline: float) -> bool:
        """Whether another attempt may help, after *error* from the file that was *inode*.

        If it was broken, it is set aside, unless another thread or process was faster.
        """
        if _says(error, _BROKEN) and self._is_writable():
            with alone(self._lock, deadline):
                if self.inode() == inode:
                    self._begin_anew(error, deadline)
        return isinstance(error, FileNotFoundError) or self.inode() != inode

    # -- opening -------------------------------------------------------------------------

    def _open(self, inode: int, deadline: float) -> Connection:
        self._check_kind()
        if not self._is_writable():
            connection = self._open_read_only(deadline)
        else:
            try:
                connection = connect(self.path, "mode=rw", deadline, *self._settings)
            except sqlite3.OperationalError as error:
                if not _says(error, _OUTDATED):
                    raise
                connection = self._open_in_trouble(error, deadline)
        connection.file = (inode, 0)
        return connection

    def _open_read_only(self, deadline: float) -> Connection:
        try:
            connection = connect(self.path, "mode=ro", deadline)
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise
            # A journal needs an index file, which can't be made here: read what is in the file.
            connection = connect(self.path, "mode=ro&immutable=1", deadline)
        connection.read_only = True
        if not self._has_told:
            self._has_told = True
            _warn(f"{self.path} can't be written: it answers with what it holds, and keeps no more")
        return connection

    def _open_in_trouble(self, trouble: Exception, deadline: float) -> Connection:
        """Open it to read at least: with the journal's index in memory, for the disk is full."""
        try:
            alone = "PRAGMA locking_mode = EXCLUSIVE"
            connection = connect(self.path, "mode=rw", deadline, alone)
        except sqlite3.OperationalError:
            raise trouble from None
        connection.trouble = trouble
        return connection

    def _check_kind(self) -> None:
        mode = os.lstat(self._name).st_mode
        if stat.S_ISLNK(mode):
            raise OSError(f"{self.path} is a symbolic link; it must be a file of its own")
        if not stat.S_ISREG(mode):
            raise sqlite3.DatabaseError("it is not a file, so not a database")

    def _is_writable(self) -> bool:
        return os.access(self._name, os.W_OK) and os.access(self.path.parent, os.W_OK)

    # -- beginning and setting aside -----------------------------------------------------

    def _begin(self, deadline: float) -> int:
        """Make the file under another name and move it here: nobody ever sees half of it."""
        folder = self._make_folder()
        with alone(self._lock, deadline) as is_alone:
            if is_alone:  # what is there was left by a process that was killed
                for left in folder.glob(f"{_DRAFTS}*"):
                    shutil.rmtree(left, ignore_errors=True)
            if not self.inode():
                self._make(folder, deadline)
            return self.inode()

    def _make_folder(self) -> Path:
        folder = self.path.parent
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not any(folder.parent.iterdir()):  # else it holds something of the user's
            (folder.parent / ".gitignore").write_text("*\n")
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder

    def _make(self, folder: Path, deadline: float, rows: Iterable[Row] = ()) -> int:
        with tempfile.TemporaryDirectory(dir=folder, prefix=_DRAFTS) as workshop:
            draft = Path(workshop, self.path.name)
            kept = create(draft, deadline, rows)
            draft.chmod(0o600)
            for orphan in ("-wal", "-shm"):  # SQLite would take them for the new file's
                Path(f"{self.path}{orphan}").unlink(missing_ok=True)
            with suppress(FileExistsError):  # Windows, where nothing is locked
                draft.rename(self.path)
        return kept

    def _begin_anew(self, error: Exception, deadline: float) -> None:
        """Set the file aside, and begin a new one with what can be read of it in the time left."""
        remains = self._set_aside()
        kept, now = 0, time.monotonic()
        with suppress(OSError, sqlite3.Error):  # then the next connection begins it
            kept = self._make(self.path.parent, deadline, salvage(remains, (now + deadline) / 2))
        _warn(
            f"{self.path} was unusable ({error}); it is kept as {remains.name}, "
            f"and a new one begun with the {kept} entries that could be read"
        )

    def _set_aside(self) -> Path:
        aside = f"{self.path}.corrupt-{time.time_ns() // 1_000_000}"
        for suffix in ("-wal", "-shm", ""):
            if os.path.lexists(f"{self.path}{suffix}"):
                os.rename(f"{self.path}{suffix}", f"{aside}{suffix}")
        return Path(aside)


def says_outdated(error: Exception) -> bool:
    """Whether *error* may come from a connection that has outlived its file or its rights."""
    return _says(error, _OUTDATED)


def _inode(name: str) -> int:
    try:
        return os.lstat(name).st_ino
    except (FileNotFoundError, NotADirectoryError):
        return 0


def _says(error: Exception, signs: tuple[str, ...]) -> bool:
    text = str(error).lower()
    return any(sign in text for sign in signs)


def _warn(message: str) -> None:
    warnings.warn(message, BackendWarning, stacklevel=callers_frame()[1])
