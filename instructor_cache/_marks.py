"""What was invalidated lately, for processes that are in the middle of a call.

An answer whose call began before an invalidation must not be kept after it, whoever invalidated.
So an invalidation leaves a mark in the store that all share, under what was forgotten: a key, or
what all keys of a function or of a prefix begin with. No mark is like another one. Who calls looks
at those that concern its key before, and again when there is an answer to store.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from secrets import token_bytes

from ._guard import FAILED, Guard
from ._reserved import FORGOTTEN

_LIFE = 3600.0  # seconds; a call that takes longer is not protected
_QUIET = 10.0  # seconds without another try when this user may not read them

Seen = Sequence[bytes | None]


class Marks:
    """The marks of one function, kept by the tier that most processes see.

    Attributes:
        guard: That tier; None if no other process sees any of them.
        namespaces: What the function's keys begin with, and what those of its prefix do.
    """

    def __init__(self, guard: Guard | None, *namespaces: str) -> None:
        self.guard, self.namespaces = guard, namespaces
        self._quiet_until = 0.0

    async def seen(self, key: str) -> Seen:
        """Give the marks that concern *key*, to be handed to `has_hit` later; empty if unknown."""
        if self.guard is None or time.monotonic() < self._quiet_until:
            return ()
        names = [_mark(each) for each in (key, *self.namespaces)]
        found = await self.guard.ask("get_many", *names)
        if found is FAILED and await self.guard.ask("get", key) is not FAILED:  # it works, then
            found = await self.guard.ask("get_many", *names)
            self._quiet_until = time.monotonic() + _QUIET if found is FAILED else 0.0
        return () if found is FAILED else found

    async def set(self, forgotten: str) -> None:
        """Mark that everything under *forgotten*, a key or a namespace, is being forgotten.

        To be done before it is deleted.
        """
        if self.guard is not None:
            await self.guard.ask("set", _mark(forgotten), token_bytes(8), _LIFE)

    async def has_hit(self, key: str, since: Seen) -> bool:
        """Whether *key*, or all keys, were forgotten after *since* was seen.

        If it was unknown then, any mark counts; if it is now, the answer is believed.
        """
        now = await self.seen(key)
        return any(mark not in (None, *since[n : n + 1]) for n, mark in enumerate(now))


def _mark(forgotten: str) -> str:
    """The name under which it is kept that this was forgotten."""
    return f"{FORGOTTEN}{forgotten}"
