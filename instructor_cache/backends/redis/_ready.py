"""Clients that somebody else made: their own settings rule, but callers take turns."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from inspect import iscoroutinefunction
from threading import Lock, RLock
from time import monotonic
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import redis

from ..._bridge import ASYNC, SYNC, Colour
from ..._deadlines import off_the_clock
from ..._fork import renew_after_fork
from ._commands import as_of_mget, without_errors
from ._link import Link
from ._links import Links, busy_error
from ._loop import Deadline, LoopLinks, unless
from ._settings import place_of

_FULL = ("Too many connections", "No connection available.")  # says a pool, not a server
_LOST = ("ConnectionError", "ClusterDownError")  # what a node that is gone gives
_RAW = ("GET", "MGET", "SCAN")  # replies to these hold values, or others' keys: any bytes

_locks: WeakKeyDictionary[Any, Lock] = WeakKeyDictionary()  # of clients with one connection

T = TypeVar("T")
Run = Callable[..., Awaitable[Any]]  # calls a method of the client


class ReadyLink(Link):
    """A turn with a ready client."""

    def __init__(self, client: Any, patience: float, colour: Colour, run: Run) -> None:
        self._client, self._patience = client, patience
        self._is_cached = _has_cache(client)
        self._sleep, self._run = colour.sleep, run

    async def ask(self, args: tuple[Any, ...], again: bool, node: str) -> Any:
        return await self._in_turn(lambda: self._send(args, node))

    async def get_each(self, keys: Sequence[str]) -> list[Any]:
        return await self._in_turn(lambda: self._gets(keys))

    def drop(self) -> None:
        """Leave the client open, which is not ours."""

    async def _in_turn(self, work: Callable[[], Awaitable[T]]) -> T:
        until, pause = monotonic() + self._patience, 0.001
        while True:
            try:
                return await work()
            except Exception as error:  # its connections may all be in use, by whomever
                if type(error).__name__ != "MaxConnectionsError" and str(error) not in _FULL:
                    raise
                if monotonic() >= until:
                    raise busy_error(self._patience) from error
            with off_the_clock():
                await self._sleep(pause)
            pause = min(2 * pause, 0.02)

    def _send(self, args: tuple[Any, ...], node: str) -> Awaitable[Any]:
        if args[0] == "UNLINK":  # a cluster's keys are on several nodes
            return self._run(self._client.unlink, *args[1:])
        if args[0] == "MGET" and hasattr(self._client, "mget_nonatomic"):
            return self._mget(args[1:])
        options: dict[str, Any] = {"NEVER_DECODE": True} if args[0] in _RAW else {}
        if self._is_cached and not node:
            return self._past_cache(args, options)
        if node:
            options["target_nodes"] = self._client.get_node(node_name=node)
        return self._run(self._client.execute_command, *args, **options)

    async def _past_cache(self, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        # A client's own cache refuses what is to be read undecoded; a pipeline goes past it.
        pipeline = self._client.pipeline(transaction=False)
        pipeline.execute_command(*args, **options)
        return without_errors(await self._run(pipeline.execute, raise_on_error=False))[0]

    async def _mget(self, keys: Sequence[str]) -> list[bytes | None]:
        # A cluster client's own MGET of many slots decodes values if the client decodes.
        return without_errors(as_of_mget(await self._gets(keys)))

    async def _gets(self, keys: Sequence[str]) -> list[Any]:
        found: list[Any] = await self._run(self._pipeline(keys).execute, raise_on_error=False)
        if any(type(each).__name__ in _LOST for each in found):
            # A cluster's client only looks who has the keys now when it is to raise.
            with suppress(Exception):
                return await self._run(self._pipeline(keys).execute)  # type: ignore[no-any-return]
        return [_explained(each) for each in found]

    def _pipeline(self, keys: Sequence[str]) -> Any:
        pipeline = self._client.pipeline(transaction=False)
        for key in keys:
            pipeline.execute_command("GET", key, NEVER_DECODE=True)
        return pipeline


def is_async_client(client: Any) -> bool:
    """Tell the colour of a ready client; raise TypeError for what is none."""
    if isinstance(client, type):
        raise TypeError(f"found the class {client.__name__}; make one: {client.__name__}(...)")
    if not hasattr(client, "execute_command") or hasattr(client, "execute"):
        raise TypeError(
            f"found a {type(client).__name__}; wanted a Redis URL, or a client of "
            f"redis-py or valkey-py: redis.Redis, redis.asyncio.Redis or a cluster's"
        )
    return iscoroutinefunction(client.execute_command)


def place_of_client(client: Any) -> tuple[Any, ...]:
    """Give what *client* keeps where: a server and a database, or the client itself."""
    pool = getattr(client, "connection_pool", None)
    options = getattr(pool, "connection_kwargs", {})
    if hasattr(pool, "service_name") or not {"host", "path"}.intersection(options):
        return "redis", "client", id(client)
    return place_of(options)


def ready_links(client: Any, patience: float) -> Links:
    """Give the use of a ready sync client to threads."""

    if _is_single(client):
        _locks.setdefault(client, Lock())
        renew_after_fork(client, _leave_connection)

    async def run(method: Callable[..., Any], *args: Any, **options: Any) -> Any:
        if (only := _locks.get(client)) is None:
            return method(*args, **options)
        if not only.acquire(blocking=False):  # somebody else has a cache over this client
            raise redis.ConnectionError(_FULL[1])
        try:
            return method(*args, **options)
        finally:
            only.release()

    return Links(lambda: ReadyLink(client, patience, SYNC, run), _pool_size(client), patience)


def async_ready_links(client: Any, patience: float, timeout: float) -> Links:
    """Give the use of a ready async client to the tasks of the running loop."""

    is_begun, beginning = not hasattr(client, "nodes_manager"), asyncio.Lock()

    async def begin(method: Callable[..., Any], *args: Any, **options: Any) -> Any:
        # A cluster's client of redis-py 7 and 8 fails tasks that are the first together.
        nonlocal is_begun
        async with beginning:
            if not is_begun:
                await client.initialize()
                is_begun = True
        return await method(*args, **options)

    async def run(method: Callable[..., Any], *args: Any, **options: Any) -> Any:
        call = method if is_begun else partial(begin, method)
        with Deadline(timeout) as limit:
            try:
                return await unless(limit.over, asyncio.ensure_future(call(*args, **options)))
            except RuntimeError as error:
                raise (explained := _explained(error)) from explained.__cause__

    return LoopLinks(lambda: ReadyLink(client, patience, ASYNC, run), _pool_size(client), patience)


def _explained(outcome: Any) -> Any:
    """Give *outcome*, or what to do about it if it is asyncio's complaint of another loop."""
    if not isinstance(outcome, RuntimeError) or "loop" not in str(outcome):
        return outcome
    explained = RuntimeError(
        f"found a ready async client whose connections are of another event loop ({outcome}); "
        f"wanted one for each loop: give RedisCache a URL, which serves all of them"
    )
    explained.__cause__ = outcome
    return explained


def _has_cache(client: Any) -> bool:
    """Whether *client* keeps what it reads in this process, by ``cache_config``."""
    pool, nodes = getattr(client, "connection_pool", None), getattr(client, "nodes_manager", None)
    caches = getattr(pool, "cache", None), getattr(nodes, "_cache", None)
    return any(cache is not None for cache in caches)


def _is_single(client: Any) -> bool:
    """Whether *client*, a sync one, has a single connection, and may mix up threads' replies."""
    return getattr(client, "connection", None) is not None


def _leave_connection(client: Any) -> None:
    """Leave the one connection of *client* to the parent, in the child of a fork.

    Without it the client uses its pool, which knows of forks.
    """
    client.connection, client.single_connection_lock = None, RLock()
    _locks[client] = Lock()


def _pool_size(client: Any) -> int:
    """Give the most connections that *client* opens, or a great number."""
    if _is_single(client):
        return 1
    size = getattr(getattr(client, "connection_pool", None), "max_connections", None)
    return size if isinstance(size, int) and size > 0 else 2**31
