"""The options of one cached function as one value, and how a ttl is written."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from inspect import iscoroutinefunction
from typing import Any

Lifetime = float | int | timedelta | str | None
TTL = Lifetime | Callable[[Any], Lifetime]

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhdw])")
_FOR_EVER = 100 * 365 * 86_400  # no backend is asked to count further than a hundred years


@dataclass(frozen=True, slots=True)
class Policy:
    """What the engine needs to know of one function's options.

    Attributes:
        ttl: How long an answer is fresh, in any form that `seconds` reads, or a callable that
            gives it for a result.
        cache_if: Tells whether a result may be stored; None stores every result.
        fail_open: Treat a failing backend as an empty one instead of raising.
        flight_timeout: Seconds that a call waits for an equal one that is under way.
        clock: Seconds since the epoch.
    """

    ttl: TTL = None
    cache_if: Callable[[Any], bool] | None = None
    fail_open: bool = True
    flight_timeout: float = 60.0
    clock: Callable[[], float] = time.time

    def __post_init__(self) -> None:
        if not callable(self.ttl):
            object.__setattr__(self, "ttl", seconds(self.ttl))
        if self.cache_if is not None and not callable(self.cache_if):
            raise TypeError(f"cache_if is {self.cache_if!r}; it must be a callable of the result")
        for name in ("ttl", "cache_if", "clock"):
            if iscoroutinefunction(getattr(self, name)):
                raise TypeError(f"{name} is a coroutine function; it must be a plain one")
        if not self.flight_timeout >= 0:
            raise ValueError(
                f"flight_timeout is {self.flight_timeout!r}; it must be seconds, 0 or more"
            )

    def lifetime(self, result: Any) -> float | None:
        """Seconds for which *result* is fresh; None for ever, 0 for "do not store"."""
        return seconds(self.ttl(result) if callable(self.ttl) else self.ttl)


def seconds(ttl: Lifetime) -> float | None:
    """Give a ttl in seconds; None means "never expires", 0 "do not store".

    Reads seconds as a number, a `timedelta`, or text such as "90s", "10m", "1h30m", "7d"
    (units: ms, s, m, h, d, w). Raises ValueError for a negative or unreadable ttl, TypeError
    for anything else.
    """
    if ttl is None:
        return None
    number = _number(ttl)
    if math.isnan(number) or number < 0:
        raise ValueError(f"ttl is {ttl!r}; it must be 0 (do not store), more, or None (for ever)")
    return None if number > _FOR_EVER else number


def _number(ttl: Any) -> float:
    if isinstance(ttl, timedelta):
        return ttl.total_seconds()
    if isinstance(ttl, str):
        return _read(ttl)
    if isinstance(ttl, (int, float, Decimal, Fraction)) and not isinstance(ttl, bool):
        return _float(ttl)
    raise TypeError(
        f"ttl is {ttl!r} of type {type(ttl).__name__}; give seconds, a timedelta, "
        f'text such as "1h30m", a callable of the result, or None'
    )


def _float(number: float | Decimal | Fraction) -> float:
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf
    except ValueError:  # a signalling NaN
        return math.nan


def _read(text: str) -> float:
    compact = "".join(text.split()).lower()
    if not re.fullmatch(rf"(?:{_PART.pattern})+", compact):
        raise ValueError(
            f'ttl is {text!r}; as text it must be numbers with units, such as "90s", "10m", '
            f'"1h30m" or "7d" (units: {", ".join(_UNITS)})'
        )
    return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(compact))
