"""Work that is waited for only so long, in either colour."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from ._bridge import Wait, carried, look_at, wait_async, wait_blocking
from ._workers import Workers

if TYPE_CHECKING:
    import asyncio

P = ParamSpec("P")
T = TypeVar("T")


class Clock:
    """The time that an operation has left, while it does not just wait for its turn."""

    def __init__(self) -> None:
        self.is_stopped = False
        self.resumed_at = 0.0

    def stop(self) -> None:
        self.is_stopped = True

    def resume(self) -> None:
        self.resumed_at, self.is_stopped = monotonic(), False

    def left(self, timeout: float, began: float) -> float:
        if self.is_stopped:
            return timeout
        return max(began, self.resumed_at) + timeout - monotonic()


class _Clocks(Clock):
    """The clocks of several operations that are carried out as one."""

    def __init__(self, clocks: Sequence[Clock]) -> None:
        self._clocks = clocks

    def stop(self) -> None:
        for clock in self._clocks:
            clock.stop()

    def resume(self) -> None:
        for clock in self._clocks:
            clock.resume()


_clock: ContextVar[Clock | None] = ContextVar("clock", default=None)


@contextmanager
def off_the_clock() -> Generator[None]:
    """Give a block in which the present operation's time does not run, and after which it begins.

    For waiting in line for something of our own, a connection for instance: that says nothing
    of the backend.
    """
    if (clock := _clock.get()) is None:
        yield
        return
    clock.stop()
    try:
        yield
    finally:
        clock.resume()


def stop_clock() -> Clock | None:
    """Stop the present operation's time until its clock is resumed; give that clock, if any."""
    if (clock := _clock.get()) is not None:
        clock.stop()
    return clock


def time_together(clocks: Sequence[Clock]) -> None:
    """Resume *clocks*; from now on what is off the clock in this context is off all of them."""
    if clocks:
        together = _Clocks(clocks)
        together.resume()
        _clock.set(together)


def in_workers(
    func: Callable[P, T], timeout: float, workers: Workers, *, for_async: bool
) -> Callable[P, Awaitable[T]]:
    """Give a blocking *func* a face that raises TimeoutError when a call takes too long.

    It goes on in its thread all the same: nothing can stop it.
    """
    wait: Wait = wait_async if for_async else wait_blocking

    async def call(*args: P.args, **kwargs: P.kwargs) -> T:
        with _timed() as clock:
            job = workers.submit(partial(carried(func), *args, **kwargs))
        try:
            while (left := clock.left(timeout, workers.began(job))) > 0:
                if await wait(job, left):
                    return _outcome(job)
        finally:
            job.cancel()  # does nothing once it has begun
        raise _too_late(timeout)

    return call


def in_time(func: Callable[P, Coroutine[Any, Any, T]], timeout: float) -> Callable[P, Awaitable[T]]:
    """Give a coroutine function a face that raises TimeoutError when a call takes too long.

    The call is cancelled then, but not waited for: it may refuse to end.
    """

    async def call(*args: P.args, **kwargs: P.kwargs) -> T:
        import asyncio

        with _timed() as clock:
            task, began = asyncio.ensure_future(func(*args, **kwargs)), monotonic()
        try:
            while (left := clock.left(timeout, began)) > 0:
                if await wait_async(task, left):
                    return _outcome(task)
        finally:
            if task.cancel():
                task.add_done_callback(look_at)
        raise _too_late(timeout)

    return call


@contextmanager
def _timed() -> Generator[Clock]:
    """What is started in this block finds its clock in its context."""
    clock = Clock()
    token = _clock.set(clock)
    try:
        yield clock
    finally:
        _clock.reset(token)


def _outcome(done: Future[T] | asyncio.Future[T]) -> T:
    """What the operation gave; not a cancellation, as nobody cancelled the caller."""
    try:
        return done.result()
    except BaseException as error:
        if type(error).__name__ == "CancelledError":
            raise ConnectionError("the backend cancelled its own operation") from error
        raise


def _too_late(timeout: float) -> TimeoutError:
    return TimeoutError(f"no answer within {timeout:g} s")
