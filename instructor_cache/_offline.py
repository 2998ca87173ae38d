"""Answers without a call, for offline mode; and what to say where there is none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ._bridge import ASYNC
from ._difference import differences, other_reasons
from ._engine import Engine
from ._miss import MISS
from ._nearest import Search, Stored
from ._sketch import Part, read
from ._stand_in import stand_in
from .errors import BackendError, CacheMiss
from .keys import Keys

_WHY = "in offline mode"
_REMEDY = "to record it, call once without offline mode"


@dataclass(frozen=True, slots=True)
class Offline:
    """One function's answers as they are stored."""

    engine: Engine
    keys: Keys

    async def look(self, key: str) -> tuple[Any, BackendError | None]:
        """Give the stored answer, or `MISS`, and if a tier's failure is the reason, that."""
        try:
            return await self.engine.recorded(key), None
        except BackendError as error:
            return MISS, error

    async def miss(self, key: str, sketch: str) -> CacheMiss:
        """Give the error that says what is missing, and what is there instead."""
        stack, parts = self.engine.stack, read(sketch)
        search = Search(stack.tiers, stack.clock, stack.colour is ASYNC)
        await search.run(key, self.keys.namespace)
        nearest = search.nearest(key, parts)
        lines = [*search.own, *search.troubles, *self._comparison(key, parts, search, nearest)]
        return self._told(lines, key, None if nearest is None else nearest.key)

    def unkeyable(self, error: Exception) -> CacheMiss:
        """Give the error for a call that has no key."""
        return self._told([f"the call has no key: {error}"], None)

    def refused(self, key: str) -> CacheMiss:
        """Give the error for a call that has to be made anew."""
        return self._told(["cache_refresh() would call the function"], key)

    def _comparison(
        self, key: str, parts: dict[str, Part], search: Search, nearest: Stored | None
    ) -> list[str]:
        if nearest is None:
            is_known = not (search.own or search.troubles)
            return ["nothing is stored for this function"] if is_known else []
        count = len(search.found)
        lines = [
            f"nearest of {count:,} stored calls: {nearest.key}"
            if count > 1
            else f"the only stored call: {nearest.key}"
        ]
        reasons = other_reasons(key, nearest.key, self.keys.namespace)
        if _digest(key) == _digest(nearest.key):
            told = ["the same: all arguments"]
        elif not parts or not nearest.parts:
            told = ["arguments: others, of which nothing was kept"]
        elif parts == nearest.parts and not reasons:
            told = [*differences(parts, nearest.parts), "what differs is not shown"]
        else:
            told = differences(parts, nearest.parts)
        return lines + [f"  {line}" for line in (*told, *reasons)]

    def _told(self, lines: list[str], key: str | None, nearest: str | None = None) -> CacheMiss:
        function, one = self.keys.function, stand_in()
        why, remedy = (one.why, one.remedy(key)) if one and one.is_final else (_WHY, _REMEDY)
        shown = lines if key is None else [f"key: {key}", *lines, remedy]
        text = "\n".join(f"  {line}" for line in shown)
        found = f"found no answer to this call of {function}, which is not called {why}"
        plain_key = None if key is None else str(key)
        error = CacheMiss(f"{found}\n{text}", function, plain_key, nearest)
        discreet = CacheMiss(found, function, plain_key, nearest)  # events hold no arguments
        self.engine.announce("miss", plain_key or "", error=discreet)
        return error


def _digest(key: str) -> str:
    return key.rpartition(":")[2]
