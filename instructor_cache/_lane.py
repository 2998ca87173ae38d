"""The short way to a hit: a fresh entry in the nearest tier.

For most calls nothing else happens, so here the engine's steps for a hit are taken in one go, and
the clock, the key and the coroutines cost as little as can be. Everything else is the engine's: a
miss, an entry that is stale, tagged or from the future, a tier that fails or has failed, any mode,
what stands in for the tier. The engine then looks for itself, as calls may have ended meanwhile;
next to a call that costs nothing.
"""

from __future__ import annotations

from typing import Any

from ._engine import Engine
from ._memo import Args, Kwargs, Memo
from ._miss import MISS
from ._modes import is_set as has_a_mode
from ._modes import opened as in_a_mode
from ._stand_in import STAND_INS
from .entry import fresh_payload

_LATE = 0.05  # seconds after which a failure is not tried again


class Lane:
    """Answers calls of one function from its nearest tier.

    Attributes:
        waits: Whether the tier has to be waited for: then `fetch` is to be used, else `answer`.

    Args:
        keys: Gives the key of a call.
        is_open: Whether an entry that is fresh is all there is to know.
    """

    def __init__(self, engine: Engine, keys: Memo, *, is_open: bool) -> None:
        shelf = engine.stack.shelves[0]
        self._look = shelf.look if is_open else None
        self._fetch = shelf.fetch if is_open else None
        self.waits = self._fetch is not None
        self._shelf, self._guard, self._health = shelf, shelf.guard, shelf.guard.health
        self._is_exposed = not shelf.guard.port.is_local  # to damage, and to other programs
        self._codec, self._announce, self._clock = engine.codec, engine.announce, shelf.clock
        self._keys = keys

    def answer(self, args: Args, kwargs: Kwargs) -> Any:
        """Give the cached answer to a call, or `MISS` if there is none on this way."""
        if self._look is None or in_a_mode() or not self._is_well():
            return MISS
        try:
            key, now = self._keys.key(args, kwargs), self._clock()
        except Exception:  # the engine will say it
            return MISS
        try:
            raw = self._look(key)
        except Exception as error:
            return self._fail(key, error, self._clock() - now)
        return MISS if raw is None else self._read(key, raw, now)

    async def fetch(self, args: Args, kwargs: Kwargs) -> Any:
        """Do the same in a tier that has to be waited for."""
        if self._fetch is None or in_a_mode() or not self._is_well():
            return MISS
        try:
            key, now = self._keys.key(args, kwargs), self._clock()
        except Exception:
            return MISS
        try:
            raw = await self._fetch(key)
        except Exception as error:
            return self._fail(key, error, self._clock() - now)
        if raw is None:
            return MISS
        if (answer := self._read(key, raw, self._clock())) is MISS:
            await self._shelf.judge(key, raw)  # these bytes: others may come the next time
        return answer

    def _is_well(self) -> bool:
        health = self._health
        return not (health.reads.failures or health.missed or STAND_INS or has_a_mode())

    def _fail(self, key: str, error: Exception, seconds: float) -> Any:
        if seconds > _LATE:
            self._guard.survive("get", key, error, seconds)
        return MISS

    def _read(self, key: str, raw: bytes, now: float) -> Any:
        try:
            payload, seconds = fresh_payload(key, raw, now, is_exposed=self._is_exposed)
            answer = self._codec().decode(payload)
        except Exception:
            return MISS
        self._announce.hit(key, self._guard.name, seconds)
        return answer
