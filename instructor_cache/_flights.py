"""At most one call in flight for each key; later callers share its outcome."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from contextvars import ContextVar
from enum import Enum
from threading import RLock, get_ident
from time import monotonic
from typing import Any, Generic, TypeVar

from ._bridge import Wait, wait_blocking
from ._fork import renew_after_fork
from ._tagged import tags_of
from ._waits import Flight, waits

T = TypeVar("T")

_BRIEF = 0.05  # seconds: who comes so soon shares a call without asking what others forgot

_led: ContextVar[tuple[Flight[Any], ...]] = ContextVar("led", default=())


def led_by() -> tuple[Flight[Any], ...]:
    """Give the flights that the current call leads, itself or through its callers."""
    return _led.get()


def leads(flight: Flight[Any]) -> None:
    """Take note that what runs in this context from now on leads *flight*."""
    _led.set((*_led.get(), flight))


class LeaderGone(Exception):
    """The leader was cancelled or killed; a follower has to take over."""


class Changed(BaseException):
    """The arguments of a call are not those any more that its key was made of."""


class _Join(Enum):
    """What comes of joining a flight that brings nothing home."""

    AGAIN = "take its place"
    LATE = "take its place, or join who did, but only once"
    ALONE = "call, and share with nobody"


class Flights(Generic[T]):
    """The flights of one function, by key.

    Attributes:
        landed: How many have ended so far.
    """

    def __init__(self, wait: Wait, timeout: float = 60.0) -> None:
        self._wait = wait
        self._blocks = wait is wait_blocking
        self._timeout = timeout
        self.landed = 0
        self.renew()
        renew_after_fork(self, Flights[T].renew)

    async def share(
        self,
        key: str,
        lead: Callable[[Flight[T]], Awaitable[T]],
        alone: Callable[[], Awaitable[T]],
    ) -> tuple[T, bool]:
        """Give the outcome for *key* and whether this caller produced it.

        The first caller produces it with *lead*; those who come meanwhile, and before others
        forget it, wait and get the same outcome, exception included. If the leader is cancelled
        before he has it, or none has landed for *timeout* seconds, one of them leads. A call that
        would wait for itself, or has waited in vain twice, is produced with *alone*.
        """
        is_late = False
        while True:
            mine = Flight[T]()
            try:
                if (flight := self._board(key, mine)) is mine:
                    return await self._lead(key, mine, lead, _led.get()), True
            except BaseException:
                self._crash(key, mine)
                raise
            if await is_outdated(flight):
                self._give_up(key, flight)
                continue
            joined = await self._join(key, flight)
            if joined is _Join.ALONE or (is_late and joined is _Join.LATE):
                return await alone(), True
            is_late = joined is _Join.LATE
            if not isinstance(joined, _Join):
                return joined, False

    async def lead(self, key: str, lead: Callable[[Flight[T]], Awaitable[T]]) -> T | None:
        """Give the outcome for *key*, produced on nobody's behalf; None if somebody is at it."""
        mine = Flight[T]()
        try:
            leading = self._board(key, mine) is mine
            return await self._lead(key, mine, lead, ()) if leading else None
        except BaseException:
            self._crash(key, mine)
            raise

    def forget(self, prefix: str) -> None:
        """Let no flight be joined or kept any more whose key, or a tag of it, begins so."""
        with self._lock:
            for flight, key in list(self._under_way.items()):
                if any(name.startswith(prefix) for name in (key, *tags_of(key))):
                    flight.obsolete = True
                    self._open.pop(key, None)

    def aside(self, key: str) -> Flight[T]:
        """Give a flight that nobody joins, but that can be forgotten; it has to be landed."""
        flight = Flight[T]()
        with self._lock:
            self._under_way[flight] = key
        return flight

    async def _join(self, key: str, flight: Flight[T]) -> T | _Join:
        """The outcome of another caller's flight, or what to do without it."""
        led = _led.get()
        if self._blocks and flight.thread == get_ident():  # the leader is further up the stack
            return _Join.ALONE
        if not waits.begin(led, flight):
            return _Join.ALONE
        try:
            in_time = await self._wait(flight, self._timeout)
        finally:
            waits.end(led, flight)
        if not in_time:
            self._give_up(key, flight)
            return _Join.LATE
        if (error := flight.exception()) is None:
            return flight.result()
        if isinstance(error, LeaderGone):
            return _Join.AGAIN
        try:  # it is everybody's: start anew, and with the context it was raised in
            raise error.with_traceback(flight.failed_at)
        finally:  # not by its own __setattr__, which may refuse
            BaseException.__setattr__(error, "__context__", flight.failed_in)

    def _board(self, key: str, mine: Flight[T]) -> Flight[T]:
        """Give the flight to wait for; *mine* if there is none yet."""
        with self._lock:
            if (flight := self._open.get(key)) is not None:
                return flight
            self._under_way[mine] = key
            self._open[key] = mine
            return mine

    def _crash(self, key: str, flight: Flight[T]) -> None:
        """Land *flight* if it has not: an interrupt can come at any moment."""
        if not flight.done():
            self._end(key, flight, LeaderGone())

    def _give_up(self, key: str, flight: Flight[T]) -> None:
        """Let nobody else wait for *flight*, which may never land."""
        with self._lock:
            if self._open.get(key) is flight:
                del self._open[key]

    async def _lead(
        self,
        key: str,
        flight: Flight[T],
        lead: Callable[[Flight[T]], Awaitable[T]],
        others: tuple[Flight[Any], ...],
    ) -> T:
        token = _led.set((*others, flight))
        try:
            outcome = await lead(flight)
        except BaseException as error:
            flight.failed_at, flight.failed_in = error.__traceback__, error.__context__
            self._end(key, flight, error if isinstance(error, Exception) else LeaderGone())
            raise
        finally:
            with suppress(ValueError):  # a task destroyed with its loop has lost its context
                _led.reset(token)
        self.land(key, flight)
        flight.set_result(outcome)
        return outcome

    def _end(self, key: str, flight: Flight[T], error: Exception) -> None:
        """Land *flight* with *error*; one whose leader is gone, with what he has brought."""
        self.land(key, flight)
        if flight.brought is not None and isinstance(error, LeaderGone):
            flight.set_result(flight.brought)
        else:
            flight.set_exception(error)

    def land(self, key: str, flight: Flight[T]) -> None:
        """Take note that *flight* has ended."""
        with self._lock:
            self.landed += 1
            self._under_way.pop(flight, None)
            if self._open.get(key) is flight:
                del self._open[key]

    def renew(self) -> None:
        """Begin with no flight: in a forked child their leaders do not exist."""
        self._lock = RLock()  # a stream that nobody reads any more may end while it is held
        self._open: dict[str, Flight[T]] = {}
        self._under_way: dict[Flight[T], str] = {}


async def is_outdated(flight: Flight[Any]) -> bool:
    """Tell whether others forgot since it began what it will answer; not asked of a new one."""
    ask = flight.is_outdated
    return ask is not None and monotonic() - flight.began >= _BRIEF and await ask()
