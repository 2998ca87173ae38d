"""The nodes of a Redis cluster, each asked by itself, and the map of who has which slot."""

from __future__ import annotations

from contextlib import suppress
from time import monotonic
from typing import Any

import redis
from redis.exceptions import AskError, ClusterDownError, MovedError

from ...errors import NodeDown
from .._redis_url import Address
from ._link import Connection, Limit
from ._routes import Means, Route
from ._settings import Settings
from ._slots import Slots

_CODES = {MovedError: "MOVED", AskError: "ASK", ClusterDownError: "CLUSTERDOWN"}
_ASKING = ("ASKING",)

Command = tuple[Any, ...]


class Nodes(Route):
    """A link to all nodes, with a connection to each that it was used for."""

    def __init__(self, slots: Slots, settings: Settings, means: Means) -> None:
        super().__init__(settings, means)
        self.slots = slots

    async def masters(self) -> list[Settings]:
        with self.means.limit(self.settings.timeout) as limit:
            await self._read_map(limit)
            return [self.settings.at(address) for address in self.slots.masters]

    async def ask_node(
        self, address: Address, args: Command, again: bool, limit: Limit, is_asking: bool = False
    ) -> Any:
        """Give the reply of one node, and take note of how it does."""
        is_probe = self.slots.admit(address)
        began = monotonic()
        connection = self.connection(address)
        try:
            with self.means.limit(self.slots.time_for(address, limit.left())) as part:
                connection.under(part)
                if is_asking:
                    reply = await _ask_there(connection, args)
                else:
                    reply = await connection.send(args, again)
        except redis.ResponseError as error:
            self.slots.answered(address)
            if code_of(error) == "CLUSTERDOWN":
                self.slots.doubt()
            raise
        except Exception as error:
            failure = self.slots.failure(address, error, monotonic() - began, is_probe)
            if failure is error:
                raise
            raise failure from error
        self.slots.answered(address)
        return reply

    def connection(self, address: Address) -> Connection:
        """Give the connection to a node; close those to nodes that are gone."""
        if address not in self.connections:
            for gone in [known for known in self.connections if not self.slots.has(known)]:
                self.forget(gone)
        return self.to(self.settings.at(address))

    # -- the map -----------------------------------------------------------------------------

    def owner(self, slot: int) -> Address:
        """Give the node that has *slot*; raise NodeDown if none does."""
        if (address := self.slots.owner(slot)) is None:
            self.slots.doubt()
            raise NodeDown(f"no node of the Redis cluster has slot {slot}")
        return address

    async def heir(self, slot: int, address: Address, limit: Limit) -> Address | None:
        """Give the node that has *slot* now that *address* has failed, if it is another one."""
        with suppress(Exception):
            if limit.left() > 0:
                await self.renew_map(limit)
        heir = self.slots.owner(slot)
        return None if heir == address or limit.left() <= 0 else heir

    async def renew_map(self, limit: Limit) -> None:
        """See to it that there is a map, and that an outdated one is read anew."""
        if not self.slots.is_due():
            return None
        if not self.slots.masters:
            return await self._read_map(limit)
        # The old one will do, so half of the time is for the command.
        with (
            suppress(Exception),
            self.means.limit(self.slots.time_for(None, limit.left() / 2)) as part,
        ):
            await self._read_map(part)

    async def _read_map(self, limit: Limit) -> None:
        nodes = [self.settings.at(address) for address in self.slots.informants()]
        began = monotonic()
        try:
            await self.ask_first(nodes, ("CLUSTER", "SLOTS"), limit, self._learn)
        except redis.TimeoutError:
            self.slots.fell_silent(monotonic() - began)
            raise

    def _learn(self, node: Settings, reply: Any) -> bool:
        assert node.address is not None
        self.slots.answered(node.address)
        return self.slots.read(node.address, reply)

    def lost(self, server: Settings, error: Exception, seconds: float) -> None:
        assert server.address is not None
        if not isinstance(error, redis.ResponseError):
            self.slots.failure(server.address, error, seconds)


async def _ask_there(connection: Connection, args: Command) -> Any:
    """Send *args* for a slot that the node is only about to get."""
    await connection.post([_ASKING, args])
    replies = [await connection.fetch(_ASKING), await connection.fetch(args)]
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    return replies[1]


def code_of(error: Exception) -> str:
    """Give the code of a cluster's error, or whatever else its text begins with."""
    for kind, code in _CODES.items():
        if isinstance(error, kind):
            return code
    return str(error).partition(" ")[0]  # in redis-py 5.0, whose connections know no clusters


def redirection(error: Exception, asked: Address) -> tuple[Address, bool] | None:
    """Give whom *error* names instead of who was *asked*, and whether it moves there for good."""
    if (code := code_of(error)) not in ("MOVED", "ASK"):
        return None
    host, _, port = str(error).rpartition(" ")[2].rpartition(":")
    is_unknown = host in ("", "?")  # to the cluster itself: then it is the one that was reached
    return (asked[0] if is_unknown else host, int(port)), code == "MOVED"
