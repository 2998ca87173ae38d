"""Connections of redis-py for the tasks of one event loop, whose commands end in time.

A command runs in its caller's task. When its time is over, its connection is cut, on which the
task wakes up with an error: nobody is cancelled, and no answer can come late to somebody else.
"""

from __future__ import annotations

import asyncio
import functools
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import redis
import redis.asyncio

from .._bridge import wait_async
from .._workers import in_daemon
from ._redis_commands import checked
from ._redis_links import Connection, Links
from ._redis_settings import Settings
from ._redis_socket import close_late
from ._redis_watch import Watch, unless


def links(settings: Settings) -> Links:
    """Give the connections of the running loop to one server; only its thread may close them."""
    kind, options = settings.options(redis.asyncio)
    options.update(socket_timeout=None, socket_connect_timeout=None)  # the watch sees to it
    in_time = type(kind.__name__, (_InTime, kind), {"seconds": settings.timeout})
    loop = asyncio.get_running_loop()
    watch = Watch(loop, settings.timeout)

    def make() -> AsyncConnection:
        return AsyncConnection(functools.partial(in_time, **options), watch, settings.retries)

    return Links(make, settings.size, settings.patience, loop.create_future, wait_async)


class AsyncConnection(Connection):
    """One connection, for one task at a time."""

    _over: asyncio.Future[None]

    def __init__(self, make: Callable[[], Any], watch: Watch, retries: int) -> None:
        self._make, self._watch, self.retries = make, watch, retries
        self._conn = make()

    async def ask(self, args: tuple[Any, ...], again: bool, node: str) -> Any:
        self._over = over = self._watch.start()
        over.add_done_callback(self._expire)
        try:
            return await super().ask(args, again, node)
        except Exception as error:
            if over.done():
                raise redis.TimeoutError("Timeout: no answer in time") from error
            raise
        finally:
            self._watch.stop(over)

    def is_open(self) -> bool:
        return self._conn.is_connected and not self._conn.stirs()

    async def open(self) -> None:
        # In a task of its own, so that neither a name that is not found nor a handshake that is
        # slow to be cancelled holds up the caller.
        self._conn.cut()
        self._conn = conn = self._make()
        connecting = asyncio.ensure_future(conn.connect())
        try:
            await unless(self._over, connecting)
        except BaseException:
            connecting.add_done_callback(functools.partial(_cut, conn))
            raise

    async def exchange(self, args: tuple[Any, ...]) -> Any:
        await self._conn.send_command(*args)
        return checked(args, await self._conn.read_response(disable_decoding=True))

    def drop(self) -> None:
        self._conn.cut()

    def _expire(self, over: object) -> None:
        if over is self._over:  # and not of a command that ended in this very moment
            self._conn.cut()


def _cut(conn: Any, _: object) -> None:
    conn.cut()


class _InTime:
    """What a connection class of redis-py needs to be cut, and to connect off the loop."""

    def cut(self: Any) -> None:
        """End the connection at once, whatever is under way on it."""
        writer, self._reader, self._writer = self._writer, None, None
        self._parser.on_disconnect()
        if writer is not None:
            with suppress(RuntimeError):  # its loop was closed by hand
                writer.transport.abort()

    def stirs(self: Any) -> bool:
        """Whether something came that nobody asked for: the connection's end, or bytes."""
        stream = self._reader
        hiredis = getattr(self._parser, "_reader", None)
        unread = stream._buffer or (hiredis is not None and hiredis.has_data())
        return bool(unread) or stream.at_eof()

    async def _connect(self: Any) -> None:
        # Not by the loop, whose worker threads may all be busy with names, and are waited for.
        if hasattr(self, "host"):
            address = self.host, self.port
            connecting = in_daemon(lambda: socket.create_connection(address, self.seconds))
            try:
                self._socket = await asyncio.wrap_future(connecting)
            except BaseException:
                connecting.add_done_callback(close_late)
                raise
        await super()._connect()  # type: ignore[misc]

    def _connection_arguments(self: Any) -> dict[str, Any]:
        arguments: dict[str, Any] = super()._connection_arguments()  # type: ignore[misc]
        if "ssl" in arguments:
            arguments["server_hostname"] = arguments["host"]
        return {**arguments, "host": None, "port": None, "sock": self._socket}
