"""Connections are few: callers take turns, first come first served, and each gets its own reply.

All is written once, as coroutines. The links of threads never suspend; those of an event loop do.
Waiting has a limit, and ends at once when the server turns out to be dead.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from threading import Lock
from typing import Any, TypeVar

import redis
from redis.exceptions import AuthenticationError, AuthorizationError, BusyLoadingError
from typing_extensions import Self

from .._bridge import wait_blocking
from .._deadlines import off_the_clock
from ..errors import BackendBusy, BackendClosed
from ._redis_commands import Commands, checked
from ._redis_settings import Settings

_ANSWERS = (AuthenticationError, AuthorizationError, BusyLoadingError)  # of a server that lives

T = TypeVar("T")
Turn = Any  # a future of concurrent.futures or of asyncio; its result is a link or an error


class Link:
    """What one caller at a time can send commands with."""

    @abstractmethod
    async def ask(self, args: tuple[Any, ...], again: bool, node: str) -> Any:
        """Give the reply to the command *args*."""

    async def masters(self) -> list[Settings]:
        """Give how to reach each server that takes writes now."""
        return []

    def drop(self) -> None:
        """Close it; it may still be used again."""


class Limit:
    """A context that what is sent in it must not outlast."""

    @abstractmethod
    def left(self) -> float:
        """Give the seconds that are left."""

    @abstractmethod
    def __enter__(self) -> Self: ...

    @abstractmethod
    def __exit__(self, kind: object, error: BaseException | None, tb: object) -> None: ...


class Connection(Link):
    """A link of our own to one server, connected anew whenever it can't be trusted any more."""

    settings: Settings

    async def masters(self) -> list[Settings]:
        return [self.settings]

    @abstractmethod
    def under(self, limit: Limit) -> None:
        """Let all that follows end within *limit*."""

    async def send(self, args: tuple[Any, ...], again: bool) -> Any:
        """Give the reply to the command *args*, within the limit."""
        try:
            if self.is_open():
                try:
                    return await self.exchange(args)
                except redis.ConnectionError as error:  # it may have gone stale unseen
                    if not (again and self.settings.retries) or isinstance(error, _ANSWERS):
                        raise
            await self.open()
            return await self.exchange(args)
        except redis.ResponseError:  # an answer like any other
            raise
        except BaseException:  # what comes now is no answer to the next
            self.drop()
            raise

    async def post(self, commands: Sequence[tuple[Any, ...]]) -> None:
        """Send *commands* without waiting for replies; `fetch` each of them, or drop the link."""
        try:
            if not self.is_open():
                await self.open()
            await self.write(commands)
        except BaseException:
            self.drop()
            raise

    async def fetch(self, args: tuple[Any, ...]) -> Any:
        """Give the next reply, which is to *args*, or the server's error."""
        try:
            return checked(args, await self.read())
        except redis.ResponseError as error:
            return error
        except BaseException:
            self.drop()
            raise

    @abstractmethod
    def is_open(self) -> bool:
        """Whether it is connected, and nothing came that nobody asked for: its end, or bytes."""

    @abstractmethod
    async def open(self) -> None: ...

    @abstractmethod
    async def exchange(self, args: tuple[Any, ...]) -> Any: ...

    @abstractmethod
    async def write(self, commands: Sequence[tuple[Any, ...]]) -> None: ...

    @abstractmethod
    async def read(self) -> Any: ...


class Links(Commands):
    """Hands out at most *size* links, each to one caller at a time, who waits *patience* seconds.

    These are for threads.
    """

    def __init__(self, make: Callable[[], Link], size: int, patience: float) -> None:
        self._make, self._size, self._patience = make, size, patience
        self._new_turn: Callable[[], Turn] = Future
        self._closed = False
        self._answers = 0  # which the server gave, to anybody
        self.begin_anew()

    def begin_anew(self) -> None:
        """Begin without any links, as the child of a fork has to."""
        self._lock = Lock()
        self._free: list[Link] = []
        self._all: set[Link] = set()
        self._queue: deque[Turn] = deque()

    async def command(self, *args: Any, again: bool = True, node: str = "") -> Any:
        return await self.use(lambda link: link.ask(args, again, node))

    async def masters(self) -> list[Settings]:
        """Give how to reach each server that takes writes now: one, or the masters of a cluster.

        They are asked for where they may change. A ready client's are not known: there are none.
        """
        return await self.use(lambda link: link.masters())

    async def use(self, work: Callable[[Any], Awaitable[T]]) -> T:
        """Do *work* with a link, when it is the caller's turn."""
        link = await self._take()
        answers = self._answers
        try:
            reply = await work(link)
            self._answers += 1
            return reply
        except redis.TimeoutError:
            if answers == self._answers:  # nobody had one: those who wait would wait in vain
                silent = "Timeout waiting for a connection: the server answers nobody"
                self._dismiss(lambda: redis.TimeoutError(silent))
            raise
        finally:
            self._give(link)

    def close(self) -> None:
        """Let nobody in any more; close what is idle now, and the rest after its command."""
        self._closed = True
        self._dismiss(closed_error)
        with self._lock:
            idle, self._free = self._free, []
        for link in idle:
            link.drop()

    async def _take(self) -> Link:
        """Give a link, the one last used if possible, when it is the caller's turn."""
        with self._lock:
            if self._closed:
                raise closed_error()
            if self._free:
                return self._free.pop()
            if len(self._all) < self._size:
                self._all.add(link := self._make())
                return link
            self._queue.append(turn := self._new_turn())
        try:
            with off_the_clock():
                await self._wait(turn)
        except BaseException:
            if not turn.cancelled() and isinstance(link := self._outcome(turn), Link):
                self._give(link)  # it came in that very moment
            raise
        if isinstance(outcome := self._outcome(turn), Exception):
            raise outcome
        return outcome  # type: ignore[no-any-return]

    async def _wait(self, turn: Turn) -> None:
        await wait_blocking(turn, self._patience)

    def _outcome(self, turn: Turn) -> Any:
        """End the wait of *turn*; give its link, or the error if none has come."""
        with self._lock:
            if not turn.done():
                turn.set_result(None)
        return turn.result() or busy_error(self._patience)

    def _give(self, link: Link) -> None:
        """Take *link* back, for the next in line."""
        with self._lock:
            if link in self._all and not self._closed:
                while self._queue:
                    turn = self._queue.popleft()
                    if not turn.done():
                        turn.set_result(link)
                        return
                self._free.append(link)
                return
        link.drop()

    def _dismiss(self, error: Callable[[], Exception]) -> None:
        """Send away all who wait, each with an error of his own."""
        with self._lock:
            while self._queue:
                turn = self._queue.popleft()
                if not turn.done():
                    turn.set_result(error())


def busy_error(seconds: float) -> BackendBusy:
    """The error of a caller whose turn didn't come."""
    return BackendBusy(
        f"found all connections in use for {seconds:g} seconds; "
        f"wanted a free one: raise max_connections, or lower the number of callers at once"
    )


def closed_error() -> BackendClosed:
    """The error of every use after `close`."""
    return BackendClosed("found a RedisCache that was closed; wanted an open one: make a new one")
