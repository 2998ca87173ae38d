"""What was invalidated lately, for processes that are in the middle of a call.

An answer whose call began before an invalidation must not be kept after it, whoever invalidated.
So an invalidation leaves a mark in the store that all share: a number that only grows, for the
function (or for all functions of its prefix) and for what was forgotten. Who calls reads these
numbers before, and after it has stored the answer; if one has grown, the other marks tell whether
this answer was meant.
"""

from __future__ import annotations

import time

from ._guard import FAILED, Guard

_LIFE = 3600.0  # seconds; a call that takes longer is not protected
_QUIET = 10.0  # seconds without another try when they can't be read, or not by this user
_ROUNDS = 5  # against others who invalidate at the same time


class Marks:
    """The marks of one function, kept by the tier that most processes see.

    Attributes:
        guard: That tier; None if no other process sees any of them.
        namespaces: What the function's keys begin with, and what those of its prefix do. The first
            is the one that is invalidated.
    """

    def __init__(self, guard: Guard | None, *namespaces: str) -> None:
        self.guard, self.namespaces = guard, namespaces
        self._quiet_until = 0.0

    async def latest(self) -> int:
        """Give the number of the last invalidation, to be handed to `has_hit` later."""
        return max(map(_number, await self._get(*map(_last, self.namespaces))), default=0)

    async def set(self, forgotten: str) -> None:
        """Mark that everything under *forgotten*, a key or a namespace, is being forgotten.

        To be done before it is deleted.
        """
        if self.guard is None:
            return
        name = _last(self.namespaces[0])
        for _ in range(_ROUNDS):
            last = await self.guard.ask("get", name)
            if last is FAILED:
                last = None
            mark = b"%d" % max(_number(last) + 1, time.time_ns())  # grows even if one was lost
            swapped = await self.guard.ask("swap", name, last, mark, _LIFE)
            if swapped is not False:
                await self.guard.ask("set", f"forgotten:{forgotten}", mark, _LIFE)
                return

    async def has_hit(self, key: str, since: int) -> bool:
        """Whether *key*, or all keys, were forgotten after the invalidation number *since*."""
        if await self.latest() == since:
            return False
        marks = await self._get(*(f"forgotten:{each}" for each in (key, *self.namespaces)))
        return max(map(_number, marks), default=0) > since

    async def _get(self, *names: str) -> list[bytes | None]:
        if self.guard is None or time.monotonic() < self._quiet_until:
            return []
        found = await self.guard.ask("get_many", *names)
        if found is not FAILED:
            return found  # type: ignore[no-any-return]
        self._quiet_until = time.monotonic() + _QUIET
        return []


def _last(namespace: str) -> str:
    """The name under which the last number of a namespace is kept."""
    return f"forgotten:{namespace}*"


def _number(mark: bytes | None) -> int:
    is_whole = isinstance(mark, bytes) and mark.isdigit()  # and not damaged
    return int(mark) if is_whole and mark is not None else 0
