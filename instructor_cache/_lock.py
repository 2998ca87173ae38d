"""One call at a time across processes and hosts: a lease in the store that all of them share.

It saves calls, and excludes nothing: who was stopped for longer than the lease, or loses the
store, finds that others have gone on. What they answered first is then what is kept.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import AsyncGenerator
from concurrent.futures import Future
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from time import monotonic

from ._bridge import Colour
from ._guard import FAILED, Failed, Guard
from ._stack import Stack
from .policy import Policy

_FIRST, _LAST = 0.05, 0.25  # seconds between two looks at a lock that another one holds


@dataclass(frozen=True, slots=True)
class SharedLock:
    """The lock for a function's calls, kept by one backend.

    Attributes:
        lease: Seconds for which a holder that is gone keeps others waiting.
        timeout: Seconds to wait before going on without it.
    """

    guard: Guard
    colour: Colour
    lease: float
    timeout: float

    @classmethod
    def open(cls, stack: Stack, colour: Colour, policy: Policy) -> SharedLock:
        """Find where *stack* can keep locks; raise ValueError if it can't."""
        if (guard := stack.shared()) is None:
            names = ", ".join(guard.name for guard, _ in stack.shelves)
            raise ValueError(
                f'found lock="backend" and no tier that can keep a lock between processes '
                f"({names}); add a DiskCache or a RedisCache, or leave out the lock"
            )
        return cls(guard, colour, policy.lock_lease, policy.flight_timeout)

    @asynccontextmanager
    async def hold(self, key: str, *, waiting: bool = True) -> AsyncGenerator[bool]:
        """Hold the lock of *key*, for which it may have to wait; tell whether nobody else does.

        Its lease is renewed in the background. Without the store there is no lock: nobody else is
        known to hold it.
        """
        name, token = f"lock:{key}", uuid.uuid4().hex.encode()
        held = await self._acquire(name, token, self.timeout if waiting else 0.0)
        if held is False:
            yield False
            return
        released: Future[None] = Future()
        if held is not FAILED:
            self._keep_renewing(name, token, released)
        try:
            yield True
        finally:  # even if it was not heard that it is ours
            released.set_result(None)
            await self.guard.ask("swap", name, token, None, None)

    def _keep_renewing(self, name: str, token: bytes, released: Future[None]) -> None:
        with suppress(RuntimeError):  # no thread can be started: the lease has to do
            self.colour.spawn(lambda: self._renew(name, token, released))

    async def _acquire(self, name: str, token: bytes, timeout: float) -> bool | Failed:
        deadline, pause = monotonic() + timeout, _FIRST
        while (held := await self.guard.ask("swap", name, None, token, self.lease)) is False:
            if monotonic() + pause > deadline:
                return False
            await self.colour.sleep(pause * random.uniform(0.8, 1.2))
            pause = min(pause * 1.3, _LAST)
        return held  # type: ignore[no-any-return]

    async def _renew(self, name: str, token: bytes, released: Future[None]) -> None:
        while not await self.colour.wait(released, self.lease / 3):
            if await self.guard.ask("swap", name, token, token, self.lease) is False:
                return  # it is another's now
