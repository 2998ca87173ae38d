"""Ends what takes too long on an event loop, without blaming others for a loop that was blocked."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from itertools import count
from typing import Any

_STALL = 0.03  # seconds; a loop that is late by more than that was blocked


class Watch:
    """Ends what has been under way for too long on its loop.

    It has a clock of its own, which hardly moves while the loop itself stands still because
    somebody blocks it: no server is blamed for that time.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self._loop, self._tick = loop, seconds / 20
        self._seconds = seconds - self._tick  # rather early than late
        self._now, self._looked = 0.0, 0.0
        self._numbers = count()
        self._due: dict[int, tuple[float, Callable[[], None]]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def start(self, expire: Callable[[], None]) -> int:
        """Call *expire* when the time is over, unless `stop` is called with the number given."""
        number = next(self._numbers)
        if self._timer is None:
            self._wait()
        self._due[number] = self._now + self._seconds, expire
        return number

    def stop(self, number: int) -> None:
        self._due.pop(number, None)

    def _wait(self) -> None:
        self._looked = self._loop.time()
        self._timer = self._loop.call_later(self._tick, self._look)

    def _look(self) -> None:
        passed = self._loop.time() - self._looked
        self._now += passed if passed < self._tick + _STALL else self._tick
        while self._due:
            number, (moment, expire) = next(iter(self._due.items()))
            if moment > self._now:
                break
            del self._due[number]
            expire()
        if self._due:
            self._wait()
        else:
            self._timer = None


async def within(watch: Watch, work: asyncio.Future[Any]) -> bool:
    """Wait for *work* to be done; False if it isn't in time."""
    over = asyncio.get_running_loop().create_future()
    number = watch.start(functools.partial(over.set_result, None))
    try:
        await asyncio.wait({work, over}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        watch.stop(number)
    return work.done()


_unattended: set[asyncio.Future[Any]] = set()


def abandon(work: asyncio.Future[Any]) -> None:
    """Cancel *work* without waiting for it to end, and look after it until it does."""
    work.cancel()
    _unattended.add(work)
    work.add_done_callback(_unattended.discard)
    work.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody's business
