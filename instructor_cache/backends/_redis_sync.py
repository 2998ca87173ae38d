"""Connections of redis-py for threads, whose commands end in time whatever the server does.

redis-py limits each call on a socket, so a peer that sends byte after byte may take for ever, and
looking up a host's name has no limit at all. Here one moment limits all that belongs to a command:
to look up, connect, shake hands, send, receive, and do it again on a new connection.
"""

from __future__ import annotations

import functools
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any

import redis

from .._fork import renew_after_fork
from ._daemon import in_daemon
from ._redis_commands import Commands, checked
from ._redis_settings import ANSWERS, Settings
from ._redis_socket import TimedSocket, Until
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
