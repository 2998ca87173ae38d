"""The published guide's names work as the guide shows them."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from typing import Any

import pytest
from conftest import Colour
from pydantic import BaseModel

import instructor_cache as library
from instructor_cache import (
    AsyncInstructorCache,
    CacheMetrics,
    MemoryCache,
    calculate_cost_savings,
    instructor_cache,
    instructor_cache_redis,
    presets,
    smart_cache_key,
    warm_cache,
)


class UserV1(BaseModel):
    name: str


class UserV2(BaseModel):
    name: str
    email: str | None = None


def test_every_name_is_found():
    """All names of the guide are in `presets`, and all public names exist."""
    assert set(presets.__all__) < {*library.__all__}
    assert presets.CacheMetrics is CacheMetrics
    for name in library.__all__:
        assert getattr(library, name) is not None
    assert dir(library) == sorted(library.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = library.nothing  # type: ignore[attr-defined]


def test_all_names_without_the_extras():
    """``from instructor_cache import *`` works where nothing optional is installed."""
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['diskcache', 'instructor']))\n"
        "from instructor_cache import *; print(MemoryCache, 'SafeDisk' in globals())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.endswith("MemoryCache'> False\n"), done.stderr


@pytest.mark.parametrize("retry", [True, False])
def test_instructor_cache_redis(redis_url: str, prefix: str, retry: bool):
    """The Redis decorator takes ttl, prefix and retry_on_failure."""
    calls: list[str] = []

    @instructor_cache_redis(ttl=60, prefix=prefix, retry_on_failure=retry, url=redis_url)
    def extract(text: str) -> UserV1:
        calls.append(text)
        return UserV1(name=text)

    assert extract("a") == extract("a") == UserV1(name="a")
    assert calls == ["a"]
    assert extract.cache_parameters()["ttl"] == 60


def test_instructor_cache_redis_without_a_server():
    """With nothing listening, the function's own answers come back, fast."""

    @instructor_cache_redis(url="redis://127.0.0.1:1/0")
    def extract(text: str) -> UserV1:
        return UserV1(name=text)

    assert extract("a") == UserV1(name="a")


def test_async_instructor_cache(redis_url: str, prefix: str):
    """The class gives a decorator for coroutine functions that uses each function's own type."""
    calls: list[str] = []

    async def main() -> None:
        cache = AsyncInstructorCache(redis_url)

        @cache.cache(ttl=60, prefix=prefix)
        async def extract(text: str) -> UserV2:
            calls.append(text)
            return UserV2(name=text)

        assert await asyncio.gather(*(extract("a") for _ in range(5))) == [UserV2(name="a")] * 5
        await cache.aclose()

    asyncio.run(main())
    asyncio.run(main())
    assert calls == ["a"]


def test_smart_cache_key():
    """Stable, different for another schema and for other arguments, and typed."""
    key = smart_cache_key("extract", ("text",), {"n": 1}, UserV1)
    assert key == smart_cache_key("extract", ("text",), {"n": 1}, UserV1)
    name, schema, arguments = key.split(":")
    assert (name, len(schema), len(arguments)) == ("extract", 16, 32)
    others = [
        smart_cache_key("extract", ("text",), {"n": 1}, UserV2),
        smart_cache_key("extract", ("text",), {"n": "1"}, UserV1),
        smart_cache_key("other", ("text",), {"n": 1}, UserV1),
    ]
    assert len({key, *others}) == 4
    with pytest.raises(TypeError, match="object"):
        smart_cache_key("extract", (object(),), {}, UserV1)


def test_calculate_cost_savings():
    """The guide's own figures, and none divided by zero."""
    daily, percent = calculate_cost_savings(10_000, 0.7)
    assert (round(daily * 30, 2), round(percent, 1)) == (420.00, 70.0)
    assert calculate_cost_savings(0, 0.5) == (0.0, 0.0)
    assert calculate_cost_savings(10, 1.0, cost_per_call=2) == (20, 100)


@pytest.mark.parametrize("arguments", [(10, 1.5), (10, -0.1), (-1, 0.5), (1, 0.5, -1.0)])
def test_calculate_cost_savings_refuses_nonsense(arguments: Any):
    """A rate outside 0 to 1, or a negative number of calls or price, is told."""
    with pytest.raises(ValueError, match="found|must be from 0 to 1"):
        calculate_cost_savings(*arguments)


async def test_warm_cache(colour: Colour, caplog: pytest.LogCaptureFixture):
    """It fills the cache, counts what is there, and logs what failed instead of raising."""
    caplog.set_level(logging.INFO, "instructor_cache")
    calls: list[str] = []

    def body(text: str) -> UserV1:
        calls.append(text)
        if text == "bad":
            raise LookupError("no such thing")
        return UserV1(name=text)

    f = instructor_cache(MemoryCache())(colour.function(body))
    assert await colour.call(warm_cache, f, ["a", "b", "bad", ("a",)]) == 3
    assert "warmed the cache with 3 of 4" in caplog.text
    assert sorted(calls) == ["a", "b", "bad"]
    assert await colour.call(f.cache_contains, "a")
