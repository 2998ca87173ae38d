"""Answers that are made anew behind the callers' backs, one at a time for each key."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from threading import Lock
from time import monotonic
from typing import Any

from ._bridge import Spawn
from ._fork import renew_after_fork

_REST = 30.0  # seconds after a failure, as RFC 8767 (serve-stale DNS) recommends
_MOST = 1000  # keys whose rest is remembered
_AT_ONCE = 16  # refreshes of one function; what is due beyond that is left to a later hit


class Behind:
    """Has work done in the background, unless it is under way or has just failed."""

    def __init__(self, spawn: Spawn) -> None:
        self._spawn = spawn
        self._resting: dict[str, float] = {}
        self._renew()
        renew_after_fork(self, Behind._renew)

    def start(self, key: str, work: Callable[[], Coroutine[Any, Any, bool]]) -> None:
        """Begin *work* for *key*; it tells whether it succeeded. If not, the key gets a rest."""
        with self._lock:
            for other in [k for k, is_dead in self._under_way.items() if is_dead()]:
                del self._under_way[other]
            if key in self._under_way or len(self._under_way) >= _AT_ONCE or self.rests(key):
                return
            self._under_way[key] = lambda: False
        try:
            self._under_way[key] = self._spawn(lambda: self._do(key, work))
        except RuntimeError:  # no thread can be started, as when the interpreter ends
            self._under_way.pop(key, None)

    def rest(self, key: str) -> None:
        """Leave *key* alone for half a minute."""
        with self._lock:
            self._resting.pop(key, None)
            self._resting[key] = monotonic() + _REST
            if len(self._resting) > _MOST:
                del self._resting[next(iter(self._resting))]  # the oldest

    def rests(self, key: str) -> bool:
        """Whether *key* is to be left alone."""
        return bool(self._resting) and monotonic() < self._resting.get(key, 0.0)

    async def _do(self, key: str, work: Callable[[], Coroutine[Any, Any, bool]]) -> None:
        succeeded = False
        try:
            succeeded = await work()
        finally:
            with self._lock:
                self._under_way.pop(key, None)
                self._resting.pop(key, None)
            if not succeeded:
                self.rest(key)

    def _renew(self) -> None:
        self._lock = Lock()
        self._under_way: dict[str, Callable[[], bool]] = {}
