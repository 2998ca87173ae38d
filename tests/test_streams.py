"""Streams: live on a miss, whole and at once on a hit, never half, and one call for all."""

from __future__ import annotations

import asyncio
import gc
import inspect
import itertools
import random
import sys
import threading
import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Generator,
    Iterable,
    Iterator,
)
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any, TypeVar

import instructor
import pytest
from conftest import Colour, engine_of, timed
from pydantic import BaseModel, SecretStr, field_validator
from typing_extensions import TypeAliasType

from instructor_cache import (
    MISS,
    CacheMiss,
    DiskCache,
    Event,
    InstructorCacheWarning,
    MemoryCache,
    RedisCache,
    StreamInterrupted,
    TieredCache,
    UnkeyableArgumentWarning,
    UnstorableResultWarning,
    instructor_cache,
    lru,
    not_truncated,
    offline,
)
from instructor_cache.testing import FaultyBackend


class Item(BaseModel):
    n: int
    of: str = ""


class Source:
    """A stream of items; counts its calls, the items that were asked for, and its ends."""

    def __init__(self, length: int = 4) -> None:
        self.length, self.calls, self.passed, self.closed = length, 0, 0, 0
        self.before: Callable[[int], object] = lambda n: None

    def __call__(self, of: str = "") -> Iterator[Item]:
        self.calls += 1
        try:
            for n in range(self.length):
                self.before(n)
                self.passed += 1
                yield Item(n=n, of=of)
        finally:
            self.closed += 1


@pytest.fixture
def source() -> Source:
    return Source()


class Kind:
    """Decorates a stream function of one kind, and reads what it gives."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_async = name in ("async generator", "async iterator", "coroutine")

    def function(self, source: Any) -> Callable[..., Any]:
        return getattr(self, f"_{self.name.replace(' ', '_')}")(source)

    def _generator(self, source: Source) -> Callable[..., Any]:
        def ask(of: str) -> Iterator[Item]:
            yield from source(of)

        return ask

    def _iterator(self, source: Source) -> Callable[..., Any]:
        def ask(of: str) -> Iterator[Item]:
            return source(of)

        return ask

    def _async_generator(self, source: Source) -> Callable[..., Any]:
        async def ask(of: str) -> AsyncGenerator[Item, None]:
            items = source(of)
            try:
                for item in items:
                    await asyncio.sleep(0)
                    yield item
            finally:
                items.close()  # type: ignore[attr-defined]

        return ask

    def _async_iterator(self, source: Source) -> Callable[..., Any]:
        later = self._async_generator(source)

        def ask(of: str) -> AsyncIterator[Item]:
            return later(of)

        return ask

    def _coroutine(self, source: Source) -> Callable[..., Any]:
        later = self._async_generator(source)

        async def ask(of: str) -> AsyncIterator[Item]:
            await asyncio.sleep(0)
            return later(of)

        return ask

    async def open(self, func: Callable[..., Any], *args: Any) -> Any:
        """What *func* gives to iterate over."""
        stream = func(*args)
        return await stream if inspect.isawaitable(stream) else stream

    async def next(self, stream: Any) -> Any:
        return await anext(stream) if self.is_async else next(stream)

    async def close(self, stream: Any) -> None:
        await stream.aclose() if self.is_async else stream.close()

    async def rest(self, stream: Any) -> list[Any]:
        return [item async for item in stream] if self.is_async else list(stream)

    async def all(self, func: Callable[..., Any], *args: Any) -> list[Any]:
        return await self.rest(await self.open(func, *args))

    async def ask(self, method: Callable[..., Any], *args: Any) -> Any:
        answer = method(*args)
        return await answer if inspect.isawaitable(answer) else answer


KINDS = ["generator", "iterator", "async generator", "async iterator", "coroutine"]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    return Kind(request.param)


def whole(source: Source, of: str = "a") -> list[Item]:
    return [Item(n=n, of=of) for n in range(source.length)]


# -- a miss, a hit -------------------------------------------------------------------------------


async def test_a_stream_is_asked_once(kind: Kind, source: Source):
    """The second caller gets the same items, in order, without a call."""
    events: list[Event] = []
    ask = instructor_cache(MemoryCache(), observer=events.append)(kind.function(source))
    assert await kind.all(ask, "a") == whole(source)
    assert await kind.all(ask, "a") == whole(source)
    assert await kind.all(ask, "b") == whole(source, "b")
    assert source.calls == 2
    assert [event.kind for event in events] == ["miss", "stored", "hit", "miss", "stored"]
    assert ask.cache_info()[:2] == (1, 2)


async def test_items_pass_live(kind: Kind, source: Source):
    """An item is given before the next one is asked for."""
    ask = instructor_cache(MemoryCache())(kind.function(source))
    stream = await kind.open(ask, "a")
    for n in range(source.length):
        assert (await kind.next(stream)).n == n
        assert source.passed == n + 1
    assert await kind.rest(stream) == []


async def test_what_the_caller_changes_is_not_stored(kind: Kind, source: Source):
    """An item is stored as it passed, and every caller has items of his own."""
    ask = instructor_cache(MemoryCache())(kind.function(source))
    stream = await kind.open(ask, "a")
    for _ in range(source.length):
        (await kind.next(stream)).of = "changed"
    await kind.rest(stream)
    second = await kind.all(ask, "a")
    second[0].of = "changed"
    assert await kind.all(ask, "a") == whole(source)


async def test_an_abandoned_stream_stores_nothing(kind: Kind, source: Source):
    """Who stops early closes the source at once, and the next caller asks again."""
    ask = instructor_cache(MemoryCache())(kind.function(source))
    stream = await kind.open(ask, "a")
    await kind.next(stream)
    await kind.close(stream)
    assert source.closed == 1
    assert await kind.ask(ask.cache_get, "a") is MISS
    assert await kind.all(ask, "a") == whole(source)
    assert source.calls == 2


async def test_the_last_item_alone_is_no_end(kind: Kind, source: Source):
    """Who takes all items and does not ask for more has not seen the stream end."""
    ask = instructor_cache(MemoryCache())(kind.function(source))
    stream = await kind.open(ask, "a")
    for _ in range(source.length):
        await kind.next(stream)
    await kind.close(stream)
    assert await kind.ask(ask.cache_contains, "a") is False


async def test_a_failing_stream_stores_nothing(kind: Kind, source: Source):
    """The function's own error comes after the items before it; nothing is stored."""
    error = ConnectionError("cut")

    def fail(n: int) -> None:
        if n == 2:
            raise error

    source.before = fail
    ask = instructor_cache(MemoryCache())(kind.function(source))
    stream = await kind.open(ask, "a")
    assert [(await kind.next(stream)).n for _ in range(2)] == [0, 1]
    with pytest.raises(ConnectionError) as raised:
        await kind.next(stream)
    assert raised.value is error
    source.before = lambda n: None
    assert await kind.all(ask, "a") == whole(source)
    assert source.calls == 2


async def test_an_empty_stream_is_an_answer(kind: Kind, source: Source):
    """A stream without items is stored, and given again."""
    source.length = 0
    ask = instructor_cache(MemoryCache())(kind.function(source))
    assert await kind.all(ask, "a") == await kind.all(ask, "a") == []
    assert source.calls == 1


