"""A connection on which one Redis server tells what changes under some prefixes.

It is Redis's own client tracking in broadcast mode, over RESP3: what changes is pushed on the very
connection that asked for it, so there is no second one that could break unseen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib import import_module
from time import monotonic
from typing import Any

HEARTBEAT = 1.0  # seconds of silence after which a server is asked for a sign of life
PATIENCE = 1.0  # seconds to wait for it: a busy server is slow, one that is gone says nothing

Changed = list[bytes] | None  # keys; None for all there are


class Channel:
    """An open connection, and the prefixes that are tracked on it; for one thread.

    Opening it may take long. Every error means that it has to be closed: a connection of redis-py
    would connect again by itself, and hear nothing.
    """

    def __init__(self, make: Callable[[], Any], prefixes: frozenset[str]) -> None:
        self._conn = make()
        self._unread: list[Any] = []
        self.prefixes: frozenset[str] = frozenset()
        self._due, self._is_asked = monotonic() + HEARTBEAT, False  # for a sign of life
        try:
            self._conn.connect()
            _return_pushes(self._conn._parser)
            self._limit_backlog()
            self.add(prefixes)
        except BaseException:
            self.close()
            raise

    def add(self, prefixes: frozenset[str]) -> None:
        """Have more *prefixes* tracked, none of which begins another."""
        named = [part for prefix in sorted(prefixes - {""}) for part in ("PREFIX", prefix)]
        self._conn.send_command("CLIENT", "TRACKING", "ON", "BCAST", *named)
        while (said := self._read()) != b"OK":
            self._unread.append(said)
        self.prefixes |= prefixes

    def heard(self) -> Iterator[Changed]:
        """Give what was told, and has not been given yet."""
        while self._unread or self._conn.can_read(0):
            said = self._unread.pop(0) if self._unread else self._read()
            self._due, self._is_asked = monotonic() + HEARTBEAT, False
            if isinstance(said, list) and said[0] == b"invalidate":
                yield said[1]

    def check(self) -> float:
        """Ask for a sign of life if it is time to; give the seconds until the next check.

        Raises TimeoutError if the server has not given one.
        """
        if (left := self._due - monotonic()) > 0:
            return left
        if self._is_asked:
            raise TimeoutError("the server gave no sign of life")
        self._conn.send_command("PING")
        self._due, self._is_asked = monotonic() + PATIENCE, True
        return PATIENCE

    def fileno(self) -> int:
        return self._conn._sock.fileno()  # type: ignore[no-any-return]

    def close(self) -> None:
        self._conn.disconnect()

    def abandon(self) -> None:
        """Close it in the child of a fork, without a word to the server: the parent goes on."""
        sock, self._conn._sock = self._conn._sock, None
        sock.close()

    def _limit_backlog(self) -> None:
        # A subscriber who stalls is cut off by the server, by default at 32 MB; for others it
        # keeps what they don't read, without end. Who may not subscribe is none the worse.
        self._conn.send_command("SUBSCRIBE", "__redis__:invalidate")
        library: Any = import_module(library_of(self._conn))
        with suppress(library.ResponseError):
            self._read()

    def _read(self) -> Any:
        return self._conn.read_response(disable_decoding=True, push_request=True)


def _return_pushes(parser: Any) -> None:
    """Have *parser* give what is pushed like what was asked for, in redis-py 5.0 and later."""
    handle = getattr(parser, "set_invalidation_push_handler", None) or parser.set_push_handler
    handle(_as_it_is)


def _as_it_is(pushed: Any) -> Any:
    return pushed


def library_of(connection: object) -> str:
    """Give "redis" or "valkey", whichever a connection or a class of them is from."""
    kind = connection if isinstance(connection, type) else type(connection)
    roots = (cls.__module__.partition(".")[0] for cls in kind.__mro__)
    return next((root for root in roots if root in ("redis", "valkey")), "redis")
