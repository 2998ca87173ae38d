"""What was lately forgotten, for those who are about to write what they read or began before."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from contextlib import contextmanager
from threading import RLock
from typing import Any
from weakref import WeakSet

from ._fork import renew_after_fork
from ._tagged import tags_of

_MOST = 1000  # that are remembered; who began before the oldest of them is told to be careful


class Forgotten:
    """The invalidations of one backend's keys in this process, whoever made them.

    Attributes:
        count: How many have ended; to be noted before a read or a call, for `has_hit`.
        flights: Those of all functions that use the backend, each with a method ``forget``.
    """

    def __init__(self) -> None:
        self.count = 0
        self.flights: WeakSet[Any] = WeakSet()
        self._ended: deque[str] = deque(maxlen=_MOST)
        self._renew()
        renew_after_fork(self, Forgotten._renew)

    @contextmanager
    def forgetting(self, *prefixes: str) -> Generator[None]:
        """Announce that what begins with one of *prefixes* is deleted or replaced in this block."""
        with self._lock:
            self._under_way.append(prefixes)
        try:
            yield
        finally:
            ended = len(prefixes)
            with self._lock:
                self._under_way.remove(prefixes)
                self._ended.extend(prefixes)
                self.count += ended

    def has_hit(self, key: str, since: int) -> bool:
        """Whether *key* was, or is just being, forgotten after *since* was the count."""
        with self._lock:
            ended = self.count - since
            recent = list(self._ended)[-ended:] if ended else []
            names = (key, *tags_of(key))
            recent += [prefix for prefixes in self._under_way for prefix in prefixes]
            return ended > _MOST or any(name.startswith(each) for each in recent for name in names)

    def _renew(self) -> None:
        self._lock = RLock()
        self._under_way: list[tuple[str, ...]] = []
