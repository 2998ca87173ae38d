"""Deletions in a backend that may take its time, made by a thread that nobody waits for."""

from __future__ import annotations

from collections import deque
from threading import RLock
from typing import Any

from ._fork import renew_after_fork
from ._health import health_of
from ._workers import in_daemon
from .errors import BackendBusy

_MOST = 1000  # keys that wait; older ones are made up for by whoever asks the backend next


class Sweeper:
    """Deletes from *backend*, with a thread while there is anything to do.

    Until a key is deleted it counts as missed: it answers nobody in this process.
    """

    def __init__(self, backend: Any) -> None:
        self.backend, self._missed = backend, health_of(backend).missed
        self._renew()
        renew_after_fork(self, Sweeper._renew)

    def delete(self, keys: list[str]) -> None:
        """Have *keys* deleted soon, or by whoever asks next if that fails."""
        for key in keys:
            self._missed.add("delete", key, can_clear=True)
        with self._lock:
            self._waiting.extend(keys)
            if not self._is_at_work:
                self._begin()

    def _begin(self) -> None:
        try:
            in_daemon(self._work)
        except BackendBusy:  # no thread is to be had
            self._waiting.clear()
        else:
            self._is_at_work = True

    def _work(self) -> None:
        while (key := self._next()) is not None:
            try:
                self.backend.delete(key)
            except Exception:  # the others would only fail as well, each after its timeout
                self._leave(key)
            else:
                self._missed.made_up("delete", key)

    def _leave(self, key: str) -> None:
        with self._lock:
            for each in (key, *self._waiting):  # one may have been deleted once, and told again
                self._missed.add("delete", each, can_clear=True)
            self._waiting.clear()

    def _next(self) -> str | None:
        with self._lock:
            if self._waiting:
                return self._waiting.popleft()
            self._is_at_work = False
            return None

    def _renew(self) -> None:
        self._lock = RLock()
        self._waiting: deque[str] = deque(maxlen=_MOST)
        self._is_at_work = False
