"""The short way to a hit: a fresh entry in a nearest tier that is memory or a file.

For most calls nothing else happens, so here the engine's steps for a hit are taken in one go, and
the clock, the key and the coroutines cost as little as can be. Everything else is the engine's: a
miss, an entry that is stale, tagged or from the future, a tier that fails or has failed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ._engine import Engine
from ._keeper import MISS
from .entry import fresh_payload

_PLAIN = frozenset({str, bytes, int, bool, type(None)})  # equal and of one type is the same
_MOST = 1024  # calls whose keys are remembered
_LONGEST = 1000  # characters or bytes in an argument of theirs
_LATE = 0.05  # seconds after which a failure is not tried again

Args = tuple[Any, ...]
Kwargs = dict[str, Any]


class Lane:
    """Answers calls of one function from its nearest tier.

    Args:
        make: Gives the key of a call.
        is_open: Whether an entry that is fresh is all there is to know.
        remembers: Whether equal arguments of `_PLAIN` types always have the same key.
    """

    def __init__(
        self, engine: Engine, make: Callable[..., str], *, is_open: bool, remembers: bool
    ) -> None:
        shelf = engine.stack.shelves[0]
        self._look = shelf.look if is_open else None
        self._guard, self._health = shelf.guard, shelf.guard.health
        self._is_exposed = not shelf.guard.port.is_local  # to damage, and to other programs
        self._codec, self._announce, self._clock = engine.codec, engine.announce, shelf.clock
        self._make, self._remembers = make, remembers
        self._keys: dict[Any, str] = {}

    def answer(self, args: Args, kwargs: Kwargs) -> Any:
        """Give the cached answer to a call, or `MISS` if there is none on this way."""
        health = self._health
        if self._look is None or health.reads.failures or health.missed:
            return MISS
        try:
            key, now = self._key(args, kwargs), self._clock()
        except Exception:  # the engine will say it
            return MISS
        try:
            raw = self._look(key)
        except Exception as error:
            if (seconds := self._clock() - now) > _LATE:
                self._guard.survive("get", key, error, seconds)
            return MISS
        return MISS if raw is None else self._read(key, raw, now)

    def _read(self, key: str, raw: bytes, now: float) -> Any:
        try:
            payload, seconds = fresh_payload(key, raw, now, is_exposed=self._is_exposed)
            answer = self._codec().decode(payload)
        except Exception:
            return MISS
        self._announce.hit(key, self._guard.name, seconds)
        return answer

    def _key(self, args: Args, kwargs: Kwargs) -> str:
        call = _known_by(args, kwargs) if self._remembers else None
        if call is None:
            return self._make(*args, **kwargs)
        key = self._keys.get(call)
        if key is None:
            if len(self._keys) >= _MOST:
                self._keys.clear()
            key = self._keys[call] = self._make(*args, **kwargs)
        return key


def _known_by(args: Args, kwargs: Kwargs) -> Any:
    """What stands for the arguments of a call in a dict; None if nothing does."""
    for value in args:
        if value.__class__ is not str or len(value) > _LONGEST:
            break
    else:
        if not kwargs:
            return args
    values = (*args, *kwargs.values())
    kinds = tuple(map(type, values))
    if not _PLAIN.issuperset(kinds) or any(_size(value) > _LONGEST for value in values):
        return None
    return values, kinds, tuple(kwargs)


def _size(value: Any) -> int:
    return len(value) if value.__class__ in (str, bytes) else 0
