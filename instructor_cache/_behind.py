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
            if key in self._under_way or len(self._under_way) >= _AT_ONCE:
                return
            if monotonic() < self._resting.get(key, 0.0):
                return
            self._under_way.add(key)
        try:
            self._spawn(lambda: self._do(key, work))
        except RuntimeError:  # no thread can be started, as when the interpreter ends
            self._under_way.discard(key)

    async def _do(self, key: str, work: Callable[[], Coroutine[Any, Any, bool]]) -> None:
        succeeded = True
        try:
            succeeded = await work()
        finally:
            with self._lock:
                self._under_way.discard(key)
                self._resting.pop(key, None)
                if not succeeded:
                    self._resting[key] = monotonic() + _REST
                if len(self._resting) > _MOST:
                    del self._resting[next(iter(self._resting))]  # the oldest

    def _renew(self) -> None:
        self._lock = Lock()
        self._under_way: set[str] = set()
