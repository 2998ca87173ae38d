"""How many values to ask for at once."""

from __future__ import annotations

from collections.abc import Sequence

BATCH = 500  # keys to one command


class Window:
    """How many values to have under way at once, judged by the size of those that came.

    A reply must not be so long that it takes all the time that its command has. At first a few
    show how large they are; then there are as many as make four megabytes. When some came too late
    there are an eighth of those; if the reply was too long, a few more with each in time.
    """

    _FIRST, _BYTES = 20, 4 * 2**20
    _GROWTH = 25  # times those that have shown their size

    def __init__(self, size: int = _FIRST) -> None:
        self._size = size
        self._late = 0  # the most that were too long a reply

    def room(self, under_way: int = 0) -> int:
        """Give the number of values that one more command may ask for."""
        return min(max(0, self._size - under_way), BATCH)

    def learn(self, values: Sequence[bytes | None]) -> None:
        """Take note of *values* that came together."""
        missing, size = values.count(None), sum(map(len, filter(None, values)))
        if missing == len(values):
            most = 2 * self._size  # which says little
        else:
            most = self._BYTES * (len(values) - missing) // max(size, 1)
        if self._size < self._late:
            more = self._size + 1 + len(values) // 8
        else:
            more = max(self._size, self._GROWTH * len(values))
        self._size = max(1, min(most, more))

    def shrink(self, values: int, *, is_long: bool) -> None:
        """Take note that as many *values* did not come in time; *is_long*: not all of them."""
        self._size = max(1, min(self._size, values // 8))
        if is_long:
            self._late = max(self._late, values)

    def rest(self) -> None:
        """Be as careful as at first: what comes next may be of another kind."""
        self._size, self._late = min(self._size, self._FIRST), 0
