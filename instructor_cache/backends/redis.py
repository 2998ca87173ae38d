"""Answers in Redis or Valkey, for sync and async callers from one object."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Iterator
from typing import Any
from weakref import WeakKeyDictionary

import redis
import redis.asyncio
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError

from ..protocols import ReadyClient

_BATCH = 500  # keys to a SCAN or an UNLINK
_MAX_TTL = 100 * 365 * 86_400


class RedisCache:
    """Keeps entries in a Redis server, each with its own expiry.

    Its clients fail fast: connecting, sending and receiving each take at most *timeout*, and a
    command is tried once more only on a connection that had gone stale.

    Args:
        url_or_client: ``redis://``, ``rediss://`` or ``unix://``, or a ready client of redis-py
            or valkey-py, sync or async. A ready sync client serves async functions from worker
            threads; a ready async client serves async functions only, on its own event loop.
        timeout: Seconds, for a URL; a ready client keeps its own settings.
        max_connections: The most connections to open, for a URL, in each colour and event loop.
        retries: How often a command is tried again on a new connection, for a URL.
    """

    def __init__(
        self,
        url_or_client: str | ReadyClient = "redis://localhost:6379/0",
        *,
        timeout: float = 0.5,
        max_connections: int = 50,
        retries: int = 1,
    ) -> None:
        self._settings: dict[str, Any] = {
            "socket_timeout": timeout,
            "socket_connect_timeout": timeout,
            "max_connections": max_connections,
            "timeout": timeout,
        }
        self._retries = retries
        self._url = url_or_client if isinstance(url_or_client, str) else None
        self._sync: Any = None
        self._ready_async: Any = None
        self._by_loop: WeakKeyDictionary[Any, tuple[Any, Any]] = WeakKeyDictionary()
        if self._url is not None:
            self._sync = self._connect(redis)
        elif _is_async(url_or_client):
            self._ready_async = url_or_client
        else:
            self._sync = url_or_client

    @property
    def async_only(self) -> bool:
        """Whether only async functions can use it."""
        return self._sync is None

    # -- sync ----------------------------------------------------------------------------

    def get(self, key: str, /) -> bytes | None:
        return self._sync.execute_command("GET", key, NEVER_DECODE=True)  # type: ignore[no-any-return]

    def set(self, key: str, value: bytes, ttl: float | None, /) -> None:
        self._sync.execute_command("SET", key, value, *_expiry(ttl))

    def delete(self, key: str, /) -> None:
        self._sync.execute_command("UNLINK", key)

    def scan(self, prefix: str, /) -> Iterator[str]:
        for key in self._sync.scan_iter(match=_pattern(prefix), count=_BATCH):
            yield key.decode() if isinstance(key, bytes) else key

    def clear(self, prefix: str = "", /) -> None:
        """Delete every key that begins with *prefix*; all of them by default."""
        batch: list[str] = []
        for key in self.scan(prefix):
            batch.append(key)
            if len(batch) == _BATCH:
                self._unlink(batch)
                batch = []
        self._unlink(batch)

    def close(self) -> None:
        """Close the connections of sync callers. The next use opens new ones."""
        if self._url is not None:
            self._sync.close()

    # -- async ---------------------------------------------------------------------------

    async def aget(self, key: str, /) -> bytes | None:
        if (client := await self._client()) is None:
            return await asyncio.to_thread(self.get, key)
        return await client.execute_command("GET", key, NEVER_DECODE=True)  # type: ignore[no-any-return]

    async def aset(self, key: str, value: bytes, ttl: float | None, /) -> None:
        if (client := await self._client()) is None:
            return await asyncio.to_thread(self.set, key, value, ttl)
        await client.execute_command("SET", key, value, *_expiry(ttl))

    async def adelete(self, key: str, /) -> None:
        if (client := await self._client()) is None:
            return await asyncio.to_thread(self.delete, key)
        await client.execute_command("UNLINK", key)

    async def aclear(self, prefix: str = "", /) -> None:
        """Delete every key that begins with *prefix*; all of them by default."""
        if (client := await self._client()) is None:
            return await asyncio.to_thread(self.clear, prefix)
        batch: list[Any] = []
        async for key in client.scan_iter(match=_pattern(prefix), count=_BATCH):
            batch.append(key)
            if len(batch) == _BATCH:
                await client.unlink(*batch)
                batch = []
        if batch:
            await client.unlink(*batch)

    async def aclose(self) -> None:
        """Close the connections of this event loop. The next use opens new ones."""
        client, closer = self._by_loop.pop(asyncio.get_running_loop(), (None, None))
        if client is not None:
            await closer.aclose()

    # -- clients -------------------------------------------------------------------------

    async def _client(self) -> Any:
        """The client of the running loop; None where a sync client has to do."""
        if self._url is None:
            return self._ready_async
        loop = asyncio.get_running_loop()
        if (known := self._by_loop.get(loop)) is not None:
            return known[0]
        client = self._connect(redis.asyncio)
        closer = _closes_with_the_loop(client)
        self._by_loop[loop] = client, closer
        await closer.__anext__()
        return client

    def _connect(self, colour: Any) -> Any:
        retry = colour.retry.Retry(
            NoBackoff(), self._retries, supported_errors=(RedisConnectionError,)
        )
        pool = colour.BlockingConnectionPool.from_url(self._url, retry=retry, **self._settings)
        return colour.Redis.from_pool(pool)

    def _unlink(self, keys: list[str]) -> None:
        if keys:
            self._sync.unlink(*keys)


async def _closes_with_the_loop(client: Any) -> AsyncIterator[None]:
    # A loop ends its asynchronous generators before it closes (`asyncio.run` sees to it), so
    # nobody has to remember to close a client that belongs to it.
    try:
        yield
    finally:
        await client.aclose()


def _is_async(client: Any) -> bool:
    return inspect.iscoroutinefunction(getattr(type(client), "execute_command", None))


def _expiry(ttl: float | None) -> tuple[str, int] | tuple[()]:
    if ttl is None or ttl > _MAX_TTL:
        return ()
    return "PX", max(1, round(ttl * 1000))


def _pattern(prefix: str) -> str:
    """A glob that matches what begins with *prefix*, whatever characters are in it."""
    return "".join(f"\\{c}" if c in "*?[]\\^-" else c for c in prefix) + "*"