async def test_falsy_items_do_not_end_a_replay():
    """Empty, zero and None among the items are items."""
    values: list[Any] = [Item(n=1), None, 0, "", [], Item(n=2), None]

    @instructor_cache(MemoryCache())
    def ask() -> Iterator[Item | int | str | list[Item] | None]:
        yield from values

    assert list(ask()) == values
    assert list(ask()) == values
    assert ask.cache_info().hits == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_cached_stream_is_of_the_kind_of_the_function(kind: str, source: Source):
    """Generator functions stay generator functions, coroutine functions coroutine functions."""
    func = Kind(kind).function(source)
    ask = instructor_cache(MemoryCache())(func)
    for question in (
        inspect.isgeneratorfunction,
        inspect.isasyncgenfunction,
        inspect.iscoroutinefunction,
    ):
        assert question(ask) is question(func)
    assert inspect.signature(ask) == inspect.signature(func)


async def test_the_store_may_be_any(
    kind: Kind, source: Source, tmp_path: Path, redis_url: str, prefix: str
):
    """Streams are answers like others in every tier: another function of the name finds them."""
    cache = TieredCache(MemoryCache(), DiskCache(tmp_path), RedisCache(redis_url))
    ask = instructor_cache(cache, prefix=prefix)(kind.function(source))
    assert await kind.all(ask, "a") == whole(source)
    for far in (DiskCache(tmp_path), RedisCache(redis_url)):
        again = instructor_cache(TieredCache(MemoryCache(), far), prefix=prefix)
        assert await kind.all(again(kind.function(source)), "a") == whole(source)
    assert source.calls == 1


async def test_a_stream_can_be_looked_after(kind: Kind, source: Source):
    """Looking, setting, refreshing, mapping, explaining and forgetting work as for values."""
    ask = instructor_cache(MemoryCache())(kind.function(source))
    await kind.ask(ask.cache_set, [Item(n=7)], "a")
    assert await kind.all(ask, "a") == [Item(n=7)]
    assert await kind.rest(await kind.ask(ask.cache_get, "a")) == [Item(n=7)]
    assert await kind.rest(await kind.ask(ask.cache_refresh, "a")) == whole(source)
    assert (await kind.ask(ask.cache_explain, "a")).outcome == "hit"
    streams = await kind.ask(ask.cache_map, ["a", "b"])
    assert [await kind.rest(each) for each in streams] == [whole(source), whole(source, "b")]
    assert source.calls == 2
    await kind.ask(ask.cache_invalidate, "a")
    assert await kind.ask(ask.cache_contains, "a") is False
    assert await kind.ask(ask.cache_contains, "b") is True
    await kind.ask(ask.cache_clear)
    assert await kind.ask(ask.cache_contains, "b") is False


async def test_a_stream_can_be_set_from_a_stream(kind: Kind, source: Source):
    """`cache_set` takes whatever can be iterated over in the function's colour."""
    ask = instructor_cache(MemoryCache())(kind.function(source))
    stream = kind.function(source)("b")
    await kind.ask(ask.cache_set, await stream if inspect.isawaitable(stream) else stream, "a")
    assert await kind.all(ask, "a") == whole(source, "b")


async def test_a_replay_can_be_closed_and_left(kind: Kind, source: Source):
    """What a hit gives has the manners of a generator."""
    ask = instructor_cache(MemoryCache())(kind.function(source))
    await kind.all(ask, "a")
    stream = await kind.open(ask, "a")
    await kind.next(stream)
    await kind.close(stream)
    assert await kind.rest(stream) == []


def test_ttl_and_cache_if_see_all_items(source: Source):
    """Callables that judge an answer are given a stream's items as a sequence."""
    seen: list[Any] = []

    def judge(items: Any) -> bool:
        seen.append((len(items), items[-1], list(items), items[1:3]))
        return len(items) == 4

    ask = instructor_cache(MemoryCache(), cache_if=judge, ttl=lambda items: len(items))(
        Kind("generator").function(source)
    )
    for _ in range(2):
        assert list(ask("a")) == whole(source)
    items = whole(source)
    assert seen == [(4, items[-1], items, items[1:3])]
    source.length = 3
    list(ask("b"))
    assert ask.cache_contains("b") is False


def test_no_code_of_the_user_runs_on_a_hit():
    """Validators of the items do not run again."""
    seen: list[int] = []

    class Checked(BaseModel):
        n: int

        @field_validator("n")
        @classmethod
        def check(cls, n: int) -> int:
            seen.append(n)
            return n

    @instructor_cache(MemoryCache())
    def ask() -> Iterator[Checked]:
        yield Checked(n=1)

    list(ask())
    assert [item.n for item in ask()] == seen == [1]


def test_partial_items_come_back_as_they_were():
    """Snapshots that violate their model are stored, and given again without validation."""
    snapshots = [Item.model_construct(n=None), Item.model_construct(), Item(n=1, of="a")]

    @instructor_cache(MemoryCache())
    def ask() -> Iterator[Item]:
        yield from [snapshot.model_copy() for snapshot in snapshots]

    first, second = list(ask()), list(ask())
    assert [item.__dict__ for item in second] == [item.__dict__ for item in snapshots]
    assert [item.model_fields_set for item in second] == [i.model_fields_set for i in first]
    assert ask.cache_info().hits == 1


def test_an_item_that_cannot_be_stored_leaves_the_stream_alone():
    """All items come; nothing is stored; a warning says why, once."""

    class Holder(BaseModel):
        held: Any

    @instructor_cache(MemoryCache())
    def ask() -> Iterator[Holder]:
        yield Holder(held=1)
        yield Holder(held=lambda: 1)

    with pytest.warns(UnstorableResultWarning):
        assert len(list(ask())) == 2
    assert len(list(ask())) == 2
    assert ask.cache_info().misses == 2


class Opaque:
    """What no other process could recognise."""

    def __str__(self) -> str:
        return "a"


async def test_an_argument_without_a_key_lets_the_stream_through(kind: Kind, source: Source):
    """The function's own items come, uncached, with one warning."""
    ask = instructor_cache(MemoryCache())(kind.function(lambda of: source(str(of))))
    with pytest.warns(UnkeyableArgumentWarning) as told:
        assert await kind.all(ask, Opaque()) == whole(source)
        assert await kind.all(ask, Opaque()) == whole(source)
    assert len(told) == 1
    assert source.calls == 2


async def test_a_broken_backend_lets_the_stream_through(kind: Kind, source: Source):
    """With every operation failing, callers get the function's own items."""
    broken = FaultyBackend(MemoryCache())
    broken.failing()
    ask = instructor_cache(broken)(kind.function(source))
    for _ in range(2):
        assert await kind.all(ask, "a") == whole(source)
    assert source.calls == 2


async def test_a_damaged_stream_is_asked_again(kind: Kind, source: Source):
    """What can't be read is deleted, and the function called."""
    memory = MemoryCache()
    ask = instructor_cache(memory)(kind.function(source))
    await kind.all(ask, "a")
    key = ask.cache_key("a")
    raw = memory.get(key)
    assert raw is not None
    memory.set(key, raw[:-3], None)
    assert await kind.all(ask, "a") == whole(source)
    assert await kind.all(ask, "a") == whole(source)
    assert source.calls == 2


async def test_stale_items_answer_for_a_stream_that_fails(kind: Kind, source: Source):
    """A function that fails before its first item is answered for by what it gave before."""
    now = [0.0]
    ask = instructor_cache(MemoryCache(), ttl=10, stale_ttl="1h", clock=lambda: now[0])(
        kind.function(source)
    )
    first = await kind.all(ask, "a")

    def fail(n: int) -> None:
        raise ConnectionError("down")

    now[0], source.before = 60.0, fail
    assert await kind.all(ask, "a") == first


