"""Connections between two uses: each for one thread at a time, and none across a fork."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable
from threading import RLock
from typing import Any, Generic, Protocol, TypeVar
from weakref import WeakSet

from ..errors import BackendClosed

_KEPT = 32  # idle connections of one pool
_PATIENCE = 0.5  # seconds that a fork waits for operations under way in other threads


class _Closable(Protocol):
    def close(self) -> None: ...


C = TypeVar("C", bound=_Closable)


class Pool(Generic[C]):
    """Connections to one place, which error messages call *name*.

    SQLite keeps its account of locks in the process, by file. A child that inherits one thinks
    that it holds locks which it doesn't, and others delete the journal while it writes there. So
    before a fork every connection is closed, and operations begin no new one until it is done.
    """

    def __init__(self, name: str) -> None:
        self.closed = False
        self._name = name
        self._idle: deque[C] = deque()
        self._opened: set[C | object] = set()
        with _gate.lock:
            _pools.add(self)

    def __len__(self) -> int:
        """How many connections are open, at work or idle."""
        return len(self._opened)

    def take(self) -> C | None:
        """Give an idle connection, or None; raise BackendClosed after `close`."""
        if self.closed:
            raise BackendClosed(
                f"found {self._name} closed, where it was to be used; close it later, or make anew"
            )
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def open(self, opener: Callable[[], C]) -> C:
        """Give the new connection that *opener* makes."""
        promise = object()
        with _gate.lock:  # held by a fork
            self._opened.add(promise)
        try:
            connection = opener()
            self._opened.add(connection)
        finally:
            self._opened.discard(promise)
        return connection

    def put(self, connection: C) -> None:
        """Take *connection* back for another use, or close it."""
        if len(self._idle) >= _KEPT:
            return self.drop(connection)
        self._idle.append(connection)
        if self.closed:  # meanwhile: whoever comes second closes it
            self.empty()

    def drop(self, connection: C) -> None:
        """Close *connection*, which is not used again."""
        try:
            connection.close()
        finally:
            self._opened.discard(connection)

    def empty(self) -> None:
        """Close the connections that are idle."""
        try:
            while True:
                self.drop(self._idle.pop())
        except IndexError:  # the builtin only: at the end of a process, this module is gone
            return

    def close(self) -> None:
        """Close the idle connections now, and those at work when they come back."""
        self.closed = True
        self.empty()

    def abandon(self) -> None:
        """Forget connections that came through a fork: even to close them is forbidden."""
        _inherited.append((self._idle, self._opened))
        self._idle, self._opened = deque(), set()

    def __del__(self) -> None:
        self.empty()


class _Gate:
    """What stands open except during a fork."""

    def __init__(self) -> None:
        self.lock = RLock()
        self.is_ours = False

    def shut(self) -> None:
        deadline = time.monotonic() + _PATIENCE
        self.is_ours = self.lock.acquire(timeout=_PATIENCE)
        while True:
            for pool in (pools := list(_pools)):
                pool.empty()
            if not any(len(pool) for pool in pools) or time.monotonic() > deadline:
                return
            time.sleep(0.0005)

    def reopen(self) -> None:
        if self.is_ours:
            self.is_ours = False
            self.lock.release()

    def renew(self) -> None:
        self.lock, self.is_ours = RLock(), False
        for pool in list(_pools):
            if len(pool):
                pool.abandon()


_pools: WeakSet[Pool[Any]] = WeakSet()
_inherited: list[object] = []
_gate = _Gate()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_gate.shut, after_in_parent=_gate.reopen, after_in_child=_gate.renew)
