"""Clients that somebody else made: their own settings rule, but callers take turns."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from time import monotonic, sleep
from typing import Any

import redis

from .._fork import renew_after_fork
from ._daemon import off_loop
from ._redis_commands import AsyncCommands, Commands, glob
from ._redis_turns import Turns, await_turn, busy_error, wait_turn
from ._redis_watch import Watch, abandon, within

_BATCH = 500
_THREADS = 32  # for the tasks of one loop over a sync client
_FULL = ("Too many connections", "No connection available.")  # says a pool, not a server
_PAUSES = (0.001, 0.002, 0.005, 0.01, 0.02)  # seconds between looks at a pool that others fill


class ReadyLinks(Commands):
    """A ready sync client, for threads."""

    def __init__(self, client: Any, patience: float) -> None:
        self.client, self._patience = client, patience
        self._turns = Turns[object](object, pool_size(client), Future)
        renew_after_fork(self, ReadyLinks._begin_anew)

    def command(self, *args: Any, again: bool = True) -> Any:
        return self._in_turn(functools.partial(self.client.execute_command, *args, **_raw(args)))

    def delete(self, *keys: Any) -> None:  # a cluster's keys are on several nodes
        self._in_turn(functools.partial(self.client.unlink, *keys))

    def batches(self, prefix: str) -> Iterator[list[Any]]:
        if not _is_cluster(self.client):
            yield from super().batches(prefix)
            return
        batch: list[Any] = []
        for key in self.client.scan_iter(match=glob(prefix), count=_BATCH):
            batch.append(key)
            if len(batch) == _BATCH:
                yield batch
                batch = []
        yield batch

    def _begin_anew(self) -> None:
        self._turns.start()

    def close(self) -> None:
        self._turns.close()

    def _in_turn(self, work: Callable[[], Any]) -> Any:
        patience = _Patience(self._patience)
        token = wait_turn(self._turns, self._patience)
        try:
            while True:
                try:
                    return work()
                except Exception as error:
                    pause = patience.pause_after(error)
                sleep(pause)
        finally:
            self._turns.give(token)


class AsyncReadyLinks(AsyncCommands):
    """A ready async client, on its own event loop."""

    def __init__(self, client: Any, timeout: float, patience: float) -> None:
        loop = asyncio.get_running_loop()
        self.client, self._patience = client, patience
        self._turns = Turns[object](object, pool_size(client), loop.create_future)
        self._watch = Watch(loop, timeout)

    async def command(self, *args: Any, again: bool = True) -> Any:
        return await self._in_turn(
            functools.partial(self.client.execute_command, *args, **_raw(args))
        )

    async def delete(self, *keys: Any) -> None:  # a cluster's keys are on several nodes
        await self._in_turn(functools.partial(self.client.unlink, *keys))

    async def batches(self, prefix: str) -> AsyncIterator[list[Any]]:
        if not _is_cluster(self.client):
            async for keys in super().batches(prefix):
                yield keys
            return
        batch: list[Any] = []
        async for key in self.client.scan_iter(match=glob(prefix), count=_BATCH):
            batch.append(key)
            if len(batch) == _BATCH:
                yield batch
                batch = []
        yield batch

    def close(self) -> None:
        self._turns.close()

    async def _in_turn(self, work: Callable[[], Any]) -> Any:
        patience = _Patience(self._patience)
        token = await await_turn(self._turns, self._patience)
        try:
            while True:
                try:
                    return await self._in_time(work)
                except Exception as error:
                    pause = patience.pause_after(error)
                await asyncio.sleep(pause)
        finally:
            self._turns.give(token)

    async def _in_time(self, work: Callable[[], Any]) -> Any:
        # In a task of its own, because the client may clean up slowly after being cancelled.
        answers = self._turns.answers
        task = asyncio.ensure_future(work())
        try:
            if not await within(self._watch, task):
                self._turns.dismiss(answers)
                raise redis.TimeoutError("Timeout: no answer in time")
        except BaseException:
            abandon(task)
            raise
        reply = task.result()
        self._turns.answers += 1
        return reply


class ThreadLinks(AsyncCommands):
    """A ready sync client, for the tasks of one event loop: each command in a daemon thread."""

    def __init__(self, links: ReadyLinks, timeout: float, patience: float) -> None:
        loop = asyncio.get_running_loop()
        self._links, self._patience = links, patience
        size = min(_THREADS, pool_size(links.client))
        self._turns = Turns[object](object, size, loop.create_future)
        self._watch = Watch(loop, timeout)

    async def command(self, *args: Any, again: bool = True) -> Any:
        token = await await_turn(self._turns, self._patience)
        answers = self._turns.answers
        outcome = off_loop(functools.partial(self._links.command, *args))
        outcome.add_done_callback(lambda _: self._turns.give(token))  # not before the thread ends
        outcome.add_done_callback(lambda done: done.exception())
        if not await within(self._watch, outcome):
            self._turns.dismiss(answers)
            raise redis.TimeoutError("Timeout: no answer in time")
        self._turns.answers += 1
        return outcome.result()

    async def clear(self, prefix: str) -> None:
        await off_loop(functools.partial(self._links.clear, prefix))

    def close(self) -> None:
        self._turns.close()


class _Patience:
    """How long to try again with a client whose connections are all in use, by whomever."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._until = seconds, monotonic() + seconds
        self._tries = 0

    def pause_after(self, error: Exception) -> float:
        """Give the seconds to wait; raise *error* if it is another, BackendBusy if it is late."""
        if type(error).__name__ != "MaxConnectionsError" and str(error) not in _FULL:
            raise error
        if monotonic() >= self._until:
            raise busy_error(self._seconds) from error
        self._tries += 1
        return _PAUSES[min(self._tries, len(_PAUSES)) - 1]


def pool_size(client: Any) -> int:
    """Give the most connections that *client* opens, or a great number."""
    pool = getattr(client, "connection_pool", None)
    size = getattr(pool, "max_connections", None)
    return size if isinstance(size, int) and size > 0 else 2**31


def is_async(client: object) -> bool:
    """Tell whether *client* is for coroutines."""
    from inspect import iscoroutinefunction

    return iscoroutinefunction(getattr(client, "execute_command", None))


def _is_cluster(client: Any) -> bool:
    return hasattr(client, "get_nodes")


def _raw(args: tuple[Any, ...]) -> dict[str, Any]:
    return {"NEVER_DECODE": True} if args[0] == "GET" else {}
