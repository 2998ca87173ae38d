"""Locks that their store did not take back, which others would wait for until their leases end."""

from __future__ import annotations

from collections.abc import Awaitable
from contextlib import suppress
from time import monotonic

from ._bridge import Colour
from ._guard import FAILED, Failed, Guard
from .errors import BackendError

_SHORTEST, _LONGEST = 0.2, 2.0  # seconds between two tries


class Leftovers:
    """The locks of one function that are still to be given back, each for its *lease*.

    One thread or task tries for all of them, as there may be one more with every call.
    """

    def __init__(self, guard: Guard, colour: Colour, lease: float) -> None:
        self._guard, self._colour, self._lease = guard, colour, lease
        self._until: dict[tuple[str, bytes], float] = {}
        self._is_idle = _always

    async def remove(self, name: str, token: bytes) -> None:
        """Delete the lock *name* if it is still *token*: now, or in the background, if it fails."""
        try:
            held = await self._ask(name, token)
        except BackendError:
            self.keep_trying(name, token)
            raise
        if held is FAILED:
            self.keep_trying(name, token)

    def _ask(self, name: str, token: bytes) -> Awaitable[bool | Failed]:
        return self._guard.ask("swap", name, token, None, None)

    def keep_trying(self, name: str, token: bytes) -> None:
        """Have the lock deleted in the background; where no event loop runs, with the next call."""
        self._until[name, token] = monotonic() + self._lease
        self.begin()

    def begin(self) -> None:
        """Have those that are left deleted in the background."""
        if self._until and self._is_idle():
            with suppress(RuntimeError):  # no thread can be started: the lease has to do
                self._is_idle = self._colour.spawn(self._try)

    async def _try(self) -> None:
        pause = _SHORTEST
        while self._until:
            await self._colour.sleep(pause)
            pause = min(2 * pause, _LONGEST)
            with suppress(BackendError):
                await self._try_each()
        self._is_idle = _always
        self.begin()  # with what came since the last look, of somebody who took us for busy

    async def _try_each(self) -> None:
        """Remove one after the other, up to the first that fails."""
        for (name, token), until in list(self._until.items()):
            if monotonic() < until and await self._ask(name, token) is FAILED:
                return
            self._until.pop((name, token), None)


def _always() -> bool:
    return True
