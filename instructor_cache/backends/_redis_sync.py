"""Connections of redis-py for threads, whose commands end in time whatever the server does.

redis-py limits each call on a socket, so a peer that sends byte after byte may take for ever, and
looking up a host's name has no limit at all. Here one moment limits all that belongs to a command:
to look up, connect, shake hands, send, receive, and do it again on a new connection.
"""

from __future__ import annotations

from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any

import redis

from .._bridge import wait_blocking
from .._workers import in_daemon
from ._redis_commands import checked
from ._redis_links import Connection, Links
from ._redis_settings import Settings
from ._redis_socket import TimedSocket, Until, close_late


def links(settings: Settings) -> Links:
    """Give the connections of all threads to one server."""
    kind, options = settings.options(redis)
    seconds = settings.timeout
    options.update(socket_timeout=seconds, socket_connect_timeout=seconds)
    in_time = type(kind.__name__, (_InTime, kind), {})

    def make() -> SyncConnection:
        return SyncConnection(in_time(**options), settings)

    return Links(make, settings.size, settings.patience, Future, wait_blocking)


class SyncConnection(Connection):
    """One connection, for one thread at a time."""

    def __init__(self, conn: Any, settings: Settings) -> None:
        self._conn, self.retries = conn, settings.retries
        self._until = conn.until = Until(settings.timeout)

    async def ask(self, args: tuple[Any, ...], again: bool, node: str) -> Any:
        self._until.begin()
        return await super().ask(args, again, node)

    def is_open(self) -> bool:
        try:
            return self._conn._sock is not None and not self._conn.can_read()
        except Exception:
            return False

    async def open(self) -> None:
        self._conn.disconnect()
        self._conn.connect()

    async def exchange(self, args: tuple[Any, ...]) -> Any:
        self._conn.send_command(*args)
        return checked(args, self._conn.read_response(disable_decoding=True))

    def drop(self) -> None:
        self._conn.disconnect()


class _InTime:
    """What a connection class of redis-py needs to keep to one moment."""

    until: Until

    def _connect(self: Any) -> TimedSocket:
        # In a thread, as no system call looks up a name, or connects to one of several
        # addresses, or does TLS, within a given time.
        connecting: Future[Any] = in_daemon(super()._connect)  # type: ignore[misc]
        try:
            return TimedSocket(connecting.result(self.until.left()), self.until)
        except BaseException as error:
            connecting.add_done_callback(close_late)
            if isinstance(error, FutureTimeout):  # which is no TimeoutError in Python 3.10
                raise TimeoutError("timed out") from None
            raise
