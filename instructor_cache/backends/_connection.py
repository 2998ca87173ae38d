"""One connection to an SQLite file of ours, opened so that nothing in the file surprises us."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Generator, Iterable
from contextlib import closing, contextmanager, suppress
from pathlib import Path

PAGE = 4096  # bytes of one page of the file

_SETTINGS = (
    "PRAGMA trusted_schema = OFF",
    "PRAGMA cell_size_check = ON",
    "PRAGMA synchronous = NORMAL",
    "PRAGMA secure_delete = OFF",  # else zeros go through the journal; the folder is private
    "PRAGMA cache_size = -16384",  # KiB, taken as needed: a thousand hot entries among a million
)
_SCHEMA = (
    """CREATE TABLE entries(
    id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, value BLOB NOT NULL, expires REAL)""",
    "CREATE INDEX entries_expires ON entries(expires) WHERE expires IS NOT NULL",
)
_FOUND = "SELECT type, sql FROM sqlite_master WHERE sql IS NOT NULL"
_INSERT = "INSERT OR IGNORE INTO entries(id, key, value, expires) VALUES (?, ?, ?, ?)"

Row = tuple[int, str, bytes, "float | None"]


class Connection(sqlite3.Connection):
    """A connection that knows what it was opened on, whatever has that name now.

    Attributes:
        file: The identity of the file and of its journal.
        read_only: Whether the file can't be written for good.
        trouble: Why it can't be written for the moment; for one operation only.
    """

    file: tuple[int, int] = (0, 0)
    read_only = False
    trouble: Exception | None = None

    patience = 0.0

    def wait(self, seconds: float) -> None:
        """Wait at most *seconds* for the locks of others, from now on."""
        self.patience = seconds
        self.execute(f"PRAGMA busy_timeout = {int(min(max(seconds, 0), 1e6) * 1000)}")

    @contextmanager
    def waiting(self, seconds: float) -> Generator[None]:
        """Wait at most *seconds* in a block."""
        before = self.patience
        self.wait(seconds)
        try:
            yield
        finally:
            with suppress(sqlite3.Error):
                self.wait(before)


def connect(path: Path, mode: str, deadline: float, *before: str) -> Connection:
    """Give a connection to the file at *path*, opened as the URI parameters *mode* say.

    The statements *before* come first. Raises DatabaseError if the file is not one of ours, or
    anything is in it that would act when we write, such as a trigger. What maintenance leaves may
    be there: tables and indexes of its own.
    """
    connection = look_into(path, mode, deadline, *before)
    try:
        found = connection.execute(_FOUND).fetchall()
        if not set(_SCHEMA) <= {sql for _, sql in found} or not all(map(_is_inert, found)):
            raise sqlite3.DatabaseError("it is not a database of this cache")
        connection.wait(deadline - time.monotonic())
    except BaseException:
        connection.close()
        raise
    return connection


def look_into(path: Path, mode: str, deadline: float, *before: str) -> Connection:
    """Give a connection to a file that holds our entries, whatever else is in it, to read them."""
    connection = _connect(path, mode, deadline)
    try:
        for setting in (*before, *_SETTINGS):
            connection.execute(setting)
        connection.wait(deadline - time.monotonic())
        if ("table", _SCHEMA[0]) not in connection.execute(_FOUND).fetchall():
            raise sqlite3.DatabaseError("it is not a database of this cache")
    except BaseException:
        connection.close()
        raise
    return connection


def _is_inert(found: tuple[str, str]) -> bool:
    kind, sql = found
    return kind in ("table", "index") and not sql.upper().startswith("CREATE VIRTUAL")


def create(path: Path, deadline: float, rows: Iterable[Row] = ()) -> int:
    """Make a new file at *path*, whole, with *rows* in it; give their number."""
    with closing(_connect(path, "mode=rwc", deadline)) as connection:
        for statement in (f"PRAGMA page_size = {PAGE}", "BEGIN", *_SCHEMA):
            connection.execute(statement)
        kept = connection.executemany(_INSERT, rows).rowcount
        connection.execute("COMMIT")
        connection.execute("PRAGMA journal_mode = WAL").fetchall()
    return max(kept, 0)


def _connect(path: Path, mode: str, deadline: float) -> Connection:
    return sqlite3.connect(
        f"{path.as_uri()}?{mode}",
        uri=True,
        timeout=max(0.0, deadline - time.monotonic()),
        isolation_level=None,
        check_same_thread=False,
        factory=Connection,
    )
