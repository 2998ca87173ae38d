"""Prints what each path costs beside the thing that it stands in for, as ratios of one run.

Two competitors take turns in one process, and the median of the ratios is shown: figures of a
noisy machine drift, their ratio hardly does. Run with ``make bench``.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import diskcache
import redis
import redis.asyncio
from pydantic import BaseModel
from rich.console import Console
from rich.table import Table

from instructor_cache import DiskCache, MemoryCache, RedisCache, SafeDisk, instructor_cache

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from redis_server import RedisServer

ROUNDS = 15
Row = tuple[str, str, float, float, float, str]


class User(BaseModel):
    name: str
    age: int = 0


def seconds_of(work: Callable[[], object], number: int) -> float:
    start = time.perf_counter()
    for _ in range(number):
        work()
    return (time.perf_counter() - start) / number


def compare(
    path: str, rival: str, ours: Callable[[], Any], theirs: Callable[[], Any], number: int, aim: str
) -> Row:
    """One row: both timed in turns, the ratio of each turn, the medians."""
    seconds_of(ours, number), seconds_of(theirs, number)
    turns = [(seconds_of(ours, number), seconds_of(theirs, number)) for _ in range(ROUNDS)]
    ratio = statistics.median(a / b for a, b in turns)
    a, b = (statistics.median(column) for column in zip(*turns, strict=True))
    return path, rival, a * 1e6, b * 1e6, ratio, aim


def extractor(backend: Any) -> Any:
    @instructor_cache(backend, ttl=3600)
    def extract(text: str) -> User:
        return User(name=text)

    return extract


def memory_rows() -> Iterator[Row]:
    extract = extractor(MemoryCache())
    shared = functools.lru_cache(extract.__wrapped__)
    extract("ada"), shared("ada")
    rival = "functools.lru_cache (one shared object)"
    yield compare(
        "memory hit", rival, lambda: extract("ada"), lambda: shared("ada"), 2000, "<= 20 x"
    )


def key_rows() -> Iterator[Row]:
    extract = extractor(MemoryCache())
    for size, number, aim in ((50, 2000, 2.3), (2_000, 1000, 1.4), (50_000, 100, 1.1)):
        text = "x" * size
        yield compare(
            f"key of a {size:,} B prompt",
            "SHA-256 of it",
            lambda text=text: extract.cache_key(text),
            lambda text=text: hashlib.sha256(text.encode()).hexdigest(),
            number,
            f"<= {aim} x",
        )


def disk_rows(folder: Path) -> Iterator[Row]:
    theirs = diskcache.Cache(folder / "theirs")
    extract = extractor(DiskCache(folder / "ours"))
    over = extractor(diskcache.Cache(folder / "over", disk=SafeDisk))
    theirs.set("key", User(name="ada").model_dump_json())
    extract("ada"), over("ada")

    def published() -> User:
        return User.model_validate_json(theirs.get("key"))

    rival = "diskcache.get + validate"
    yield compare("disk hit", rival, lambda: extract("ada"), published, 1000, "<= 1.0 x")
    yield compare("hit over diskcache", rival, lambda: over("ada"), published, 1000, "<= 1.35 x")
    yield from store_rows(DiskCache(folder / "stores"), theirs)


def store_rows(ours: DiskCache, theirs: diskcache.Cache) -> Iterator[Row]:
    value, numbers = b"x" * 500, iter(range(10**9))
    yield compare(
        "disk store, new key, 500 B",
        "diskcache.set",
        lambda: ours.set(f"key {next(numbers)}", value, None),
        lambda: theirs.set(f"key {next(numbers)}", value),
        200,
        "<= 0.5 x",
    )


def redis_rows(url: str) -> Iterator[Row]:
    client = redis.Redis.from_url(url)
    client.set("key", User(name="ada").model_dump_json())
    extract = extractor(RedisCache(url))
    extract("ada")

    def plain() -> User:
        return User.model_validate_json(client.get("key"))  # type: ignore[arg-type]

    rival = "redis-py GET + validate"
    yield compare("Redis hit, sync", rival, lambda: extract("ada"), plain, 300, "<= 1.2 x")


def async_rows() -> Iterator[Row]:
    @instructor_cache(MemoryCache(2_000))
    async def extract(text: str) -> User:
        return User(name=text)

    async def nothing(text: str) -> None: ...

    async def gather(func: Any) -> None:
        await asyncio.gather(*(func(str(n)) for n in range(1000)))

    with asyncio.Runner() if hasattr(asyncio, "Runner") else loop_runner() as runner:
        runner.run(gather(extract))
        yield compare(
            "async memory hits, gather of 1,000",
            "gather of 1,000 empty coroutines",
            lambda: runner.run(gather(extract)),
            lambda: runner.run(gather(nothing)),
            2,
            "",
        )


@contextmanager
def loop_runner() -> Iterator[Any]:
    """What asyncio.Runner does, for Python 3.10."""
    loop = asyncio.new_event_loop()
    loop.run = loop.run_until_complete  # type: ignore[attr-defined]
    yield loop
    loop.close()


def gather_rows(server: RedisServer) -> Iterator[Row]:
    """Concurrent reads of Redis, with the server on the client's core and then on another one."""
    assert server.process is not None
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    with asyncio.Runner() if hasattr(asyncio, "Runner") else loop_runner() as runner:
        for core in cores[:2] or [None]:
            if core is not None:
                os.sched_setaffinity(0, cores[:1])
                os.sched_setaffinity(server.process.pid, [core])
            label = "" if core is None else f", {1 + (core != cores[0])} cores"
            yield from read_rows(server.url, runner, label)
    if cores:
        os.sched_setaffinity(0, cores)
        os.sched_setaffinity(server.process.pid, cores)


