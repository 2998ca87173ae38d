"""How long answers last and waits take, as users write it: 90, "1h30m", a `timedelta`, None."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

Lifetime = float | int | timedelta | str | None
TTL = Lifetime | Callable[[Any], Lifetime]

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhdw])")
_FOR_EVER = 100 * 365 * 86_400  # no backend is asked to count further than a hundred years


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


def patience(name: str, wanted: Any, *, least: float | None = None) -> float:
    """Give *wanted* if it is a number of seconds to wait: above 0, or from *least* on."""
    number = number_of(wanted)
    if not (number > 0 if least is None else number >= least):
        limit = "more than 0" if least is None else f"{least:g} or more"
        raise ValueError(f"{name} is {wanted!r}; it must be seconds, {limit}")
    return number


def shorter(one: float | None, other: float | None) -> float | None:
    """Give the shorter of two lives in seconds; None is for ever."""
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)


def number_of(wanted: Any) -> float:
    is_number = isinstance(wanted, (int, float)) and not isinstance(wanted, bool)
    return float(wanted) if is_number else math.nan
