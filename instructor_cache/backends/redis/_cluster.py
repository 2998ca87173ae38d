"""A cluster of Redis servers: each command goes to the node that has its key's slot."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from time import monotonic
from typing import Any, TypeVar

import redis

from ...errors import NodeDown
from .._redis_url import Address
from ._commands import as_of_mget, without_errors
from ._link import Connection, Limit
from ._links import Links
from ._loop import LoopLinks
from ._nodes import Command, Nodes, redirection
from ._slots import slot_of

_HOPS = 12  # redirections to follow; the first two at once, as the nodes may not yet agree
_PAUSE = 0.002  # seconds
_READING = 0.1  # of the time that is left: to read what has come from one node

T = TypeVar("T")


class ClusterLink(Nodes):
    """A link that sends each command to whom it belongs."""

    async def route(self, args: Command, again: bool, node: str, limit: Limit) -> Any:
        if node:
            return await self.ask_node(_address(node), args, again, limit)
        await self.renew_map(limit)
        return await self._follow(args, again, limit)

    async def _follow(self, args: Command, again: bool, limit: Limit) -> Any:
        """Give the reply of the node that has the key, wherever that is by now."""
        slot = slot_of(args)
        address, is_asking = self.owner(slot), False
        for hop in range(_HOPS):
            try:
                return await self.ask_node(address, args, again, limit, is_asking)
            except redis.ResponseError as error:
                if (where := redirection(error, address)) is None:
                    raise
                address, has_moved = where
                is_asking = not has_moved
                if has_moved:
                    self.slots.move(slot, address)
            except Exception:
                if not again or (heir := await self.heir(slot, address, limit)) is None:
                    raise
                address, is_asking = heir, False
            if hop:
                await self.means.colour.sleep(min(hop * _PAUSE, max(0.0, limit.left())))
        raise redis.ConnectionError(f"the nodes of the cluster don't agree who has slot {slot}")

    async def ask_all(self, commands: Sequence[Command]) -> list[Any]:
        """Give the reply or the error of each command, in their order, all sent at once.

        Each may be sent twice.
        """
        with self.means.limit(self.settings.timeout) as limit:
            await self.renew_map(limit)
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
                await self._within(limit.left() / (2 if others else 1), group, group.post)
            for others, group in _countdown([group for group in groups if group.is_posted]):
                # What the others have said meanwhile is there already, and soon read.
                seconds = limit.left() * (1 - _READING) ** others
                if await self._within(seconds, group, group.fetch):
                    self.slots.answered(group.address)
        except BaseException:  # what comes now is no answer to the next
            for group in groups:
                group.connection.drop()
            raise

    def _by_node(self, commands: Sequence[Command], outcomes: list[Any]) -> list[_Group]:
        """Sort *commands* by the node that has their slot; who fails comes last."""
        groups: dict[Address, _Group] = {}
        for number, command in enumerate(commands):
            try:
                address = self.owner(slot_of(command))
                if address not in groups:
                    is_probe = self.slots.admit(address)
                    connection = self.connection(address)
                    groups[address] = _Group(address, is_probe, connection, commands, outcomes)
                groups[address].numbers.append(number)
            except NodeDown as error:
                outcomes[number] = error
        return sorted(groups.values(), key=lambda group: self.slots.is_failing(group.address))

    async def _within(
        self, seconds: float, group: _Group, work: Callable[[], Awaitable[None]]
    ) -> bool:
        """Do *work* in *seconds* or less; tell if it succeeded. If not, its commands fail."""
        began = monotonic()
        try:
            with self.means.limit(self.slots.time_for(group.address, seconds)) as part:
                group.connection.under(part)
                await work()
                return True
        except Exception as error:
            seconds = monotonic() - began
            group.fail(self.slots.failure(group.address, error, seconds, group.is_probe))
            return False

    async def get_each(self, keys: Sequence[str]) -> list[Any]:
        # Keys hardly ever share a slot, and while a slot moves an MGET of it is refused.
        return await self.ask_all([("GET", key) for key in keys])


class _Group:
    """Commands that one node takes, sent together."""

    def __init__(
        self,
        address: Address,
        is_probe: bool,
        connection: Connection,
        commands: Sequence[Command],
        outcomes: list[Any],
    ) -> None:
        self.address, self.is_probe, self.connection = address, is_probe, connection
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
        return without_errors(await self.outcomes(keys))

    async def outcomes(self, keys: Sequence[str]) -> list[bytes | Exception | None]:
        return as_of_mget(await self.get_each(keys))

    async def scan(self, prefix: str, cursors: dict[str, int]) -> list[bytes]:
        if "" in cursors:  # the beginning
            del cursors[""]
            cursors.update(dict.fromkeys(await self._names(), 0))
            return []
        return await super().scan(prefix, cursors)

    async def count(self) -> int:
        counts = [await self.command("DBSIZE", node=node) for node in await self._names()]
        return sum(counts)

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

    async def _unlink(self, keys: Sequence[bytes]) -> None:
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


async def _caught(work: Awaitable[Any]) -> Any:
    try:
        return await work
    except Exception as error:
        return error


def _may_be_asked_again(outcome: Any) -> bool:
    if not isinstance(outcome, Exception):
        return False
    cause = outcome.__cause__ if isinstance(outcome, NodeDown) else outcome
    return isinstance(cause, redis.ConnectionError) or redirection(outcome, ("", 0)) is not None


def _countdown(items: Sequence[T]) -> Iterator[tuple[int, T]]:
    """Give *items*, each with the number of those to come."""
    return zip(range(len(items) - 1, -1, -1), items, strict=True)
