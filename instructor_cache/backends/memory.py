"""Answers in this process's memory, bounded by count and by bytes."""

from __future__ import annotations

import math
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from threading import Lock
from typing import NoReturn

from .._fork import renew_after_fork
from ..errors import BackendClosed
from ._expiries import Due, Expiries
from ._taggable import Taggable

_OVERHEAD = 320  # bytes that Python needs for an entry beside its key and value; 220 without a ttl
_SHARE, _SMALL = 8, 4096  # by default an entry may take an eighth of all, and 4 KiB in any case
_AT_ONCE = 4096  # reads of which one writer takes note, so that it doesn't take long
_EXACT = 64  # entries: among so few, the order of all reads counts, not of the first ones


class _Slot:
    __slots__ = ("due", "is_read", "value")

    def __init__(self, value: bytes, due: Due | None) -> None:
        self.value, self.due, self.is_read = value, due, False


class _Closed(OrderedDict[str, _Slot]):
    """Slots of a memory that was closed: every use of them raises."""

    def _refuse(self, *_: object) -> NoReturn:
        raise BackendClosed(
            "found a MemoryCache closed, where it was to be used; close it later, or make anew"
        )

    get = pop = items = __iter__ = _refuse  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]


class MemoryCache(Taggable):
    """Keeps the entries used most, up to *maxsize* of them and *max_bytes* in all.

    Bytes, not objects: every hit is a copy of its own. When room is needed, what has expired
    goes first, then what was not used for longest. A read takes no lock: it marks the entry, as
    in the CLOCK algorithm, and a writer in need of room puts those with a mark behind the others.
    (CLOCK's own hand gives each a whole new round: where demand moves on, it hits 5 % less often.)

    The size of an entry is that of its key and value, in bytes, plus 320 for what Python needs
    to keep them, so that *max_bytes* bounds the memory that is really used.

    Args:
        maxsize: The largest number of entries; None for no bound.
        max_bytes: The largest sum of their sizes; None for no bound.
        max_entry_bytes: The largest size of one entry. A larger one is not kept, for it would
            drive out all others. By default an eighth of *max_bytes*, but no less than 4 KiB.
        clock: Seconds from any start; for tests.
    """

    bounded = is_local = is_near = True
    timeout = 0.0

    def __init__(
        self,
        maxsize: int | None = 1024,
        *,
        max_bytes: int | None = 64 * 2**20,
        max_entry_bytes: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        _check(maxsize=maxsize, max_bytes=max_bytes, max_entry_bytes=max_entry_bytes)
        self.maxsize, self.max_bytes = maxsize, max_bytes
        self.max_entry_bytes = _largest(max_bytes, max_entry_bytes)
        bounds = (maxsize, max_bytes, self.max_entry_bytes)
        self._most, self._most_bytes, self._most_each = (b or math.inf for b in bounds)
        self._clock = clock
        self._lock = Lock()
        self._slots: OrderedDict[str, _Slot] = OrderedDict()
        self._marks = self._most > _EXACT  # else an entry is noted whenever it is read
        self._read: deque[str] = deque(maxlen=None if self._marks else _AT_ONCE)
        self._expiries = Expiries(self._slots)
        self._bytes = 0
        renew_after_fork(self, MemoryCache._renew)

    def __len__(self) -> int:
        return len(self._slots)

    @property
    def currbytes(self) -> int:
        """The sum of the sizes of the entries that are kept, also of the expired ones."""
        return self._bytes

    def get(self, key: str, /) -> bytes | None:
        slot = self._slots.get(key)
        if slot is None:
            return None
        due = slot.due
        if due is not None and self._clock() >= due[0]:
            self._drop(key, slot)
            return None
        if not slot.is_read:
            slot.is_read = self._marks
            self._read.append(key)
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
            if (None if slot is None or self._is_over(slot) else slot.value) != old:
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
            slots = list(self._slots.items())
        return (key for key, slot in slots if key.startswith(prefix) and not self._is_over(slot))

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
            self._read.clear()
            self._expiries.clear()

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
            self._bytes = sum(
                len(key) + len(slot.value) + _OVERHEAD for key, slot in self._slots.items()
            )

    def _keep(self, key: str, value: bytes, ttl: float | None) -> None:
        size = len(key) + len(value) + _OVERHEAD
        if size > self._most_each:
            return self._forget(key)
        due = (self._clock() + ttl, key) if ttl is not None and ttl < math.inf else None
        self._put(key, _Slot(value, due), size)

    def _put(self, key: str, slot: _Slot, size: int) -> None:
        slots, old = self._slots, self._slots.get(key)
        self._bytes += size if old is None else len(slot.value) - len(old.value)
        if (
            len(slots) >= self._most
            or self._bytes > self._most_bytes
            or len(self._read) > len(slots)
        ):
            self._take_note()  # now, for the entry that is being set comes after all of them
        slots[key] = slot  # in one step: a reader finds the old value or the new one
        slots.move_to_end(key)
        if slot.due is not None:
            self._expiries.add(slot.due)
        while len(slots) > self._most or self._bytes > self._most_bytes:
            self._evict()

    def _take_note(self) -> None:
        """Put what was read behind what was not, in the order of reading."""
        read, slots = self._read, self._slots
        for _ in range(min(len(read), _AT_ONCE)):
            if (slot := slots.get(key := read.popleft())) is not None:
                slot.is_read = False
                slots.move_to_end(key)

    def _evict(self) -> None:
        """Delete one entry: one that has expired, or else what was not used for longest."""
        expired = self._expiries.pop(self._clock())
        self._forget(next(iter(self._slots)) if expired is None else expired)

    def _drop(self, key: str, slot: _Slot) -> None:
        with self._lock:
            if self._slots.get(key) is slot:  # not if another thread has just renewed it
                self._forget(key)

    def _forget(self, key: str) -> None:
        slot = self._slots.pop(key, None)
        if slot is not None:
            self._bytes -= len(key) + len(slot.value) + _OVERHEAD
            if not self._slots:
                self._read.clear()
                self._expiries.clear()

    def _is_over(self, slot: _Slot) -> bool:
        return slot.due is not None and self._clock() >= slot.due[0]


def _check(**bounds: int | None) -> None:
    for name, bound in bounds.items():
        if bound is not None and (type(bound) is not int or bound < 1):
            raise ValueError(f"{name} is {bound!r}; it must be a whole number above 0, or None")


def _largest(max_bytes: int | None, max_entry_bytes: int | None) -> int | None:
    """The largest size of an entry, where *max_entry_bytes* may say nothing of it."""
    if max_bytes is None:
        return max_entry_bytes
    share = max(max_bytes // _SHARE, _SMALL) if max_entry_bytes is None else max_entry_bytes
    return min(share, max_bytes)
