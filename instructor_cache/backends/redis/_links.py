"""Connections are few: callers take turns, first come first served, and each gets its own reply.

All is written once, as coroutines. The links of threads never suspend; those of an event loop do.
Waiting has a limit, and ends at once when the server turns out to be dead.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import Future
from threading import RLock
from typing import Any, TypeVar

import redis

from ..._bridge import wait_blocking
from ..._deadlines import off_the_clock
from ...errors import BackendBusy, BackendClosed
from ._commands import Commands
from ._link import Link, Unfinished
from ._settings import Settings

T = TypeVar("T")
Turn = Any  # a future of concurrent.futures or of asyncio; its result is a link or an error


class Links(Commands):
    """Hands out at most *size* links, each to one caller at a time, who waits *patience* seconds.

    These are for threads.
    """

    def __init__(self, make: Callable[[], Link], size: int, patience: float) -> None:
        self._make, self._size, self._patience = make, size, patience
        self._new_turn: Callable[[], Turn] = Future
        self._closed = False
        self._answers = 0  # which the server gave, to anybody
        self.begin_anew()

    def begin_anew(self) -> None:
        """Begin without any links, as the child of a fork has to."""
        self._lock = RLock()
        self._free: list[Link] = []
        self._all: set[Link] = set()
        self._queue: deque[Turn] = deque()

    def command(self, *args: Any, again: bool = True, node: str = "") -> Coroutine[Any, Any, Any]:
        return self.use(lambda link: link.ask(args, again, node))

    async def get_each(self, keys: Sequence[str]) -> list[Any]:
        return await self.use(lambda link: link.get_each(keys)) if keys else []

    async def masters(self) -> list[Settings]:
        """Give how to reach each server that takes writes now: one, or the masters of a cluster.

        They are asked for where they may change. A ready client's are not known: there are none.
        """
        return await self.use(lambda link: link.masters())

    async def use(self, work: Callable[[Any], Awaitable[T]]) -> T:
        """Do *work* with a link, when it is the caller's turn."""
        link = await self._take()
        answers = self._answers
        try:
            reply = await work(link)
            self._answers += 1
            return reply
        except Unfinished:
            raise
        except redis.TimeoutError:
            if answers == self._answers:  # nobody had one: those who wait would wait in vain
                silent = "Timeout waiting for a connection: the server answers nobody"
                self._dismiss(lambda: redis.TimeoutError(silent))
            raise
        finally:
            self._give(link)

    def close(self) -> None:
        """Let nobody in any more; close what is idle now, and the rest after its command."""
        self._closed = True
        self._dismiss(closed_error)
        with self._lock:
            idle, self._free = self._free, []
        for link in idle:
            link.drop()

    async def _take(self) -> Link:
        """Give a link, the one last used if possible, when it is the caller's turn."""
        with self._lock:
            if self._closed:
                raise closed_error()
            if self._free:
                return self._free.pop()
            if len(self._all) < self._size:
                self._all.add(link := self._make())
                return link
            self._queue.append(turn := self._new_turn())
        try:
            with off_the_clock():
                await self._wait(turn)
        except BaseException:
            if not turn.cancelled() and isinstance(link := self._outcome(turn), Link):
                self._give(link)  # it came in that very moment
            raise
        if isinstance(outcome := self._outcome(turn), Exception):
            raise outcome
        return outcome  # type: ignore[no-any-return]

    async def _wait(self, turn: Turn) -> None:
        await wait_blocking(turn, self._patience)

    def _outcome(self, turn: Turn) -> Any:
        """End the wait of *turn*; give its link, or the error if none has come."""
        with self._lock:
            if not turn.done():
                turn.set_result(None)
        return turn.result() or busy_error(self._patience)

    def _give(self, link: Link) -> None:
        """Take *link* back, for the next in line."""
        with self._lock:
            if link in self._all and not self._closed:
                while self._queue:
                    turn = self._queue.popleft()
                    if not turn.done():
                        turn.set_result(link)
                        return
                self._free.append(link)
                return
        link.drop()

    def _dismiss(self, error: Callable[[], BaseException]) -> None:
        """Send away all who wait, each with an error of his own."""
        with self._lock:
            while self._queue:
                turn = self._queue.popleft()
                if not turn.done():
                    turn.set_result(error())


def busy_error(seconds: float) -> BackendBusy:
    """The error of a caller whose turn didn't come."""
    return BackendBusy(
        f"found all connections in use for {seconds:g} seconds; "
        f"wanted a free one: raise max_connections, or lower the number of callers at once"
    )


def closed_error() -> BackendClosed:
    """The error of every use after `close`."""
    return BackendClosed("found a RedisCache that was closed; wanted an open one: make a new one")
