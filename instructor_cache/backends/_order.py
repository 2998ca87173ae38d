"""Things in the order of one of their attributes, a million of them as swiftly as a few."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import Any, Generic, TypeVar

T = TypeVar("T")

_LONGEST = 1000  # items of a run: to insert one moves 8 KB at most


class Order(Generic[T]):
    """Items by rank, the lowest first: sorted runs, one behind the other.

    Nothing is ever left over of an item that was removed, and no operation takes longer than
    some microseconds.

    Args:
        rank: The attribute that ranks an item, each item otherwise. It may only change while
            the item is not in here.
        items: What is in here at first.
    """

    def __init__(self, rank: str, items: Iterable[T] = ()) -> None:
        self._rank: Callable[[T], Any] = attrgetter(rank)
        ranked = sorted(items, key=self._rank)
        self._runs: list[list[T]] = [
            ranked[at : at + _LONGEST] for at in range(0, len(ranked), _LONGEST)
        ]
        self._lows: list[Any] = [self._rank(run[0]) for run in self._runs]  # no rank is below
        self._high: Any = self._rank(ranked[-1]) if ranked else None  # no rank is above

    def __len__(self) -> int:
        return sum(map(len, self._runs))

    def __bool__(self) -> bool:
        return bool(self._runs)

    def first(self) -> T:
        """Give the item of the lowest rank; there must be one."""
        return self._runs[0][0]

    def add(self, item: T) -> None:
        """Put *item* in its place."""
        rank, high = self._rank(item), self._high
        if high is not None and rank <= high:
            return self._insert(rank, item)
        self._high = rank  # most often: it was used last, or expires last
        runs = self._runs
        if runs and len(runs[-1]) < _LONGEST:
            runs[-1].append(item)
        else:
            runs.append([item])
            self._lows.append(rank)

    def remove(self, item: T) -> None:
        """Take *item*, which is in here, out."""
        number = at = 0
        if self._runs[0][0] is not item:  # most often it is: it is evicted, or was set long ago
            rank = self._rank(item)
            number = bisect_right(self._lows, rank) - 1
            at = bisect_left(self._runs[number], rank, key=self._rank)
        del self._runs[number][at]
        if not self._runs[number]:
            del self._runs[number], self._lows[number]

    def _insert(self, rank: Any, item: T) -> None:
        if not self._runs:
            self._runs, self._lows = [[]], [rank]
        number = max(bisect_right(self._lows, rank) - 1, 0)
        run = self._runs[number]
        run.insert(bisect_left(run, rank, key=self._rank), item)
        self._lows[number] = min(rank, self._lows[number])
        if len(run) > _LONGEST:
            half = run[_LONGEST // 2 :]
            del run[_LONGEST // 2 :]
            self._runs.insert(number + 1, half)
            self._lows.insert(number + 1, self._rank(half[0]))
