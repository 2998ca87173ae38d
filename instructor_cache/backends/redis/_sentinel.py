"""The master that Redis Sentinel knows of, whichever server that is now."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from math import inf
from time import monotonic
from typing import Any, TypeVar

import redis
from redis.exceptions import NoPermissionError, ReadOnlyError

from .._redis_url import Address
from ._link import Connection, Limit
from ._routes import Means, Route
from ._settings import Settings

_FRESH, _LONGEST = 1.0, 30.0  # seconds between two questions while all works

T = TypeVar("T")


class Master:
    """What all links know of a master.

    The sentinels are asked again every second, or every 30 if they don't answer, because for ten
    seconds after a failover on request the old master takes commands as if it were the master.

    Attributes:
        sentinels: The one that answered last comes first.
        address: None until a sentinel tells it, and again after it has failed.
    """

    def __init__(self, sentinels: Sequence[Settings], service: str) -> None:
        self.sentinels, self.service = tuple(sentinels), service
        self.address: Address | None = None
        self._due, self._pause = inf, _FRESH

    def is_due(self) -> bool:
        """Whether the address is to be asked for again; that is said to one caller."""
        if (now := monotonic()) < self._due:
            return False
        self._pause = min(2 * self._pause, _LONGEST)
        self._due = now + self._pause
        return True

    def learn(self, sentinel: Settings, reply: Any) -> bool:
        """Take what *sentinel* says; tell whether it knows the master."""
        if not reply:
            return False
        self.address = bytes(reply[0]).decode(), int(reply[1])
        self._pause, self._due = _FRESH, monotonic() + _FRESH
        others = [other for other in self.sentinels if other is not sentinel]
        self.sentinels = (sentinel, *others)
        return True

    def doubt(self, address: Address) -> None:
        """Let the sentinels be asked again before *address* is used again."""
        if self.address == address:
            self.address = None


class SentinelLink(Route):
    """A link to the master, which is asked for anew when it fails or turns out to be none."""

    def __init__(self, master: Master, settings: Settings, means: Means) -> None:
        super().__init__(settings, means)
        self._master = master

    async def masters(self) -> list[Settings]:
        with self.means.limit(self.settings.timeout) as limit:
            return [self.settings.at(await self._find(limit))]

    async def route(self, args: tuple[Any, ...], again: bool, node: str, limit: Limit) -> Any:
        return await self._route(lambda master: master.send(args, again=False), again, limit)

    async def get_each(self, keys: Sequence[str]) -> list[Any]:
        with self.means.limit(self.settings.timeout) as limit:
            return await self._route(lambda master: master.send_gets(keys, False), True, limit)

    async def _route(
        self, work: Callable[[Connection], Awaitable[T]], again: bool, limit: Limit
    ) -> T:
        if self._master.is_due():
            with suppress(Exception), self.means.limit(limit.left() / 4) as part:
                await self._find(part)
        address = self._master.address or await self._find(limit)
        try:
            return await self._ask_master(address, work, limit)
        except redis.ResponseError as error:
            if not isinstance(error, ReadOnlyError):
                raise  # an answer like any other
        except Exception:
            self._leave(address)
            if not (again and self.settings.retries) or limit.left() <= 0:
                raise
        self._leave(address)
        return await self._ask_master(await self._find(limit), work, limit)

    async def _find(self, limit: Limit) -> Address:
        """Ask the sentinels for the master."""
        question = ("SENTINEL", "get-master-addr-by-name", self._master.service)
        await self.ask_first(self._master.sentinels, question, limit, self._master.learn)
        if (address := self._master.address) is None:  # it failed somebody else just now
            raise redis.ConnectionError("the master that the sentinels know of fails")
        return address

    async def _ask_master(
        self, address: Address, work: Callable[[Connection], Awaitable[T]], limit: Limit
    ) -> T:
        if address not in self.connections:  # it is another one than before
            sentinels = [sentinel.address for sentinel in self._master.sentinels]
            for gone in [known for known in self.connections if known not in sentinels]:
                self.forget(gone)
        connection = self.to(self.settings.at(address))
        connection.under(limit)
        if not connection.is_open():
            await _open_master(connection)
        return await work(connection)

    def _leave(self, address: Address) -> None:
        self._master.doubt(address)
        self.forget(address)


async def _open_master(connection: Connection) -> None:
    """Connect; raise ReadOnlyError if the server is a replica, whatever the sentinels say."""
    try:
        await connection.open()
        role = await connection.exchange(("ROLE",))
    except NoPermissionError:  # only a write will show it then
        return
    except BaseException:
        connection.drop()
        raise
    if role[0] != b"master":
        connection.drop()
        raise ReadOnlyError("the server that the sentinels call the master is a replica")
