"""Which entries of a memory have expired, without looking at those that have not."""

from __future__ import annotations

from collections.abc import Mapping
from heapq import heappop, heappush
from typing import Protocol

Due = tuple[float, str]  # when an entry expires, and its key; the entry itself keeps it as well

_STEP = 64  # moments that are sorted out at a time, once for each half as many that are added


class _Slot(Protocol):
    due: Due | None


class Expiries:
    """The moments at which entries expire, the next one first.

    An entry that is overwritten or deleted leaves its moment behind. When these are as many as
    the entries, all moments are sorted out, some of them at each `add`: no operation takes
    long, and there are never more than some three of them for each entry.

    Args:
        slots: The entries. One whose ``due`` is a moment, the very same object, still keeps it.
    """

    def __init__(self, slots: Mapping[str, _Slot]) -> None:
        self._slots = slots
        self._heap: list[Due] = []
        self._unsorted: list[Due] = []  # a heap as well, since it loses its last items only

    def __len__(self) -> int:
        return len(self._heap) + len(self._unsorted)

    def add(self, due: Due) -> None:
        """Remember the moment *due*."""
        heappush(self._heap, due)
        if not len(self._heap) % (_STEP // 2):
            self._sort_out()

    def pop(self, now: float) -> str | None:
        """Give the key of an entry that has expired, each once; None if there is none."""
        for heap in (self._heap, self._unsorted):
            while heap and heap[0][0] <= now:
                if kept := self._kept([heappop(heap)]):
                    return kept[0][1]
        return None

    def clear(self) -> None:
        """Forget all moments."""
        self._heap, self._unsorted = [], []

    def _sort_out(self) -> None:
        if not self._unsorted and len(self._heap) > 2 * len(self._slots) + _STEP:
            self._heap, self._unsorted = [], self._heap
        looked_at = self._unsorted[-_STEP:]
        del self._unsorted[-_STEP:]
        for due in self._kept(looked_at):
            heappush(self._heap, due)

    def _kept(self, moments: list[Due]) -> list[Due]:
        get = self._slots.get
        return [due for due in moments if (slot := get(due[1])) is not None and slot.due is due]
