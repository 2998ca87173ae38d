"""Ready conditions for ``cache_if``: answers that are not worth keeping.

They look at the provider's own answer: at the result if it is that, at the one that instructor
attached to it (``_raw_response``), at those in a tuple, list, stream or field, and at what a client
of `cache_client` was told. Where there is none, they hold; but of a stream whose items tell nothing
of its end nobody knows whether it is whole, so it is not kept, and a warning says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from inspect import isawaitable, iscoroutine, iscoroutinefunction, signature
from typing import Any, Protocol, Union

from ._endings import is_refused, is_truncated
from ._heard import heard
from ._parts import class_of
from ._raws import is_stream, raws_of

__all__ = [
    "Condition",
    "Items",
    "Timed",
    "Unjudged",
    "check_condition",
    "holds",
    "min_seconds",
    "not_refused",
    "not_truncated",
]

_WANTED = "give a plain callable of the result, or several: cache_if=(not_truncated, not_refused)"


class Timed(Protocol):
    """A condition that asks for the seconds that a call took, and not for its result."""

    def took(self, seconds: float, /) -> bool:
        """Tell whether the answer to a call that took so long may be stored."""
        ...


Condition = Union[Callable[[Any], bool], Timed]


def not_truncated(result: Any) -> bool:
    """Tell whether the answer is whole, and was not cut off at the limit of its tokens."""
    return not any(map(is_truncated, _said(result)))


def not_refused(result: Any) -> bool:
    """Tell whether the model answered, and neither it nor a filter refused to."""
    return not any(map(is_refused, _said(result)))


class Items(list[Any]):
    """All items of a stream, for who judges them."""


class Unjudged(Exception):
    """A condition can't tell, for what it looks at is not there."""


def _said(result: Any) -> list[Any]:
    """What the provider said; raises Unjudged for a stream of which that is lost."""
    said = [*raws_of(result), *heard()]
    is_lost = isinstance(result, Items) and not said
    if is_lost or any(map(is_stream, said)):
        raise Unjudged(
            "found a stream that tells nothing of how it ended, which not_truncated and "
            "not_refused have to know; not kept: ask by a client of cache_client, which hears the "
            "end unless its own cache or a call under way answers, or leave them out of cache_if"
        )
    return said


def min_seconds(least: float) -> Timed:
    """Give the condition that a call took *least* seconds: none of a model's is faster.

    What comes faster than that may be an error page, or a mock that was left in.
    """
    is_number = isinstance(least, (int, float)) and not isinstance(least, bool)  # pyright: ignore[reportUnnecessaryIsInstance]
    if not is_number or not 0 <= least < math.inf:
        raise ValueError(
            f"min_seconds is {least!r}; it must be seconds, 0 or more, such as min_seconds(0.05)"
        )
    return _MinSeconds(least)


@dataclass(frozen=True, slots=True)
class _MinSeconds:
    least: float

    def took(self, seconds: float, /) -> bool:
        return seconds >= self.least

    def __repr__(self) -> str:
        return f"min_seconds({self.least:g})"


def holds(condition: Condition, result: Any, seconds: float) -> bool:
    """Tell whether *condition* admits the *result* of a call that took so many *seconds*."""
    one: Any = condition
    verdict = one.took(seconds) if _is_timed(one) else one(result)
    if isawaitable(verdict):
        if iscoroutine(verdict):
            verdict.close()  # else Python warns that nobody awaited it
        raise TypeError(f"cache_if: found {condition!r} to give an awaitable; {_WANTED}")
    return bool(verdict)


def _is_timed(condition: Any) -> bool:
    """Asks the class: an instance may answer yes to everything, as a mock does."""
    return hasattr(class_of(condition), "took")


def check_condition(condition: Any) -> None:
    """Raise TypeError for what can't be one of ``cache_if``."""
    if condition is min_seconds:
        raise TypeError("cache_if is min_seconds itself; say how many: min_seconds(0.05)")
    if _is_timed(condition):
        return
    if not callable(condition):
        raise TypeError(
            f"cache_if is {condition!r}; it must be a callable of the result; {_WANTED}"
        )
    if iscoroutinefunction(condition) or iscoroutinefunction(class_of(condition).__call__):
        raise TypeError(f"cache_if is the coroutine function {condition!r}; {_WANTED}")
    check_takes_result("cache_if", condition)


def check_takes_result(name: str, called: Any) -> None:
    """Raise TypeError if *called*, the option of that *name*, can't be called with a result."""
    try:
        takes = signature(called)
    except (ValueError, TypeError):  # written in C, and silent about it
        return
    try:
        takes.bind(None)
    except TypeError as error:
        raise TypeError(f"{name} is {called!r}, called with the result: {error}") from None
