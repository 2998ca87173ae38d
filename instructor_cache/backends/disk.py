"""Answers in a folder, on the standard library's sqlite3."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ._file import Connection
from ._sqlite import Database

if TYPE_CHECKING:
    from typing_extensions import Self

_FILE = "entries-1.sqlite3"  # 1 is the layout: another one would live beside it
_GET = "SELECT value FROM entries WHERE key = ? AND (expires IS NULL OR expires > ?)"
_SET = "INSERT OR REPLACE INTO entries(key, value, expires) VALUES (?, ?, ?)"
_DELETE = "DELETE FROM entries WHERE key = ?"
_SCAN = (
    "SELECT key FROM entries WHERE key >= ? AND key < ? AND (expires IS NULL OR expires > ?) "
    "ORDER BY key LIMIT 1000"
)
_CLEAR = (
    "DELETE FROM entries WHERE id IN (SELECT id FROM entries WHERE key >= ? AND key < ? LIMIT 1000)"
)
_EXPIRED = "DELETE FROM entries WHERE id IN (SELECT id FROM entries WHERE expires <= ? LIMIT 1000)"
_OLDEST = "DELETE FROM entries WHERE id IN (SELECT id FROM entries ORDER BY id LIMIT ?)"
_USED = (
    "SELECT (page_count - freelist_count) * page_size "
    "FROM pragma_page_count, pragma_freelist_count, pragma_page_size"
)
_ROW_OVERHEAD = 120  # bytes that a row needs beside its key and value, roughly
_CHECKS = 100  # looks at the size while as much as the limit is written: each process is 1 % off


class DiskCache:
    """Keeps entries in *directory*, shared by every thread and process that names it.

    The folder is private (0700), has its own ``.gitignore``, and is made at the first use. When
    the entries outgrow *size_limit*, the expired and then the oldest are deleted, by the writer.
    An unreadable file is set aside and a new one begun. A read-only folder is served as it is.

    Args:
        directory: A folder; a relative one is meant from where the process is now.
        size_limit: Bytes that the entries may take. A larger entry is not kept.
        timeout: Seconds that an operation may wait for another process.
        clock: Seconds since the epoch; for tests.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str] = ".instructor_cache",
        *,
        size_limit: int = 2**30,
        timeout: float = 0.5,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.directory = Path(os.path.abspath(Path(directory).expanduser()))
        if self.directory.exists() and not self.directory.is_dir():
            raise NotADirectoryError(
                f"found a file at {self.directory}; a DiskCache needs a folder of its own"
            )
        if size_limit < 1:
            raise ValueError(f"size_limit is {size_limit!r}; it must be a number of bytes above 0")
        self.size_limit = size_limit
        self._clock = clock
        self._database = Database(self.directory / _FILE, timeout)
        self._unchecked = size_limit  # bytes written since the size was last looked at

    def get(self, key: str, /) -> bytes | None:
        arguments = (key, self._clock())
        row = self._database.run(lambda db: db.execute(_GET, arguments).fetchone())
        return row[0] if row is not None and type(row[0]) is bytes else None

    def set(self, key: str, value: bytes, ttl: float | None, /) -> None:
        if len(key) + len(value) > self.size_limit:
            return self.delete(key)
        expires = None if ttl is None else self._clock() + ttl
        self._write(lambda db: self._insert(db, key, value, expires))

    def delete(self, key: str, /) -> None:
        self._write(lambda db: db.execute(_DELETE, (key,)).rowcount)

    def scan(self, prefix: str, /) -> Iterator[str]:
        first, last = prefix, _after(prefix)
        while keys := self._page(first, last):
            yield from keys
            first = f"{keys[-1]}\0"

    def clear(self, prefix: str = "", /) -> None:
        """Delete every key that begins with *prefix*; all of them by default."""
        arguments = (prefix, _after(prefix))
        deleted = 1000
        while deleted == 1000:  # in batches: nobody waits long
            deleted = self._write(lambda db: db.execute(_CLEAR, arguments).rowcount)

    def close(self) -> None:
        """Close the files. The next use opens them again."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _page(self, first: str, last: str) -> list[str]:
        arguments = (first, last, self._clock())
        rows = self._database.run(lambda db: db.execute(_SCAN, arguments).fetchall())
        return [key for (key,) in rows]

    def _write(self, work: Callable[[Connection], int]) -> int:
        self._database.look()
        return self._database.run(lambda db: 0 if db.read_only else work(db))

    def _insert(self, db: Connection, key: str, value: bytes, expires: float | None) -> int:
        rows = db.execute(_SET, (key, value, expires)).rowcount
        self._unchecked += len(key) + len(value) + _ROW_OVERHEAD
        if self._unchecked * _CHECKS >= self.size_limit:
            self._unchecked = 0
            with suppress(sqlite3.OperationalError):  # locked: the entry is kept all the same
                self._cull(db)
        return rows

    def _cull(self, db: Connection) -> None:
        """Delete expired entries, then the oldest, in small transactions, until they fit."""
        if not self._excess(db):
            return
        while db.execute(_EXPIRED, (self._clock(),)).rowcount == 1000:
            pass
        batch = 8
        while self._excess(db) and db.execute(_OLDEST, (batch,)).rowcount:
            batch = min(batch * 2, 1000)

    def _excess(self, db: Connection) -> bool:
        return bool(db.execute(_USED).fetchone()[0] > self.size_limit)


def _after(prefix: str) -> str:
    """The least text that follows every text that begins with *prefix*."""
    return prefix[:-1] + chr(ord(prefix[-1]) + 1) if prefix else "\U0010ffff"
