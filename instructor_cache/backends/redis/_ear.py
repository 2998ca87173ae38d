"""The thread that hears what changes in Redis, from every server that takes writes.

It serves callers of both colours. It ends when nobody listens any more, and holds up the end of
no process.
"""

from __future__ import annotations

import random
import selectors
import socket
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from math import inf
from threading import Thread
from time import monotonic
from typing import Any, NamedTuple, Protocol

from ..._bridge import start
from ..._workers import Job, in_daemon
from ...errors import BackendBusy
from ...events import logger
from ._channel import HEARTBEAT, Channel
from ._masters import Masters

_LOOK = 2.0  # seconds between two looks at which servers there are: a new one is not heard before
_PAUSES = 0.1, 3.0  # seconds before another try to connect: the longest at first, and later
_Selector: Any = getattr(selectors, "PollSelector", selectors.SelectSelector)


class Audience(Protocol):
    """Whom an ear tells what it hears; see `Tracker`."""

    def is_wanted(self) -> bool: ...
    def give_up(self) -> None: ...
    def prefixes(self) -> frozenset[str]: ...
    def tell(self, keys: list[str] | None) -> None: ...
    def tell_live(self, heard: frozenset[str]) -> None: ...
    def tell_lost(self) -> None: ...


class _Found(NamedTuple):
    """Which servers there are, the new connections to some, and why not to all."""

    names: set[str]
    opened: dict[str, Channel]
    error: Exception | None


class Ear:
    """Listens, from now on, on behalf of an audience."""

    def __init__(self, audience: Audience, masters: Masters) -> None:
        self._audience, self._masters = audience, masters
        self._channels: dict[str, Channel] = {}
        self._seeking: Job[_Found] | None = None
        self._seek_at, self._tries = 0.0, 0
        self._is_complete = False
        self._complained = False
        self._wakers = socket.socketpair()
        for waker in self._wakers:
            waker.setblocking(False)
        try:
            start(Thread(target=self._run, name="instructor_cache-tracking", daemon=True))
        except BaseException:
            self._close()
            raise

    def wake(self) -> None:
        """Have the thread look at what is wanted."""
        with suppress(OSError):  # it is awake already, or has ended
            self._wakers[1].send(b"!")

    def abandon(self) -> None:
        """Leave the connections to the parent, in the child of a fork, where no thread runs."""
        for channel in self._channels.values():
            channel.abandon()
        for waker in self._wakers:
            waker.close()

    def _run(self) -> None:
        try:
            while self._audience.is_wanted():
                self._seek()
                if self._is_complete:
                    heard = (channel.prefixes for channel in self._channels.values())
                    self._audience.tell_live(frozenset[str].intersection(*heard))
                self._wait(min([self._attend(name) for name in list(self._channels)], default=inf))
        except Exception:
            logger.exception("the thread that hears what changes in Redis has ended")
            self._audience.give_up()
        finally:
            self._close()

    def _close(self) -> None:
        if self._seeking is not None:
            self._seeking.add_done_callback(_close_late)
        for channel in self._channels.values():
            channel.close()
        for waker in self._wakers:
            waker.close()

    def _wait(self, seconds: float) -> None:
        """Wait until something comes or is to be done, *seconds* at most."""
        due = inf if self._seeking is not None else max(0.0, self._seek_at - monotonic())
        with _Selector() as selector:
            for thing in (self._wakers[0], *self._channels.values()):
                selector.register(thing, selectors.EVENT_READ)
            selector.select(min(seconds, due, HEARTBEAT))
        with suppress(BlockingIOError):
            self._wakers[0].recv(4096)

    # -- what is heard -------------------------------------------------------------------

    def _attend(self, name: str) -> float:
        """Tell what came from a server; give the seconds until it needs attention again."""
        channel = self._channels[name]
        try:
            self._hear(channel)
            if new := self._audience.prefixes() - channel.prefixes:
                channel.add(new)
                self._hear(channel)
                return 0.0  # those who asked for it are to be told
            return channel.check()
        except Exception as error:  # of any kind: it can't be trusted any more
            self._channels.pop(name).close()
            self._lose(error)
            return inf

    def _hear(self, channel: Channel) -> None:
        for keys in channel.heard():
            names = None if keys is None else [key.decode(errors="replace") for key in keys]
            self._audience.tell(names)

    def _lose(self, error: Exception) -> None:
        """Tell that something may have gone unheard, and see to it that it goes on soon."""
        self._is_complete = False
        first, longest = _PAUSES
        self._seek_at = monotonic() + random.uniform(0.0, min(longest, first * 2.0**self._tries))
        self._tries += 1
        self._audience.tell_lost()
        if not self._complained:
            self._complained = True
            logger.warning("Redis does not tell what changes: %s: %s", type(error).__name__, error)

    # -- connections ---------------------------------------------------------------------

    def _seek(self) -> None:
        """Have connections made where they are missing; elsewhere, for it may take long."""
        if self._seeking is None and monotonic() >= self._seek_at:
            work = partial(_find, self._masters, set(self._channels), self._audience.prefixes())
            try:
                self._seeking = in_daemon(work)
            except BackendBusy as error:  # no thread is to be had
                self._lose(error)
                return
            self._seeking.add_done_callback(lambda _: self.wake())
        elif self._seeking is not None and self._seeking.done():
            seeking, self._seeking = self._seeking, None
            self._take(seeking.result())

    def _take(self, found: _Found) -> None:
        for name in self._channels.keys() - found.names:  # its keys have moved to others
            self._channels.pop(name).close()
        self._channels.update(found.opened)
        if found.error is not None:
            self._lose(found.error)
            return
        if self._channels.keys() != found.names:  # one was lost meanwhile
            return
        if self._is_complete and found.opened:  # what moved there may have changed unheard
            self._audience.tell_lost()
        self._is_complete, self._tries = True, 0
        self._seek_at = monotonic() + _LOOK if self._masters.may_move else inf
        if self._complained:
            self._complained = False
            logger.warning("Redis tells what changes again")


def _find(masters: Masters, known: set[str], prefixes: frozenset[str]) -> _Found:
    """Open a channel to every server that is not known yet."""
    names, opened = set(known), dict[str, Channel]()
    try:
        makes = masters.find()
        names = set(makes)
        if not names:
            raise ConnectionError("found no server that takes writes")
        for name in makes.keys() - known:
            opened[name] = Channel(makes[name], prefixes)
    except Exception as error:
        return _Found(names, opened, error)
    return _Found(names, opened, None)


def _close_late(seeking: Future[_Found]) -> None:
    """Close the connections that came when nobody waited for them any more."""
    if not seeking.cancelled() and seeking.exception() is None:
        for channel in seeking.result().opened.values():
            channel.close()
