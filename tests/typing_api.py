"""Never run: only checked. What a type checker must see through the decorators."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

from pydantic import BaseModel
from typing_extensions import assert_type

from instructor_cache import (
    AsyncInstructorCache,
    CacheInfo,
    Event,
    Explanation,
    MemoryCache,
    Miss,
    RedisCache,
    Tier,
    TieredCache,
    Transferred,
    atransfer,
    bypass,
    cache_client,
    instructor_cache,
    instructor_cache_redis,
    lru,
    min_seconds,
    not_truncated,
    offline,
    refresh,
    transfer,
    warm_cache,
)
from instructor_cache.protocols import AsyncBackend, Backend


class User(BaseModel):
    name: str
    age: int = 0


class Mine:
    def get(self, key: str, /) -> bytes | None:
        return None

    def set(self, key: str, value: bytes, ttl: float | None, /) -> None: ...
    def delete(self, key: str, /) -> None: ...


def observe(event: Event) -> None: ...


def in_modes() -> None:
    with offline(), bypass(), refresh():
        bare("a")


@instructor_cache(MemoryCache(), cache_if=(not_truncated, min_seconds(0.05), lambda _: True))
def judged(text: str) -> User:
    return User(name=text)


@instructor_cache
def bare(text: str) -> User:
    return User(name=text)


@instructor_cache()
def called(text: str) -> list[User] | None:
    return None


@instructor_cache(MemoryCache(), ttl="1h", prefix="app", ignore=("model",), observer=observe)
def extract(text: str, *, model: str = "gpt") -> User:
    return User(name=text)


@instructor_cache("redis://localhost", ttl=lambda user: user.age, cache_if=lambda user: True)
async def aextract(text: str) -> User:
    return User(name=text)


@lru(maxsize=10)
@instructor_cache(TieredCache(Mine(), Tier(RedisCache(), ttl=60), "disk://x"))
@instructor_cache_redis(ttl=3600)
def stacked(text: str) -> User:
    return User(name=text)


@lru
async def plain_lru(text: str) -> User:
    return User(name=text)


@AsyncInstructorCache().cache(ttl=60)
async def guide(text: str) -> User:
    return User(name=text)


class Extractor:
    @instructor_cache(MemoryCache())
    def extract(self, text: str) -> User:
        return User(name=text)

    @instructor_cache(MemoryCache())
    async def aextract(self, text: str) -> User:
        return User(name=text)


assert_type(bare("a"), User)
assert_type(called("a"), list[User] | None)
assert_type(extract("a", model="b"), User)
assert_type(stacked("a"), User)
assert_type(extract.cache_key("a", model="b"), str)
assert_type(extract.cache_get("a"), User | Miss)
assert_type(extract.cache_set(User(name="a"), "a"), None)
assert_type(extract.cache_contains("a"), bool)
assert_type(extract.cache_invalidate("a"), None)
assert_type(extract.cache_refresh("a"), User)
assert_type(extract.cache_map(["a"]), list[User])
assert_type(extract.cache_info(), CacheInfo)
assert_type(extract.cache_explain("a"), Explanation)
assert_type(warm_cache(extract, ["a"]), int)

function: Callable[[str], User] = bare
coroutine: Callable[[str], Coroutine[Any, Any, User]] = aextract
backend: Backend = MemoryCache()
both: AsyncBackend = RedisCache()

assert_type(Extractor().extract("a"), User)
assert_type(Extractor().extract(text="a"), User)
assert_type(Extractor.extract(Extractor(), "a"), User)
assert_type(Extractor.extract.cache_invalidate(Extractor(), "a"), None)
assert_type(transfer(Mine(), "disk://x", prefix="app", progress=print), Transferred)


async def main() -> None:
    assert_type(await atransfer(TieredCache(Mine()), Tier(RedisCache())), Transferred)
    assert_type(await aextract("a"), User)
    assert_type(await plain_lru("a"), User)
    assert_type(await guide("a"), User)
    assert_type(await aextract.cache_get("a"), User | Miss)
    assert_type(await aextract.cache_map(["a"]), list[User])
    assert_type(await Extractor().aextract("a"), User)
    await aextract.cache_clear()
    assert_type(aextract.cache_key("a"), str)
    assert_type(await warm_cache(aextract, ["a"]), int)


extract(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
extract("a", mode="x")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
extract.cache_invalidate()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
extract.cache_set(1, "a")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
Extractor().extract(txt="a")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
transfer(Mine(), 5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
instructor_cache(MemoryCache(), tll=1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
instructor_cache(MemoryCache(), ttl=[1])  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
instructor_cache(5)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]


# -- streams ---------------------------------------------------------------------------------


@instructor_cache
def stream(text: str) -> Iterator[User]:
    yield User(name=text)


@instructor_cache(MemoryCache(), ttl="1h")
async def stream_later(text: str) -> AsyncIterator[User]:
    yield User(name=text)


@lru
async def stream_bare(text: str) -> AsyncIterator[User]:
    yield User(name=text)


@instructor_cache
async def stream_coroutine(text: str) -> AsyncIterator[User]:
    return stream_bare(text)


class Streaming:
    @instructor_cache(MemoryCache())
    async def stream(self, text: str) -> AsyncIterator[User]:
        yield User(name=text)


assert_type(stream("a"), Iterator[User])
assert_type(stream.cache_get("a"), Iterator[User] | Miss)
assert_type(stream_later("a"), AsyncIterator[User])
assert_type(stream_bare("a"), AsyncIterator[User])
assert_type(Streaming().stream("a"), AsyncIterator[User])


async def streams() -> None:
    assert_type(await stream_later.cache_get("a"), AsyncIterator[User] | Miss)
    assert_type(await stream_later.cache_refresh("a"), AsyncIterator[User])
    await stream_later.cache_set([User(name="a")], "a")
    assert_type(await stream_coroutine("a"), AsyncIterator[User])
    async for user in stream_later("a"):
        assert_type(user, User)


class Client:
    """Stands for any client of instructor's: what goes in comes out."""


assert_type(cache_client(Client(), MemoryCache(), ttl="1h", namespace="team"), Client)
assert_type(MemoryCache().for_instructor(namespace="team", ttl=3600), dict[str, Any])
assert_type(RedisCache().for_instructor(), dict[str, Any])