async def test_stale_items_are_not_mixed_with_new_ones(kind: Kind, source: Source):
    """Once items have passed, the function's error is told: the old answer comes too late."""
    now = [0.0]
    ask = instructor_cache(MemoryCache(), ttl=10, stale_ttl="1h", clock=lambda: now[0])(
        kind.function(source)
    )
    await kind.all(ask, "a")

    def fail(n: int) -> None:
        if n == 1:
            raise ConnectionError("down")

    now[0], source.before = 60.0, fail
    stream = await kind.open(ask, "a")
    await kind.next(stream)
    with pytest.raises(ConnectionError):
        await kind.next(stream)


async def test_an_ageing_stream_is_made_anew_behind(kind: Kind, source: Source):
    """A hit late in its life returns at once, and the function is read to its end elsewhere."""
    now, events = [0.0], list[str]()
    ask = instructor_cache(
        MemoryCache(),
        ttl=10,
        refresh_ahead=0.5,
        clock=lambda: now[0],
        observer=lambda event: events.append(event.kind),
    )(kind.function(source))
    await kind.all(ask, "a")
    now[0], source.length = 6.0, 2
    assert len(await kind.all(ask, "a")) == 4
    for _ in range(500):
        if "refreshed" in events:
            break
        await asyncio.sleep(0.01)
    assert await kind.all(ask, "a") == whole(source)
    assert source.calls == 2


async def test_an_invalidation_during_a_stream_wins(kind: Kind, source: Source):
    """What began before the invalidation goes to who listens, and is not kept or joined."""
    ask = instructor_cache(MemoryCache())(kind.function(source))
    stream = await kind.open(ask, "a")
    await kind.next(stream)
    await kind.ask(ask.cache_invalidate, "a")
    assert await kind.all(ask, "a") == whole(source)
    assert source.calls == 2
    await kind.ask(ask.cache_invalidate, "a")
    assert len(await kind.rest(stream)) == source.length - 1
    assert await kind.ask(ask.cache_contains, "a") is False


async def test_a_backend_lock_is_held_for_a_stream(kind: Kind, source: Source, tmp_path: Path):
    """With a lock across processes the stream passes and is stored as without."""
    ask = instructor_cache(DiskCache(tmp_path), lock="backend")(kind.function(source))
    assert await kind.all(ask, "a") == await kind.all(ask, "a") == whole(source)
    assert source.calls == 1


# -- several at once -----------------------------------------------------------------------------


async def test_late_joiners_get_every_item(kind: Kind, source: Source):
    """Who comes while a stream is under way gets it from its beginning, without a call."""
    ask = instructor_cache(MemoryCache())(kind.function(source))
    first = await kind.open(ask, "a")
    begun = [await kind.next(first), await kind.next(first)]
    late = await kind.open(ask, "a")
    assert await kind.rest(late) == whole(source)
    assert begun + await kind.rest(first) == whole(source)
    assert source.calls == 1
    assert ask.cache_info()[:2] == (1, 1)


async def test_listeners_share_nothing_they_can_change(kind: Kind, source: Source):
    """Each listener has items of his own."""
    ask = instructor_cache(MemoryCache())(kind.function(source))
    one, other = await kind.open(ask, "a"), await kind.open(ask, "a")
    mine = await kind.next(one)
    mine.of = "changed"
    assert (await kind.next(other)).of == "a"


def test_what_a_listener_changes_does_not_reach_the_source():
    """A function that goes on changing what it yielded sees changes of its first caller only."""

    @instructor_cache(MemoryCache())
    def ask() -> Iterator[Item]:
        item = Item(n=0)
        for _ in range(3):
            item.n += 1
            yield item

    first, other = ask(), ask()
    assert next(first).n == 1
    next(other)
    next(other).n = 500
    assert [item.n for item in first] == [2, 3]
    assert [item.n for item in ask()] == [1, 2, 3]


async def test_when_the_first_listener_leaves_the_others_go_on(kind: Kind, source: Source):
    """The stream is not cut off: whoever is left takes over, still with one call."""
    ask = instructor_cache(MemoryCache())(kind.function(source))
    first, other = await kind.open(ask, "a"), await kind.open(ask, "a")
    await kind.next(first)
    await kind.next(other)
    await kind.close(first)
    assert len(await kind.rest(other)) == source.length - 1
    assert await kind.all(ask, "a") == whole(source)
    assert source.calls == 1


async def test_a_listener_who_leaves_disturbs_nobody(kind: Kind, source: Source):
    """The first listener goes on when another one leaves."""
    ask = instructor_cache(MemoryCache())(kind.function(source))
    first, other = await kind.open(ask, "a"), await kind.open(ask, "a")
    await kind.next(first)
    await kind.next(other)
    await kind.close(other)
    assert len(await kind.rest(first)) == source.length - 1
    assert source.calls == 1
    assert await kind.ask(ask.cache_contains, "a") is True


async def test_a_failure_is_everybodys(kind: Kind, source: Source):
    """All who listen get the one failure; who comes later asks again."""
    ask = instructor_cache(MemoryCache())(kind.function(source))

    def fail(n: int) -> None:
        if n == 1:
            raise ConnectionError("cut")

    source.before = fail
    streams = [await kind.open(ask, "a") for _ in range(3)]
    for stream in streams:
        await kind.next(stream)
    for stream in streams:
        with pytest.raises(ConnectionError, match="cut"):
            await kind.next(stream)
    assert source.calls == 1
    source.before = lambda n: None
    assert await kind.all(ask, "a") == whole(source)
    assert source.calls == 2


