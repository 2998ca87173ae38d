"""Many calls at once: in threads or as tasks, with their answers in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Any

from ._memo import Args, Kwargs
from ._workers import Job


def map_in_threads(
    call: Callable[..., Any],
    calls: Iterable[Any],
    *,
    concurrency: int = 8,
    return_exceptions: bool = False,
) -> list[Any]:
    """Answer *calls* in threads; see `Cached.cache_map`."""
    from concurrent.futures import ThreadPoolExecutor

    # Each in the caller's context: a call that leads to itself is seen there.
    jobs = [Job(partial(call, *args, **kwargs)) for args, kwargs in map(_arguments, calls)]
    left = deque(jobs)

    def work() -> None:
        with suppress(IndexError):
            while True:
                left.popleft().run()

    with ThreadPoolExecutor(_at_least_one(concurrency)) as pool, suppress(RuntimeError):
        for _ in jobs[:concurrency]:
            pool.submit(work)
    work()  # what is left, as no thread was to be had
    return [_outcome(job, return_exceptions) for job in jobs]


async def map_in_tasks(
    call: Callable[..., Awaitable[Any]],
    calls: Iterable[Any],
    *,
    concurrency: int = 8,
    return_exceptions: bool = False,
) -> list[Any]:
    """Answer *calls* as tasks; see `Cached.cache_map`."""
    import asyncio

    gate = asyncio.Semaphore(_at_least_one(concurrency))

    async def one(args: Args, kwargs: Kwargs) -> Any:
        async with gate:
            return await call(*args, **kwargs)

    jobs = [asyncio.ensure_future(one(*_arguments(each))) for each in calls]
    try:
        if jobs:
            await asyncio.wait(jobs)
    finally:
        for job in jobs:
            job.cancel()  # only where we were cancelled: otherwise all have ended
    return [_outcome(job, return_exceptions) for job in jobs]


def _outcome(job: Any, return_exceptions: bool) -> Any:
    error = job.exception() if return_exceptions else None
    return job.result() if error is None else error


def _arguments(call: Any) -> tuple[Args, Kwargs]:
    kind: Any = call.__class__  # exactly: a named tuple is one argument
    if kind is dict:
        return (), call
    return (call if kind is tuple else (call,)), {}


def _at_least_one(concurrency: int) -> int:
    if concurrency < 1:
        raise ValueError(f"concurrency is {concurrency}; it must be 1 or more")
    return concurrency
