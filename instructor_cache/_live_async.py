"""A stream under way for coroutines: in a task of its own, so that no listener takes it along.

Who is cancelled leaves; the task goes on for the others, and stands still when nobody asks.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from contextlib import suppress
from math import inf
from threading import Lock
from time import perf_counter
from typing import Any

from typing_extensions import override

from ._bridge import Wait
from ._live import Alone, Live
from .codecs import Item


class AsyncLive(Live):
    """Belongs to the event loop of who had it begun.

    That may end any time, so listeners in other loops get nothing before the stream has ended.
    """

    def __init__(self, wait: Wait, *args: Any) -> None:
        super().__init__(*args)
        self._wait, self._lock = wait, Lock()
        self._wanted = 0.0  # items that somebody has asked for
        self._away = 0  # listeners in other loops, who want all of them
        self._loop: Any = None
        self._task: Any = None
        self._asked: Any = None  # events: another item is wanted, or there is one
        self._changed: Any = None
        self._over: Future[None] = Future()

    @override
    async def reach(self, n: int, *, leads: bool) -> bool:
        if not self.has_ended and not self._is_at_home():
            await self._end_elsewhere()
        return await super().reach(n, leads=leads)

    @property
    @override
    def is_alive(self) -> bool:
        return self._loop is None or not self._loop.is_closed()

    @override
    async def give(self, item: Item) -> None:
        self.check_uncut()
        self.items.append(item)
        self._tell()
        start = perf_counter()
        while self._wanted <= len(self.items) and not self._away:
            self._asked.clear()
            await self._asked.wait()
        self.waited += perf_counter() - start

    @override
    async def _advance(self, n: int, timeout: float) -> None:
        self._wanted = max(self._wanted, n + 1)
        self._asked.set()
        await self._change(timeout)

    async def _change(self, timeout: float) -> None:
        before, changed = len(self.items), self._changed
        if self._task is None:  # it may come far before it is there
            self._task = self._context.run(self._loop.create_task, self._pump())
        if self.has_ended or timeout == inf:
            await changed.wait()
            return
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(changed.wait(), timeout)
        if len(self.items) == before and not self.has_ended:
            raise Alone

    def _is_at_home(self) -> bool:
        """Whether the stream belongs to the running loop; if to none yet, it does now."""
        loop = asyncio.get_running_loop()
        with self._lock:
            if self._loop is None:
                self._loop = loop
                self._asked, self._changed = asyncio.Event(), asyncio.Event()
        return self._loop is loop

    async def _end_elsewhere(self) -> None:
        """Wait for the end of a stream of another loop."""
        if not self._loop.is_running():
            raise Alone
        self._count_away(1)
        try:
            self._wake_at_home()
            before = -1
            while not await self._wait(self._over, self._timeout):
                if len(self.items) == before:
                    raise Alone
                before = len(self.items)
        finally:
            self._count_away(-1)

    def _count_away(self, n: int) -> None:
        with self._lock:
            self._away += n

    def _wake_at_home(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._asked.set)
        except RuntimeError:  # that loop is closed by now, and the stream with it
            raise Alone from None

    def _tell(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def _pump(self) -> None:
        answer = error = None
        try:
            answer = await self._run(self)
        except BaseException as raised:
            error = raised
        self._end(answer, error)
        self._tell()
        self._over.set_result(None)

    @override
    def check_uncut(self) -> None:
        cancelling = getattr(asyncio.current_task(), "cancelling", int)  # from Python 3.11 on
        if self.is_gone or cancelling():
            raise asyncio.CancelledError

    @override
    async def _close(self) -> None:
        task = self._task
        if task is None or task.done() or task.get_loop().is_closed():
            return
        if task.get_loop() is asyncio.get_running_loop():
            task.cancel()
            await asyncio.wait({task})
        else:
            with suppress(RuntimeError):  # that loop is closed by now, and the task with it
                task.get_loop().call_soon_threadsafe(task.cancel)
