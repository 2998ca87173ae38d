"""What was invalidated lately, for processes that are in the middle of a call.

An answer whose call began before an invalidation must not be kept after it, whoever invalidated.
So an invalidation leaves a mark in the store that all share: a number that only grows, for the
function and for what was forgotten. Who calls reads the function's number before, and after it
has stored the answer; if it has grown, the other marks tell whether this answer was meant.
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
        namespace: What the function's keys begin with.
    """

    def __init__(self, guard: Guard | None, namespace: str) -> None:
        self.guard, self.namespace = guard, namespace
        self._quiet_until = 0.0

    async def latest(self) -> int:
        """Give the number of the last invalidation, to be handed to `has_hit` later."""
        return 0 if self.guard is None else _number(await self._get(""))

    async def set(self, forgotten: str) -> None:
        """Mark that everything under *forgotten*, a key or the namespace, is being forgotten.

        To be done before it is deleted.
        """
        if self.guard is None:
            return
        for _ in range(_ROUNDS):
            last = await self._get("", even_if_quiet=True)
            mark = b"%d" % max(_number(last) + 1, time.time_ns())  # grows even if one was lost
            swapped = await self.guard.ask("swap", self._name(""), last, mark, _LIFE)
            if swapped is not False:
                await self.guard.ask("set", self._name(forgotten), mark, _LIFE)
                return

    async def has_hit(self, key: str, since: int) -> bool:
        """Whether *key*, or all keys, were forgotten after the invalidation number *since*."""
        if self.guard is None or await self.latest() == since:
            return False
        marks = [await self._get(each) for each in (key, self.namespace)]
        return max(map(_number, marks)) > since

    def _name(self, forgotten: str) -> str:
        return f"forgotten:{forgotten or self.namespace + '*'}"

    async def _get(self, forgotten: str, *, even_if_quiet: bool = False) -> bytes | None:
        assert self.guard is not None
        if time.monotonic() < self._quiet_until and not even_if_quiet:
            return None
        found = await self.guard.ask("get", self._name(forgotten))
        if found is not FAILED:
            return found  # type: ignore[no-any-return]
        self._quiet_until = time.monotonic() + _QUIET
        return None


def _number(mark: bytes | None) -> int:
    is_whole = isinstance(mark, bytes) and mark.isdigit()  # and not damaged
    return int(mark) if is_whole and mark is not None else 0
