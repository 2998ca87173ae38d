"""Calls under way, and which of them wait for which: nobody may wait for himself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from threading import RLock, get_ident
from time import monotonic
from types import TracebackType
from typing import Any, TypeVar

from ._fork import renew_after_fork

T = TypeVar("T")


class Flight(Future[T]):
    """One call under way, its outcome to come.

    Attributes:
        brought: The outcome, once it is paid for, while it is still being stored.
    """

    def __init__(self) -> None:
        super().__init__()
        self.began = monotonic()
        self.thread = get_ident()  # its leader's
        self.brought: T | None = None
        self.obsolete = False  # invalidated while under way: its answer must not be kept
        self.waits_for: list[Flight[Any]] = []
        self.is_outdated: Callable[[], Awaitable[bool]] | None = None  # by what others forgot
        self.failed_at: TracebackType | None = None
        self.failed_in: BaseException | None = None


class Waits:
    """Which flights wait for which: nobody may wait for a flight that waits for him."""

    def __init__(self) -> None:
        self.renew()
        renew_after_fork(self, Waits.renew)

    def renew(self) -> None:
        self._lock = RLock()  # who ends may be garbage that is collected while it is held

    def begin(self, led: tuple[Flight[Any], ...], flight: Flight[Any]) -> bool:
        """Whether who leads *led* may wait for *flight*; if so, that he does is written down."""
        with self._lock:
            if led and _reaches(flight, led):
                return False
            for mine in led:
                mine.waits_for.append(flight)
            return True

    def end(self, led: tuple[Flight[Any], ...], flight: Flight[Any]) -> None:
        with self._lock:
            for mine in led:
                mine.waits_for.remove(flight)


def _reaches(start: Flight[Any], goals: tuple[Flight[Any], ...]) -> bool:
    """Whether *start* is one of *goals* or waits for one, directly or through others."""
    seen: set[Flight[Any]] = set()
    pending = [start]
    while pending:
        flight = pending.pop()
        if flight in goals:
            return True
        if flight not in seen:
            seen.add(flight)
            pending.extend(flight.waits_for)
    return False


waits = Waits()
