"""Who may use a connection next: connections are few, callers take turns, first come first served.

One class for threads and for the tasks of one event loop; they differ in the future that they
wait for. Waiting has a limit, and ends at once when the server turns out to be dead.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections import deque
from collections.abc import Callable
from enum import Enum
from threading import TIMEOUT_MAX, Lock
from typing import Any, Generic, TypeVar

import redis

from ..errors import BackendBusy, BackendClosed

L = TypeVar("L")

Turn = Any  # a future of concurrent.futures or of asyncio; its result is a link or a refusal


class _Refusal(Enum):
    BUSY = "busy"
    SILENT = "silent"
    CLOSED = "closed"


class Turns(Generic[L]):
    """Hands out at most *size* links, each to one caller at a time.

    Args:
        make: Makes a link when all others are in use.
        size: The most links to make.
        new_turn: Makes the future that a caller waits for when there are no more.
    """

    def __init__(self, make: Callable[[], L], size: int, new_turn: Callable[[], Turn]) -> None:
        self._make, self._size, self._new_turn = make, size, new_turn
        self.closed = False
        self.answers = 0  # which the server gave, to anybody
        self.start()

    def start(self) -> None:
        """Begin without any links, as the child of a fork has to."""
        self._lock = Lock()
        self._free: list[L] = []
        self._all: set[L] = set()
        self._queue: deque[Turn] = deque()

    def take(self) -> L | None:
        """Give a link, the one last used if possible; None if the caller has to wait."""
        with self._lock:
            if self.closed:
                raise closed_error()
            if self._free:
                return self._free.pop()
            if len(self._all) >= self._size:
                return None
            link = self._make()
            self._all.add(link)
            return link

    def line_up(self) -> Turn:
        """Give a future of a link, for a caller whom `take` gave None."""
        turn = self._new_turn()
        with self._lock:
            if self.closed:
                turn.set_result(_Refusal.CLOSED)
            elif self._free:
                turn.set_result(self._free.pop())
            else:
                self._queue.append(turn)
        return turn

    def give(self, link: L) -> bool:
        """Take *link* back, for the next in line; False if it is of no more use to anybody."""
        with self._lock:
            if self.closed or link not in self._all:
                return False
            while self._queue:
                turn = self._queue.popleft()
                if not turn.done():
                    turn.set_result(link)
                    return True
            self._free.append(link)
            return True

    def give_up(self, turn: Turn) -> None:
        """End the wait of *turn*, unless its link has come."""
        with self._lock:
            if not turn.done():
                turn.set_result(_Refusal.BUSY)

    def withdraw(self, turn: Turn) -> None:
        """Leave the line; if a link came in that very moment, the next in line gets it."""
        with self._lock:
            if not turn.done():
                turn.cancel()
        if not turn.cancelled() and not isinstance(turn.result(), _Refusal):
            self.give(turn.result())

    def dismiss(self, answers: int) -> None:
        """Send away all who wait, if there still are *answers*: the server answers nobody."""
        with self._lock:
            if self.answers == answers:
                self._refuse(_Refusal.SILENT)

    def close(self) -> list[L]:
        """Let nobody in any more; give the links that nobody uses."""
        with self._lock:
            self.closed = True
            self._refuse(_Refusal.CLOSED)
            idle, self._free = self._free, []
            return idle

    def _refuse(self, reason: _Refusal) -> None:
        while self._queue:
            turn = self._queue.popleft()
            if not turn.done():
                turn.set_result(reason)


def wait_turn(turns: Turns[L], seconds: float) -> L:
    """Give a link to this thread when it is its turn; BackendBusy after *seconds*."""
    if (link := turns.take()) is not None:
        return link
    turn = turns.line_up()
    try:
        concurrent.futures.wait({turn}, min(seconds, TIMEOUT_MAX))
        turns.give_up(turn)
        return _admitted(turn.result(), seconds)  # type: ignore[no-any-return]
    except BaseException:
        turns.withdraw(turn)
        raise


async def await_turn(turns: Turns[L], seconds: float) -> L:
    """Give a link to this task when it is its turn; BackendBusy after *seconds*."""
    if (link := turns.take()) is not None:
        return link
    turn = turns.line_up()
    timer = asyncio.get_running_loop().call_later(seconds, turns.give_up, turn)
    try:
        return _admitted(await turn, seconds)  # type: ignore[no-any-return]
    except BaseException:
        turns.withdraw(turn)
        raise
    finally:
        timer.cancel()


def _admitted(outcome: Any, seconds: float) -> Any:
    if outcome is _Refusal.BUSY:
        raise busy_error(seconds)
    if outcome is _Refusal.SILENT:
        raise redis.TimeoutError("Timeout waiting for a connection: the server answers nobody")
    if outcome is _Refusal.CLOSED:
        raise closed_error()
    return outcome


def busy_error(seconds: float) -> BackendBusy:
    """The error of a caller whose turn didn't come."""
    return BackendBusy(
        f"found all connections in use for {seconds:g} seconds; "
        f"wanted a free one: raise max_connections, or lower the number of callers at once"
    )


def closed_error() -> BackendClosed:
    """The error of every use after `close`."""
    return BackendClosed("found a RedisCache that was closed; wanted an open one: make a new one")