def test_fifty_threads_make_one_call(source: Source):
    """Threads that read one stream at once make one call, and each gets every item."""
    source.length, source.before = 20, lambda n: time.sleep(0.002)
    ask = instructor_cache(MemoryCache())(Kind("generator").function(source))
    answers: list[list[Item]] = []
    threads = [threading.Thread(target=lambda: answers.append(list(ask("a")))) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [whole(source)] * 50
    assert source.calls == 1


async def test_fifty_tasks_make_one_call(source: Source):
    """Tasks that read one stream at once make one call, and each gets every item."""
    source.length = 20
    kind = Kind("async generator")
    ask = instructor_cache(MemoryCache())(kind.function(source))
    answers = await asyncio.gather(*(kind.all(ask, "a") for _ in range(50)))
    assert answers == [whole(source)] * 50
    assert source.calls == 1


def test_two_loops_share_one_stream(source: Source):
    """Tasks of two event loops in two threads make one call."""
    source.length = 50
    kind = Kind("async generator")
    ask = instructor_cache(MemoryCache())(kind.function(source))
    barrier, answers = threading.Barrier(2), list[list[Item]]()

    async def read() -> None:
        barrier.wait(10)
        answers.append(await kind.all(ask, "a"))

    threads = [threading.Thread(target=lambda: asyncio.run(read())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [whole(source)] * 2
    assert source.calls == 1


async def test_a_cancelled_task_disturbs_nobody(source: Source):
    """Whoever is cancelled while an item is on its way, the others get it."""
    kind, go_on = Kind("async generator"), asyncio.Event()

    @instructor_cache(MemoryCache())
    async def ask(of: str) -> AsyncIterator[Item]:
        for item in source(of):
            await go_on.wait()
            yield item

    tasks = [asyncio.ensure_future(kind.all(ask, "a")) for _ in range(4)]
    await asyncio.sleep(0.01)
    tasks[0].cancel()
    tasks[2].cancel()
    await asyncio.sleep(0)
    go_on.set()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert outcomes[1] == outcomes[3] == whole(source)
    assert isinstance(outcomes[0], asyncio.CancelledError)
    assert source.calls == 1


async def test_when_all_are_cancelled_the_source_is_closed(source: Source):
    """A stream without listeners is closed where it stands, and stores nothing."""
    kind = Kind("async generator")

    @instructor_cache(MemoryCache())
    async def ask(of: str) -> AsyncIterator[Item]:
        items = source(of)
        try:
            for item in items:
                await asyncio.sleep(3600)
                yield item
        finally:
            items.close()

    tasks = [asyncio.ensure_future(kind.all(ask, "a")) for _ in range(3)]
    await asyncio.sleep(0.01)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert source.closed == 1
    assert await ask.cache_contains("a") is False
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []


def test_a_killed_reader_leaves_the_stream_to_others(source: Source):
    """Where an interrupt hits the one who reads, another call gives the others the rest."""
    kind = Kind("generator")

    def interrupt(n: int) -> None:
        if n == 2 and source.calls == 1:
            raise KeyboardInterrupt

    source.before = interrupt
    ask = instructor_cache(MemoryCache())(kind.function(source))
    first, other = ask("a"), ask("a")
    assert [next(first), next(first)] == [next(other), next(other)]
    with pytest.raises(KeyboardInterrupt):
        next(first)
    assert [item.n for item in other] == [2, 3]
    assert source.calls == 2
    assert list(ask("a")) == whole(source)
    assert source.calls == 2


def test_two_calls_are_never_mixed(source: Source):
    """Where the other call gives other items, who had some of the first one's is told."""

    @instructor_cache(MemoryCache())
    def ask() -> Iterator[Item]:
        for item in source(str(source.calls)):
            if source.calls == 1 and item.n == 2:
                raise KeyboardInterrupt
            yield item

    first, other = ask(), ask()
    next(first), next(first), next(other)
    with pytest.raises(KeyboardInterrupt):
        next(first)
    assert next(other).n == 1
    with pytest.raises(StreamInterrupted, match="call once more"):
        next(other)
    assert [item.of for item in ask()] == ["1"] * 4 or source.calls == 3


def test_a_stored_answer_goes_on_where_a_call_was_cut_off(source: Source):
    """Who had the first items of a call that was killed gets only the rest of what is stored."""

    def interrupt(n: int) -> None:
        if n == 2:
            raise KeyboardInterrupt

    source.before = interrupt
    ask = instructor_cache(MemoryCache())(Kind("generator").function(source))
    first, same, another = ask("a"), ask("a"), ask("a")
    for stream in (first, same, another):
        next(stream), next(stream)
    with pytest.raises(KeyboardInterrupt):
        next(first)
    ask.cache_set(whole(source), "a")
    assert [item.n for item in same] == [2, 3]
    ask.cache_set(whole(source, "b"), "a")
    with pytest.raises(StreamInterrupted):
        next(another)
    assert source.calls == 1


@pytest.mark.parametrize("kind", ["generator", "async generator"])
async def test_a_stream_that_reads_itself_ends(kind: str):
    """A call inside its own stream runs directly, as without a cache."""
    depth = 0

    @instructor_cache(MemoryCache())
    def count(n: int) -> Iterator[Item]:
        nonlocal depth
        depth += 1
        if depth < 3:
            yield from count(n)
        yield Item(n=depth)

    @instructor_cache(MemoryCache())
    async def count_later(n: int) -> AsyncIterator[Item]:
        nonlocal depth
        depth += 1
        if depth < 3:
            async for item in count_later(n):
                yield item
        yield Item(n=depth)

    if kind == "generator":
        items = list(count(1))
    else:
        items = await asyncio.wait_for(Kind(kind).all(count_later, 1), 10)
    assert [item.n for item in items] == [3, 3, 3]


@pytest.mark.parametrize("kind", ["generator", "async generator"])
async def test_a_stream_may_call_itself_again_when_it_was_cut_off(kind: str, source: Source):
    """A retry by recursion, after the first items, makes a call of its own."""

    def cut(n: int) -> None:
        if n == 2 and source.calls == 1:
            raise ConnectionError

    source.before, events = cut, list[str]()
    cached = instructor_cache(MemoryCache(), observer=lambda event: events.append(event.kind))
    of = Kind(kind)
    ask = _retried_later(source, cached) if of.is_async else _retried(source, cached)
    for _ in range(2):
        stream = await of.open(ask)
        items = [(await of.next(stream)).n for _ in range(6)]
        assert items == [0, 1, 0, 1, 2, 3]
        assert await of.rest(stream) == []
    assert events == ["miss", "miss", "stored", "hit"]
    assert source.calls == 2


def _retried(source: Source, cached: Any) -> Callable[..., Any]:
    @cached
    def ask() -> Iterator[Item]:
        try:
            yield from source()
        except ConnectionError:
            yield from ask()

    return ask  # type: ignore[no-any-return]


def _retried_later(source: Source, cached: Any) -> Callable[..., Any]:
    @cached
    async def ask() -> AsyncIterator[Item]:
        try:
            for item in source():
                yield item
        except ConnectionError:
            async for item in ask():
                yield item

    return ask  # type: ignore[no-any-return]


def test_streams_that_read_each_other_end():
    """A stream that is read by the one it reads calls that one directly."""
    calls: list[str] = []

    @instructor_cache(MemoryCache())
    def one() -> Iterator[Item]:
        calls.append("one")
        yield Item(n=1)
        if len(calls) < 4:
            yield from other()

    @instructor_cache(MemoryCache())
    def other() -> Iterator[Item]:
        calls.append("other")
        yield Item(n=2)
        if len(calls) < 4:
            yield from one()

    begun = other()
    assert next(begun).n == 2
    assert [item.n for item in itertools.islice(one(), 10)] == [1, 2, 1, 2]
    assert calls == ["other", "one", "one", "other"]


def test_a_stream_that_is_read_by_its_own_source_ends(source: Source):
    """Who reads a stream on the stack of its function, as nested loops do, waits for nobody."""
    ask = instructor_cache(MemoryCache())(Kind("generator").function(source))
    first, other = ask("a"), ask("a")
    inner: list[int] = []

    def nest(n: int) -> None:
        if n == 2 and source.calls == 1:
            inner.extend(item.n for item in first)

    source.before = nest
    next(first)
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.extend(other), daemon=True)
    thread.start()
    thread.join(10)
    assert answers == whole(source)
    assert inner == [1, 2, 3]
    assert source.calls == 2


def test_between_items_the_caller_may_call_the_same(source: Source):
    """A caller who reads a stream and asks the same in between joins it, and gets every item."""
    ask = instructor_cache(MemoryCache())(Kind("generator").function(source))
    stream = ask("a")
    next(stream)
    assert list(ask("a")) == whole(source)
    assert source.calls == 1


def test_a_listener_who_waited_too_long_calls(source: Source):
    """Who can't see through what he waits for calls for himself after `flight_timeout`."""
    go_on, stuck = threading.Event(), threading.Event()

    def hang(n: int) -> None:
        if n == 1 and source.calls == 1:
            stuck.set()
            assert go_on.wait(20)

    source.before = hang
    ask = instructor_cache(MemoryCache(), flight_timeout=0.05)(Kind("generator").function(source))
    answers: list[Any] = []
    first = threading.Thread(target=lambda: answers.append(list(ask("a"))))
    first.start()
    assert stuck.wait(10)
    assert list(ask("a")) == whole(source)
    go_on.set()
    first.join()
    assert answers == [whole(source)]
    assert source.calls == 2


async def test_nothing_is_left_behind(kind: Kind, source: Source):
    """Streams that ended, failed, were abandoned or never read leave nothing."""
    ask = instructor_cache(MemoryCache(10))(kind.function(source))
    streams = ask.cache_get.__self__ if kind.is_async else ask.cache_get.__wrapped__.__self__

    def fail(n: int) -> None:
        if source.calls % 3 == 0:
            raise ConnectionError

    source.before = fail
    for n in range(60):
        stream = await kind.open(ask, str(n))
        try:
            if n % 3 == 0:
                await kind.next(stream)
                await kind.close(stream)
            elif n % 3 == 1:
                await kind.rest(stream)
        except ConnectionError:
            pass
        del stream
    gc.collect()
    await asyncio.sleep(0.01)
    assert len(streams.streams._open) == 0
    assert engine_of(ask).flights._under_way == {}
    assert source.closed == source.calls


@pytest.mark.parametrize("annotation", [Iterator[Item], Item])
def test_who_joins_a_stream_that_is_not_kept_gets_all_of_it(annotation: Any, source: Source):
    """A call that waits for one made in the background is given its items, stored or not."""
    now, begun, joined = [0.0], threading.Event(), threading.Event()

    def hold(n: int) -> None:
        if source.calls == 2:
            begun.set()
            assert joined.wait(10)

    source.before = hold
    ask: Any = instructor_cache(
        MemoryCache(),
        returns=annotation,
        ttl=10,
        refresh_ahead=0.5,
        cache_if=lambda items: source.calls < 2,
        clock=lambda: now[0],
    )(_final(source))
    list(ask("a"))
    now[0] = 6.0
    list(ask("a"))
    assert begun.wait(10)
    now[0] = 11.0
    _tell_when_joined(ask, joined)
    stream = ask("a")
    assert isinstance(stream, Generator)
    assert list(stream) == whole(source)
    assert source.calls == 2


def _tell_when_joined(ask: Any, joined: threading.Event) -> None:
    flights = engine_of(ask).flights
    wait = flights._wait

    async def tell(*args: Any) -> bool:
        joined.set()
        return await wait(*args)

    flights._wait = tell


async def test_streams_asked_for_during_an_invalidation_are_whole():
    """Who asks while the answer is being deleted gets all items, as do those who ask after him."""
    deleting, deleted, go_on = (asyncio.Event() for _ in range(3))

    class Slow(MemoryCache):
        async def adelete(self, key: str) -> None:
            deleting.set()
            await deleted.wait()

    @instructor_cache(Slow())
    async def ask(of: str) -> AsyncIterator[Item]:
        for n in range(3):
            await go_on.wait()
            yield Item(n=n)

    kind, invalidation = Kind("async generator"), asyncio.ensure_future(ask.cache_invalidate("a"))
    await deleting.wait()
    tasks = [asyncio.ensure_future(kind.all(ask, "a")) for _ in range(3)]
    for _ in range(20):
        await asyncio.sleep(0)
    deleted.set()
    await invalidation
    go_on.set()
    answers = await asyncio.gather(*tasks)
    assert [[item.n for item in answer] for answer in answers] == [[0, 1, 2]] * 3


# -- cut off, interrupted, collected ---------------------------------------------------------------


async def test_a_source_that_makes_light_of_a_cancellation_stores_nothing():
    """A source that returns when it is cancelled has not ended by itself."""

    @instructor_cache(MemoryCache())
    async def ask(of: str) -> AsyncIterator[Item]:
        yield Item(n=1)
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            return
        yield Item(n=2)

    task = asyncio.ensure_future(Kind("async generator").all(ask, "a"))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await ask.cache_contains("a") is False


async def test_a_source_that_goes_on_when_it_is_cancelled_holds_up_nobody():
    """A source that yields once more when it is cancelled is closed all the same."""
    closed: list[bool] = []

    @instructor_cache(MemoryCache())
    async def ask(of: str) -> AsyncIterator[Item]:
        try:
            yield Item(n=1)
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                yield Item(n=-1)
        finally:
            closed.append(True)

    task = asyncio.ensure_future(Kind("async generator").all(ask, "a"))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 10)
    assert closed == [True]
    assert await ask.cache_contains("a") is False


def test_an_interrupt_is_his_who_reads(source: Source):
    """An interrupt is raised in the thread whose turn it is, and nobody else hears of it."""

    def interrupt(n: int) -> None:
        if n == 2 and source.calls == 1:
            raise KeyboardInterrupt

    source.before = interrupt
    ask = instructor_cache(MemoryCache())(Kind("generator").function(source))
    first, other = ask("a"), ask("a")
    next(first), next(other), next(other)
    with pytest.raises(KeyboardInterrupt):
        next(other)
    assert [item.n for item in first] == [1, 2, 3]
    assert source.calls == 2


def test_streams_that_are_garbage_hold_up_nobody(source: Source):
    """Streams that a collection closes at whatever moment lock nobody out."""
    ask = instructor_cache(MemoryCache())(Kind("generator").function(source))

    class Holder:
        def __init__(self, stream: Any) -> None:
            self.stream, self.itself = stream, self  # a cycle: only a collection ends it

    thresholds = gc.get_threshold()
    gc.set_threshold(7)
    try:
        done = threading.Thread(
            target=lambda: [next(Holder(ask(str(n))).stream) for n in range(500)], daemon=True
        )
        done.start()
        done.join(30)
    finally:
        gc.set_threshold(*thresholds)
    assert not done.is_alive()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")
def test_tasks_that_begin_at_once(source: Source):
    """Streams work in loops whose tasks are eager."""

    @instructor_cache(MemoryCache())
    async def ask(of: str) -> AsyncIterator[Item]:
        for item in source(of):
            yield item

    async def read() -> list[Any]:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined]
        return await asyncio.wait_for(Kind("async generator").all(ask, "a"), 10)

    assert asyncio.run(read()) == whole(source)


