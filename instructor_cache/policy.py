"""The options of one cached function as one value."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from inspect import iscoroutinefunction
from typing import Any, Literal

from .conditions import Condition, check_condition, check_takes_result, holds
from .lifetimes import TTL, Lifetime, number_of, patience, seconds

_REST = 30.0


@dataclass(frozen=True, slots=True)
class Policy:
    """What the engine needs to know of one function's options.

    Attributes:
        ttl: How long an answer is fresh, in any form that `lifetimes` reads, or a callable that
            gives it for a result.
        stale_ttl: How much longer it is kept for the case that the function fails; None for not.
        refresh_ahead: The part of its life after which a hit has it made anew; None for never.
        jitter: The part of its life by which, at random, an answer expires early.
        cache_if: Tells whether a result may be stored; several all have to, None stores all.
        keep_arguments: Keep a shortened form of the arguments with an answer.
        fail_open: Treat a failing backend as an empty one instead of raising.
        timeout: Seconds that one operation of a backend may take; None leaves it to the backend.
        flight_timeout: Seconds that a call waits for an equal one that is under way.
        lock: "backend" to make one call at a time across processes and hosts; None not to.
        lock_lease: Seconds after which others go on if the process that makes the call is gone.
        clock: Seconds since the epoch.
    """

    ttl: TTL = None
    stale_ttl: Lifetime = None
    refresh_ahead: float | None = None
    jitter: float = 0.0
    cache_if: Condition | Sequence[Condition] | None = None
    keep_arguments: bool = True
    fail_open: bool = True
    timeout: float | None = None
    flight_timeout: float = 60.0
    lock: Literal["backend"] | None = None
    lock_lease: float = 10.0
    clock: Callable[[], float] = time.time
    _grace: float = field(init=False)  # seconds of stale_ttl

    def __post_init__(self) -> None:
        if not callable(self.ttl):
            object.__setattr__(self, "ttl", seconds(self.ttl))
        grace = 0.0 if self.stale_ttl is None else seconds(self.stale_ttl, "stale_ttl")
        object.__setattr__(self, "_grace", math.inf if grace is None else grace)
        self._check_callables()
        self._check_parts()
        patience("flight_timeout", self.flight_timeout, least=0)
        patience("lock_lease", self.lock_lease, least=0.1)
        if self.lock_lease == math.inf:
            raise ValueError("lock_lease is infinite; a holder that died would hold up all others")
        if self.timeout is not None:
            patience("timeout", self.timeout)
        if self.lock not in (None, "backend"):
            raise ValueError(f'lock is {self.lock!r}; it must be "backend" or None')

    def admits(self, result: Any, seconds: float) -> bool:
        """Tell whether the *result* of a call that took so many *seconds* may be stored."""
        return all(holds(each, result, seconds) for each in self._conditions)

    @property
    def _conditions(self) -> Any:
        given: Any = () if self.cache_if is None else self.cache_if
        return given if given.__class__ in (list, tuple) else (given,)

    def life(self, result: Any, now: float) -> tuple[float, float] | None:
        """Give until when *result* is fresh and until when it is kept; None for "do not store"."""
        ttl = seconds(self.ttl(result) if callable(self.ttl) else self.ttl)
        if ttl == 0:
            return None
        if ttl is None:
            return math.inf, math.inf
        fresh_until = now + ttl * (1 - self.jitter * random.random())
        return fresh_until, fresh_until + self._grace

    def timeless(self) -> Policy:
        """Give the same options, but what is stored stays as it is for ever, in this process."""
        given = self.ttl

        def ttl(result: Any) -> Lifetime:
            return 0 if seconds(given(result) if callable(given) else given) == 0 else None

        once = replace(self, ttl=ttl, stale_ttl=None, refresh_ahead=None, jitter=0.0)
        return replace(once, timeout=None, lock=None)

    @property
    def longest(self) -> float | None:
        """The most seconds that an answer is kept; None if there is no such bound."""
        ttl = self._fixed
        return None if ttl is None or self._grace == math.inf else ttl + self._grace

    @property
    def rest(self) -> float:
        """Seconds for which a stale answer serves before a failed function is called again.

        30, as RFC 8767 (serve-stale DNS) recommends, or the ttl if that is shorter.
        """
        return _REST if self._fixed is None else min(_REST, self._fixed)

    @property
    def _fixed(self) -> float | None:
        """The ttl in seconds, if it is the same for all answers, and not for ever."""
        return None if callable(self.ttl) else seconds(self.ttl)

    def _check_callables(self) -> None:
        for condition in self._conditions:
            check_condition(condition)
        if not callable(self.clock):
            raise TypeError(f"clock is {self.clock!r}; it must be a callable that gives seconds")
        for name in ("ttl", "clock"):
            if iscoroutinefunction(getattr(self, name)):
                raise TypeError(f"{name} is a coroutine function; it must be a plain one")
        if callable(self.ttl):
            check_takes_result("ttl", self.ttl)

    def _check_parts(self) -> None:
        if self.refresh_ahead is not None and not 0 < number_of(self.refresh_ahead) < 1:
            raise ValueError(
                f"refresh_ahead is {self.refresh_ahead!r}; it must be the part of an answer's life "
                f"after which it is made anew, more than 0 and less than 1, such as 0.8, or None"
            )
        if not 0 <= number_of(self.jitter) < 1:
            raise ValueError(
                f"jitter is {self.jitter!r}; it must be the largest part of an answer's life to "
                f"take off at random, from 0 to less than 1, such as 0.1"
            )
