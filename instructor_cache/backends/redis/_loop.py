"""What links on an event loop need: waiting for a turn, and an end of what takes too long."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import redis
from typing_extensions import Self

from ...errors import InstructorCacheError
from ._batch import Dismissal, Reads
from ._link import Limit, Link, Unfinished
from ._links import Links, Turn


class LoopLinks(Links):
    """Links for the tasks of the running loop; only its thread may close them."""

    def __init__(self, make: Callable[[], Link], size: int, patience: float) -> None:
        super().__init__(make, size, patience)
        self._loop = asyncio.get_running_loop()
        self._new_turn = self._loop.create_future
        self._reads = Reads(self, size, patience)

    def get(self, key: str) -> Awaitable[bytes | None]:
        return self._reads.get(key)

    def _dismiss(self, error: Dismissal) -> None:
        if not self._loop.is_closed():  # by hand: then nobody can be woken up any more
            super()._dismiss(error)
            self._reads.dismiss(error)

    async def _wait(self, turn: Turn) -> None:
        timer = self._loop.call_later(self._patience, self._outcome, turn)
        try:
            await turn
        finally:
            timer.cancel()


class Deadline(Limit):
    """A context whose future `over` is done when it takes more than *seconds*.

    An error that leaves it after that is redis.TimeoutError, unless it is one of ours; it is
    Unfinished if a reply had begun.

    They are counted in ten steps. None counts for more than two while the loop stands still
    because somebody blocks it: no server is blamed for that time, nor waited for without end.
    """

    def __init__(self, seconds: float) -> None:
        self._loop = asyncio.get_running_loop()
        self.over: asyncio.Future[None] = self._loop.create_future()
        seconds = max(0.0, seconds)  # steps below 0 would never come to an end
        self._left: float = 0.98 * seconds  # rather early than late
        self._most = seconds / 10
        self._has_begun = False
        self._wait()

    def left(self) -> float:
        return self._left - max(0.0, self._loop.time() - self._timer.when() + self._step)

    def begin_reply(self) -> None:
        """Take note that a reply has begun to come."""
        self._has_begun = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, tb: object) -> None:
        self._timer.cancel()
        is_ours = isinstance(error, InstructorCacheError)
        if self.over.done() and isinstance(error, Exception) and not is_ours:
            late = Unfinished if self._has_begun else redis.TimeoutError
            raise late("Timeout: no answer in time") from error

    def _wait(self) -> None:
        self._step = min(self._left, self._most)
        self._timer = self._loop.call_later(self._step, self._look)

    def _look(self) -> None:
        late = self._loop.time() - self._timer.when()
        self._left -= self._step + min(late, self._most)
        if self._left > 0:
            self._wait()
        else:
            self.over.set_result(None)


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


_unattended: set[asyncio.Future[Any]] = set()
