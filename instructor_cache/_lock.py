"""One call at a time across processes and hosts: a lease in the store that all of them share.

It saves calls, and excludes nothing: who was stopped for longer than the lease, or loses the
store, finds that others have gone on. What they answered first is then what is kept.
"""

from __future__ import annotations

import random
import uuid
from concurrent.futures import Future
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from time import monotonic

from ._bridge import ASYNC, Colour
from ._guard import FAILED, Failed, Guard
from ._leftovers import Leftovers
from ._reserved import LOCK
from ._stack import Stack
from .policy import Policy

_FIRST, _LAST = 0.05, 0.25  # seconds between two looks at a lock that another one holds


@dataclass(frozen=True, slots=True)
class SharedLock:
    """The lock for a function's calls, kept by one backend.

    Attributes:
        lease: Seconds for which a holder that is gone keeps others waiting.
        timeout: Seconds to wait before going on without it.
        leftovers: Those that could not be given back.
    """

    guard: Guard
    colour: Colour
    lease: float
    timeout: float
    leftovers: Leftovers

    @classmethod
    def open(cls, stack: Stack, colour: Colour, policy: Policy) -> SharedLock:
        """Find where *stack* can keep locks; raise ValueError if it can't."""
        if (guard := stack.shared()) is None:
            names = ", ".join(shelf.guard.name for shelf in stack.shelves)
            raise ValueError(
                f'found lock="backend" and no tier that can keep a lock between processes '
                f"({names}); add a DiskCache or a RedisCache, or leave out the lock"
            )
        lease = policy.lock_lease
        return cls(guard, colour, lease, policy.flight_timeout, Leftovers(guard, colour, lease))

    def hold(self, key: str, *, waiting: bool = True) -> Hold:
        """Hold the lock of *key* in an ``async with``, for which it may have to wait.

        It tells whether nobody else holds it. Its lease is renewed in the background. Without the
        store there is no lock: nobody else is known to hold it. Who holds it already has it.
        """
        return Hold(self, f"{LOCK}{key}", self.timeout if waiting else 0.0)

    async def acquire(self, name: str, token: bytes, timeout: float) -> bool | Failed:
        """Tell whether the lock is ours, waiting for it; FAILED if the store can't be asked."""
        deadline, pause = monotonic() + timeout, _FIRST
        self.leftovers.begin()
        held = await self._take(name, token)
        if held is False and await self.guard.ask("get", name) == token:
            return True  # a ready client has sent the command twice, and the first one did it
        while held is False:
            if monotonic() + pause > deadline:
                return False
            await self.colour.sleep(pause * random.uniform(0.8, 1.2))
            pause = min(pause * 1.3, _LAST)
            held = await self._take(name, token)
        return held

    async def _take(self, name: str, token: bytes) -> bool | Failed:
        held: bool | Failed = await self.guard.ask("swap", name, None, token, self.lease)
        return held

    async def renew(self, name: str, token: bytes, released: Future[None]) -> None:
        """Keep the lock alive until it is *released*."""
        while not await self.colour.wait(released, self.lease / 3):
            if await self.guard.ask("swap", name, token, token, self.lease) is False:
                return  # it is another's now
            if released.done():  # meanwhile, so this may have put it back: not every swap is atomic
                await self.release(name, token)

    async def release(self, name: str, token: bytes) -> None:
        """Give the lock back, unless it is another's by now."""
        await self.leftovers.remove(name, token)


class Hold:
    """One holding of a lock. Not a generator: those write to the errors that pass through them."""

    def __init__(self, lock: SharedLock, name: str, timeout: float) -> None:
        self._lock, self._name, self._timeout = lock, name, timeout
        self._token = uuid.uuid4().hex.encode()
        self._place = id(lock.guard.health), name
        self._released: Future[None] = Future()
        self._is_ours = False

    async def __aenter__(self) -> bool:
        self._others = tuple(hold for hold in _held.get() if not hold._released.done())
        if any(hold._place == self._place for hold in self._others):
            return True
        try:
            held = await self._lock.acquire(self._name, self._token, self._timeout)
        except BaseException as error:  # cancelled, perhaps just when it became ours
            await self._give_back(type(error))
            raise
        if held is False:
            return False
        self._is_ours = True  # even if that was not heard, for the reply may have been lost
        self._before = _held.set((*self._others, self))
        if held is not FAILED:
            with suppress(RuntimeError):  # no thread can be started: the lease has to do
                self._lock.colour.spawn(self._renew)
        return True

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if not self._is_ours:
            return
        with suppress(ValueError):  # a task destroyed with its loop has lost its context
            _held.reset(self._before)
        self._released.set_result(None)
        await self._give_back(kind)

    async def _give_back(self, kind: type[BaseException] | None) -> None:
        is_closed = kind is not None and issubclass(kind, GeneratorExit)
        if is_closed and self._lock.colour is ASYNC:  # a coroutine that is closed can't wait
            self._lock.leftovers.keep_trying(self._name, self._token)
        else:
            await self._lock.colour.finish(self._release)

    async def _renew(self) -> None:
        await self._lock.renew(self._name, self._token, self._released)

    async def _release(self) -> None:
        await self._lock.release(self._name, self._token)


# What the current call, or one of its callers, holds. A task that was begun meanwhile sees it for
# ever, so it counts only until it is released.
_held: ContextVar[tuple[Hold, ...]] = ContextVar("held", default=())
