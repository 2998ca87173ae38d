"""Answers in a folder, on the standard library's sqlite3."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ..errors import ReadOnly
from ._connection import Connection
from ._room import Room
from ._sqlite import Database
from ._taggable import Taggable
from ._writers import Writers

_LAYOUT = "v1"  # of all that is in the folder of this name; another layout lives beside it
_FILE = "entries.sqlite3"
_GET = "SELECT value FROM entries WHERE key = ? AND (expires IS NULL OR expires > ?)"
_GET_MANY = "SELECT key, value FROM entries WHERE key IN ({}) AND (expires IS NULL OR expires > ?)"
_SET = "INSERT OR REPLACE INTO entries(key, value, expires) VALUES (?, ?, ?)"
_ADD = (
    "INSERT INTO entries(key, value, expires) VALUES (?, ?, ?) ON CONFLICT(key) DO UPDATE "
    "SET id = (SELECT max(id) FROM entries) + 1, value = excluded.value, expires = excluded.expires"
    " WHERE expires <= ? OR typeof(value) <> 'blob'"
)
_CHANGE = (
    "UPDATE entries SET id = (SELECT max(id) FROM entries) + 1, value = ?, expires = ? "
    "WHERE key = ? AND value = ? AND (expires IS NULL OR expires > ?)"
)
_REMOVE = "DELETE FROM entries WHERE key = ? AND value = ? AND (expires IS NULL OR expires > ?)"
_DELETE = "DELETE FROM entries WHERE key = ?"
_SCAN = (
    "SELECT key FROM entries WHERE key >= ? AND key < ? AND (expires IS NULL OR expires > ?) "
    "ORDER BY key LIMIT 1000"
)
_COUNT = "SELECT count(*) FROM entries WHERE key >= ? AND key < ?"
_CLEAR = (
    "DELETE FROM entries WHERE id IN (SELECT id FROM entries WHERE key >= ? AND key < ? LIMIT ?)"
)
_MANY = 500  # keys to a statement; SQLite takes 999 arguments
_CULLING = 0.1  # of the timeout, to delete what is too much; the rest is for all other waits


class DiskCache(Taggable):
    """Keeps entries in *directory*, shared by every thread and process that names it.

    The folder is private (0700), has its own ``.gitignore``, and is made at the first use. When
    the files would outgrow *size_limit*, the expired and then the oldest are deleted, no more
    than needed, by the writer; the oldest is what was set first, however often it was read. The
    space is used again, and given back by a `clear` that leaves hardly anything.
    What this version keeps is in the sub-folder ``v1``. A version with another layout uses
    another one beside it, with a size limit of its own; what no version in use needs any more
    can be deleted, with ``rm -r``.
    An unreadable file is set aside and a new one begun, with what can be read of the old one in
    half the timeout, the newest first. A read-only folder is served as it is: all that would
    change it raises PermissionError.

    Args:
        directory: A folder; a relative one is meant from where the process is now.
        size_limit: Bytes that the files may take; many writers at once may get a tenth above it
            for a moment, and 300 KB above it if it is below 5 MB. An entry of more than an eighth
            of it, or of more than 32 MiB, is not kept. While another program reads for so long
            that SQLite can't empty its journal, that may grow as large as the limit; from then on
            `set` and `swap` raise OperationalError, as for a full disk, until it can.
        timeout: Seconds that an operation waits for other processes, at most; then it raises.
        clock: Seconds since the epoch; for tests.
    """

    bounded = is_near = True

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
        if type(size_limit) is not int or size_limit < 1:
            raise ValueError(f"size_limit is {size_limit!r}; it must be a number of bytes above 0")
        if type(timeout) not in (int, float) or not timeout >= 0:
            raise ValueError(f"timeout is {timeout!r}; it must be a number of seconds, 0 or more")
        self.size_limit, self.timeout = size_limit, timeout
        self._clock = clock
        path = self.directory / _LAYOUT / _FILE
        self._room = Room(size_limit, Path(f"{path}-wal"), clock, timeout * _CULLING / 2)
        self._database = Database(path, timeout * (1 - _CULLING), self._room.settings)
        self._writers = Writers(self._database, timeout * (1 - _CULLING), self._room.shorten)

    @property
    def place(self) -> tuple[str, str]:
        """What is kept where: two with the same place keep the same entries."""
        return "disk", os.path.realpath(self.directory)

    def get(self, key: str, /) -> bytes | None:
        arguments = (key, self._clock())
        row = self._database.run(lambda db: db.execute(_GET, arguments).fetchone())
        return row[0] if row is not None and type(row[0]) is bytes else None

    def get_many(self, keys: Sequence[str], /) -> list[bytes | None]:
        """Give the values of *keys* in their order, None where there is none."""
        now, found = self._clock(), dict[str, object]()

        def work(db: Connection) -> None:
            for start in range(0, len(keys), _MANY):
                some = keys[start : start + _MANY]
                statement = _GET_MANY.format(",".join("?" * len(some)))
                found.update(db.execute(statement, (*some, now)).fetchall())

        self._database.run(work)
        values = map(found.get, keys)
        return [value if type(value) is bytes else None for value in values]

    def set(self, key: str, value: bytes, ttl: float | None, /) -> None:
        size = len(key) + len(value)
        if not self._room.is_enough(size):
            return self.delete(key)
        expires = None if ttl is None else self._clock() + ttl
        self._write(self._growing(_SET, (key, value, expires), size))

    def delete(self, key: str, /) -> None:
        try:
            self._write(lambda db: db.execute(_DELETE, (key,)).rowcount)
        except ReadOnly:
            if self.get(key) is not None:  # else it is as it should be
                raise

    def swap(self, key: str, old: bytes | None, new: bytes | None, ttl: float | None, /) -> bool:
        """Store *new* (None: delete) if what is stored is *old* (None: nothing); tell if so."""
        if new is None or not self._room.is_enough(len(key) + len(new)):
            return self._remove(key, old) == 1
        return self._put(key, old, new, ttl) == 1

    def scan(self, prefix: str, /) -> Iterator[str]:
        first, last = prefix, _after(prefix)
        while keys := self._page(first, last):
            yield from keys
            first = f"{keys[-1]}\0"

    def count(self, prefix: str = "", /) -> int:
        """Give the number of keys that begin with *prefix*, expired ones included."""
        arguments = (prefix, _after(prefix))
        count: int = self._database.run(lambda db: db.execute(_COUNT, arguments).fetchone()[0])
        return count

    def clear(self, prefix: str = "") -> None:
        """Delete every key that begins with *prefix*; all of them by default.

        Only that: keys of the prefix "app-eu" begin with "app", too, and calls that are under way
        store their answers after it. For the answers of the functions of one prefix, and those on
        their way, there is ``TieredCache(this).clear("app")``.
        """
        arguments = (prefix, _after(prefix), self._room.batch)
        while self._write(lambda db: db.execute(_CLEAR, arguments).rowcount) == self._room.batch:
            pass  # in batches: nobody waits long
        self._write(self._room.shrink)

    async def aclear(self, prefix: str = "") -> None:
        """Do the same for coroutines, in a thread."""
        import asyncio

        await asyncio.to_thread(self.clear, prefix)

    @property
    def closed(self) -> bool:
        """Whether `close` was called; every operation then raises BackendClosed."""
        return self._database.pool.closed

    def close(self) -> None:
        """Close the files; those that other threads are using, as soon as they are done."""
        self._database.pool.close()

    def _page(self, first: str, last: str | bytes) -> list[str]:
        arguments = (first, last, self._clock())
        rows = self._database.run(lambda db: db.execute(_SCAN, arguments).fetchall())
        return [key for (key,) in rows]

    def _write(self, work: Callable[[Connection], int]) -> int:
        """Give the number of rows that *work* changed; raise PermissionError if none can be."""
        if (changed := self._writers.write(work)) < 0:
            raise ReadOnly(
                f"found the store at {self.directory} read-only, where one was wanted that can be "
                f"written; go on without storing, deleting or locking, or make it writable"
            )
        return changed

    def _put(self, key: str, old: bytes | None, new: bytes, ttl: float | None) -> int:
        now = self._clock()
        expires = None if ttl is None else now + ttl
        size = len(key) + len(new)
        if old is None:
            return self._write(self._growing(_ADD, (key, new, expires, now), size))
        change = (new, expires, key, old, now)
        return self._write(self._growing(_CHANGE, change, size))

    def _remove(self, key: str, old: bytes | None) -> int:
        if old is None:  # what is there has expired at best, and may stay
            return self._write(lambda db: self.get(key) is None)
        arguments = (key, old, self._clock())
        return self._write(lambda db: db.execute(_REMOVE, arguments).rowcount)

    def _growing(
        self, statement: str, arguments: tuple[object, ...], size: int
    ) -> Callable[[Connection], int]:
        def work(db: Connection) -> int:
            return db.execute(statement, arguments).rowcount

        return lambda db: self._room.write(db, size, work)


def _after(prefix: str) -> str | bytes:
    """The least text that follows every text that begins with *prefix*.

    If there is none, bytes: to SQLite, any text is less than they are.
    """
    start = prefix.rstrip("\U0010ffff")
    if not start:
        return b""
    following = ord(start[-1]) + 1
    return start[:-1] + chr(0xE000 if following == 0xD800 else following)
