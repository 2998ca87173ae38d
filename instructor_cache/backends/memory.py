"""Answers in this process's memory, bounded by count and by bytes."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from threading import Lock
from typing import NoReturn

from .._fork import renew_after_fork
from ..errors import BackendClosed
from ._taggable import Taggable


class _Slot:
    __slots__ = ("expires", "value", "visited")

    def __init__(self, value: bytes, expires: float) -> None:
        self.value, self.expires, self.visited = value, expires, False


class _Closed(OrderedDict[str, _Slot]):
    """Slots of a memory that was closed: every use of them raises."""

    def _refuse(self, *_: object) -> NoReturn:
        raise BackendClosed(
            "found a MemoryCache closed, where it was to be used; close it later, or make anew"
        )

    get = pop = items = __iter__ = _refuse  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]


class MemoryCache(Taggable):
    """Keeps the entries used most, up to *maxsize* of them and *max_bytes* in all.

    Bytes, not objects: every hit is a copy of its own. What was not read since the hand last
    came by is evicted first (the CLOCK algorithm, F. J. Corbató, 1968), so a read takes no lock.

    Args:
        maxsize: The largest number of entries; None for no bound.
        max_bytes: The largest sum of their sizes; None for no bound. A larger entry is not kept.
        clock: Seconds from any start; for tests.
    """

    bounded = is_local = is_near = True
    timeout = 0.0

    def __init__(
        self,
        maxsize: int | None = 1024,
        *,
        max_bytes: int | None = 64 * 2**20,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        for name, bound in (("maxsize", maxsize), ("max_bytes", max_bytes)):
            if bound is not None and (type(bound) is not int or bound < 1):
                raise ValueError(f"{name} is {bound!r}; it must be a whole number above 0, or None")
        self.maxsize, self.max_bytes = maxsize, max_bytes
        self._clock = clock
        self._lock = Lock()
        self._slots: OrderedDict[str, _Slot] = OrderedDict()
        self._bytes = 0
        renew_after_fork(self, MemoryCache._renew)

    def __len__(self) -> int:
        return len(self._slots)

    @property
    def currbytes(self) -> int:
        """The sum of the sizes of the keys and values that are kept."""
        return self._bytes

    def get(self, key: str, /) -> bytes | None:
        slot = self._slots.get(key)
        if slot is None:
            return None
        if slot.expires != math.inf and self._clock() >= slot.expires:
            self._drop(key, slot)
            return None
        slot.visited = True
        return slot.value

    def get_many(self, keys: Sequence[str], /) -> list[bytes | None]:
        """Give the values of *keys* in their order, None where there is none."""
        return [self.get(key) for key in keys]

    def set(self, key: str, value: bytes, ttl: float | None, /) -> None:
        with self._lock:
            self._keep(key, value, ttl)

    def swap(self, key: str, old: bytes | None, new: bytes | None, ttl: float | None, /) -> bool:
        """Store *new* (None: delete) if what is stored is *old* (None: nothing); tell if so."""
        with self._lock:
            slot = self._slots.get(key)
            if slot is not None and self._clock() >= slot.expires:
                slot = None
            if (None if slot is None else slot.value) != old:
                return False
            if new is None:
                self._forget(key)
            else:
                self._keep(key, new, ttl)
            return True

    def delete(self, key: str, /) -> None:
        with self._lock:
            self._forget(key)

    def scan(self, prefix: str, /) -> Iterator[str]:
        with self._lock:
            now, slots = self._clock(), list(self._slots.items())
        return (key for key, slot in slots if key.startswith(prefix) and now < slot.expires)

    def clear(self, prefix: str = "") -> None:
        """Delete every key that begins with *prefix*; all of them by default."""
        with self._lock:
            for key in [key for key in self._slots if key.startswith(prefix)]:
                self._forget(key)

    @property
    def closed(self) -> bool:
        """Whether `close` was called; every operation then raises BackendClosed."""
        return isinstance(self._slots, _Closed)

    def close(self) -> None:
        """Forget everything, for good."""
        with self._lock:
            self._slots, self._bytes = _Closed(), 0

    async def aget(self, key: str, /) -> bytes | None:
        return self.get(key)

    async def aget_many(self, keys: Sequence[str], /) -> list[bytes | None]:
        return self.get_many(keys)

    async def aset(self, key: str, value: bytes, ttl: float | None, /) -> None:
        self.set(key, value, ttl)

    async def aswap(
        self, key: str, old: bytes | None, new: bytes | None, ttl: float | None, /
    ) -> bool:
        return self.swap(key, old, new, ttl)

    async def adelete(self, key: str, /) -> None:
        self.delete(key)

    async def aclear(self, prefix: str = "") -> None:
        self.clear(prefix)

    def _renew(self) -> None:
        self._lock = Lock()  # it may have been held, by a thread that was between two statements
        if not self.closed:
            self._bytes = sum(len(key) + len(slot.value) for key, slot in self._slots.items())

    def _keep(self, key: str, value: bytes, ttl: float | None) -> None:
        slot = _Slot(value, math.inf if ttl is None else self._clock() + ttl)
        size = len(key) + len(value)
        if self.max_bytes is not None and size > self.max_bytes:
            self._forget(key)
        else:
            self._put(key, slot, size)

    def _put(self, key: str, slot: _Slot, size: int) -> None:
        old = self._slots.get(key)
        self._slots[key] = slot  # in one step: a reader finds the old value or the new one
        self._slots.move_to_end(key)
        self._bytes += size - (0 if old is None else len(key) + len(old.value))
        slot.visited = True  # else it would be the victim itself when all others were read
        self._evict()
        slot.visited = False

    def _drop(self, key: str, slot: _Slot) -> None:
        with self._lock:
            if self._slots.get(key) is slot:  # not if another thread has just renewed it
                self._forget(key)

    def _forget(self, key: str) -> None:
        slot = self._slots.pop(key, None)
        if slot is not None:
            self._bytes -= len(key) + len(slot.value)

    def _evict(self) -> None:
        while self._is_full():
            key, slot = next(iter(self._slots.items()))
            if slot.visited and self._clock() < slot.expires:
                slot.visited = False
                self._slots.move_to_end(key)
            else:
                self._forget(key)

    def _is_full(self) -> bool:
        too_many = self.maxsize is not None and len(self._slots) > self.maxsize
        return too_many or (self.max_bytes is not None and self._bytes > self.max_bytes)
