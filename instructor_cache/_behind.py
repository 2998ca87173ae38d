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


class _Job:
    """What is done for a key; *is_lost* tells, when asked, if it will never end."""

    def __init__(self) -> None:
        self.is_lost: Callable[[], bool] = lambda: False


class Behind:
    """Has work done in the background, unless it is under way or has just failed."""

    def __init__(self, spawn: Spawn) -> None:
        self._spawn = spawn
        self._resting: dict[str, float] = {}
        self._renew()
        renew_after_fork(self, Behind._renew)

    def start(self, key: str, work: Callable[[], Coroutine[Any, Any, bool]]) -> None:
        """Begin *work* for *key*; it tells whether it succeeded. If not, the key gets a rest."""
        if (job := self._begin(key)) is None:
            return
        try:
            job.is_lost = self._spawn(lambda: self._do(key, job, work))
        except Exception:  # such as no thread to be had: the answer that is there serves on
            self._end(key, job)

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

    async def _do(self, key: str, job: _Job, work: Callable[[], Coroutine[Any, Any, bool]]) -> None:
        succeeded = False
        try:
            succeeded = await work()
        finally:
            self._end(key, job)
            if succeeded:
                self._resting.pop(key, None)
            else:
                self.rest(key)

    def _begin(self, key: str) -> _Job | None:
        """Give a job to be done for *key*; None if there is to be none now."""
        with self._lock:
            for other, job in list(self._under_way.items()):
                if job.is_lost():
                    self._under_way.pop(other, None)
            if key in self._under_way or len(self._under_way) >= _AT_ONCE or self.rests(key):
                return None
            job = self._under_way[key] = _Job()
            return job

    def _end(self, key: str, job: _Job) -> None:
        with self._lock:
            if self._under_way.get(key) is job:
                del self._under_way[key]

    def _renew(self) -> None:
        self._lock = Lock()
        self._under_way: dict[str, _Job] = {}
