"""What every cached function of this process uses in place of its own backend, while it is set.

For tests: a cassette stands in, so that nothing is asked of a model or of Redis.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from .protocols import Backend

T = TypeVar("T")


@dataclass(eq=False)
class StandIn:
    """A backend that stands in for all others.

    Attributes:
        is_final: Whether functions must not be called for what it doesn't hold.
        explain: Gives, for a key that it has no answer for, an error to raise in place of
            `CacheMiss`, or None.
    """

    backend: Backend
    is_final: bool
    _made: dict[int, tuple[object, Any]] = field(default_factory=dict[int, "tuple[object, Any]"])

    def made(self, owner: object, make: Callable[[Backend], T]) -> T:
        """Give what *make* made of the backend for *owner*, the same for every call."""
        known = self._made.get(id(owner))
        if known is None:
            known = self._made.setdefault(id(owner), (owner, make(self.backend)))
        return known[1]


# The last one is in use. A list that is empty costs a call next to nothing to look at.
STAND_INS: list[StandIn] = []


def stand_in() -> StandIn | None:
    """Give what stands in for all backends just now, if anything does."""
    try:
        return STAND_INS[-1]
    except IndexError:
        return None


@contextmanager
def standing_in(one: StandIn) -> Generator[StandIn]:
    """Have every cached function use *one*, in all threads, until the end of the block."""
    STAND_INS.append(one)
    try:
        yield one
    finally:
        STAND_INS.remove(one)
