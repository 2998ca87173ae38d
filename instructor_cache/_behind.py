"""Answers that are made anew behind the callers' backs, one at a time for each key."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from threading import RLock
from time import monotonic
from typing import Any

from ._bridge import Spawn
from ._fork import renew_after_fork
from ._heard import be_unheard

_MOST = 1000  # keys whose rest is remembered
_AT_ONCE = 16  # refreshes of one function; what is due beyond that is left to a later hit


class Rests:
    """Keys that are left alone for some *seconds*."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._until: dict[str, float] = {}

    def add(self, key: str) -> None:
        if len(self._until) >= _MOST:
            self._until.clear()
        self._until[key] = monotonic() + self._seconds

    def __contains__(self, key: str) -> bool:
        return bool(self._until) and monotonic() < self._until.get(key, 0.0)


class _Job:
    """What is done for a key; *is_lost* tells, when asked, if it will never end."""

    def __init__(self) -> None:
        self.is_lost: Callable[[], bool] = lambda: False


class Behind:
    """Has work done in the background, unless it is under way or was in vain a short time ago.

    Attributes:
        failed: The keys for which the function has just failed, so that it isn't called at all.
    """

    def __init__(self, spawn: Spawn, rest: float) -> None:
        self._spawn = spawn
        self.failed = Rests(rest)
        self._in_vain = Rests(rest)
        self._renew()
        renew_after_fork(self, Behind._renew)

    def start(self, key: str, work: Callable[[], Coroutine[Any, Any, bool]]) -> None:
        """Begin *work* for *key*; it tells whether it was worth it. If not, the key gets a rest."""
        if (job := self._begin(key)) is None:
            return
        try:
            job.is_lost = self._spawn(lambda: self._do(key, job, work))
        except Exception:  # such as no thread to be had: the answer that is there serves on
            self._end(key, job)

    async def _do(self, key: str, job: _Job, work: Callable[[], Coroutine[Any, Any, bool]]) -> None:
        succeeded = False
        be_unheard()  # by the call that hit, whose answer is another one
        try:
            succeeded = await work()
        finally:
            self._end(key, job)
            if not succeeded:
                self._in_vain.add(key)

    def _begin(self, key: str) -> _Job | None:
        """Give a job to be done for *key*; None if there is to be none now."""
        with self._lock:
            for other, job in list(self._under_way.items()):
                if job.is_lost():
                    self._under_way.pop(other, None)
            if key in self._under_way or len(self._under_way) >= _AT_ONCE or key in self._in_vain:
                return None
            job = self._under_way[key] = _Job()
            return job

    def _end(self, key: str, job: _Job) -> None:
        with self._lock:
            if self._under_way.get(key) is job:
                del self._under_way[key]

    def _renew(self) -> None:
        self._lock = RLock()
        self._under_way: dict[str, _Job] = {}