class SDKStream:
    """What the openai SDK gives: an async iterator with a coroutine method ``close``."""

    def __init__(self) -> None:
        self.left, self.closed = 3, 0

    def __aiter__(self) -> SDKStream:
        return self

    async def __anext__(self) -> Item:
        if not self.left:
            raise StopAsyncIteration
        self.left -= 1
        return Item(n=self.left)

    async def close(self) -> None:
        self.closed += 1


async def test_streams_of_an_sdk_are_closed():
    """An async iterator that is closed by a coroutine is, where it is left before its end."""
    kind, made = Kind("coroutine"), list[SDKStream]()

    @instructor_cache(MemoryCache())
    async def ask(of: str) -> AsyncIterator[Item]:
        made.append(SDKStream())
        return made[-1]

    await kind.all(ask, "a")
    stream = await kind.open(ask, "b")
    await kind.next(stream)
    await kind.close(stream)
    assert [each.closed for each in made] == [0, 1]


def test_what_ended_by_itself_may_be_read_again():
    """An iterator that the function gives more than once is not closed between the calls."""

    class Client:
        is_closed, given = False, 0

        def __iter__(self) -> Client:
            return self

        def __next__(self) -> Item:
            assert not self.is_closed
            self.given += 1
            if self.given % 3 == 0:
                raise StopIteration
            return Item(n=self.given)

        def close(self) -> None:
            self.is_closed = True

    client = Client()

    @instructor_cache(MemoryCache())
    def ask(of: str) -> Iterator[Item]:
        return client

    assert [[item.n for item in ask(of)] for of in "ab"] == [[1, 2], [4, 5]]


