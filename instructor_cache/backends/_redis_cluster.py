"""A cluster of Redis servers: each command goes to the node that has its key's slot."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from time import monotonic
from typing import Any, TypeVar

import redis
from redis.exceptions import AskError, ClusterDownError, MovedError

from ..errors import NodeDown
from ._redis_links import Connection, Limit, Links
from ._redis_loop import LoopLinks
from ._redis_routes import Means, Route
from ._redis_settings import Settings
from ._redis_slots import Slots, slot_of
from ._redis_url import Address

_HOPS = 12  # redirections to follow; the first two at once, as the nodes may not yet agree
_PAUSE = 0.002  # seconds

_CODES = {MovedError: "MOVED", AskError: "ASK", ClusterDownError: "CLUSTERDOWN"}
_REDIRECTIONS = ("MOVED", "ASK")

T = TypeVar("T")
Command = tuple[Any, ...]


class ClusterLink(Route):
    """A link to all nodes, with a connection to each that it was used for."""

    def __init__(self, slots: Slots, settings: Settings, means: Means) -> None:
        super().__init__(settings, means)
        self._slots = slots

    async def masters(self) -> list[Settings]:
        with self.means.limit(self.settings.timeout) as limit:
            await self._read_map(limit)
            return [self.settings.at(address) for address in self._slots.masters]

    async def route(self, args: Command, again: bool, node: str, limit: Limit) -> Any:
        if node:
            return await self._at(_address(node), args, again, limit)
        await self._renew_map(limit)
        return await self._follow(args, again, limit)

    async def _follow(self, args: Command, again: bool, limit: Limit) -> Any:
        """Send a command to whom it belongs, wherever that is by now."""
        slot = slot_of(args)
        address, is_asking = self._owner(slot), False
        for hop in range(_HOPS):
            try:
                return await self._at(address, args, again, limit, is_asking)
            except redis.ResponseError as error:
                if (code := _code(error)) not in _REDIRECTIONS:
                    raise
                address, is_asking = _target(error, address), code == "ASK"
                if not is_asking:
                    self._slots.move(slot, address)
            except Exception:
                if not again or (heir := await self._heir(slot, address, limit)) is None:
                    raise
                address, is_asking = heir, False
            if hop:
                await self.means.colour.sleep(min(hop * _PAUSE, max(0.0, limit.left())))
        raise redis.ConnectionError(f"the nodes of the cluster don't agree who has slot {slot}")

    async def _at(
        self, address: Address, args: Command, again: bool, limit: Limit, is_asking: bool = False
    ) -> Any:
        """Give the reply of one node, and take note of how it does."""
        self._slots.admit(address)
        began = monotonic()
        try:
            connection = self._connection(address)
            connection.under(limit)
            if is_asking:
                await connection.post([("ASKING",), args])
                _raised(await connection.fetch(("ASKING",)))
                reply = _raised(await connection.fetch(args))
            else:
                reply = await connection.send(args, again)
        except redis.ResponseError as error:
            self._slots.answered(address)
            if _code(error) == "CLUSTERDOWN":
                self._slots.doubt()
            raise
        except Exception as error:
            failure = self._slots.failure(address, error, monotonic() - began)
            if failure is error:
                raise
            raise failure from error
        self._slots.answered(address)
        return reply

    def _connection(self, address: Address) -> Connection:
        if address not in self.connections:
            for gone in [known for known in self.connections if not self._slots.has(known)]:
                self.forget(gone)
        return self.to(self.settings.at(address))

    # -- the map -----------------------------------------------------------------------------

    def _owner(self, slot: int) -> Address:
        if (address := self._slots.owner(slot)) is None:
            self._slots.doubt()
            raise NodeDown(f"no node of the Redis cluster has slot {slot}")
        return address

    async def _heir(self, slot: int, address: Address, limit: Limit) -> Address | None:
        """Give the node that has *slot* now that *address* has failed, if it is another one."""
        with suppress(Exception):
            if limit.left() > 0:
                await self._renew_map(limit)
        heir = self._slots.owner(slot)
        return None if heir == address or limit.left() <= 0 else heir

    async def _renew_map(self, limit: Limit) -> None:
        """See to it that there is a map, and that an outdated one is read anew."""
        if not self._slots.is_due():
            return
        try:
            await self._read_map(limit)
        except Exception:
            if not self._slots.masters:
                raise

    async def _read_map(self, limit: Limit) -> None:
        nodes = [self.settings.at(address) for address in self._slots.informants()]

        def takes(node: Settings, reply: Any) -> bool:
            assert node.address is not None
            return self._slots.read(node.address, reply)

        await self.ask_first(nodes, ("CLUSTER", "SLOTS"), limit, takes)

    # -- many commands -----------------------------------------------------------------------

    async def ask_all(self, commands: Sequence[Command]) -> list[Any]:
        """Give the reply or the error of each command, in their order, all sent at once.

        Each may be sent twice.
        """
        with self.means.limit(self.settings.timeout) as limit:
            await self._renew_map(limit)
            outcomes: list[Any] = [None] * len(commands)
            await self._ask_nodes(commands, outcomes, limit)
            for number, outcome in enumerate(outcomes):
                if _may_be_asked_again(outcome) and limit.left() > 0:
                    outcomes[number] = await _caught(self._follow(commands[number], True, limit))
            return outcomes

    async def _ask_nodes(
        self, commands: Sequence[Command], outcomes: list[Any], limit: Limit
    ) -> None:
        """Put into *outcomes* what the nodes answer; one may fail without the others."""
        groups = self._by_node(commands, outcomes)
        try:
            for others, group in _countdown(groups):
                await self._within(limit, others, group, group.post)
            for others, group in _countdown([group for group in groups if group.is_posted]):
                await self._within(limit, others, group, group.fetch)
        except BaseException:  # what comes now is no answer to the next
            for group in groups:
                group.connection.drop()
            raise

    def _by_node(self, commands: Sequence[Command], outcomes: list[Any]) -> list[_Group]:
        """Sort *commands* by the node that has their slot; who fails comes last."""
        groups: dict[Address, _Group] = {}
        for number, command in enumerate(commands):
            try:
                address = self._owner(slot_of(command))
                if address not in groups:
                    self._slots.admit(address)
                    connection = self._connection(address)
                    groups[address] = _Group(address, connection, commands, outcomes)
                groups[address].numbers.append(number)
            except NodeDown as error:
                outcomes[number] = error
        return sorted(groups.values(), key=lambda group: self._slots.is_failing(group.address))

    async def _within(
        self, limit: Limit, others: int, group: _Group, work: Callable[[], Awaitable[None]]
    ) -> None:
        """Do *work* in the time that is left, or in a half of it if there are *others* to come."""
        began = monotonic()
        try:
            with self.means.limit(limit.left() / (2 if others else 1)) as part:
                group.connection.under(part)
                await work()
        except Exception as error:
            group.fail(self._slots.failure(group.address, error, monotonic() - began))


class _Group:
    """Commands that one node takes, sent together."""

    def __init__(
        self,
        address: Address,
        connection: Connection,
        commands: Sequence[Command],
        outcomes: list[Any],
    ) -> None:
        self.address, self.connection = address, connection
        self.numbers: list[int] = []
        self.is_posted = False
        self._commands, self._outcomes = commands, outcomes

    async def post(self) -> None:
        await self.connection.post([self._commands[number] for number in self.numbers])
        self.is_posted = True

    async def fetch(self) -> None:
        for number in self.numbers:
            self._outcomes[number] = await self.connection.fetch(self._commands[number])

    def fail(self, failure: Exception) -> None:
        for number in self.numbers:
            self._outcomes[number] = failure


class ClusterLinks(Links):
    """Links to a cluster, for threads. No command has keys of two slots."""

    async def mget(self, keys: Sequence[str]) -> list[bytes | None]:
        outcomes = await self.outcomes(keys)
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome
        return outcomes  # type: ignore[return-value]

    async def outcomes(self, keys: Sequence[str]) -> list[bytes | Exception | None]:
        # Single GETs, sent together to each node: keys hardly ever share a slot, and while a slot
        # moves an MGET of it is refused.
        return await self._ask_all([("GET", key) for key in keys])

    async def scan(self, prefix: str, cursors: dict[str, int]) -> list[Any]:
        if "" in cursors:  # the beginning
            del cursors[""]
            cursors.update(dict.fromkeys(await self._names(), 0))
            return []
        return await super().scan(prefix, cursors)

    async def clear(self, prefix: str) -> None:
        before = await self._layout()
        await self._clear(prefix, list(before))
        after = await self._layout()
        if after != before or any(b"[" in slots for slots in after.values()):
            # A key that moves can be missed by one pass, but not by two in opposite directions.
            await self._clear(prefix, list(after)[::-1])

    async def _clear(self, prefix: str, nodes: Sequence[str]) -> None:
        failure: Exception | None = None
        for node in nodes:
            try:
                cursors = {node: 0}
                while cursors:
                    await self._unlink(await self.scan(prefix, cursors))
            except Exception as error:  # the other nodes are cleared all the same
                failure = error
        if failure is not None:
            raise failure

    async def _unlink(self, keys: Sequence[Any]) -> None:
        for outcome in await self._ask_all([("UNLINK", key) for key in keys]):
            if isinstance(outcome, Exception):
                raise outcome

    async def _layout(self) -> dict[str, bytes]:
        """Give what each master says of its own slots, where "[" shows one that moves."""
        found: dict[str, bytes] = {}
        for node in await self._names():
            with suppress(Exception):
                found[node] = b""
                text: bytes = await self.command("CLUSTER", "NODES", node=node)
                own = [line for line in text.splitlines() if b"myself" in line]
                found[node] = b" ".join(own[0].split()[8:])
        return found

    async def _names(self) -> list[str]:
        """Give what `command` calls the masters."""
        return [f"{s.address[0]}:{s.address[1]}" for s in await self.masters() if s.address]

    async def _ask_all(self, commands: Sequence[Command]) -> list[Any]:
        return await self.use(lambda link: link.ask_all(commands)) if commands else []


class LoopClusterLinks(ClusterLinks, LoopLinks):
    """Links to a cluster for the tasks of the running loop."""


def _address(node: str) -> Address:
    host, _, port = node.rpartition(":")
    return host, int(port)


def _code(error: Any) -> str:
    """Give the code of a cluster's error, or whatever else its text begins with."""
    for kind, code in _CODES.items():
        if isinstance(error, kind):
            return code
    return str(error).partition(" ")[0]  # in redis-py 5.0, whose connections know no clusters


def _target(error: redis.ResponseError, asked: Address) -> Address:
    """Give whom a redirection names; without a host it is the one that was asked."""
    host, _, port = str(error).rpartition(" ")[2].rpartition(":")
    return host or asked[0], int(port)


def _raised(reply: Any) -> Any:
    if isinstance(reply, Exception):
        raise reply
    return reply


async def _caught(work: Awaitable[Any]) -> Any:
    try:
        return await work
    except Exception as error:
        return error


def _may_be_asked_again(outcome: Any) -> bool:
    if not isinstance(outcome, Exception):
        return False
    error = outcome.__cause__ if isinstance(outcome, NodeDown) else outcome
    return isinstance(error, redis.ConnectionError) or _code(error) in _REDIRECTIONS


def _countdown(items: Sequence[T]) -> Iterator[tuple[int, T]]:
    """Give *items*, each with the number of those to come."""
    return zip(range(len(items) - 1, -1, -1), items, strict=True)
