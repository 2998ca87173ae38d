"""The whole difference between the two colours of function, sync and async.

The policy is written once, as coroutines. For an async caller they run as usual. For a sync
caller every leaf is wrapped with `inline`, so nothing ever suspends, and `drive` runs the whole
coroutine to its end on the caller's own stack: no event loop, no thread.

asyncio is imported where it is used: whoever is async has it already, the others save 20 ms.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as TimedOut
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from threading import TIMEOUT_MAX, Thread
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

if TYPE_CHECKING:
    import asyncio

_MOMENT = 0.1  # seconds that who was cancelled waits for what must not be lost
_HELD_UP = 0.01  # seconds that a timer may be late on a loop that is not blocked

P = ParamSpec("P")
T = TypeVar("T")


class _Stopped(Exception):
    """Carries a StopIteration out of a coroutine, which it could not leave by itself."""


def drive(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never suspends, right here, and give its result."""
    has_ended, result = drive_on(coroutine)
    if not has_ended:
        coroutine.close()
        raise RuntimeError("a sync call must not suspend: one of its leaves is not inline")
    return cast("T", result)


def drive_on(coroutine: Coroutine[Any, Any, T]) -> tuple[bool, T | None]:
    """Run a coroutine to where it suspends, or to its end; tell which, and give its result."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return True, done.value
    except _Stopped as stopped:
        raise stopped.args[0] from None
    return False, None


def inline(func: Callable[P, T]) -> Callable[P, Awaitable[T]]:
    """Give a sync function an async face that never suspends."""

    async def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return func(*args, **kwargs)
        except StopIteration as error:
            raise _Stopped(error) from None

    return call


def carried(func: Callable[P, T]) -> Callable[P, T]:
    """Give *func* in a form whose StopIteration a future can hold."""

    def work(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return func(*args, **kwargs)
        except StopIteration as error:
            raise _Stopped(error) from error

    return work


def threaded(func: Callable[P, T]) -> Callable[P, Awaitable[T]]:
    """Give a blocking function an async face by running it in a worker thread."""

    async def call(*args: P.args, **kwargs: P.kwargs) -> T:
        import asyncio

        return await asyncio.to_thread(carried(func), *args, **kwargs)

    return call


Wait = Callable[[Any, float], Awaitable[bool]]


async def wait_blocking(future: Future[Any], seconds: float) -> bool:
    """Wait for *future* on the caller's thread; tell whether it was done in time."""
    try:
        future.exception(min(seconds, TIMEOUT_MAX))
    except TimedOut:
        return future.done()
    except CancelledError:
        return True
    return True


async def wait_async(future: Future[Any] | asyncio.Future[Any], seconds: float) -> bool:
    """Wait for *future* on the running loop; being cancelled leaves it untouched.

    The time that the loop itself was held up is given back, once: it isn't the future's fault.
    """
    import asyncio

    waiting = asyncio.wrap_future(future)
    if waiting is not future:
        waiting.add_done_callback(look_at)  # its outcome is told elsewhere
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    done, _ = await asyncio.wait({waiting}, timeout=seconds)
    if not done and (held_up := loop.time() - deadline) > _HELD_UP:
        done, _ = await asyncio.wait({waiting}, timeout=min(held_up, seconds))
    return bool(done)


def look_at(done: asyncio.Future[Any]) -> None:
    """Take note of an outcome that is nobody's business, or it would be reported as missed."""
    if not done.cancelled():
        done.exception()


Work = Callable[[], Coroutine[Any, Any, Any]]
Spawn = Callable[[Work], Callable[[], bool]]


def spawn_thread(work: Work) -> Callable[[], bool]:
    """Have *work* done in a thread that nobody waits for; tells, when asked, if it was lost."""
    run = copy_context().run
    thread = Thread(target=run, args=(lambda: drive(work()),), name="instructor_cache", daemon=True)
    start(thread)
    return lambda: not thread.is_alive()


def start(thread: Thread) -> None:
    """Start *thread*; raise RuntimeError when the interpreter ends, where it would never begin."""
    if sys.is_finalizing():
        raise RuntimeError("can't start a thread while the interpreter ends")
    thread.start()


def spawn_task(work: Work) -> Callable[[], bool]:
    """Have *work* done in a task that nobody waits for; tells, when asked, if it was lost."""
    import asyncio

    for lost in [task for task in _tasks.copy() if task.get_loop().is_closed()]:
        _tasks.discard(lost)
    task = asyncio.get_running_loop().create_task(work())
    _tasks.add(task)  # the loop itself keeps only weak references
    task.add_done_callback(_tasks.discard)
    return lambda: task.done() or task.get_loop().is_closed()


async def to_its_end(work: Work, at_most: float | None = None) -> None:
    """Do *work*, to its end even if the caller is cancelled, or has waited *at_most* seconds."""
    import asyncio

    task = asyncio.ensure_future(work())
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)
    task.add_done_callback(look_at)
    done, _ = await asyncio.wait({task}, timeout=at_most)
    for each in done:
        each.result()


async def right_here(work: Work, at_most: float | None = None) -> None:
    """Do *work* on the caller's stack, however long it takes."""
    await work()


async def sleep_async(seconds: float) -> None:
    import asyncio

    await asyncio.sleep(seconds)


def _nothing() -> None:
    pass


@dataclass(frozen=True, slots=True)
class Colour:
    """What waiting means for callers of one colour."""

    wait: Wait
    sleep: Callable[[float], Awaitable[None]]
    spawn: Spawn
    finish: Callable[..., Awaitable[None]]

    async def insist(
        self, work: Callable[[], Coroutine[Any, Any, T]], then: Callable[[], object] = _nothing
    ) -> T:
        """Give what *work* does, and do *then*; what is interrupted is done again, to its end.

        Who is cancelled waits for that a moment, for the event loop may be about to end; if it
        takes longer, it goes on without him.
        """
        try:
            outcome = await work()
        except (Exception, GeneratorExit):  # a failure; or the event loop is gone already
            then()
            raise
        except BaseException:
            with suppress(Exception):
                await self.finish(partial(_both, work, then), _MOMENT)
            raise
        then()
        return outcome


async def _both(work: Work, then: Callable[[], object]) -> None:
    try:
        await work()
    finally:
        then()


_tasks: set[Any] = set()
SYNC = Colour(wait_blocking, inline(time.sleep), spawn_thread, right_here)
ASYNC = Colour(wait_async, sleep_async, spawn_task, to_its_end)
