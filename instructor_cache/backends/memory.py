"""Answers in this process's memory, bounded by count and by bytes."""

from __future__ import annotations

import itertools
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from threading import RLock
from typing import NoReturn

from .._fork import renew_after_fork
from ..errors import BackendBusy, BackendClosed
from ._order import Order
from ._taggable import Taggable

_OVERHEAD = 320  # bytes that Python needs for an entry beside its key and value; 220 without a ttl
_SHARE, _SMALL = 8, 4096  # by default an entry may take an eighth of all, and 4 KiB in any case
_AT_ONCE = 512  # entries that one operation puts in order or deletes, so that it doesn't take long

Due = tuple[float, str]  # when an entry expires, and its key


class _Slot:
    """An entry. *used* counts the uses of all, up to its own last one; *placed* is an older one."""

    __slots__ = ("due", "key", "placed", "used", "value")

    def __init__(self, key: str, value: bytes, due: Due | None, used: int) -> None:
        self.key, self.value, self.due = key, value, due
        self.used = self.placed = used


class _Closed(dict[str, _Slot]):
    """Slots of a memory that was closed: every use of them raises."""

    def _refuse(self, *_: object) -> NoReturn:
        raise BackendClosed(
            "found a MemoryCache closed, where it was to be used; close it later, or make anew"
        )

    get = pop = __iter__ = _refuse  # pyright: ignore[reportAssignmentType]


