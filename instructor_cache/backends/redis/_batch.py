"""Reads that are begun in one tick of an event loop travel as one command."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from copy import copy
from functools import partial
from itertools import islice
from typing import Any

import redis
from redis.exceptions import InvalidResponse

from ..._deadlines import Clock, stop_clock, time_together
from ._commands import Commands
from ._link import Unfinished
from ._links import busy_error
from ._window import Window

_COMMANDS = 8  # under way at once: more would not be faster
_LOOKS = 10  # at those who wait, in the time that they may

Dismissal = Callable[[], BaseException]


# Somebody whose key is to be asked for: his future and his clock, after which look he came, and
# whether his key is asked for a second time.
Waiter = tuple[asyncio.Future["bytes | None"], Clock | None, int, bool]
Waiters = dict[str, list[Waiter]]  # by key, those who came first in front


class Reads:
    """The reads of one event loop, at most *size* commands at once.

    One that is alone in its tick is sent by its own caller, at the end of that tick. Others are
    sent in a task that belongs to no caller, so none can disturb another. As many values are
    under way as a `Window` allows; who has to wait for that does so for *patience* seconds.

    Values that were still coming when their time was over are asked for once more, by fewer at
    once. If that is not finished either the server has stalled: nobody goes on to wait for it.
    """

    def __init__(self, links: Commands, size: int, patience: float) -> None:
        self._links, self._size, self._patience = links, min(size, _COMMANDS), patience
        self._loop = asyncio.get_running_loop()
        self._has_first = False  # a read of this tick, which sees at its end if others came
        self._waiting: Waiters = {}
        self._looks, self._is_watched = 0, False
        self._tasks: set[asyncio.Future[Any]] = set()
        self._commands = self._values = 0  # under way
        self._window = Window()

    def get(self, key: str) -> Awaitable[bytes | None]:
        """Give the value of *key* as it is not before now, or None."""
        if self._has_first or self._waiting:
            return self._with_others(key)
        self._has_first = True
        return self._first(key)

    def dismiss(self, error: Dismissal) -> None:
        """Send away all who wait to be asked for, each with an *error* of his own."""
        waiting, self._waiting = self._waiting, {}
        _refuse(waiting, error)

    async def _first(self, key: str) -> bytes | None:
        try:
            await asyncio.sleep(0)
        finally:
            self._has_first = False
        if self._waiting or not self._room():
            return await self._with_others(key)
        self._begin(1)
        try:
            return await self._links.command("GET", key)  # type: ignore[no-any-return]
        finally:
            self._end(1)

    def _with_others(self, key: str) -> asyncio.Future[bytes | None]:
        if not self._waiting:
            self._loop.call_soon(self._send)
        future: asyncio.Future[bytes | None] = self._loop.create_future()
        self._waiting.setdefault(key, []).append((future, stop_clock(), self._looks, False))
        return future

    # -- commands ------------------------------------------------------------------------

    def _room(self) -> int:
        """How many values may be asked for now by one more command."""
        if self._commands >= self._size:
            return 0
        return self._window.room(self._values) if self._links.has_mget else 1

    def _begin(self, values: int) -> None:
        self._commands += 1
        self._values += values

    def _end(self, values: int) -> None:
        self._commands -= 1
        self._values -= values
        if self._waiting:
            self._send()
        elif not self._commands:
            self._window.rest()

    def _send(self) -> None:
        while self._waiting and (room := self._room()):
            if batch := self._take(room):
                self._ask(batch)
        if self._waiting and not self._is_watched:
            self._is_watched = True
            self._loop.call_later(self._patience / _LOOKS, self._look)

    def _take(self, room: int) -> Waiters:
        """Give the next in line, without those who were cancelled."""
        batch: Waiters = {}
        for key in list(islice(self._waiting, room)):
            waiters = self._waiting.pop(key)
            if waiters := [waiter for waiter in waiters if not waiter[0].done()]:
                batch[key] = waiters
        return batch

    def _ask(self, batch: Waiters) -> None:
        clocks = [clock for waiters in batch.values() for _, clock, *_ in waiters if clock]
        self._begin(len(batch))
        task = Context().run(self._start, list(batch), clocks)
        self._tasks.add(task)
        task.add_done_callback(partial(self._tell, batch))

    def _start(self, keys: Sequence[str], clocks: list[Clock]) -> asyncio.Future[Any]:
        time_together(clocks)
        return asyncio.ensure_future(self._values_of(keys))

    async def _values_of(self, keys: Sequence[str]) -> list[bytes | Exception | None]:
        try:
            values = await self._links.outcomes(keys)
        except redis.TimeoutError as error:
            self._window.shrink(len(keys), is_long=isinstance(error, Unfinished))
            raise
        if len(values) != len(keys):
            raise InvalidResponse(
                f"Protocol Error: found {len(values)} values for {len(keys)} keys"
            )
        self._window.learn([value for value in values if not isinstance(value, Exception)])
        return values

    # -- those who wait ------------------------------------------------------------------

    def _tell(self, batch: Waiters, task: asyncio.Future[Any]) -> None:
        """Give each waiter what *task* has found, or an error of his own."""
        self._tasks.discard(task)
        if (error := _error_of(task)) is None:
            _answer(batch, task.result())
        elif isinstance(error, Unfinished) and _may_be_asked_again(batch):
            self._put_back(batch)
        else:
            _refuse(batch, partial(_own, error))
            if isinstance(error, Unfinished):
                self.dismiss(partial(_own, error))
        self._end(len(batch))

    def _put_back(self, batch: Waiters) -> None:
        """Let those of *batch* be asked for again, by fewer at once, as the first in line."""
        line: Waiters = {}
        for key, waiters in batch.items():
            line[key] = [(future, clock, look, True) for future, clock, look, _ in waiters]
            for _, clock, *_ in waiters:
                if clock is not None:
                    clock.stop()
        for key, waiters in self._waiting.items():
            line.setdefault(key, []).extend(waiters)
        self._waiting = line

    def _look(self) -> None:
        """Send away who waits too long; a loop that stands still for long counts for one look."""
        self._looks += 1
        self._is_watched = False
        late = self._looks - _LOOKS
        for key, waiters in list(self._waiting.items()):
            _refuse({key: [waiter for waiter in waiters if waiter[2] <= late]}, self._busy)
        self._send()

    def _busy(self) -> Exception:
        return busy_error(self._patience)


def _may_be_asked_again(batch: Waiters) -> bool:
    second = any(again for waiters in batch.values() for *_, again in waiters)
    return len(batch) > 1 and not second


def _answer(batch: Waiters, values: Sequence[bytes | Exception | None]) -> None:
    for value, (key, waiters) in zip(values, batch.items(), strict=True):
        if isinstance(value, Exception):  # of a node that fails alone
            _refuse({key: waiters}, partial(_own, value))
            continue
        for future, *_ in waiters:
            if not future.done():
                future.set_result(value)


def _refuse(batch: Waiters, error: Dismissal) -> None:
    for waiters in batch.values():
        for future, *_ in waiters:
            if not future.done():
                future.set_exception(error())


def _error_of(task: asyncio.Future[Any]) -> BaseException | None:
    if task.cancelled():
        return redis.ConnectionError("the read was cancelled from outside")
    return task.exception()


def _own(error: BaseException) -> BaseException:
    """Give an exception like *error*: one that is raised in many tasks would grow with each."""
    try:
        own = copy(error)
    except Exception:  # it can't be copied
        own = redis.RedisError(f"{type(error).__name__}: {error}")
    own.__cause__ = error
    return own
