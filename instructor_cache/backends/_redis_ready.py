"""Clients that somebody else made: their own settings rule, but callers take turns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from inspect import iscoroutinefunction
from time import monotonic
from typing import Any

from .._bridge import ASYNC, SYNC, Colour
from ._redis_links import Link, Links, busy_error
from ._redis_watch import Watch, unless

_FULL = ("Too many connections", "No connection available.")  # says a pool, not a server


class ReadyLink(Link):
    """A turn with a ready sync client."""

    def __init__(self, client: Any, patience: float, colour: Colour = SYNC) -> None:
        self._client, self._patience, self._sleep = client, patience, colour.sleep

    async def ask(self, args: tuple[Any, ...], again: bool, node: str) -> Any:
        until, pause = monotonic() + self._patience, 0.001
        while True:
            try:
                return await self._send(args, node)
            except Exception as error:  # its connections may all be in use, by whomever
                if type(error).__name__ != "MaxConnectionsError" and str(error) not in _FULL:
                    raise
                if monotonic() >= until:
                    raise busy_error(self._patience) from error
            await self._sleep(pause)
            pause = min(2 * pause, 0.02)

    async def _send(self, args: tuple[Any, ...], node: str) -> Any:
        if args[0] == "UNLINK":  # a cluster's keys are on several nodes
            return await self._run(self._client.unlink, *args[1:])
        options: dict[str, Any] = {"NEVER_DECODE": True} if args[0] == "GET" else {}
        if node:
            options["target_nodes"] = self._client.get_node(node_name=node)
        return await self._run(self._client.execute_command, *args, **options)

    async def _run(self, method: Callable[..., Any], *args: Any, **options: Any) -> Any:
        return method(*args, **options)


class AsyncReadyLink(ReadyLink):
    """A turn with a ready async client, on its own event loop."""

    def __init__(self, client: Any, patience: float, watch: Watch) -> None:
        super().__init__(client, patience, ASYNC)
        self._watch = watch

    async def _run(self, method: Callable[..., Any], *args: Any, **options: Any) -> Any:
        over = self._watch.start()
        try:
            return await unless(over, asyncio.ensure_future(method(*args, **options)))
        finally:
            self._watch.stop(over)


def ready_links(client: Any, patience: float) -> Links:
    """Give the use of a ready sync client to threads."""

    def make() -> ReadyLink:
        return ReadyLink(client, patience)

    return Links(make, _pool_size(client), patience, Future, SYNC.wait)


def async_ready_links(client: Any, timeout: float, patience: float) -> Links:
    """Give the use of a ready async client to the tasks of the running loop."""
    loop = asyncio.get_running_loop()
    watch = Watch(loop, timeout)

    def make() -> ReadyLink:
        return AsyncReadyLink(client, patience, watch)

    return Links(make, _pool_size(client), patience, loop.create_future, ASYNC.wait)


def is_async(client: object) -> bool:
    """Tell whether *client* is for coroutines."""
    return iscoroutinefunction(getattr(client, "execute_command", None))


def _pool_size(client: Any) -> int:
    """Give the most connections that *client* opens, or a great number."""
    size = getattr(getattr(client, "connection_pool", None), "max_connections", None)
    return size if isinstance(size, int) and size > 0 else 2**31