class MemoryCache(Taggable):
    """Keeps the entries used most, up to *maxsize* of them and *max_bytes* in all.

    Bytes, not objects: every hit is a copy of its own. When room is needed, what has expired
    goes first, then what was not used for longest. A read takes no lock: it leaves a number on
    the entry, higher than all before; a writer in need of room goes through the entries in the
    order of older numbers, and moves those that were used since to where they belong.

    The size of an entry is that of its key and value, in bytes, plus 320 for what Python needs
    to keep them, so that *max_bytes* bounds the memory that is really used.

    Args:
        maxsize: The largest number of entries; None for no bound. Each tag takes one, too: with
            fewer than an answer and its tags need, it never answers.
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
        self._lock = RLock()
        self._tick = itertools.count().__next__
        self._torn = False
        self._start({})
        renew_after_fork(self, MemoryCache._renew)

    def __len__(self) -> int:
        return len(self._slots)

    @property
    def currbytes(self) -> int:
        """The sum of the sizes of the entries that are kept, also of the expired ones."""
        if self._torn and not self._is_ours():
            with self._lock:
                self._begin()
                self._torn = False
        return self._bytes

    def get(self, key: str, /) -> bytes | None:
        slot = self._slots.get(key)
        if slot is None:
            return None
        due = slot.due
        if due is not None and self._clock() >= due[0]:
            self._drop(key, slot)
            return None
        slot.used = self._tick()
        return slot.value

    def get_many(self, keys: Sequence[str], /) -> list[bytes | None]:
        """Give the values of *keys* in their order, None where there is none."""
        return [self.get(key) for key in keys]

    def set(self, key: str, value: bytes, ttl: float | None, /) -> None:
        with self._turn():
            self._keep(key, value, ttl)

    def swap(self, key: str, old: bytes | None, new: bytes | None, ttl: float | None, /) -> bool:
        """Store *new* (None: delete) if what is stored is *old* (None: nothing); tell if so."""
        with self._turn():
            slot = self._slots.get(key)
            if (None if slot is None or self._is_over(slot) else slot.value) != old:
                return False
            if new is None:
                self._forget(key)
            else:
                self._keep(key, new, ttl)
            return True

    def delete(self, key: str, /) -> None:
        with self._turn():
            self._forget(key)

    def scan(self, prefix: str, /) -> Iterator[str]:
        with self._turn():
            keys = list(self._slots)
        found = (key for key in keys if key.startswith(prefix))
        return (key for key in found if (slot := self._slots.get(key)) and not self._is_over(slot))

    def clear(self, prefix: str = "") -> None:
        """Delete every key that begins with *prefix*; all of them by default.

        Only that: keys of the prefix "app-eu" begin with "app", too, and calls that are under way
        store their answers after it. For the answers of the functions of one prefix, and those on
        their way, there is ``TieredCache(this).clear("app")``.
        """
        with self._turn():
            former = self._slots  # to be freed when the lock is
            keys = list(former)
            if not prefix:
                return self._start({})
        found = [key for key in keys if key.startswith(prefix)]
        for at in range(0, len(found), _AT_ONCE):
            with self._turn():
                for key in found[at : at + _AT_ONCE]:
                    self._forget(key)
            time.sleep(0)  # else those that wait for the lock would hardly ever get it

    @property
    def closed(self) -> bool:
        """Whether `close` was called; every operation then raises BackendClosed."""
        return isinstance(self._slots, _Closed)

    def close(self) -> None:
        """Forget everything, for good."""
        with self._turn():
            self._start(_Closed())

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
        was_held = not self._lock.acquire(blocking=False)
        self._lock = RLock()  # for the thread that held it is not in this process
        self._torn = self._torn or was_held

    def _turn(self) -> AbstractContextManager[object]:
        """Give what is to be held; raise BackendBusy in the midst of what this thread does."""
        if self._is_ours():
            raise BackendBusy(
                "found a MemoryCache used by a signal handler or a __del__ that came in the middle "
                "of an operation of the same thread, which has to end first; nothing was done"
            )
        return self._lock

    def _is_ours(self) -> bool:
        """Whether this thread is in the middle of an operation."""
        return self._lock._is_owned()  # type: ignore[attr-defined,no-any-return]

    def _keep(self, key: str, value: bytes, ttl: float | None) -> None:
        size = _size(key, value)
        if size > self._most_each:
            return self._forget(key)
        moment = math.inf if ttl is None else self._clock() + ttl
        slot = self._slots.get(key)
        if slot is None:
            due = (moment, key) if moment < math.inf else None
            self._add(_Slot(key, value, due, self._tick()), size)
        else:
            due = (moment, slot.key) if moment < math.inf else None  # its own key: it is kept
            self._replace(slot, value, due)
        while len(self._slots) > self._most or self._bytes > self._most_bytes:
            self._evict()

    def _add(self, slot: _Slot, size: int) -> None:
        self._begin()
        self._slots[slot.key] = slot
        self._bytes += size
        self._uses.add(slot)
        if slot.due is not None:
            self._dues.add(slot)
        self._torn = False

    def _replace(self, slot: _Slot, value: bytes, due: Due | None) -> None:
        self._begin()
        self._bytes += len(value) - len(slot.value)
        slot.used = self._tick()
        if slot.due is not None:
            self._dues.remove(slot)
        if due is not None and (slot.due is None or due < slot.due):
            slot.due = due  # first, for at no moment may a value live longer than it should
        slot.value = value
        slot.due = due
        if due is not None:
            self._dues.add(slot)
        self._torn = False

    def _evict(self) -> None:
        """Delete one entry: one that has expired, or else what was not used for longest."""
        if not self._dues or not self._is_over(slot := self._dues.first()):
            slot = self._unused()
        self._forget(slot.key)

    def _unused(self) -> _Slot:
        """Give what was not used for longest; about that, where very many were used of late."""
        self._begin()
        for _ in range(_AT_ONCE):
            slot = self._uses.first()
            if slot.used <= slot.placed:
                break
            self._uses.remove(slot)
            slot.placed = slot.used
            self._uses.add(slot)
        self._torn = False
        return self._uses.first()

    def _drop(self, key: str, slot: _Slot) -> None:
        if self._is_ours():  # it is as good as gone
            return
        with self._lock:
            if self._slots.get(key) is slot and self._is_over(slot):  # not if just renewed
                self._forget(key)

    def _forget(self, key: str) -> None:
        self._begin()
        slot = self._slots.pop(key, None)
        if slot is not None:
            self._bytes -= _size(key, slot.value)
            self._uses.remove(slot)
            if slot.due is not None:
                self._dues.remove(slot)
        self._torn = False

    def _start(self, slots: dict[str, _Slot]) -> None:
        self._torn, self._slots = True, slots
        self._mend()

    def _begin(self) -> None:
        """Note that a change is under way, which an exception from outside may cut short."""
        if self._torn:  # as one was, by Ctrl-C or a time limit
            self._mend()
        self._torn = True

    def _mend(self) -> None:
        """Count and order the entries anew."""
        slots = list(self._slots.values())
        for slot in slots:
            slot.placed = slot.used
        self._bytes = sum(_size(slot.key, slot.value) for slot in slots)
        self._uses = Order("placed", slots)
        self._dues = Order("due", (slot for slot in slots if slot.due is not None))
        self._torn = False

    def _is_over(self, slot: _Slot) -> bool:
        due = slot.due
        return due is not None and self._clock() >= due[0]


def _size(key: str, value: bytes) -> int:
    return (len(key) if key.isascii() else sys.getsizeof(key)) + len(value) + _OVERHEAD


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
