"""A stream under way: what it gave so far, for all who listen, each at his own pace.

The policy runs as the coroutine it always is, and stands still whenever there is an item that
nobody has asked further than. Who abandons a stream disturbs nobody; when the last listener leaves,
it is closed where it stands, and nothing is stored.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from contextvars import Context, copy_context
from math import inf
from threading import TIMEOUT_MAX, Lock, get_ident
from time import perf_counter
from typing import Any

from typing_extensions import override

from ._bridge import drive_on
from ._flights import leads, led_by
from ._waits import Flight, waits
from .codecs import Item, Passed

END: Any = object()


class Gone(Exception):
    """The stream ended without an end of its own: its leader was killed, or it gave no item."""


class Alone(Exception):
    """This listener would wait for himself, or has waited for too long."""


class Live(ABC):
    """One stream, shared.

    Attributes:
        items: What it gave so far.
        since: What had been forgotten when it began, as `Forgotten` counts.
        listeners: How many are interested in what comes; one from the beginning.
        has_ended: Whether nothing will come any more.
        answer: What the policy gave where nothing passed: a stored answer, to be iterated over.
        failure: What the function raised, even where the policy has a stale answer for that.
        is_gone: Whether it was given up, or its reader killed.
        waited: Seconds in which nobody asked for more.
        flight: Stands for it where it is asked who waits for whom, and what others forgot.
        is_whole: Whether all of it has to come before it is given, for who does not wait for items.

    Args:
        run: The policy, which calls `give` for every item.
        timeout: Seconds that a listener waits for another one, or for one item.
    """

    def __init__(
        self, run: Callable[[Live], Coroutine[Any, Any, Any]], since: int, timeout: float
    ) -> None:
        self.items: list[Item] = []
        self.since, self.listeners, self.has_ended = since, 1, False
        self.answer: Any = None
        self.failure: Exception | None = None
        self.is_gone = False
        self.waited = 0.0
        self.is_whole = False
        self._error: BaseException | None = None
        self.flight = Flight[Any]()
        self._run, self._timeout = run, timeout
        self._coroutine: Coroutine[Any, Any, Any] | None = None
        self._context: Context = copy_context()
        self._context.run(leads, self.flight)

    @contextmanager
    def listened_to(self) -> Generator[None]:
        """Have it known that who leads this context waits for the stream while the block runs.

        Raises Alone if the stream waits for him.
        """
        led = led_by()
        if not waits.begin(led, self.flight):
            raise Alone
        try:
            yield
        finally:
            waits.end(led, self.flight)

    async def reach(self, n: int, *, leads: bool) -> bool:
        """Tell whether there is an item *n*, when that is known.

        Who had the stream begun waits for as long as it takes. Raises what the function raised,
        Gone, and Alone.
        """
        while n >= len(self.items) and not self.has_ended:
            await self._advance(n, inf if leads else self._timeout)
        if n < len(self.items) and not (self._is_cut and n == 0):  # rather none than some
            return True
        if self._error is not None and (leads or not self._is_cut):
            raise self._error.with_traceback(self.flight.failed_at)
        if self._is_cut or not (leads or self.answer is None):
            raise Gone
        return False

    @property
    def _is_cut(self) -> bool:
        """Whether it ended neither by itself nor by an error of the function."""
        is_killed = self._error is not None and not isinstance(self._error, Exception)
        return self.is_gone or is_killed

    @abstractmethod
    async def give(self, item: Item) -> None:
        """Hand *item* to the listeners, and wait until one of them asks for more."""

    @abstractmethod
    async def _advance(self, n: int, timeout: float) -> None:
        """Wait for item *n*, or the end."""

    async def close(self) -> None:
        """Give the stream up where it stands."""
        self.is_gone = self.has_ended = True
        await self._close()

    @abstractmethod
    async def _close(self) -> None: ...

    @property
    def is_alive(self) -> bool:
        """Whether what it runs in is still there."""
        return True

    @abstractmethod
    def check_uncut(self) -> None:
        """Raise if the stream was cut off, whatever its source makes of that."""

    def _end(self, answer: Any = None, error: BaseException | None = None) -> None:
        if isinstance(answer, Passed):
            self.items = answer.items  # another call's, where this one could join it
        else:
            self.answer = answer
            error = error or (self.failure if self.items else None)  # too late for another answer
        if error is not None:
            self._error, self.flight.failed_at = error, error.__traceback__
        self.has_ended = True


class _Handover:
    """Suspends the coroutine that awaits it."""

    def __await__(self) -> Generator[None]:
        yield


class SyncLive(Live):
    """Runs on the stacks of its listeners: whoever needs the next item takes the turn.

    So its source is run by one thread after another.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._turn = Lock()
        self._whose = 0  # the thread that has it

    @override
    async def give(self, item: Item) -> None:
        self.items.append(item)
        start = perf_counter()
        await _Handover()
        self.waited += perf_counter() - start

    @override
    async def _advance(self, n: int, timeout: float) -> None:
        if self._whose == get_ident():  # further up on this stack: he waits for us
            raise Alone
        if not self._turn.acquire(timeout=min(timeout, TIMEOUT_MAX)):
            raise Alone
        try:
            self._whose = get_ident()
            if n >= len(self.items) and not self.has_ended:
                self._step()
        finally:
            self._whose = 0
            self._turn.release()

    @override
    def check_uncut(self) -> None:
        """It was not, or this would not run: no source can keep a GeneratorExit from us."""

    def _step(self) -> None:
        """Run to the next item, or to the end."""
        try:
            self._coroutine = self._coroutine or self._run(self)
            has_ended, answer = self._context.run(drive_on, self._coroutine)
        except Exception as error:
            self._end(error=error)
        except BaseException:  # an interrupt is his whose turn it is
            self.is_gone = self.has_ended = True
            raise
        else:
            if has_ended:
                self._end(answer)

    @override
    async def _close(self) -> None:
        with self._turn:
            if self._coroutine is not None:
                self._context.run(self._coroutine.close)
