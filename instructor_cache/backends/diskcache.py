"""A `diskcache.Cache` or `FanoutCache` as a backend, and a Disk for it that can't run code."""

from __future__ import annotations

import sqlite3
import warnings
from collections.abc import Iterator
from typing import Any

import diskcache  # type: ignore[import-untyped]
from diskcache.core import MODE_RAW  # type: ignore[import-untyped]

from .._frames import callers_frame
from ..errors import BackendWarning


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


class DiskcacheBackend:
    """Keeps entries in a ready `diskcache.Cache` or `diskcache.FanoutCache`, as raw bytes.

    Warns once for a cache whose Disk could unpickle what it reads.
    """

    def __init__(self, cache: Any) -> None:
        if not isinstance(cache, (diskcache.Cache, diskcache.FanoutCache)):
            raise TypeError(
                f"found a diskcache {type(cache).__name__}; it must be a Cache or a FanoutCache"
            )
        self._cache: Any = cache
        if not isinstance(cache.disk, SafeDisk):
            warnings.warn(
                f"the diskcache at {cache.directory} uses {type(cache.disk).__name__}, which runs "
                f"code that a row brings (CVE-2025-69872); make it with disk=SafeDisk "
                f"(instructor_cache.SafeDisk), or use DiskCache",
                BackendWarning,
                stacklevel=callers_frame()[1],
            )

    def get(self, key: str, /) -> bytes | None:
        return self._cache.get(key)  # type: ignore[no-any-return]

    def set(self, key: str, value: bytes, ttl: float | None, /) -> None:
        self._cache.set(key, value, expire=ttl)

    def delete(self, key: str, /) -> None:
        self._cache.delete(key)

    def scan(self, prefix: str, /) -> Iterator[str]:
        return (key for key in self._cache if isinstance(key, str) and key.startswith(prefix))

    def clear(self, prefix: str = "", /) -> None:
        """Delete every key that begins with *prefix*; all of them by default."""
        for key in list(self.scan(prefix)):
            self._cache.delete(key)

    def close(self) -> None:
        """Close the cache. The next use opens it again."""
        self._cache.close()