@pytest.mark.parametrize("error", [StopAsyncIteration, GeneratorExit, RuntimeError])
def test_what_a_source_raises_is_no_end(error: type[BaseException]):
    """A sync source that raises what ends others has failed, and nothing of it is stored."""

    @instructor_cache(MemoryCache())
    def ask() -> Iterator[Item]:
        yield Item(n=1)
        raise error

    stream = ask()
    next(stream)
    with pytest.raises((RuntimeError, error)):
        next(stream)
    assert ask.cache_contains() is False


def test_a_loop_that_ends_cuts_off_no_stream_of_its_thread(source: Source):
    """A sync stream that is begun in a loop's thread goes on after the loop, for all listeners."""
    ask = instructor_cache(MemoryCache())(Kind("generator").function(source))

    async def begin() -> list[Iterator[Item]]:
        streams = [ask("a"), ask("a")]
        assert [next(stream).n for stream in streams] == [0, 0]
        return streams

    for stream in asyncio.run(begin()):
        assert [item.n for item in stream] == [1, 2, 3]
    assert list(ask("a")) == whole(source)
    assert source.calls == 1


def test_a_stream_whose_loop_ends_takes_no_other_loop_along(source: Source):
    """Listeners in another loop get a whole answer, whenever the first one's loop ends."""
    kind, begun, joined = Kind("async generator"), threading.Event(), threading.Event()
    answers: list[Any] = []

    @instructor_cache(MemoryCache())
    async def ask(of: str) -> AsyncIterator[Item]:
        for item in source(str(source.calls)):  # another answer each time, as models give
            await asyncio.sleep(0.01)
            yield item

    async def lead() -> None:
        stream = ask("a")
        await anext(stream)
        begun.set()
        assert joined.wait(10)
        await stream.aclose()

    async def follow() -> None:
        assert begun.wait(10)
        asyncio.get_running_loop().call_later(0.005, joined.set)
        answers.append(await kind.all(ask, "a"))

    threads = [threading.Thread(target=lambda f=f: asyncio.run(f())) for f in (lead, follow)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    (answer,) = answers
    assert [item.n for item in answer] == [0, 1, 2, 3]
    assert len({item.of for item in answer}) == 1


def test_who_leaves_from_another_loop_lets_the_stream_stand_still(source: Source):
    """A stream runs ahead for a listener of another loop, and no longer than he listens."""
    source.length = 10**9
    ask = instructor_cache(MemoryCache())(Kind("async generator").function(source))
    begun, left = threading.Event(), threading.Event()

    async def lead() -> None:
        stream = ask("a")
        await anext(stream)
        begun.set()
        while not left.is_set():
            await asyncio.sleep(0.001)
        passed = []
        for _ in range(2):
            for _ in range(20):
                await asyncio.sleep(0)
            passed.append(source.passed)
        await stream.aclose()
        assert passed[0] == passed[1] > 2

    async def follow() -> None:
        listening = asyncio.ensure_future(Kind("async generator").all(ask, "a"))
        while source.passed < 5:
            await asyncio.sleep(0.001)
        listening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await listening
        left.set()

    with ThreadPoolExecutor() as pool:
        leading = pool.submit(asyncio.run, lead())
        assert begun.wait(10)
        asyncio.run(follow())
        leading.result(10)
    assert source.calls == source.closed == 1


@pytest.mark.parametrize("is_closed", [True, False])
def test_a_stream_in_a_loop_that_stands_still(is_closed: bool, source: Source):
    """Who asks elsewhere does not wait for a loop that is closed, or does not run just now."""
    kind = Kind("async generator")
    ask = instructor_cache(MemoryCache())(kind.function(source))
    loop = asyncio.new_event_loop()
    stream = ask("a")
    assert loop.run_until_complete(anext(stream)).n == 0
    if is_closed:
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
    assert asyncio.run(asyncio.wait_for(kind.all(ask, "a"), 10)) == whole(source)
    if not is_closed:
        assert len(loop.run_until_complete(kind.rest(stream))) == source.length - 1
        loop.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_stream_whose_loop_was_closed_under_it_is_forgotten(source: Source):
    """Nobody waits for a call whose loop was closed before its tasks had ended."""
    kind = Kind("async generator")
    ask = instructor_cache(MemoryCache())(kind.function(source))
    loop = asyncio.new_event_loop()
    stream = ask("a")
    assert loop.run_until_complete(anext(stream)).n == 0
    loop.close()
    assert asyncio.run(asyncio.wait_for(kind.all(ask, "a"), 10)) == whole(source)
    assert asyncio.run(ask.cache_contains("a"))


@timed
async def test_the_pauses_of_a_reader_are_no_part_of_the_call(kind: Kind, source: Source):
    """How long a stream took is told without the time in which nobody asked for more."""
    seconds: list[float] = []
    ask = instructor_cache(
        MemoryCache(),
        observer=lambda event: seconds.append(event.seconds) if event.kind == "stored" else None,
    )(kind.function(source))
    stream = await kind.open(ask, "a")
    await kind.next(stream)
    await asyncio.sleep(0.2)
    await kind.rest(stream)
    assert seconds[0] < 0.1


def test_listeners_share_no_item_that_cannot_be_stored():
    """Of an item that has no stored form each listener gets a copy, as it was when it passed."""

    class Holder(BaseModel):
        held: Any
        n: int = 0

    @instructor_cache(MemoryCache())
    def ask() -> Iterator[Holder]:
        yield Holder(held=SecretStr("x"))

    first, other = ask(), ask()
    mine = next(first)
    mine.n = 99
    assert next(other).n == 0
    with pytest.warns(UnstorableResultWarning):
        assert list(first) == []


def test_who_judges_items_sees_their_raw_responses():
    """`cache_if` is given what instructor attached to the items, be it stored or not."""
    seen: list[Any] = []

    @instructor_cache(MemoryCache(), raw_response=False, cache_if=lambda items: seen.append(items))
    def ask() -> Iterator[Item]:
        item = Item(n=1)
        object.__setattr__(item, "_raw_response", {"finish_reason": "length"})
        yield item

    list(ask())
    assert seen[0][0]._raw_response == {"finish_reason": "length"}


def test_ready_conditions_see_how_a_stream_ended():
    """The ready conditions look at every item of a stream, as at those of a list."""

    @instructor_cache(MemoryCache(), cache_if=not_truncated)
    def ask(reason: str) -> Iterator[Item]:
        yield Item(n=1)
        item = Item(n=2)
        object.__setattr__(item, "_raw_response", {"choices": [{"finish_reason": reason}]})
        yield item

    for reason, is_kept in [("length", False), ("stop", True)]:
        assert len(list(ask(reason))) == 2
        assert ask.cache_contains(reason) is is_kept


async def test_a_function_that_gives_an_async_iterator_takes_the_mode_of_its_call(source: Source):
    """The mode counts where the function is called, not where its items are asked for."""
    ask = instructor_cache(MemoryCache())(Kind("async iterator").function(source))
    with offline():
        stream = ask("a")
    with pytest.raises(CacheMiss):
        await anext(stream)
    assert source.calls == 0


@pytest.mark.parametrize(
    ("annotation", "remedy"),
    [
        (list[Item], "Iterator[Item]"),
        (tuple[Item, ...], "Iterator[Item]"),
        (TypeAliasType("X", list[Item]), "Iterator[Item]"),
        (Item, "Iterator[Item]"),
    ],
)
def test_the_remedy_fits_the_items(annotation: Any, remedy: str, source: Source):
    """The annotation that is recommended is one under which the items fit."""
    ask = instructor_cache(MemoryCache(), returns=annotation)(_final(source))
    with pytest.warns(InstructorCacheWarning) as told:
        list(ask("a"))
    assert f"-> {remedy}`" in str(told[0].message)


T = TypeVar("T")
K = TypeVar("K")
Items = TypeAliasType("Items", Iterable[Item])
Many = TypeAliasType("Many", Iterable[T], type_params=(T,))
Second = TypeAliasType("Second", Iterable[T], type_params=(K, T))
Maybe = TypeAliasType("Maybe", T | None, type_params=(T,))
Plain = TypeAliasType("Plain", T, type_params=(T,))


@pytest.mark.parametrize(
    "annotation",
    [
        *(Iterable[Item] | None, Items | None, Many[Item] | None, Second[int, Item] | None),
        *(TypeAliasType("X", Items | None), Maybe[Iterable[Item]], Maybe[Many[Item]]),
        *(Plain[Maybe[Items]], Annotated[Items | None, "x"], TypeAliasType("X", Maybe[Items])),
    ],
    ids=str,
)
def test_an_optional_iterable_keeps_all_items(annotation: Any, source: Source):
    """`Iterable[M] | None`, under an alias too, is a list, a stream or nothing."""
    answers: list[Any] = [source("a"), None, [Item(n=1)]]
    ask: Any = instructor_cache(MemoryCache(), returns=annotation)(lambda n: answers[n])
    for _ in range(2):
        assert list(ask(0)) == whole(source)
        assert ask(1) is None
        assert ask(2) == [Item(n=1)]


# -- what may be a stream --------------------------------------------------------------------------


async def test_an_iterable_may_be_a_list_or_a_stream(colour: Colour, source: Source):
    """What came as a list comes back as a list, what came as a stream as a stream."""
    as_list = True

    def ask(of: str) -> Iterable[Item]:
        return list(source(of)) if as_list else source(of)

    cached = instructor_cache(MemoryCache())(colour.function(ask))
    for _ in range(2):
        assert await colour.call(cached, "a") == whole(source)
    as_list = False
    for _ in range(2):
        stream = await colour.call(cached, "b")
        assert (
            [item async for item in stream] == whole(source, "b")
            if colour.is_async
            else (list(stream) == whole(source, "b"))
        )
    assert source.calls == 2


async def test_a_stream_under_the_annotation_of_one_answer(colour: Colour, source: Source):
    """It streams on a miss, gives its final result from the cache, and tells the remedy once."""
    cached = instructor_cache(MemoryCache())(colour.function(_final(source)))

    async def read() -> list[Any]:
        stream = await colour.call(cached, "a")
        return [item async for item in stream] if colour.is_async else list(stream)

    remedy = "-> Iterator\\[Item\\]"  # which is what the function gives, be it a coroutine's
    with pytest.warns(InstructorCacheWarning, match=remedy) as told:
        assert await read() == whole(source)
    assert await read() == whole(source)[-1:]
    assert await read() == whole(source)[-1:]
    await colour.call(cached.cache_invalidate, "a")
    assert await read() == whole(source)
    assert len(told) == 1
    assert source.calls == 2
    assert cached.cache_info()[:2] == (2, 2)


def _final(source: Source) -> Callable[..., Any]:
    def ask(of: str) -> Item:
        return source(of)  # type: ignore[return-value]

    return ask


def test_only_the_final_item_has_to_be_storable():
    """Where the last item alone is kept, those before it may be what they like."""

    class Holder(BaseModel):
        held: Any

    @instructor_cache(MemoryCache())
    def ask() -> Holder:
        return iter([Holder(held=lambda: 1), Holder(held=2)])  # type: ignore[return-value]

    with pytest.warns(InstructorCacheWarning, match="gave a stream"):
        assert len(list(ask())) == 2
    assert list(ask()) == [Holder(held=2)]


def test_fifty_threads_make_one_call_of_a_stream_that_was_not_promised(source: Source):
    """Single flight holds for answers that turn out to be streams."""
    source.length, source.before = 10, lambda n: time.sleep(0.002)
    ask: Any = instructor_cache(MemoryCache(), returns=Iterable[Item])(_final(source))
    answers: list[list[Item]] = []
    threads = [threading.Thread(target=lambda: answers.append(list(ask("a")))) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [whole(source)] * 50
    assert source.calls == 1
    assert ask.cache_info().misses == 1


def test_an_unpromised_stream_that_nobody_reads_is_let_go(source: Source):
    """A stream that is dropped unread is closed, and nothing of it is left."""
    ask: Any = instructor_cache(MemoryCache(), returns=Iterable[Item])(_final(source))
    stream = ask("a")
    del stream
    gc.collect()
    assert len(ask.cache_get.__wrapped__.__self__.streams._open) == 0
    assert list(ask("a")) == whole(source)


ANNOTATIONS: list[Any] = [
    Iterator[Item],
    Generator[Item, None, None],
    Iterable[Item],
    Many[Item],
    TypeAliasType("X", Iterator[Item]),
    TypeAliasType("X", Iterator[T], type_params=(T,))[Item],
    "Iterator[Item]",
    "Generator[Item, None, None]",
]


@pytest.mark.parametrize("annotation", ANNOTATIONS, ids=str)
def test_every_way_to_annotate_a_generator(annotation: Any, source: Source):
    """All annotations of a generator's items mean the same."""

    def ask(of: str):  # type: ignore[no-untyped-def]
        yield from source(of)

    ask.__annotations__["return"] = annotation
    cached = instructor_cache(MemoryCache())(ask)
    assert list(cached("a")) == list(cached("a")) == whole(source)
    assert source.calls == 1


@pytest.mark.parametrize(
    "annotation",
    [
        *(AsyncIterator[Item], AsyncGenerator[Item, None], AsyncIterable[Item]),
        *("AsyncIterator[Item]", TypeAliasType("X", AsyncIterator[Item])),
    ],
    ids=str,
)
async def test_every_way_to_annotate_an_async_generator(annotation: Any, source: Source):
    """All annotations of an async generator's items mean the same."""

    async def ask(of: str):  # type: ignore[no-untyped-def]
        for item in source(of):
            yield item

    ask.__annotations__["return"] = annotation
    cached = instructor_cache(MemoryCache())(ask)
    for _ in range(2):
        assert [item async for item in cached("a")] == whole(source)
    assert source.calls == 1


@pytest.mark.skipif(sys.version_info < (3, 12), reason="there is no type statement")
def test_a_type_statement_names_a_stream(source: Source):
    """Also one of which a part is defined later, where the answer is none."""
    names: dict[str, Any] = {"Item": Item, "source": source, "Iterator": Iterator}
    names |= {"cached": instructor_cache(MemoryCache())}
    exec(
        "type Stream[T] = Iterator[T]\n"
        "type Users = list[Later]\n"
        "@cached\n"
        "def ask(of: str) -> Stream[Item]: return source(of)\n"
        "@cached\n"
        "def find(of: str) -> Users: return [Later(n=1)]\n"
        "class Later(Item): pass\n",
        names,
    )
    for _ in range(2):
        assert list(names["ask"]("a")) == whole(source)
        assert names["find"]("a") == [names["Later"](n=1)]
    assert source.calls == names["find"].cache_info().misses == 1


async def test_an_item_type_may_be_defined_later(source: Source):
    """A forward reference is looked up at the first call, for streams of both colours too."""
    names: dict[str, Any] = {"source": source, "instructor_cache": instructor_cache}
    names |= {"MemoryCache": MemoryCache, "BaseModel": BaseModel}
    exec(
        "from typing import *\n"
        "@instructor_cache(MemoryCache())\n"
        "def ask(of: str) -> 'Iterator[Later]':\n"
        "    for item in source(of): yield Later(n=item.n)\n"
        "@instructor_cache(MemoryCache())\n"
        "def ask_later(of: str) -> 'AsyncIterator[Later]':\n"
        "    async def items():\n"
        "        for item in source(of): yield Later(n=item.n)\n"
        "    return items()\n"
        "class Later(BaseModel):\n    n: int\n",
        names,
    )
    for _ in range(2):
        assert [item.n for item in names["ask"]("a")] == [0, 1, 2, 3]
        assert [item.n async for item in names["ask_later"]("a")] == [0, 1, 2, 3]
    assert source.calls == 2


@pytest.mark.parametrize(
    "annotation", [Iterator, Iterator[int], Generator[Item, str, None], Generator[Item, None, Item]]
)
def test_what_cannot_be_given_again_is_refused(annotation: Any):
    """Items without a model, values that are sent in or returned at the end: told at decoration."""

    def ask():  # type: ignore[no-untyped-def]
        yield Item(n=1)

    ask.__annotations__["return"] = annotation
    with pytest.raises(ValueError, match="Iterator\\[UserDetail\\]"):
        instructor_cache(MemoryCache())(ask)


def test_returns_names_the_items(source: Source):
    """`returns=` takes a stream of anything that Pydantic knows."""

    @instructor_cache(MemoryCache(), returns=Iterator[int])
    def ask(n: int):  # type: ignore[no-untyped-def]
        source.calls += 1
        yield from range(n)

    assert list(ask(3)) == list(ask(3)) == [0, 1, 2]
    assert source.calls == 1


async def test_methods_and_stacked_decorators(source: Source):
    """Streams work on methods, and through several caches on top of one another."""

    class Client:
        def __cache_key__(self) -> str:
            return "client"

        @lru(maxsize=10)
        @instructor_cache(MemoryCache())
        def ask(self, of: str) -> Iterator[Item]:
            yield from source(of)

        @lru(maxsize=10)
        @instructor_cache(MemoryCache())
        async def ask_later(self, of: str) -> AsyncIterator[Item]:
            for item in source(of):
                yield item

    client = Client()
    for _ in range(2):
        assert list(client.ask("a")) == whole(source)
        assert [item async for item in client.ask_later("a")] == whole(source)
    assert source.calls == 2
    Client.ask.cache_invalidate(client, "a")
    await Client.ask_later.cache_invalidate(client, "a")
    assert list(client.ask("a")) == whole(source)
    assert [item async for item in client.ask_later("a")] == whole(source)
    assert source.calls == 4


@pytest.mark.parametrize("is_annotated", [False, True])
def test_partial_classes_of_instructor_become_the_users(is_annotated: bool):
    """Snapshots of the classes that instructor derives for them come as the class behind them."""
    partial: Any = instructor.Partial[Item]
    made: Any = partial.get_partial_model()  # what older versions give the instances of

    def ask() -> Any:
        yield made.model_construct(n=1)
        yield made(n=1, of="a")

    ask.__annotations__["return"] = Iterator[partial] if is_annotated else Iterator[Item]
    cached = instructor_cache(MemoryCache())(ask)
    first, second = list(cached()), list(cached())
    assert [type(item) for item in first + second] == [Item] * 4
    assert [item.__dict__ for item in first] == [item.__dict__ for item in second]
    assert [item.model_fields_set for item in second] == [{"n"}, {"n", "of"}]
    assert cached.cache_info().hits == 1


def test_a_class_someone_derived_from_a_partial_one_is_his():
    """Who writes a subclass of `Partial[...]` gets instances of it."""

    class PartialDraft(instructor.Partial[Item]):  # type: ignore[misc]
        note: str = ""

    globals()["PartialDraft"] = PartialDraft
    PartialDraft.__qualname__ = "PartialDraft"
    cached = instructor_cache(MemoryCache(), returns=Iterator[PartialDraft])(
        lambda: iter([PartialDraft(n=1, of="a", note="x")])
    )
    for _ in range(2):
        (item,) = list(cached())
        assert type(item) is PartialDraft


# -- storms ----------------------------------------------------------------------------------------


class Storm:
    """Listeners who come, leave, fail and forget at random; notes whatever is not as it must be."""

    def __init__(self, seconds: float) -> None:
        self.until = time.monotonic() + seconds
        self.random, self.wrong, self.read = random.Random(1), list[str](), 0
        self.failing = False

    def items(self, of: str) -> Iterator[Item]:
        for n in range(12):
            if n == 7 and self.random.random() < 0.1:
                raise ConnectionError("cut")
            yield Item(n=n, of=of)

    def check(self, of: str, got: list[Item], *, ended: bool) -> None:
        wanted = [Item(n=n, of=of) for n in range(12)]
        if got != (wanted if ended else wanted[: len(got)]):
            self.wrong.append(f"{of} {ended}: {got}")
        self.read += 1

    @property
    def goes_on(self) -> bool:
        return time.monotonic() < self.until and not self.wrong

    def listen(self, ask: Any) -> None:
        """Read streams, most of them not to their ends, and forget some."""
        while self.goes_on:
            of = self.random.choice("abc")
            self.read_some(ask(of), of, self.random.randint(1, 30))
            if self.random.random() < 0.3:
                ask.cache_invalidate(of)

    def read_some(self, stream: Any, of: str, patience: int) -> None:
        got: list[Item] = []
        try:
            got += itertools.islice(stream, patience)
            self.check(of, got, ended=patience > 12)
        except ConnectionError:
            self.check(of, got, ended=False)
        stream.close()

    async def listen_later(self, ask: Any, of: str) -> None:
        """Read a stream to its end."""
        got: list[Item] = []
        try:
            async for item in ask(of):
                got += [item]
            self.check(of, got, ended=True)
        except ConnectionError:
            self.check(of, got, ended=False)

    async def wave(self, ask: Any) -> None:
        """Have tasks listen, and cancel some of them."""
        while self.goes_on:
            listening = [self.listen_later(ask, self.random.choice("abc")) for _ in range(12)]
            tasks = [asyncio.ensure_future(each) for each in listening]
            await asyncio.sleep(self.random.random() * 0.01)
            for task in self.random.sample(tasks, 5):
                task.cancel()
            await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 30)
            await ask.cache_invalidate(self.random.choice("abcd"))


@pytest.mark.slow
def test_a_storm_of_threads():
    """Threads that read, leave early and forget one another's streams get every item in order."""
    storm = Storm(5.0)

    @instructor_cache(MemoryCache())
    def ask(of: str) -> Iterator[Item]:
        for item in storm.items(of):
            time.sleep(storm.random.random() * 0.0005)
            yield item

    threads = [threading.Thread(target=storm.listen, args=(ask,)) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert not storm.wrong, storm.wrong[:2]
    assert storm.read > 500


@pytest.mark.slow
async def test_a_storm_of_tasks():
    """Tasks that are cancelled at random moments disturb no other listener, and leave nothing."""
    storm = Storm(5.0)

    @instructor_cache(MemoryCache())
    async def ask(of: str) -> AsyncIterator[Item]:
        for item in storm.items(of):
            await asyncio.sleep(storm.random.random() * 0.001)
            yield item

    await asyncio.gather(storm.wave(ask), storm.wave(ask))
    assert not storm.wrong, storm.wrong[:2]
    assert storm.read > 500
    await asyncio.sleep(0.05)
    assert len(asyncio.all_tasks()) == 1
