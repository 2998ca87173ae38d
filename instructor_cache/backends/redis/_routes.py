"""Links that have several servers to choose from, all within the one limit of a command."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any

import redis

from ..._bridge import Colour
from .._redis_url import Address
from ._link import Connection, Limit, Link
from ._links import Links
from ._settings import Settings


@dataclass(frozen=True, slots=True)
class Means:
    """What sending commands takes in one colour."""

    connect: Callable[[Settings], Connection]
    limit: Callable[[float], Limit]
    colour: Colour
    links: Callable[[Callable[[], Link], int, float], Links]
    cluster_links: Callable[[Callable[[], Link], int, float], Links]


class Route(Link):
    """A link that finds out, for each command, which server takes it."""

    def __init__(self, settings: Settings, means: Means) -> None:
        self.settings, self.means = settings, means
        self.connections: dict[Address, Connection] = {}

    async def ask(self, args: tuple[Any, ...], again: bool, node: str) -> Any:
        with self.means.limit(self.settings.timeout) as limit:
            return await self.route(args, again, node, limit)

    @abstractmethod
    async def route(self, args: tuple[Any, ...], again: bool, node: str, limit: Limit) -> Any:
        """Give the reply to the command *args*."""

    def to(self, settings: Settings) -> Connection:
        """Give the connection to a server."""
        assert settings.address is not None
        if (connection := self.connections.get(settings.address)) is None:
            self.connections[settings.address] = connection = self.means.connect(settings)
        return connection

    async def ask_first(
        self,
        servers: Sequence[Settings],
        args: tuple[Any, ...],
        limit: Limit,
        takes: Callable[[Settings, Any], bool],
    ) -> None:
        """Ask *servers* in turn until *takes* takes the reply of one.

        A silent one costs at most a half of the time that is left, so that others have their turn.
        """
        failure: Exception | None = None
        for number, server in enumerate(servers, 1):
            seconds = limit.left() / (1 if number == len(servers) else 2)
            began = monotonic()
            try:
                with self.means.limit(seconds) as part:
                    connection = self.to(server)
                    connection.under(part)
                    reply = await connection.send(args, True)
                if takes(server, reply):
                    return
            except Exception as error:
                failure = error
                self.lost(server, error, monotonic() - began)
        kinds = (redis.TimeoutError, redis.AuthenticationError)
        kind = next((each for each in kinds if isinstance(failure, each)), redis.ConnectionError)
        reason = failure or f"they know nothing of {args[-1]!r}; check that name"
        raise kind(f"none of {len(servers)} servers told where to go: {reason}") from failure

    def lost(self, server: Settings, error: Exception, seconds: float) -> None:
        """Take note that *server* did not tell where to go."""

    def forget(self, address: Address) -> None:
        """Close the connection to a server, if there is one."""
        if (connection := self.connections.pop(address, None)) is not None:
            connection.drop()

    def drop(self) -> None:
        for connection in self.connections.values():
            connection.drop()
