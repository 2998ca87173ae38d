"""What a cache leaves behind after much use, or after it was closed: nothing."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from conftest import Colour
from pydantic import BaseModel

from instructor_cache import (
    DiskCache,
    Event,
    MemoryCache,
    RedisCache,
    TieredCache,
    instructor_cache,
)
from instructor_cache.testing import FaultyBackend


class User(BaseModel):
    name: str


class Boom(Exception):
    """The function's own failure."""


def engine_of(function: Any) -> Any:
    get = function.cache_get
    return getattr(get, "__wrapped__", get).__self__.engine


def reachable(root: Any) -> dict[str, int]:
    """The sizes of all containers that *root* leads to, by the classes on the way there."""
    sizes: dict[str, int] = {}
    seen: set[int] = set()
    pending: list[tuple[Any, str]] = [(root, type(root).__name__)]
    while pending:
        thing, path = pending.pop()
        if id(thing) in seen or isinstance(thing, (str, bytes, type, int, float)):
            continue
        seen.add(id(thing))
        if isinstance(thing, (Mapping, Sequence, AbstractSet)) or hasattr(thing, "popleft"):
            sizes[path] = sizes.get(path, 0) + len(thing)
            parts = [*thing.values()] if isinstance(thing, Mapping) else list(thing)
            pending += [(part, f"{path}[]") for part in parts]
        elif type(thing).__module__.startswith("instructor_cache"):
            names = [*getattr(thing, "__dict__", ()), *getattr(type(thing), "__slots__", ())]
            pending += [(getattr(thing, n), f"{path}.{n}") for n in names if hasattr(thing, n)]
        elif callable(thing) and getattr(thing, "__closure__", None):
            for cell in thing.__closure__:
                with suppress(ValueError):
                    pending.append((cell.cell_contents, f"{path}()"))
    return sizes


# -- much use --------------------------------------------------------------------------------


async def use(colour: Colour, function: Any, first: int, last: int) -> None:
    for n in range(first, last):
        with suppress(Boom):
            await colour.call(function, n)


def body(n: int) -> User:
    if n % 2:
        raise Boom
    return User(name=str(n))


