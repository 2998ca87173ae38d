"""How many values to ask for at once."""

from __future__ import annotations

from collections.abc import Sequence

BATCH = 500  # keys to one command


class Window:
    """How many values to have under way at once, judged by the size of those that came.

    A reply must not be so long that it takes all the time that its command has. At first a few
    show how large they are; then there are as many as make four megabytes, or less if those came
    too late.
    """

    _FIRST, _BYTES = 20, 4 * 2**20
    _GROWTH = 25  # times those that have shown their size

    def __init__(self, size: int = _FIRST) -> None:
        self._size, self._bytes = size, self._BYTES

    def room(self, under_way: int = 0) -> int:
        """Give the number of values that one more command may ask for."""
        return min(max(0, self._size - under_way), BATCH)

    def learn(self, values: Sequence[bytes | None]) -> None:
        """Take note of *values* that came together."""
        missing, size = values.count(None), sum(map(len, filter(None, values)))
        if missing == len(values):
            most = 2 * self._size  # which says little
        else:
            most = self._bytes * (len(values) - missing) // max(size, 1)
        self._size = max(1, min(most, max(self._size, self._GROWTH * len(values))))

    def shrink(self, values: int) -> None:
        """Take note that as many *values* did not come in time."""
        self._size = max(1, min(self._size, values // 8))
        self._bytes //= 2

    def rest(self) -> None:
        """Be as careful as at first: what comes next may be of another kind."""
        self._size, self._bytes = min(self._size, self._FIRST), self._BYTES
