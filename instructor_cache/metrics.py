"""Hits, misses and seconds saved, per function."""

from __future__ import annotations

from threading import RLock
from typing import Any

from ._fork import renew_after_fork
from .events import Event


class CacheMetrics:
    """Counts what its functions' caches did; an observer, safe to share by threads.

    The time saved by a hit is the measured time of the call that first gave the answer; it is
    stored with it. A call that shared another's answer counts as a hit that saved no time::

        metrics = CacheMetrics()

        @instructor_cache(observer=metrics)
        def extract(text: str) -> UserDetail: ...

    Attributes:
        hits: Calls answered without calling the function.
        misses: Calls that called it.
        total_time_saved: Seconds.
        hit_rate_by_function: For each function's name its ``hits`` and ``misses``.
        failures: For each tier's name how many of its errors were survived.
        open_tiers: The tiers that are left out at the moment, because they fail.
    """

    def __init__(self) -> None:
        self._renew()
        renew_after_fork(self, CacheMetrics._renew)
        self.hits = 0
        self.misses = 0
        self.total_time_saved = 0.0
        self.hit_rate_by_function: dict[str, dict[str, int]] = {}
        self.failures: dict[str, int] = {}
        self.open_tiers: set[str] = set()

    def __call__(self, event: Event) -> None:
        """Count an event."""
        if event.kind in ("hit", "shared") or (event.kind == "stale" and event.error is None):
            self.record_hit(event.function, event.seconds)
        elif event.kind in ("miss", "unkeyable"):
            self.record_miss(event.function)
        elif event.tier is not None:
            self._record_health(event.kind, event.tier)

    def record_hit(self, func_name: str, time_saved: float) -> None:
        """Count a hit that saved *time_saved* seconds."""
        with self._lock:
            self.hits += 1
            self.total_time_saved += time_saved
            self._of(func_name)["hits"] += 1

    def record_miss(self, func_name: str) -> None:
        """Count a miss."""
        with self._lock:
            self.misses += 1
            self._of(func_name)["misses"] += 1

    @property
    def hit_rate(self) -> float:
        """Hits as a part of all calls, from 0 to 1; 0 before the first call."""
        total = self.hits + self.misses
        return self.hits / total if total else 0.0

    def get_stats(self) -> dict[str, Any]:
        """Give the counts as text and numbers to print."""
        with self._lock:
            return {
                "hit_rate": f"{self.hit_rate:.2%}",
                "total_hits": self.hits,
                "total_misses": self.misses,
                "time_saved_seconds": f"{self.total_time_saved:.3f}",
                "failures": dict(self.failures),
                "open_tiers": sorted(self.open_tiers),
                "function_stats": {name: dict(n) for name, n in self.hit_rate_by_function.items()},
            }

    def _record_health(self, kind: str, tier: str) -> None:
        with self._lock:
            if kind == "failure":
                self.failures[tier] = self.failures.get(tier, 0) + 1
            elif kind == "opened":
                self.open_tiers.add(tier)
            elif kind == "closed":
                self.open_tiers.discard(tier)

    def _renew(self) -> None:
        self._lock = RLock()

    def _of(self, func_name: str) -> dict[str, int]:
        return self.hit_rate_by_function.setdefault(func_name, {"hits": 0, "misses": 0})
