"""What observers are told, and what goes to the log."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import RLock
from typing import Literal

from ._discreet import told
from ._fork import renew_after_fork
from ._frames import callers_frame

logger = logging.getLogger("instructor_cache")

Kind = Literal[
    "hit",
    "miss",
    "shared",
    "stale",
    "stored",
    "refreshed",
    "failure",
    "corrupt",
    "unstorable",
    "unkeyable",
    "opened",
    "closed",
]


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened on the way to an answer. Never holds arguments or results.

    Attributes:
        kind: *hit*: answered from a tier. *miss*: the function was called; or, with a `CacheMiss`
            as its error, was not, because of offline mode. *shared*: answered by another caller's
            call in flight. *stale*: answered by an expired entry, because the
            function failed just now (with its error) or a short time ago (without), or is not to
            be called. *stored*: an
            answer was written. *refreshed*: it was made anew in the background. *failure*: an
            error of a backend (or of ``cache_if``, ``ttl``, or of a function in the background)
            was survived. *corrupt*: stored bytes were discarded. *unstorable*: the answer could
            not be stored. *unkeyable*: the call had no key and went through. *opened*: a tier
            failed so often, or so slowly, that it is left out until it works; *closed*: it works.
        function: Module and qualified name of the cached function.
        key: The key concerned, or what those begin with that are; empty where there is none.
        tier: Name of the tier concerned, or None.
        error: The exception behind it, or None.
        seconds: How long the original call took: saved by a *hit*, spent before a *stored*.
    """

    kind: Kind
    function: str
    key: str = ""
    tier: str | None = None
    error: BaseException | None = None
    seconds: float = 0.0


Observer = Callable[[Event], None]

_LEVELS: dict[Kind, int] = {
    "failure": logging.WARNING,
    "corrupt": logging.WARNING,
    "unstorable": logging.INFO,
    "unkeyable": logging.INFO,
    "stale": logging.INFO,
    "opened": logging.WARNING,
    "closed": logging.WARNING,
}
_REPEAT_AFTER = 60.0  # seconds between two warnings of one kind from one tier


@dataclass(eq=False)
class Announcer:
    """Counts one function's events and tells the observer and the log, if they listen."""

    function: str
    observer: Observer | None = None
    hits: int = 0
    misses: int = 0
    _warned: set[str] = field(default_factory=set[str])
    _warned_at: dict[tuple[Kind, str | None], float] = field(
        default_factory=dict[tuple[Kind, "str | None"], float]
    )

    def __post_init__(self) -> None:
        self._renew()
        renew_after_fork(self, Announcer._renew)

    def _renew(self) -> None:
        self._lock = RLock()

    def __call__(
        self,
        kind: Kind,
        key: str = "",
        tier: str | None = None,
        *,
        error: BaseException | None = None,
        seconds: float = 0.0,
    ) -> None:
        self._count(kind, error)
        level = _LEVELS.get(kind, logging.DEBUG)
        if self.observer is None and not logger.isEnabledFor(level):
            return
        event = Event(kind, self.function, key, tier, error, seconds)
        self._log(level, event)
        if self.observer is not None:
            try:
                self.observer(event)
            except Exception:
                logger.exception("an observer raised on %s of %s", kind, self.function)

    def hit(self, key: str, tier: str, seconds: float) -> None:
        """Do the same for a hit, the most frequent of all events."""
        if self.observer is None and not logger.isEnabledFor(logging.DEBUG):
            with self._lock:
                self.hits += 1
        else:
            self("hit", key, tier, seconds=seconds)

    def warn_once(self, subject: str, category: type[Warning], message: str) -> None:
        """Give a Python warning, where the user's code is, the first time for *subject*."""
        if subject not in self._warned:
            self._warned.add(subject)
            _, depth = callers_frame()
            try:
                warnings.warn(message, category, stacklevel=depth)
            except category:  # warnings are errors here; the answer is paid for all the same
                logger.warning("%s: %s", category.__name__, message)

    def reset(self) -> None:
        """Start counting anew."""
        with self._lock:
            self.hits = self.misses = 0

    def _count(self, kind: Kind, error: BaseException | None) -> None:
        with self._lock:
            if kind in ("hit", "shared") or (kind == "stale" and error is None):
                self.hits += 1
            elif kind in ("miss", "unkeyable"):
                self.misses += 1

    def _log(self, level: int, event: Event) -> None:
        if level >= logging.WARNING and self._told_lately(event):
            level = logging.DEBUG  # a backend that is down must not flood the log
        facts = (event.kind, event.function, event.key, event.tier, _named(event))
        logger.log(level, "%s %s key=%s tier=%s error=%s", *facts)

    def _told_lately(self, event: Event) -> bool:
        now = time.monotonic()
        last = self._warned_at.get((event.kind, event.tier))
        if last is not None and now - last < _REPEAT_AFTER:
            return True
        self._warned_at[event.kind, event.tier] = now
        return False


def _named(event: Event) -> str | None:
    """The error to log: with its text if it is a backend's or ours, which hold no prompt."""
    if event.error is None:
        return None
    is_functions = event.tier is None or event.kind == "stale"
    return type(event.error).__name__ if is_functions else told(event.error)
