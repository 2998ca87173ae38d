"""Connections of redis-py for threads, whose commands end in time whatever the server does.

redis-py limits each call on a socket, so a peer that sends byte after byte may take for ever, and
looking up a host's name has no limit at all. Here one moment limits all that belongs to a command:
to look up, connect, shake hands, send, receive, and do it again on a new connection.
"""

from __future__ import annotations

import errno
import functools
import select
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from math import inf
from time import monotonic
from typing import Any

import redis

from .._fork import renew_after_fork
from ._daemon import in_daemon
from ._redis_commands import Commands, checked
from ._redis_settings import ANSWERS, Settings
from ._redis_turns import Turns, wait_turn


class Links(Commands):
    """The connections of all threads to one server."""

    def __init__(self, settings: Settings) -> None:
        kind, options = settings.options(redis)
        self._kind = _in_time(kind)
        seconds = settings.timeout
        self._options = {**options, "socket_timeout": seconds, "socket_connect_timeout": seconds}
        self._settings = settings
        self._turns = Turns[Any](self._make, settings.size, Future)
        renew_after_fork(self, Links._begin_anew)

    def command(self, *args: Any, again: bool = True) -> Any:
        link = wait_turn(self._turns, self._settings.patience)
        answers = self._turns.answers
        try:
            link.until.begin()
            reply = self._ask(link, args, again and self._settings.retries > 0)
            self._turns.answers += 1
            return reply
        except redis.TimeoutError:
            self._turns.dismiss(answers)
            raise
        finally:
            if not self._turns.give(link):
                link.disconnect()

    def _begin_anew(self) -> None:
        self._turns.start()

    def close(self) -> None:
        for link in self._turns.close():
            link.disconnect()

    def _make(self) -> Any:
        link = self._kind(**self._options)
        link.until = Until(self._settings.timeout)
        return link

    def _ask(self, link: Any, args: tuple[Any, ...], again: bool) -> Any:
        try:
            stale = link.refresh()
            try:
                return _exchange(link, args)
            except redis.ConnectionError as error:
                if not (again and stale) or isinstance(error, ANSWERS):
                    raise
            link.disconnect()
            link.connect()
            return _exchange(link, args)
        except redis.ResponseError:  # an answer like any other
            raise
        except BaseException:  # what comes on this connection now is no answer to the next
            link.disconnect()
            raise


def _exchange(link: Any, args: tuple[Any, ...]) -> Any:
    link.send_command(*args)
    return checked(args, link.read_response(disable_decoding=True))


class Until:
    """The moment at which the command of a connection has to end, by the monotonic clock.

    Attributes:
        slack: Seconds: how exactly it is kept.
    """

    __slots__ = ("_moment", "_seconds", "slack")

    def __init__(self, seconds: float) -> None:
        self.slack = seconds / 50
        self._seconds = seconds - self.slack  # rather early than late
        self._moment = 0.0

    def begin(self) -> None:
        """Give a command its time from now on."""
        self._moment = monotonic() + self._seconds

    def left(self) -> float:
        """Give the seconds that are left; TimeoutError if none are."""
        if (left := self._moment - monotonic()) > 0:
            return left
        raise TimeoutError("timed out")


class _InTime:
    """What a connection class of redis-py needs to keep to one moment."""

    until: Until

    def refresh(self: Any) -> bool:
        """Be connected; tell if this is an old connection, which may have gone stale unseen."""
        if self._sock is not None and not self._stirs():
            return True
        self.disconnect()
        self.connect()
        return False

    def _stirs(self: Any) -> bool:
        """Whether something came that nobody asked for: the connection's end, or bytes."""
        try:
            return bool(self.can_read())
        except Exception:
            return True

    def _connect(self: Any) -> TimedSocket:
        # In a thread, as no system call looks up a name, or connects to one of several
        # addresses, or does TLS, within a given time.
        connecting: Future[Any] = in_daemon(super()._connect)  # type: ignore[misc]
        try:
            sock = connecting.result(self.until.left())
            return TimedSocket(sock, self.until)
        except BaseException as error:
            connecting.add_done_callback(_close_late)
            if isinstance(error, FutureTimeout):  # which is no TimeoutError in Python 3.10
                raise TimeoutError("timed out") from None
            raise


def _close_late(connecting: Future[Any]) -> None:
    if connecting.exception() is None:
        connecting.result().close()


@functools.cache
def _in_time(kind: Any) -> Any:
    return type(kind.__name__, (_InTime, kind), {})


class TimedSocket:
    """A socket whose every call gets the time that the command has left.

    Telling a socket its time is a system call, so it is told again only when that differs from
    what it knows by more than a little.
    """

    def __init__(self, sock: Any, until: Until) -> None:
        self._sock, self._until = sock, until
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
        rest = data
        while True:
            self._limit()
            sent = self._sock.send(rest)
            if sent == len(rest):
                return
            rest = memoryview(rest)[sent:]

    def _limit(self) -> None:
        if self._at_once:
            if self._poll is not None and not self._poll.poll(0):
                raise BlockingIOError(errno.EWOULDBLOCK, "nothing has come")
            left = 0.0
        else:
            left = self._until.left()
            if abs(left - self._known) < self._until.slack:
                return
        self._known = left
        self._sock.settimeout(left)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)
