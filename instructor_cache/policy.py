"""The options of one cached function as one value, and how a ttl is written."""

from __future__ import annotations

import math
import random
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from inspect import iscoroutinefunction
from typing import Any, Literal

from .conditions import Condition, check_condition, holds

Lifetime = float | int | timedelta | str | None
TTL = Lifetime | Callable[[Any], Lifetime]

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhdw])")
_REST = 30.0
_FOR_EVER = 100 * 365 * 86_400  # no backend is asked to count further than a hundred years


@dataclass(frozen=True, slots=True)
class Policy:
    """What the engine needs to know of one function's options.

    Attributes:
        ttl: How long an answer is fresh, in any form that `seconds` reads, or a callable that
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

    def __post_init__(self) -> None:
        if not callable(self.ttl):
            object.__setattr__(self, "ttl", seconds(self.ttl))
        seconds(self.stale_ttl, "stale_ttl")
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
        return fresh_until, fresh_until + self._grace()

    def timeless(self) -> Policy:
        """Give the same options, but what is stored stays as it is for ever, in this process."""
        given = self.ttl

        def ttl(result: Any) -> Lifetime:
            return 0 if seconds(given(result) if callable(given) else given) == 0 else None

        later = replace(self, stale_ttl=None, refresh_ahead=None, timeout=None, lock=None)
        return replace(later, ttl=ttl, jitter=0.0)

    @property
    def longest(self) -> float | None:
        """The most seconds that an answer is kept; None if there is no such bound."""
        ttl = None if callable(self.ttl) else seconds(self.ttl)
        grace = self._grace()
        return None if ttl is None or grace == math.inf else ttl + grace

    @property
    def rest(self) -> float:
        """Seconds for which a stale answer serves before a failed function is called again.

        30, as RFC 8767 (serve-stale DNS) recommends, or the ttl if that is shorter.
        """
        ttl = None if callable(self.ttl) else seconds(self.ttl)
        return _REST if ttl is None else min(_REST, ttl)

    def _grace(self) -> float:
        if self.stale_ttl is None:
            return 0.0
        grace = seconds(self.stale_ttl, "stale_ttl")
        return math.inf if grace is None else grace

    def _check_callables(self) -> None:
        for condition in self._conditions:
            check_condition(condition)
        if not callable(self.clock):
            raise TypeError(f"clock is {self.clock!r}; it must be a callable that gives seconds")
        for name in ("ttl", "clock"):
            if iscoroutinefunction(getattr(self, name)):
                raise TypeError(f"{name} is a coroutine function; it must be a plain one")

    def _check_parts(self) -> None:
        if self.refresh_ahead is not None and not 0 < _real(self.refresh_ahead) < 1:
            raise ValueError(
                f"refresh_ahead is {self.refresh_ahead!r}; it must be the part of an answer's life "
                f"after which it is made anew, more than 0 and less than 1, such as 0.8, or None"
            )
        if not 0 <= _real(self.jitter) < 1:
            raise ValueError(
                f"jitter is {self.jitter!r}; it must be the largest part of an answer's life to "
                f"take off at random, from 0 to less than 1, such as 0.1"
            )


def patience(name: str, wanted: Any, *, least: float | None = None) -> float:
    """Give *wanted* if it is a number of seconds to wait: above 0, or from *least* on."""
    number = _real(wanted)
    if not (number > 0 if least is None else number >= least):
        limit = "more than 0" if least is None else f"{least:g} or more"
        raise ValueError(f"{name} is {wanted!r}; it must be seconds, {limit}")
    return number


def shorter(one: float | None, other: float | None) -> float | None:
    """Give the shorter of two lives in seconds; None is for ever."""
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)


def _real(wanted: Any) -> float:
    is_number = isinstance(wanted, (int, float)) and not isinstance(wanted, bool)
    return float(wanted) if is_number else math.nan


def seconds(ttl: Lifetime, name: str = "ttl") -> float | None:
    """Give a ttl in seconds; None means "never expires", 0 "do not store".

    Reads seconds as a number, a `timedelta`, or text such as "90s", "10m", "1h30m", "7d"
    (units: ms, s, m, h, d, w). Raises ValueError for a negative or unreadable ttl, TypeError
    for anything else.
    """
    if ttl is None:
        return None
    number = _number(ttl, name)
    if math.isnan(number) or number < 0:
        meaning = "0 (do not store), more, or None (for ever)" if name == "ttl" else "0 or more"
        raise ValueError(f"{name} is {ttl!r}; it must be {meaning}")
    return None if number > _FOR_EVER else number


def _number(ttl: Any, name: str) -> float:
    if isinstance(ttl, timedelta):
        return ttl.total_seconds()
    if isinstance(ttl, str):
        return _read(ttl, name)
    if isinstance(ttl, (int, float, Decimal, Fraction)) and not isinstance(ttl, bool):
        return _float(ttl)
    raise TypeError(
        f"{name} is {ttl!r} of type {type(ttl).__name__}; give seconds, a timedelta, "
        f'text such as "1h30m", {"a callable of the result, " if name == "ttl" else ""}or None'
    )


def _float(number: float | Decimal | Fraction) -> float:
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf
    except ValueError:  # a signalling NaN
        return math.nan


def _read(text: str, name: str) -> float:
    compact = "".join(text.split()).lower()
    if not re.fullmatch(rf"(?:{_PART.pattern})+", compact):
        raise ValueError(
            f'{name} is {text!r}; as text it must be numbers with units, such as "90s", "10m", '
            f'"1h30m" or "7d" (units: {", ".join(_UNITS)})'
        )
    return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(compact))
