"""How a backend is doing, for all functions that use it."""

from __future__ import annotations

from functools import partial
from typing import Any
from weakref import ref

from ._breaker import Breaker
from ._forgotten import Forgotten
from ._missed import Missed
from .errors import ReadOnly


class Health:
    """What is known of one backend.

    Reading and writing each have a breaker: a store that is full still answers, and its answers
    say nothing of its writes. (Deletions count as reading: a full store can do them.) A failure
    counts for both, a success for its own kind only; that of a read-only store for writing only.

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
        is_answering = isinstance(error, ReadOnly)
        reads = not is_answering and self.reads.fail(error, seconds, timeout)
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


_all: dict[int, tuple[Any, Health]] = {}  # by identity: a backend need not be hashable


def health_of(backend: Any) -> Health:
    """Give what all who use *backend* share."""
    known = _all.get(place := id(backend))
    if known is not None and known[0]() is backend:
        return known[1]
    try:
        holder: Any = ref(backend, partial(_forget, place))
    except TypeError:  # then it stays, with its health
        holder = partial(_itself, backend)
    if known is not None:  # of one that is gone
        _all.pop(place, None)
    return _all.setdefault(place, (holder, Health()))[1]


def _forget(place: int, gone: Any) -> None:
    known = _all.get(place)
    if known is not None and known[0] is gone:  # else another one is in its place by now
        del _all[place]


def _itself(backend: Any) -> Any:
    return backend
