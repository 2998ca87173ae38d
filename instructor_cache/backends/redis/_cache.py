"""Answers in Redis or Valkey, for sync and async callers from one object."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from functools import partial
from typing import Any
from weakref import ref

from ..._bridge import drive
from ..._fork import renew_after_fork
from ...protocols import Listener, ReadyClient
from .._taggable import Taggable
from . import _async, _sync
from ._commands import START, texts
from ._deployment import Deployment
from ._links import Links, closed_error
from ._masters import Masters, masters_of_client, masters_of_links
from ._ready import async_ready_links, is_async_client, place_of_client, ready_links
from ._settings import QUEUE, seconds
from ._tracking import Tracker


class RedisCache(Taggable):
    """Keeps entries in a Redis server, each with its own expiry.

    Every operation ends or raises within *timeout*, whatever the network or the server does:
    looking up the host, connecting, shaking hands, sending and receiving together. A command is
    tried once more, within the same time, only on a connection that had gone stale. When all
    connections are busy a caller waits its turn, which is not counted, for ten times *timeout* at
    most; then it raises BackendBusy. For `clear`, `scan`, `get_many`
    and `swap` the limits are those of each command; a swap takes one or two.

    Args:
        url_or_client: ``redis://``, ``rediss://`` (TLS, verified) or ``unix://``;
            ``redis+sentinel://host:port,host:port/service_name/0``, the credentials of the
            sentinels as ``?sentinel_username=`` and ``?sentinel_password=``;
            ``redis+cluster://host:port,host:port``; ``valkey`` for ``redis`` in each. Or a ready
            client of redis-py or valkey-py, sync or async, or a pair of both. A ready sync client
            alone serves async functions from worker threads; a ready async client alone serves
            async functions only. It belongs to one event loop: for several, give a URL.
        timeout: Seconds; ``?socket_timeout=`` in a URL is above it. A ready client keeps its own
            settings, and sync operations take as long as those allow.
        max_connections: The most connections to open, for a URL, in each colour and event loop,
            to each node of a cluster.
        retries: 0 to never try a command again, for a URL.
    """

    bounded = True
    lanes = 8  # operations at once of one who has many to do

    def __init__(
        self,
        url_or_client: str
        | ReadyClient
        | tuple[ReadyClient, ReadyClient] = "redis://localhost:6379/0",
        *,
        timeout: float = 0.5,
        max_connections: int = 50,
        retries: int = 1,
    ) -> None:
        self.timeout = timeout = seconds("timeout", timeout)
        self.closed = False
        self._place: tuple[Any, ...]
        self._sync: Links | None = None
        self._open: Callable[[], Links] | None = None
        self._by_loop: dict[Any, tuple[Links, AsyncGenerator[None]]] = {}
        self._masters: Callable[[], Masters]
        self._tracker: Tracker | None = None
        if isinstance(url_or_client, str):
            deployment = Deployment(url_or_client, timeout, max_connections, retries)
            self.timeout, self._place = deployment.settings.timeout, deployment.place
            self._sync = deployment.links(_sync.MEANS)
            self._open = partial(deployment.links, _async.MEANS)
            self._masters = partial(masters_of_links, self._sync, may_move=deployment.may_move)
        else:
            self._adopt(url_or_client)
            self.bounded = self._sync is None  # a sync client's sockets have other limits, or none
        self.async_only, self.sync_only = self._sync is None, self._open is None
        renew_after_fork(self, RedisCache._begin_anew)

    @property
    def place(self) -> tuple[Any, ...]:
        """What is kept where: two with the same place keep the same entries. Has no password."""
        return self._place

    # -- sync ----------------------------------------------------------------------------

    def get(self, key: str, /) -> bytes | None:
        return drive(self._links.command("GET", key))  # type: ignore[no-any-return]

    def get_many(self, keys: Sequence[str], /) -> list[bytes | None]:
        """Give the values of *keys* in their order, None where there is none."""
        return drive(self._links.get_many(keys))

    def set(self, key: str, value: bytes, ttl: float | None, /) -> None:
        drive(self._links.set(key, value, ttl))

    def delete(self, key: str, /) -> None:
        drive(self._links.command("UNLINK", key))

    def swap(self, key: str, old: bytes | None, new: bytes | None, ttl: float | None, /) -> bool:
        """Store *new* (None: delete) if what is stored is *old* (None: nothing); tell if so."""
        return drive(self._links.swap(key, old, new, ttl))

    def scan(self, prefix: str, /) -> Iterator[str]:
        cursors = START.copy()
        while cursors:
            yield from texts(drive(self._links.scan(prefix, cursors)))

    def count(self, prefix: str = "", /) -> int | None:
        """Give the number of all keys; None for those of a *prefix*, which Redis doesn't know."""
        return None if prefix else drive(self._links.count())

    def clear(self, prefix: str) -> None:
        """Delete every key that begins with *prefix*; "" means the whole database.

        Only that: keys of the prefix "app-eu" begin with "app", too, and calls that are under way
        store their answers after it. For the answers of the functions of one prefix, and those on
        their way, there is ``TieredCache(this).clear("app")``.
        """
        drive(self._links.clear(prefix))

    def track(self, listener: Listener, /) -> Callable[[str], None]:
        """Give what has *listener*, held weakly, told of every change under the prefixes given.

        By anybody, on any host, within about a millisecond: by Redis's own client tracking, on a
        connection of its own to each server, of this process for all its listeners. Needs Redis
        6 or Valkey. Raises ValueError for a ready client that can't be had connections like.
        """
        if self._tracker is None:
            self._tracker = Tracker(self._masters())
        return partial(self._tracker.listen, ref(listener))

    def close(self) -> None:
        """Close all connections, those of event loops too; every later use raises BackendClosed.

        What is under way is finished first. A ready client stays open: it is its maker's.
        """
        self.closed = True
        if self._tracker is not None:
            self._tracker.close()
        if self._sync is not None:
            self._sync.close()
        for loop, (links, _) in list(self._by_loop.items()):
            try:
                loop.call_soon_threadsafe(links.close)
            except RuntimeError:  # that loop was closed by hand
                links.close()

    # -- async ---------------------------------------------------------------------------

    async def aget(self, key: str, /) -> bytes | None:
        known = self._by_loop.get(asyncio.get_running_loop())
        links = await self._here() if known is None else known[0]
        return await links.get(key)

    async def aget_many(self, keys: Sequence[str], /) -> list[bytes | None]:
        """Give the values of *keys* in their order, None where there is none."""
        return await (await self._here()).get_many(keys)

    async def aset(self, key: str, value: bytes, ttl: float | None, /) -> None:
        await (await self._here()).set(key, value, ttl)

    async def adelete(self, key: str, /) -> None:
        await (await self._here()).command("UNLINK", key)

    async def aswap(
        self, key: str, old: bytes | None, new: bytes | None, ttl: float | None, /
    ) -> bool:
        """Store *new* (None: delete) if what is stored is *old* (None: nothing); tell if so."""
        return await (await self._here()).swap(key, old, new, ttl)

    async def ascan(self, prefix: str, /) -> AsyncIterator[str]:
        links, cursors = await self._here(), START.copy()
        while cursors:
            for key in texts(await links.scan(prefix, cursors)):
                yield key

    async def aclear(self, prefix: str) -> None:
        """Do the same for coroutines."""
        await (await self._here()).clear(prefix)

    async def aclose(self) -> None:
        """Do what `close` does, and wait until the connections of this loop are closed."""
        self.close()
        _, closer = self._by_loop.get(asyncio.get_running_loop(), (None, None))
        if closer is not None:
            await closer.aclose()

    # -- connections ---------------------------------------------------------------------

    @property
    def _links(self) -> Links:
        if self._sync is None:
            raise TypeError("found an async client; wanted one for blocking code: use aget, aset")
        return self._sync

    def _adopt(self, given: Any) -> None:
        clients: list[Any] = [*given] if isinstance(given, tuple) else [given]
        is_async = [is_async_client(client) for client in clients]
        if len(clients) not in (1, 2) or is_async in ([True] * 2, [False] * 2):
            raise TypeError(
                f"found {len(clients)} clients; wanted one, or a pair of a sync and an async one"
            )
        self._place = place_of_client(clients[0])
        self._masters = partial(
            masters_of_client, clients[is_async.index(min(is_async))], self.timeout
        )
        for client, is_native in zip(clients, is_async, strict=True):
            patience = QUEUE * self.timeout
            if is_native:
                self._open = partial(async_ready_links, client, patience, self.timeout)
            else:
                self._sync = ready_links(client, patience)

    async def _here(self) -> Links:
        """Give the connections of the running loop."""
        if self.closed:
            raise closed_error()
        if self._open is None:
            raise TypeError("found a sync client; wanted one for coroutines: use get, set")
        loop = asyncio.get_running_loop()
        if (known := self._by_loop.get(loop)) is not None:
            return known[0]
        for ended in [known for known in list(self._by_loop) if known.is_closed()]:
            links, _ = self._by_loop.pop(ended)  # closed by hand, with its connections open
            links.close()
        links = self._open()
        closer = self._closes_with(loop, links)
        self._by_loop[loop] = links, closer
        await closer.__anext__()
        return links

    async def _closes_with(self, loop: Any, links: Links) -> AsyncGenerator[None]:
        # A loop ends its asynchronous generators before it closes (`asyncio.run` sees to it), so
        # nobody has to remember to close connections that belong to it.
        try:
            yield
        finally:
            self._by_loop.pop(loop, None)
            links.close()
            await asyncio.sleep(0)  # in which the loop closes the sockets

    def _begin_anew(self) -> None:
        if self._sync is not None:
            self._sync.begin_anew()
        # Closing a connection of the parent's loop would disturb the parent, which shares the
        # kernel's list of what the loop waits for.
        _of_parents.append(self._by_loop)
        self._by_loop = {}


_of_parents: list[Any] = []  # kept from the garbage collector, which would close them
