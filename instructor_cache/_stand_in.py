"""What every cached function of this process uses in place of its own backend, while it is set.

For tests: a cassette stands in, so that nothing is asked of a model or of Redis.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, Literal, TypeVar

from .errors import CacheMiss
from .protocols import Backend

T = TypeVar("T")
Mode = Literal["bypass", "refresh", "offline"]


@dataclass(eq=False)
class StandIn:
    """A backend that stands in for all others.

    Attributes:
        is_final: Whether functions must not be called, not even for what it doesn't hold.
        why, remedy: What a `CacheMiss` says: "... is not called", and why; and what to do.
        check: Called with the key of each call, and with what reads answers to it; may raise what
            is wrong with the one that is there.
    """

    backend: Backend
    is_final: bool
    why: str
    remedy: str
    check: Callable[[str, Callable[[bytes], Any]], None]
    _made: dict[int, tuple[object, Any]] = field(default_factory=dict[int, "tuple[object, Any]"])
    _aliases: dict[str, dict[bytes, bytes]] = field(default_factory=dict[str, "dict[bytes, bytes]"])
    _lock: Lock = field(default_factory=Lock)

    def made(self, owner: object, make: Callable[[Backend], T]) -> T:
        """Give what *make* made of the backend for *owner*, the same for every call."""
        known = self._made.get(id(owner))
        if known is None:
            known = self._made.setdefault(id(owner), (owner, make(self.backend)))
        made: T = known[1]
        return made

    def alias(self, kind: str, thing: bytes) -> bytes:
        """Give what stands for *thing* in keys: those of a kind are told apart by their order.

        The one that records has credentials, and a server of his own perhaps, that the one that
        plays has not.
        """
        with self._lock:
            known = self._aliases.setdefault(kind, {})
            return known.setdefault(thing, f"{kind} {len(known)}".encode())

    def mode(self, wanted: Mode | None) -> Mode | None:
        """Give the mode in its place of the one that is *wanted* here.

        What is called past the cache is recorded all the same, or it could not be played.
        """
        if self.is_final or wanted == "offline":
            return "offline"
        return wanted and "refresh"


# The last one is in use. A list that is empty costs a call next to nothing to look at.
STAND_INS: list[StandIn] = []


def stand_in() -> StandIn | None:
    """Give what stands in for all backends just now, if anything does."""
    try:
        return STAND_INS[-1]
    except IndexError:
        return None


def refuse_uncached(function: str, reason: str) -> None:
    """Raise CacheMiss if anything stands in: what can't be recorded could not be played."""
    if (one := stand_in()) is not None:
        raise CacheMiss(
            f"found a call of {function} that can't be recorded ({reason}), so it is not made "
            f"{one.why}; leave it to a function that returns what can be",
            function,
        )


@contextmanager
def standing_in(one: StandIn) -> Generator[StandIn]:
    """Have every cached function use *one*, in all threads, until the end of the block."""
    STAND_INS.append(one)
    try:
        yield one
    finally:
        STAND_INS.remove(one)
