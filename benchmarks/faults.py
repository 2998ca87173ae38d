"""Prints what a caller sees, and how long it takes, when what is behind the cache fails.

A cached function that answers at once is called while the fault is in force; what a call takes is
what the fault adds. Run with ``make faults``.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sqlite3
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from rich.console import Console
from rich.table import Table

from instructor_cache import DiskCache, Event, MemoryCache, RedisCache, instructor_cache
from instructor_cache.testing import FaultyBackend

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from proxy import Proxy
from redis_server import RedisServer

CALLS = 100
MODES = ("refuse", "blackhole", "slow", "drip", "reset", "half_close", "garbage", "cut", "stale")


class User(BaseModel):
    name: str


@dataclass
class Case:
    """A fault: the backend that meets it, and the time in which it is in force."""

    name: str
    backend: Callable[[], Any]
    fault: Callable[[], AbstractContextManager[Any]]


@dataclass
class Measured:
    """Seconds that calls took, and what was told."""

    first: float
    hundredth: float
    mean: float
    answers_are_right: bool
    told: str
    back_after: float | None


async def measure(case: Case, is_async: bool) -> Measured:
    """Call before, during and after the fault."""
    events: list[Event] = []
    cached = function(case.backend(), events, is_async)
    await timed(cached, "warm")
    events.clear()
    with case.fault():
        took = [await timed(cached, f"{n}" if n % 2 else "warm") for n in range(CALLS)]
    told = summary(events)
    rest = [seconds for seconds, _ in took[1:]]
    is_right = all(right for _, right in took)
    back = await back_again(cached, events)
    return Measured(took[0][0], rest[-1], statistics.mean(rest), is_right, told, back)


def function(backend: Any, events: list[Event], is_async: bool) -> Callable[[str], Any]:
    """A cached function that answers at once."""
    if is_async:

        @instructor_cache(backend, observer=events.append)
        async def ask(text: str) -> User:
            return User(name=text)

        return ask

    @instructor_cache(backend, observer=events.append)
    def extract(text: str) -> User:
        return User(name=text)

    return extract


async def timed(cached: Callable[[str], Any], text: str) -> tuple[float, bool]:
    start = time.perf_counter()
    outcome = cached(text)
    user = await outcome if isinstance(outcome, Coroutine) else outcome
    return time.perf_counter() - start, user == User(name=text)


async def back_again(cached: Callable[[str], Any], events: list[Event]) -> float | None:
    """Seconds from the end of the fault to the next hit."""
    start = time.perf_counter()
    while time.perf_counter() - start < 10:
        events.clear()
        await timed(cached, "after")
        if any(event.kind == "hit" for event in events):
            return time.perf_counter() - start
        await asyncio.sleep(0.01)
    return None


def summary(events: list[Event]) -> str:
    """The events that a fault caused, and the errors they name."""
    seen = {event.kind for event in events}
    kinds = [kind for kind in ("failure", "corrupt", "opened") if kind in seen]
    errors = dict.fromkeys(type(e.error).__name__ for e in events if e.error is not None)
    return f"{', '.join(kinds)}: {', '.join(errors)}" if kinds else "hits, misses"


# -- faults ------------------------------------------------------------------------------


def network(server: RedisServer) -> Iterator[Case]:
    """A proxy before a real server."""
    for mode in MODES:
        proxy = Proxy(server.port)
        proxy.__enter__()

        @contextmanager
        def fault(proxy: Proxy = proxy, mode: str = mode) -> Iterator[None]:
            proxy.mode = mode
            yield
            proxy.mode = "pass"

        yield Case(f"network: {mode}", lambda proxy=proxy: RedisCache(proxy.url), fault)


def servers(server: RedisServer) -> Iterator[Case]:
    """What happens to a server itself."""

    @contextmanager
    def stopped() -> Iterator[None]:
        assert server.process is not None
        os.kill(server.process.pid, signal.SIGSTOP)
        yield
        os.kill(server.process.pid, signal.SIGCONT)

    @contextmanager
    def killed() -> Iterator[None]:
        server.stop()
        yield
        server.start()

    yield Case("Redis: SIGSTOP", lambda: RedisCache(server.url), stopped)
    yield Case("Redis: kill -9, restarted", lambda: RedisCache(server.url), killed)


def disks(root: Path) -> Iterator[Case]:
    """What happens to a folder."""

    def case(name: str, fault: Callable[[Path], Any]) -> Case:
        folder = root / name.replace(" ", "-")
        return Case(f"disk: {name}", lambda: DiskCache(folder), lambda: fault(folder))

    @contextmanager
    def locked(folder: Path) -> Iterator[None]:
        other = sqlite3.connect(next(folder.rglob("*.sqlite3")), isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        yield
        other.close()

    @contextmanager
    def corrupt(folder: Path) -> Iterator[None]:
        next(folder.rglob("*.sqlite3")).write_bytes(b"no database" * 1000)
        yield

    @contextmanager
    def deleted(folder: Path) -> Iterator[None]:
        for path in folder.rglob("entries*"):
            path.unlink()
        yield

    yield case("locked by another process", locked)
    yield case("corrupt", corrupt)
    yield case("deleted while open", deleted)


def backends() -> Iterator[Case]:
    """A backend of the user's own."""
    for name, begin in {
        "raises": lambda faulty: faulty.failing(OSError("on fire")),
        "is silent": lambda faulty: faulty.silent(),
        "takes 0.1 s": lambda faulty: faulty.slow(0.1),
        "flips bits": lambda faulty: faulty.corrupt("flipped"),
        "tears writes": lambda faulty: faulty.torn(),
    }.items():
        faulty = FaultyBackend(MemoryCache())
        yield Case(
            f"own backend: {name}",
            lambda faulty=faulty: faulty,
            lambda faulty=faulty, begin=begin: begin(faulty),
        )


def main() -> None:
    logging.disable()
    warnings.simplefilter("ignore")
    table = Table("fault", "colour", "answers", "told", title="What a fault costs a call")
    for column in ("first", "hundredth", "mean of the others", "back after"):
        table.add_column(column, justify="right")
    with RedisServer() as server, tempfile.TemporaryDirectory() as root:
        for is_async in (False, True):
            folder = Path(root, "async" if is_async else "sync")
            for case in (*network(server), *servers(server), *disks(folder), *backends()):
                found = asyncio.run(measure(case, is_async))
                table.add_row(*row(case, is_async, found))
    Console(width=150).print(table)


def row(case: Case, is_async: bool, found: Measured) -> list[str]:
    times = [found.first, found.hundredth, found.mean]
    return [
        case.name,
        "async" if is_async else "sync",
        "right" if found.answers_are_right else "WRONG",
        found.told,
        *(f"{seconds * 1000:,.2f} ms" for seconds in times),
        "never" if found.back_after is None else f"{found.back_after:.2f} s",
    ]


if __name__ == "__main__":
    main()
