"""How a backend is doing, for all functions that use it."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

from ._breaker import Breaker
from ._forgotten import Forgotten
from ._missed import Missed


class Health:
    """What is known of one backend.

    Reading and writing each have a breaker: a store that is full still answers, and its answers
    say nothing of its writes. (Deletions count as reading: a full store can do them.) A failure
    counts for both, a success for its own kind only.

    Attributes:
        reads, writes: Whether it is worth asking.
        missed: The deletions that it was not there for.
        forgotten: The invalidations of its keys in this process.
    """

    def __init__(self) -> None:
        self.reads, self.writes, self.missed = Breaker(), Breaker(), Missed()
        self.forgotten = Forgotten()
        self._only_writes = False

    def fail(self, error: BaseException, seconds: float, timeout: float) -> bool:
        """Count a failure that took *seconds*; tell whether that opened a breaker."""
        reads = self.reads.fail(error, seconds, timeout)
        writes = self.writes.fail(error, seconds, timeout)
        self._only_writes |= writes and not self.reads.is_open
        return reads or writes

    def succeed(self, breaker: Breaker) -> bool:
        """Take note that its kind works; tell whether the backend is thereby back."""
        if not breaker.succeed():
            return False
        is_back = breaker is self.reads or self._only_writes
        self._only_writes = False
        return is_back


_all: WeakKeyDictionary[Any, Health] = WeakKeyDictionary()


def health_of(backend: Any) -> Health:
    """Give what all who use *backend* share."""
    try:
        return _all.setdefault(backend, Health())
    except TypeError:  # it can't be hashed or referred to weakly
        return Health()
