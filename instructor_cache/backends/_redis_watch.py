"""Ends what takes too long on an event loop, without blaming others for a loop that was blocked."""

from __future__ import annotations

import asyncio
from typing import Any

import redis

_STALL = 0.03  # seconds; a loop that is late by more than that was blocked


class Watch:
    """Tells what has been under way for too long on its loop.

    It has a clock of its own, which hardly moves while the loop itself stands still because
    somebody blocks it: no server is blamed for that time.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self._loop, self._tick = loop, seconds / 20
        self._seconds = seconds - self._tick  # rather early than late
        self._now, self._looked = 0.0, 0.0
        self._due: dict[asyncio.Future[None], float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> asyncio.Future[None]:
        """Give a future that is done when the time is over, unless `stop` is called with it."""
        over = self._loop.create_future()
        if self._timer is None:
            self._wait()
        self._due[over] = self._now + self._seconds
        return over

    def stop(self, over: asyncio.Future[None]) -> None:
        self._due.pop(over, None)

    def _wait(self) -> None:
        self._looked = self._loop.time()
        self._timer = self._loop.call_later(self._tick, self._look)

    def _look(self) -> None:
        passed = self._loop.time() - self._looked
        self._now += passed if passed < self._tick + _STALL else self._tick
        while self._due and next(iter(self._due.values())) <= self._now:
            over = next(iter(self._due))
            del self._due[over]
            over.set_result(None)
        self._timer = None
        if self._due:
            self._wait()


_unattended: set[asyncio.Future[Any]] = set()


async def unless(over: asyncio.Future[None], work: asyncio.Future[Any]) -> Any:
    """Give what *work* gives, or redis.TimeoutError if *over* is done before.

    It is cancelled then, as it is with the caller, but not waited for: it may clean up slowly.
    """
    try:
        await asyncio.wait({work, over}, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            return work.result()
        raise redis.TimeoutError("Timeout: no answer in time")
    finally:
        if not work.done():
            work.cancel()
            _unattended.add(work)
            work.add_done_callback(_unattended.discard)
            work.add_done_callback(lambda done: done.cancelled() or done.exception())
