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

from ._daemon import off_loop
from ._redis_commands import AsyncCommands, checked
from ._redis_settings import ANSWERS, Settings
from ._redis_turns import Turns, await_turn
from ._redis_watch import Watch, abandon


class AsyncLinks(AsyncCommands):
    """The connections of one event loop to one server."""

    def __init__(self, settings: Settings, loop: asyncio.AbstractEventLoop) -> None:
        kind, options = settings.options(redis.asyncio)
        options.update(socket_timeout=None, socket_connect_timeout=None)  # the watch sees to it
        make: Any = functools.partial(_in_time(kind), **options)
        self._settings = settings
        self._turns = Turns(lambda: Link(make), settings.size, loop.create_future)
        self._watch = Watch(loop, settings.timeout)

    async def command(self, *args: Any, again: bool = True) -> Any:
        link = await await_turn(self._turns, self._settings.patience)
        number, answers = self._watch.start(link.expire), self._turns.answers
        try:
            reply = await link.ask(args, again and self._settings.retries > 0)
            self._turns.answers += 1
            return reply
        except redis.TimeoutError:
            self._turns.dismiss(answers)
            raise
        finally:
            self._watch.stop(number)
            if not self._turns.give(link):
                link.drop()

    def close(self) -> None:
        """Close what is idle now, and the rest after its command; on this loop's thread only."""
        for link in self._turns.close():
            link.drop()


class Link:
    """One connection, made anew whenever it can't be trusted any more."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._conn = make()
        self._overdue: asyncio.Future[None] | None = None

    async def ask(self, args: tuple[Any, ...], again: bool) -> Any:
        self._overdue = asyncio.get_running_loop().create_future()
        try:
            return await self._ask(args, again)
        except redis.ResponseError:  # an answer like any other
            raise
        except BaseException as error:  # what comes now is no answer to the next
            self.drop()
            if self._overdue.done() and isinstance(error, Exception):
                raise redis.TimeoutError("Timeout: no answer in time") from error
            raise

    def expire(self) -> None:
        """End the command under way."""
        assert self._overdue is not None
        self._overdue.set_result(None)
        self._conn.cut()

    def drop(self) -> None:
        """Close the connection at once."""
        self._conn.cut()

    async def _ask(self, args: tuple[Any, ...], again: bool) -> Any:
        stale = self._conn.is_connected and not self._conn.stirs()
        if not stale:
            await self._open()
        try:
            return await self._exchange(args)
        except redis.ConnectionError as error:
            assert self._overdue is not None
            if not (again and stale) or isinstance(error, ANSWERS) or self._overdue.done():
                raise
        await self._open()
        return await self._exchange(args)

    async def _exchange(self, args: tuple[Any, ...]) -> Any:
        await self._conn.send_command(*args)
        return checked(args, await self._conn.read_response(disable_decoding=True))

    async def _open(self) -> None:
        # In a task of its own, so that neither a name that is not found nor a handshake that is
        # slow to be cancelled holds up the caller.
        self._conn.cut()
        self._conn = conn = self._make()
        connecting = asyncio.ensure_future(conn.connect())
        try:
            wanted: set[Any] = {connecting, self._overdue}
            await asyncio.wait(wanted, return_when=asyncio.FIRST_COMPLETED)
            if not connecting.done():
                raise redis.TimeoutError("Timeout connecting to server")
            connecting.result()
        except BaseException:
            connecting.add_done_callback(functools.partial(_cut_late, conn))
            abandon(connecting)
            raise


def _cut_late(conn: Any, _: object) -> None:
    conn.cut()


class _InTime:
    """What a connection class of redis-py needs to be cut, and to look up names off the loop."""

    _address: str | None = None

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
        if not hasattr(self, "host"):
            return await super()._connect()  # type: ignore[misc, no-any-return]
        error: OSError | None = None
        for address in await _look_up(self.host, self.port):
            self._address = address
            try:
                return await super()._connect()  # type: ignore[misc, no-any-return]
            except OSError as refused:
                error = refused
        raise error or OSError("found no address")

    def _connection_arguments(self: Any) -> dict[str, Any]:
        theirs: dict[str, Any] = super()._connection_arguments()  # type: ignore[misc]
        arguments = {**theirs, "host": self._address}
        if "ssl" in arguments:
            arguments["server_hostname"] = self.host
        return arguments


async def _look_up(host: str, port: int) -> list[str]:
    # Not by the loop, whose worker threads may all be busy, and are waited for at its end.
    look_up = functools.partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    found = await off_loop(look_up)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


@functools.cache
def _in_time(kind: Any) -> Any:
    return type(kind.__name__, (_InTime, kind), {})
