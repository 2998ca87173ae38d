"""Answers in Redis or Valkey, for sync and async callers from one object."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, Iterator
from typing import Any

import redis
import redis.asyncio
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError

from ..protocols import ReadyClient

_BATCH = 500  # keys to a SCAN or an UNLINK
_MAX_TTL = 100 * 365 * 86_400  # seconds; what lives longer needs no expiry
_QUEUE = 10  # timeouts to wait for a free connection: those who have one are soon done


class RedisCache:
    """Keeps entries in a Redis server, each with its own expiry.

    Its clients fail fast: connecting, sending and receiving each take at most *timeout*, and a
    command is tried once more only on a connection that had gone stale. When all connections are
    busy a caller waits its turn, for ten times *timeout* at most.

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
            "timeout": _QUEUE * timeout,
        }
        self._retries = retries
        self._url: str | None = None
        self._sync: Any = None
        self._ready: Any = None  # what serves every event loop, if anything does
        self._by_loop: dict[Any, tuple[Any, AsyncGenerator[None]]] = {}
        if isinstance(url_or_client, str):
            self._url = url_or_client
            self._sync = self._connect(redis)
        elif not hasattr(url_or_client, "execute_command") or hasattr(url_or_client, "execute"):
            raise TypeError(
                f"found a {type(url_or_client).__name__}; wanted a Redis URL, or a client of "
                f"redis-py or valkey-py: redis.Redis, redis.asyncio.Redis or a cluster's"
            )
        elif _is_async(url_or_client):
            self._ready = url_or_client
        else:
            self._sync = url_or_client
            self._ready = _InThreads(url_or_client)

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

    def clear(self, prefix: str, /) -> None:
        """Delete every key that begins with *prefix*; "" means the whole database."""
        batch: list[Any] = []
        for key in self._sync.scan_iter(match=_pattern(prefix), count=_BATCH):
            batch.append(key)
            if len(batch) == _BATCH:
                self._sync.unlink(*batch)
                batch = []
        if batch:
            self._sync.unlink(*batch)

    def close(self) -> None:
        """Close the connections of sync callers. The next use opens new ones."""
        if self._url is not None:
            self._sync.close()

    # -- async ---------------------------------------------------------------------------

    async def aget(self, key: str, /) -> bytes | None:
        client = await self._client()
        return await client.execute_command("GET", key, NEVER_DECODE=True)  # type: ignore[no-any-return]

    async def aset(self, key: str, value: bytes, ttl: float | None, /) -> None:
        await (await self._client()).execute_command("SET", key, value, *_expiry(ttl))

    async def adelete(self, key: str, /) -> None:
        await (await self._client()).execute_command("UNLINK", key)

    async def aclear(self, prefix: str, /) -> None:
        """Delete every key that begins with *prefix*; "" means the whole database."""
        client = await self._client()
        if isinstance(client, _InThreads):
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
        _, closer = self._by_loop.get(asyncio.get_running_loop(), (None, None))
        if closer is not None:
            await closer.aclose()

    # -- clients -------------------------------------------------------------------------

    async def _client(self) -> Any:
        """The client for the running loop."""
        if self._ready is not None:
            return self._ready
        loop = asyncio.get_running_loop()
        if (known := self._by_loop.get(loop)) is not None:
            return known[0]
        for ended in [known for known in list(self._by_loop) if known.is_closed()]:
            self._by_loop.pop(ended, None)  # closed by hand, with its connections open
        client = self._connect(redis.asyncio)
        closer = self._closes_with(loop, client)
        self._by_loop[loop] = client, closer
        await closer.__anext__()
        return client

    async def _closes_with(self, loop: Any, client: Any) -> AsyncGenerator[None]:
        # A loop ends its asynchronous generators before it closes (`asyncio.run` sees to it), so
        # nobody has to remember to close a client that belongs to it.
        try:
            yield
        finally:
            self._by_loop.pop(loop, None)
            await client.aclose()

    def _connect(self, colour: Any) -> Any:
        retry = colour.retry.Retry(
            NoBackoff(), self._retries, supported_errors=(RedisConnectionError,)
        )
        try:
            pool = colour.BlockingConnectionPool.from_url(self._url, retry=retry, **self._settings)
            pool.connection_class(**pool.connection_kwargs)  # knows which options there are
        except TypeError as error:
            raise ValueError(f"found an unknown option in a Redis URL: {error}") from None
        except ValueError:  # its text may hold a part of the password
            raise ValueError(
                "found a Redis URL that can't be read; wanted "
                "redis://user:password@host:6379/0?option=value, special characters as %XX"
            ) from None
        return colour.Redis.from_pool(pool)


class _InThreads:
    """The async face of a sync client."""

    def __init__(self, client: Any) -> None:
        self._client = client

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        return await asyncio.to_thread(self._client.execute_command, *args, **options)


def _is_async(client: object) -> bool:
    return inspect.iscoroutinefunction(getattr(client, "execute_command", None))


def _expiry(ttl: float | None) -> tuple[str, int] | tuple[()]:
    if ttl is None or ttl > _MAX_TTL:
        return ()
    return "PX", max(1, round(ttl * 1000))


def _pattern(prefix: str) -> str:
    """A glob that matches what begins with *prefix*, whatever characters are in it."""
    return "".join(f"\\{c}" if c in "*?[]\\^-" else c for c in prefix) + "*"
