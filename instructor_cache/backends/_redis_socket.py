"""A socket that keeps to one moment, whatever number of calls it takes until then."""

from __future__ import annotations

import errno
import select
from concurrent.futures import Future
from math import inf
from time import monotonic
from typing import Any


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


def close_late(connecting: Future[Any]) -> None:
    """Close the socket that came after its time, if it did."""
    if not connecting.cancelled() and connecting.exception() is None:
        connecting.result().close()