def read_rows(url: str, runner: Any, label: str) -> Iterator[Row]:
    reads = Reads(url, runner)
    rival, path = "redis.asyncio, 50 at once", "1,000 Redis reads at once"
    yield compare(path + label, rival, *reads.gathers(reads.cache.aget, reads.plain), 1, "<= 0.2 x")
    gathers = reads.gathers(reads.extract, reads.validated)
    yield compare(f"{path}, decorated{label}", f"{rival} + validate", *gathers, 1, "<= 0.33 x")
    ours, theirs = reads.isolated(reads.cache.aget), reads.isolated(reads.client.get)
    yield compare(f"200 Redis reads in turn{label}", "redis.asyncio", ours, theirs, 1, "<= 1.1 x")
    reads.close()


class Reads:
    """Reads of 1,000 keys by a client of redis-py, and by ours."""

    def __init__(self, url: str, runner: Any) -> None:
        self.client, self.cache = redis.asyncio.Redis.from_url(url), RedisCache(url)
        self.extract: Any = instructor_cache(self.cache)(self._extract)
        self._run, self._gate = runner.run, asyncio.Semaphore(50)
        self._keys = [f"key {n}" for n in range(1000)]
        self._body = User(name="x" * 500).model_dump_json().encode()
        self._run(self.client.mset(dict.fromkeys(self._keys, self._body)))  # type: ignore[arg-type]
        self._run(self._gather(self.extract))

    def gathers(self, *funcs: Any) -> list[Callable[[], Any]]:
        return [lambda func=func: self._run(self._gather(func)) for func in funcs]

    def isolated(self, func: Any) -> Callable[[], Any]:
        async def read() -> None:
            for key in self._keys[:200]:
                await func(key)

        return lambda: self._run(read())

    def close(self) -> None:
        self._run(self.cache.aclose())
        self._run(self.client.connection_pool.disconnect())

    async def plain(self, key: str) -> Any:
        async with self._gate:
            return await self.client.get(key)

    async def validated(self, key: str) -> User:
        return User.model_validate_json(await self.plain(key))

    @staticmethod
    async def _extract(text: str) -> User:
        return User(name="x" * 500)

    async def _gather(self, func: Any) -> None:
        await asyncio.gather(*map(func, self._keys))


def import_rows() -> Iterator[Row]:
    def run(code: str) -> Callable[[], object]:
        return lambda: subprocess.run([sys.executable, "-c", code], check=True)

    ours = run("import instructor_cache")
    theirs = run("from pydantic import BaseModel, TypeAdapter; BaseModel.__name__")
    yield compare("import instructor_cache", "import pydantic", ours, theirs, 1, "+ 20 ms")


def main() -> None:
    """Measure every path and print the table."""
    table = Table(
        "path", "beside", "ours, us", "theirs, us", "ratio", "aim", title="Cost of a call"
    )
    with tempfile.TemporaryDirectory() as folder, RedisServer() as server:
        for rows in (
            *(memory_rows(), async_rows(), key_rows(), disk_rows(Path(folder))),
            *(redis_rows(server.url), gather_rows(server), import_rows()),
        ):
            for path, rival, ours, theirs, ratio, aim in rows:
                table.add_row(path, rival, f"{ours:,.2f}", f"{theirs:,.2f}", f"{ratio:.2f} x", aim)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
