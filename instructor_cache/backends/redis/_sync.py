"""Connections of redis-py for threads, whose commands end in time whatever the server does.

redis-py limits each call on a socket, so a peer that sends byte after byte may take for ever, and
looking up a host's name has no limit at all. Here one moment limits all that belongs to a command:
to look up, connect, shake hands, send, receive, and do it again on a new connection.
"""

from __future__ import annotations

import errno
import select
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future, wait
from functools import cache
from math import inf
from time import monotonic
from typing import Any

import redis
from typing_extensions import Self

from ..._bridge import SYNC
from ..._workers import in_daemon
from ._cluster import ClusterLinks
from ._commands import checked
from ._link import Connection, Limit
from ._links import Links
from ._routes import Means
from ._settings import Settings, close_late


class Until(Limit):
    """One moment, *seconds* from now."""

    def __init__(self, seconds: float) -> None:
        self._until = monotonic() + 0.98 * seconds  # rather early than late

    def left(self) -> float:
        return self._until - monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, tb: object) -> None:
        pass


class SyncConnection(Connection):
    """One connection, for one thread at a time."""

    _limit: Until

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        kind, options = settings.options(redis)
        seconds = settings.timeout
        options.update(socket_timeout=seconds, socket_connect_timeout=seconds)
        self._conn = conn = _in_time(kind)(**options)
        conn.slack, conn.left = seconds / 50, self._left

    def ask(self, args: tuple[Any, ...], again: bool, node: str) -> Coroutine[Any, Any, Any]:
        self._limit = Until(self.settings.timeout)
        return self.send(args, again)

    async def get_each(self, keys: Sequence[str]) -> list[Any]:
        self._limit = Until(self.settings.timeout)
        return await self.send_gets(keys, again=True)

    def under(self, limit: Any) -> None:
        self._limit = limit

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

    async def write(self, commands: Sequence[tuple[Any, ...]]) -> None:
        self._conn.send_packed_command(self._conn.pack_commands(commands))

    async def read(self) -> Any:
        return self._conn.read_response(disable_decoding=True)

    def drop(self) -> None:
        self._conn.disconnect()

    def _left(self) -> float:
        """Give the seconds that are left for the command; TimeoutError if none are."""
        if (left := self._limit.left()) > 0:
            return left
        raise TimeoutError("timed out")


MEANS = Means(SyncConnection, Until, SYNC, Links, ClusterLinks)


@cache
def _in_time(kind: type[Any]) -> Any:
    return type(kind.__name__, (_InTime, kind), {})


class _InTime:
    """What a connection class of redis-py needs to keep to one moment."""

    left: Callable[[], float]
    slack: float

    def _connect(self: Any) -> _TimedSocket:
        # In a thread, as no system call looks up a name, or connects to one of several
        # addresses, or does TLS, within a given time.
        connecting: Future[Any] = in_daemon(super()._connect)  # type: ignore[misc]
        try:
            if wait({connecting}, self.left()).done:
                return _TimedSocket(connecting.result(), self.left, self.slack)
            raise TimeoutError("timed out")
        except BaseException:
            connecting.add_done_callback(close_late)
            raise


class _TimedSocket:
    """A socket whose every call gets the time that the command has left, within *slack* seconds.

    Telling it to the kernel is a system call, and so is asking if something came: each is done
    as seldom as possible.
    """

    def __init__(self, sock: Any, left: Callable[[], float], slack: float) -> None:
        self._sock, self._left, self._slack = sock, left, slack
        self._known = -inf  # seconds
        self._at_once = False
        self._poll: Any = None
        if hasattr(select, "poll") and not hasattr(sock, "pending"):  # TLS has a buffer of its own
            self._poll = select.poll()
            self._poll.register(sock.fileno(), select.POLLIN)

    def settimeout(self, seconds: float | None) -> None:
        """Take 0 for "at once, or not at all"; any other limit is ours to set."""
        self._at_once = seconds == 0

    def recv(self, *args: Any) -> Any:
        self._limit()
        return self._sock.recv(*args)

    def recv_into(self, *args: Any) -> Any:
        self._limit()
        return self._sock.recv_into(*args)

    def sendall(self, data: Any) -> None:
        # Not the socket's own sendall, which over TLS limits each of its parts only.
        while len(data):
            self._limit()
            data = memoryview(data)[self._sock.send(data) :]

    def _limit(self) -> None:
        if self._at_once and self._poll is not None and not self._poll.poll(0):
            raise BlockingIOError(errno.EWOULDBLOCK, "nothing has come")
        left = 0.0 if self._at_once else self._left()
        if abs(left - self._known) > self._slack:
            self._known = left
            self._sock.settimeout(left)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)
