"""A `diskcache.Cache` or `FanoutCache` as a backend, and a Disk for it that can't run code."""

from __future__ import annotations

import os
import sqlite3
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from threading import get_ident
from types import SimpleNamespace
from typing import Any, TypeVar, cast

import diskcache  # type: ignore[import-untyped]
from diskcache.core import DBNAME, MODE_RAW  # type: ignore[import-untyped]

from .._frames import callers_frame
from ..errors import BackendWarning
from ._pool import Pool
from ._taggable import ForInstructor

T = TypeVar("T")

_OF_A_CONNECTION = ("cache_size", "mmap_size", "synchronous")  # the other settings are of the file


class SafeDisk(diskcache.Disk):  # type: ignore[misc]
    """A `diskcache.Disk` that stores bytes in the database and reads nothing else.

    diskcache's own lets each *row* say how it is read, pickle included, so whoever can write to
    the folder can run code in its readers (CVE-2025-69872)::

        cache = diskcache.Cache("./cache", disk=SafeDisk)
    """

    def put(self, key: Any) -> tuple[str, bool]:  # pyright: ignore[reportIncompatibleMethodOverride]
        if type(key) is not str:
            raise TypeError(f"found a key of type {type(key).__name__}; SafeDisk takes text")
        return key, True

    def get(self, key: Any, raw: bool) -> Any:
        if not raw or type(key) is not str:
            raise ValueError("found a pickled key; SafeDisk does not read it")
        return key

    def store(self, value: Any, read: bool, key: Any = None) -> Any:
        if read or type(value) is not bytes:
            raise TypeError(f"found a value of type {type(value).__name__}; SafeDisk takes bytes")
        return 0, MODE_RAW, None, sqlite3.Binary(value)

    def fetch(self, mode: int, filename: str | None, value: Any, read: bool) -> bytes:
        if mode != MODE_RAW or filename is not None or read or not isinstance(value, bytes):
            raise ValueError("found a row that is not plain bytes; SafeDisk does not read it")
        return value

    def remove(self, file_path: str) -> None:
        """Remove nothing: no row of ours names a file."""


class DiskcacheBackend(ForInstructor):
    """Keeps entries in a ready `diskcache.Cache` or `diskcache.FanoutCache`, as raw bytes.

    Uses connections of its own, since those of the ready object wait a minute for the locks of
    others, or lose a value silently. Its settings, and those of the folder, stay as they are.
    Warns once for a cache whose Disk could unpickle what it reads.

    Args:
        cache: The ready object.
        timeout: Seconds that an operation waits for other processes, at most; then it raises.
    """

    bounded = True

    def __init__(self, cache: Any, *, timeout: float = 0.5) -> None:
        if not isinstance(cache, (diskcache.Cache, diskcache.FanoutCache)):
            raise TypeError(
                f"found a diskcache {type(cache).__name__}; it must be a Cache or a FanoutCache"
            )
        ready = cast("Any", cache)
        self.timeout = timeout
        self._cache = ready
        self._shards = [_Shard(shard, timeout) for shard in getattr(ready, "_shards", [ready])]
        self._hash: Callable[[str], int] = ready.disk.hash
        if not isinstance(ready.disk, SafeDisk):
            warnings.warn(
                f"the diskcache at {ready.directory} uses {type(ready.disk).__name__}, which runs "
                f"code that a row brings (CVE-2025-69872); make it with disk=SafeDisk "
                f"(instructor_cache.SafeDisk), or use DiskCache",
                BackendWarning,
                stacklevel=callers_frame()[1],
            )

    @property
    def place(self) -> tuple[str, str]:
        """What is kept where: two with the same place keep the same entries."""
        return "diskcache", os.path.realpath(self._cache.directory)

    def get(self, key: str, /) -> bytes | None:
        return self._shard(key).run(lambda cache: cast("bytes | None", cache.get(key)))

    def get_many(self, keys: Sequence[str], /) -> list[bytes | None]:
        """Give the values of *keys* in their order, None where there is none."""
        return [self.get(key) for key in keys]

    def set(self, key: str, value: bytes, ttl: float | None, /) -> None:
        self._shard(key).run(lambda cache: cache.set(key, value, expire=ttl))

    def delete(self, key: str, /) -> None:
        self._shard(key).run(lambda cache: cache.delete(key))

    def swap(self, key: str, old: bytes | None, new: bytes | None, ttl: float | None, /) -> bool:
        """Store *new* (None: delete) if what is stored is *old* (None: nothing); tell if so."""

        def work(cache: Any) -> bool:
            with cache.transact():
                if cache.get(key) != old:
                    return False
                _ = cache.delete(key) if new is None else cache.set(key, new, expire=ttl)
                return True

        return self._shard(key).run(work)

    def scan(self, prefix: str, /) -> Iterator[str]:
        for shard in self._shards:
            keys = shard.run(list[object])
            yield from (key for key in keys if isinstance(key, str) and key.startswith(prefix))

    def clear(self, prefix: str = "", /) -> None:
        """Delete every key that begins with *prefix*; all of them by default."""
        for key in list(self.scan(prefix)):
            self.delete(key)

    @property
    def closed(self) -> bool:
        """Whether `close` was called; every operation then raises BackendClosed."""
        return self._shards[0].pool.closed

    def close(self) -> None:
        """Close the files; those that other threads are using, as soon as they are done.

        The ready object closes those of this thread, and opens them again if it is used.
        """
        for shard in self._shards:
            shard.pool.close()
        self._cache.close()

    def _shard(self, key: str) -> _Shard:
        many = self._shards
        return many[self._hash(key) % len(many)] if len(many) > 1 else many[0]


class _Shard:
    """Runs work on a Cache that shares all with *ready* but the connection."""

    def __init__(self, ready: Any, timeout: float) -> None:
        self.pool: Pool[Any] = Pool(f"the diskcache at {ready.directory}")
        self._ready, self._timeout = ready, timeout

    def run(self, work: Callable[[Any], T]) -> T:
        if self._ready._txn_id == get_ident():  # the caller's own transaction: wait not for it
            return work(self._ready)
        cache = self.pool.take()
        if cache is None:
            cache = self.pool.open(self._open)
        try:
            result = work(cache)
        except diskcache.Timeout:
            self.pool.drop(cache)
            raise TimeoutError(
                f"found the diskcache at {cache.directory} locked by others, or not writable; "
                f"wanted to write to it within {self._timeout} s; this value is not kept"
            ) from None
        except BaseException:
            self.pool.drop(cache)
            raise
        self.pool.put(cache)
        return result

    def _open(self) -> Any:
        kind = cast("Any", type(self._ready))
        twin = kind.__new__(kind)
        twin.__dict__.update(self._ready.__dict__)
        connection = sqlite3.connect(
            Path(twin.directory, DBNAME),
            timeout=self._timeout,
            isolation_level=None,
            check_same_thread=False,
        )
        for setting in _OF_A_CONNECTION:
            connection.execute(f"PRAGMA {setting} = {getattr(twin, f'sqlite_{setting}')}")
        twin._local = SimpleNamespace(pid=os.getpid(), con=connection)
        twin._timeout, twin._txn_id = self._timeout, None
        return twin
