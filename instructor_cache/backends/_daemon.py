"""A call in a thread of its own, for which nobody has to wait to the end."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from threading import Thread
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")


def in_daemon(func: Callable[[], T]) -> Future[T]:
    """Start *func* in a daemon thread; give its outcome to come.

    Unlike those of executors, these threads never hold up the end of the process or of a loop.
    """
    outcome: Future[T] = Future()

    def work() -> None:
        try:
            result = func()
        except BaseException as error:
            outcome.set_exception(error)
        else:
            outcome.set_result(result)

    outcome.set_running_or_notify_cancel()
    Thread(target=work, name="instructor_cache", daemon=True).start()
    return outcome


def off_loop(func: Callable[[], T]) -> asyncio.Future[T]:
    """Do the same for the running loop; cancelling the future leaves the thread alone."""
    import asyncio

    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[T] = loop.create_future()

    def hand_over(done: Future[T]) -> None:
        if outcome.done():
            return
        if (error := done.exception()) is not None:
            outcome.set_exception(error)
        else:
            outcome.set_result(done.result())

    def tell(done: Future[Any]) -> None:
        with suppress(RuntimeError):  # the loop is closed, nobody wants to know any more
            loop.call_soon_threadsafe(hand_over, done)

    in_daemon(func).add_done_callback(tell)
    return outcome
