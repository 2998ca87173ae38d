"""Connections of redis-py for the tasks of one event loop, whose commands end in time.

A command runs in its caller's task. When its time is over, its connection is cut, on which the
task wakes up with an error: nobody is cancelled, and no answer can come late to somebody else.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from contextlib import suppress
from functools import cache, partial
from typing import Any

import redis
import redis.asyncio

from ..._bridge import ASYNC
from ..._workers import in_daemon
from ...errors import BackendBusy
from ._cluster import LoopClusterLinks
from ._commands import checked
from ._link import Connection
from ._loop import Deadline, LoopLinks, unless
from ._mget import packed, read_values
from ._routes import Means
from ._settings import Settings, close_late

_PLAIN = "_AsyncRESP2Parser"  # of redis-py; the one that hiredis brings is fast by itself


class AsyncConnection(Connection):
    """One connection, for one task at a time."""

    _limit: Deadline

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        kind, options = settings.options(redis.asyncio)
        options.update(socket_timeout=None, socket_connect_timeout=None)  # a Deadline sees to it
        self._make = partial(_in_time(kind, settings.timeout), **options)
        self._conn = self._make()

    async def ask(self, args: tuple[Any, ...], again: bool, node: str) -> Any:
        with Deadline(self.settings.timeout) as limit:
            self.under(limit)
            return await self.send(args, again)

    async def get_each(self, keys: Sequence[str]) -> list[Any]:
        with Deadline(self.settings.timeout) as limit:
            self.under(limit)
            return await self.send_gets(keys, again=True)

    def under(self, limit: Any) -> None:
        self._limit = limit
        limit.over.add_done_callback(self._expire)

    def is_open(self) -> bool:
        conn = self._conn
        if not conn.is_connected:
            return False
        return not self._has_unread() and not conn._reader.at_eof()

    def _has_unread(self) -> bool:
        hiredis = getattr(self._conn._parser, "_reader", None)
        return self._conn._reader._buffer or (hiredis is not None and hiredis.has_data())

    async def open(self) -> None:
        # In a task of its own, so that neither a name that is not found nor a handshake that is
        # slow to be cancelled holds up the caller.
        self._conn.cut()
        self._conn = conn = self._make()
        connecting = asyncio.ensure_future(conn.connect())
        try:
            await unless(self._limit.over, connecting)
        except BaseException as error:
            connecting.add_done_callback(conn.cut)
            if isinstance(error.__cause__, BackendBusy):  # redis-py takes it for the server's fault
                raise error.__cause__ from None
            raise

    async def exchange(self, args: tuple[Any, ...]) -> Any:
        conn = self._conn
        if args[0] == "MGET":
            await conn.send_packed_command(packed(args[1:]))
            if type(conn._parser).__name__ == _PLAIN:
                how = conn._parser.parse_error, self._limit.begin_reply
                return checked(args, await read_values(conn._reader, *how))
        else:
            await conn.send_command(*args)
        return checked(args, await conn.read_response(disable_decoding=True))

    async def write(self, commands: Sequence[tuple[Any, ...]]) -> None:
        await self._conn.send_packed_command(self._conn.pack_commands(commands))

    async def read(self) -> Any:
        return await self._conn.read_response(disable_decoding=True)

    def drop(self) -> None:
        self._conn.cut()

    def _expire(self, over: object) -> None:
        if over is self._limit.over:  # and not of a command that ended in this very moment
            conn = self._conn
            if conn.is_connected and (self._has_unread() or getattr(conn._parser, "_chunks", None)):
                self._limit.begin_reply()
            conn.cut()


MEANS = Means(AsyncConnection, Deadline, ASYNC, LoopLinks, LoopClusterLinks)


@cache
def _in_time(kind: type[Any], seconds: float) -> Any:
    return type(kind.__name__, (_InTime, kind), {"seconds": seconds})


class _InTime:
    """What a connection class of redis-py needs to be cut, and to connect off the loop."""

    def cut(self: Any, _: object = None) -> None:
        """End the connection at once, whatever is under way on it."""
        writer, self._reader, self._writer = self._writer, None, None
        self._parser.on_disconnect()
        if writer is not None:
            with suppress(RuntimeError):  # its loop was closed by hand
                writer.transport.abort()

    async def _connect(self: Any) -> None:
        # Not by the loop, whose worker threads may all be busy with names, and are waited for.
        if hasattr(self, "host"):
            arguments: dict[str, Any] = super()._connection_arguments()  # type: ignore[misc]
            if "ssl" in arguments:
                arguments["server_hostname"] = self.host
            sock = await self._socket_to((self.host, self.port))
            self._arguments = {**arguments, "host": None, "port": None, "sock": sock}
        await super()._connect()  # type: ignore[misc]

    async def _socket_to(self: Any, address: tuple[str, int]) -> Any:
        connecting = in_daemon(lambda: socket.create_connection(address, self.seconds))
        try:
            return await asyncio.wrap_future(connecting)
        except BaseException:
            connecting.add_done_callback(close_late)
            raise

    def _connection_arguments(self: Any) -> Any:
        return self._arguments