@pytest.mark.parametrize("many", [3000, pytest.param(20_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "options",
    [{}, {"ttl": 3600, "stale_ttl": 3600, "jitter": 0.1, "refresh_ahead": 0.5}],
    ids=["plain", "all options"],
)
async def test_many_keys_leave_nothing_behind(
    colour: Colour, options: dict[str, Any], many: int
) -> None:
    """Thousands of keys that fail or succeed, through a cache of 100, leave the 100 and no more."""
    memory = MemoryCache(100)
    function = instructor_cache(memory, **options)(colour.function(body))
    await use(colour, function, 0, 1000)
    gc.collect()
    before, objects = reachable(engine_of(function)), len(gc.get_objects())
    await use(colour, function, 1000, 1000 + many)
    gc.collect()
    after = reachable(engine_of(function))
    waiting = [path for path in before if "._dues." in path]  # whose number is up to the jitter
    assert all(after.pop(path) <= before.pop(path) + 100 for path in waiting)
    assert after == before
    assert len(gc.get_objects()) - objects < 100
    assert len(memory) == 100
    assert any("Flights" in path or "flights" in path for path in before), before


@pytest.mark.parametrize("many", [1200, pytest.param(3000, marks=pytest.mark.slow)])
async def test_a_failing_backend_leaves_little_behind(colour: Colour, many: int) -> None:
    """What is remembered of a backend that is down is bounded, however many keys are asked for."""
    faulty = FaultyBackend(MemoryCache(100))
    function = instructor_cache(faulty)(colour.function(body))
    faulty.failing()
    await use(colour, function, 0, many)
    for n in range(many):
        await colour.call(function.cache_invalidate, n)
    gc.collect()
    objects = len(gc.get_objects())
    await use(colour, function, many, 2 * many)
    for n in range(many, 2 * many):
        await colour.call(function.cache_invalidate, n)
    gc.collect()
    after = reachable(engine_of(function))
    assert max(after.values()) <= 1000, after
    assert len(gc.get_objects()) - objects < 1100


async def test_functions_that_are_gone_leave_nothing_behind(colour: Colour) -> None:
    """Decorating, using and dropping a function many times over one backend frees it each time."""
    memory = MemoryCache(100)

    async def one() -> None:
        function = instructor_cache(memory)(colour.function(body))
        await use(colour, function, 0, 2)

    for _ in range(20):
        await one()
    gc.collect()
    objects = len(gc.get_objects())
    for _ in range(100):
        await one()
    gc.collect()
    assert len(gc.get_objects()) - objects < 300


# -- open, use, close ------------------------------------------------------------------------

KINDS = ["memory", "disk", "redis", "tiers", "faulty"]


@pytest.fixture
def make(tmp_path: Path, redis_url: str) -> Callable[[str], Any]:
    def make(kind: str) -> Any:
        if kind == "tiers":
            return TieredCache(make("memory"), make("disk"), make("redis"))
        if kind == "faulty":
            return FaultyBackend(make("disk"))
        makers: dict[str, Callable[[], Any]] = {
            "memory": MemoryCache,
            "disk": lambda: DiskCache(tmp_path / "store"),
            "redis": lambda: RedisCache(redis_url),
        }
        return makers[kind]()

    return make


def held() -> tuple[int, int]:
    """How many threads of this process there are, and open files and sockets."""
    return threading.active_count(), len(os.listdir("/proc/self/fd"))


async def close(backend: Any, is_async: bool) -> None:
    if is_async and hasattr(backend, "aclose"):
        await backend.aclose()
    if hasattr(backend, "close"):
        backend.close()


async def come_down_to(threads: int, files: int) -> None:
    """Wait until no more is held than that, as it must be soon."""
    deadline = time.monotonic() + 5
    while (now := held())[0] > threads or now[1] > files:
        assert time.monotonic() < deadline, f"held {(threads, files)}, then {now}"
        await asyncio.sleep(0.02)  # for threads that linger


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="the system does not tell")
@pytest.mark.parametrize(
    ("kind", "times"),
    [
        *((kind, 60) for kind in ("memory", "disk", "redis")),
        *(pytest.param(kind, 120, marks=pytest.mark.slow) for kind in KINDS),
    ],
)
async def test_open_use_close_leaves_nothing(
    colour: Colour, make: Callable[[str], Any], prefix: str, kind: str, times: int
) -> None:
    """60 times, or 120: no thread, file, socket or task stays, nor anything that grows."""

    async def once(n: int) -> None:
        backend = make(kind)
        function = instructor_cache(backend, prefix=prefix)(colour.function(body))
        assert (await colour.call(function, 2 * n)).name == str(2 * n)
        assert (await colour.call(function, 2 * n)).name == str(2 * n)
        await close(backend, colour.is_async)

    for n in range(5):
        await once(n)
    gc.collect()
    before = held()
    objects = len(gc.get_objects())
    for n in range(times):
        await once(n)
        if n % 20 == 0:
            assert held()[1] <= before[1] + 40, "files stay open"
    await come_down_to(*before)
    gc.collect()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert len(gc.get_objects()) - objects < 400 + 3 * times  # one use that stays has 150


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="the system does not tell")
@pytest.mark.parametrize("kind", ["redis", "tiers"])
def test_loops_that_end_take_their_connections_with_them(
    make: Callable[[str], Any], prefix: str, kind: str
) -> None:
    """One backend in 100 event loops, one after the other, holds nothing of those that ended."""
    backend = make(kind)
    function: Any = instructor_cache(backend, prefix=prefix)(Colour("async").function(body))
    for _ in range(3):
        asyncio.run(function(2))
    gc.collect()
    threads, files = held()
    for _ in range(100):
        assert asyncio.run(function(2)).name == "2"
    gc.collect()
    asyncio.run(come_down_to(threads, files + 3))  # those of this last loop
    backend.close()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_closed_backend_answers_by_calling(
    colour: Colour, make: Callable[[str], Any], prefix: str, kind: str
) -> None:
    """Closing twice is fine; after it every call is the function's own, without an error."""
    events: list[Event] = []
    backend = make(kind)
    function: Any = instructor_cache(backend, prefix=prefix, observer=events.append)(
        colour.function(body)
    )
    await colour.call(function, 2)
    for _ in range(2):
        await close(backend, colour.is_async)
    for _ in range(3):
        assert (await colour.call(function, 2)).name == "2"
        with pytest.raises(Boom):
            await colour.call(function, 1)
    assert await colour.call(function.cache_contains, 2) in (False, kind == "memory")
    await colour.call(function.cache_invalidate, 2)
    await colour.call(function.cache_clear)
    assert "opened" not in {event.kind for event in events}
    if kind != "memory":
        assert not [event for event in events[3:] if event.kind == "hit"]
