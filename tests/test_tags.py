"""Tags: answers that are forgotten together, in one step, in every tier, for good."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from conftest import Colour, engine_of
from pydantic import BaseModel

from instructor_cache import (
    MISS,
    DiskCache,
    Event,
    MemoryCache,
    RedisCache,
    Tier,
    TieredCache,
    UnkeyableArgumentWarning,
    instructor_cache,
)
from instructor_cache._bridge import drive
from instructor_cache._health import health_of
from instructor_cache._tagged import TaggedKey, tag_key
from instructor_cache.testing import FaultyBackend


class Answer(BaseModel):
    serial: int


class Source:
    """A function that answers with a new number each time, and may do something meanwhile."""

    def __init__(self) -> None:
        self.calls = 0
        self.meanwhile: Callable[[], object] = lambda: None

    def __call__(self) -> Answer:
        self.calls += 1
        answer = Answer(serial=self.calls)
        self.meanwhile()
        return answer


@pytest.fixture
def source() -> Source:
    return Source()


def tagged(colour: Colour, source: Source, cache: Any, **options: Any) -> Any:
    """A cached function of a user and a topic, with a fixed tag and one for the user."""

    def ask(user: int, topic: str = "all") -> Answer:
        return source()

    tags = options.pop("tags", ("users", lambda user: f"user:{user}"))
    return instructor_cache(cache, tags=tags, **options)(colour.function(ask))


STACKS = ["memory", "disk", "redis", "all three"]


@pytest.fixture(params=STACKS)
def cache(
    request: pytest.FixtureRequest, tmp_path: Path, redis_url: str, prefix: str
) -> Iterator[TieredCache]:
    """Each backend alone, and a stack of all; with a namespace of its own in Redis' tags."""
    backends: dict[str, Callable[[], Any]] = {
        "memory": MemoryCache,
        "disk": lambda: DiskCache(tmp_path),
        "redis": lambda: RedisCache(redis_url),
    }
    names = list(backends) if request.param == "all three" else [request.param]
    stack = TieredCache(*(backends[name]() for name in names))
    yield stack
    stack.clear(prefix)
    stack.close()


async def invalidate(colour: Colour, cache: Any, *tags: str) -> None:
    await colour.call(cache.ainvalidate_tags if colour.is_async else cache.invalidate_tags, *tags)


async def test_a_tag_forgets_what_has_it_and_nothing_else(
    colour: Colour, source: Source, cache: TieredCache, prefix: str
):
    """After `invalidate_tags` the answers with the tag are made anew, all others still serve."""
    ask = tagged(
        colour, source, cache, prefix=prefix, tags=(prefix, lambda user: f"{prefix}{user}")
    )
    first = [await colour.call(ask, user, topic) for user in (1, 2) for topic in "ab"]
    assert [answer.serial for answer in first] == [1, 2, 3, 4]
    await invalidate(colour, cache, f"{prefix}1")
    second = [await colour.call(ask, user, topic) for user in (1, 2) for topic in "ab"]
    assert [answer.serial for answer in second] == [5, 6, 3, 4]
    await invalidate(colour, cache, prefix)
    third = [await colour.call(ask, user, topic) for user in (1, 2) for topic in "ab"]
    assert [answer.serial for answer in third] == [7, 8, 9, 10]
    assert [await colour.call(ask, user, topic) for user in (1, 2) for topic in "ab"] == third


async def test_an_invalidation_during_the_call_wins(
    colour: Colour, source: Source, cache: TieredCache, prefix: str
):
    """An answer whose call began before its tag was invalidated is not served after it."""
    ask = tagged(colour, source, cache, prefix=prefix, tags=prefix)
    old = await colour.call(ask, 2)
    source.meanwhile = lambda: cache.invalidate_tags(prefix)
    assert (await colour.call(ask, 1)).serial == 2
    source.meanwhile = lambda: None
    assert (await colour.call(ask, 1)).serial == 3
    assert (await colour.call(ask, 1)).serial == 3
    assert await colour.call(ask, 2) != old


@pytest.mark.parametrize("method", ["refresh", "call"])
async def test_an_invalidation_by_another_process_wins(
    colour: Colour, source: Source, redis_url: str, prefix: str, method: str
):
    """So it is with an invalidation that this process knows nothing of, in its near tier too."""
    near = MemoryCache()
    ask = tagged(
        colour, source, TieredCache(near, RedisCache(redis_url)), prefix=prefix, tags=prefix
    )
    other = RedisCache(redis_url)  # another object: what it does is not known to the first
    await colour.call(ask, 2)
    source.meanwhile = lambda: other.invalidate_tags(prefix)
    await colour.call(ask.cache_refresh if method == "refresh" else ask, 1)
    source.meanwhile = lambda: None
    near_keys = set(near.scan(f"{prefix}:"))
    assert ask.cache_key(1) not in near_keys
    assert (await colour.call(ask, 1)).serial == 3
    assert (await colour.call(ask, 2)).serial == 4, "an old answer came back with its old epoch"
    other.close()


async def test_a_lost_epoch_is_a_miss_for_ever(
    colour: Colour, source: Source, cache: TieredCache, prefix: str
):
    """A store that lost a tag's epoch serves nothing that depends on it, now or later."""
    ask = tagged(colour, source, cache, prefix=prefix, tags=prefix)
    await colour.call(ask, 1)
    for tier in cache.tiers:
        tier.backend.delete(tag_key(prefix))  # type: ignore[union-attr]
    assert await colour.call(ask.cache_get, 1) is MISS
    assert (await colour.call(ask, 2)).serial == 2, "begins another epoch"
    assert await colour.call(ask.cache_get, 1) is MISS
    assert (await colour.call(ask, 1)).serial == 3


async def test_a_damaged_epoch_is_a_miss(colour: Colour, source: Source):
    """What is no epoch counts as none, and is replaced."""
    cache = MemoryCache()
    ask = tagged(colour, source, cache, tags="t")
    await colour.call(ask, 1)
    for damaged in (b"", b"seven..", b"nine....."):
        cache.set(tag_key("t"), damaged, None)
        calls = source.calls
        assert (await colour.call(ask, 1)).serial == calls + 1
        assert (await colour.call(ask, 1)).serial == calls + 1


async def test_a_tagged_hit_is_one_command(
    colour: Colour, source: Source, redis_url: str, prefix: str
):
    """A hit reads the entry and the epochs of its three tags in one MGET."""
    tags = [f"{prefix}{n}" for n in range(3)]
    ask = tagged(colour, source, RedisCache(redis_url), prefix=prefix, tags=tags)
    await colour.call(ask, 1)
    with redis.Redis.from_url(redis_url) as client:
        client.config_resetstat()
        for _ in range(10):
            assert (await colour.call(ask, 1)).serial == 1
        stats: Any = client.info("commandstats")
        assert stats["cmdstat_mget"]["calls"] == 10
        assert "cmdstat_get" not in stats


async def test_stores_renew_the_epochs_of_their_tags(
    colour: Colour, source: Source, redis_url: str, prefix: str, monkeypatch: pytest.MonkeyPatch
):
    """Tags that are in use don't end: a store in a hundred gives their epochs a whole life again,
    and what was stored before goes on answering."""
    monkeypatch.setattr("instructor_cache._stack._RENEWED", 1.0)
    ask = tagged(colour, source, RedisCache(redis_url), prefix=prefix, tags=prefix, ttl=60)
    await colour.call(ask, 7)
    with redis.Redis.from_url(redis_url) as client:
        assert client.expire(tag_key(prefix), 1000)
        await colour.call(ask, 8)
        assert client.ttl(tag_key(prefix)) > 1_000_000
    assert (await colour.call(ask, 7)).serial == 1


async def test_invalidation_costs_the_same_however_many_answers_there_are(
    colour: Colour, source: Source
):
    """One operation for each tag and tier, with 3 answers or with 300."""
    counts: list[int] = []
    for size in (3, 300):
        backend = FaultyBackend(MemoryCache())
        ask = tagged(colour, source, backend)
        for topic in range(size):
            await colour.call(ask, 1, str(topic))
        before = backend.calls.total()
        await invalidate(colour, TieredCache(backend), "users")
        counts.append(backend.calls.total() - before)
    assert counts == [1, 1]


async def test_a_near_hit_asks_nobody_farther(colour: Colour, source: Source):
    """Near tiers have epochs of their own, filled with the answer from the far tier."""
    near, far = MemoryCache(), FaultyBackend(MemoryCache())
    ask = tagged(colour, source, TieredCache(near, far))
    await colour.call(ask, 1)
    near.clear()
    assert (await colour.call(ask, 1)).serial == 1
    before = far.calls.total()
    assert (await colour.call(ask, 1)).serial == 1
    assert far.calls.total() == before


async def test_without_its_tags_an_answer_is_not_found(colour: Colour, source: Source):
    """Whoever asks with other tags, or none, could not know of an invalidation."""
    cache = MemoryCache()
    with_tags, without = tagged(colour, source, cache), tagged(colour, source, cache, tags=())
    more = tagged(colour, source, cache, tags=("users", "more"))
    assert with_tags.cache_key(1) == without.cache_key(1)
    await colour.call(with_tags, 1)
    for other in (without, more):
        assert await colour.call(other.cache_get, 1) is MISS


async def test_what_was_invalidated_is_not_the_stale_answer_either(colour: Colour, source: Source):
    """The answer kept for failures is forgotten with its tag."""
    cache, now = TieredCache(MemoryCache()), [1.7e9]
    ask = tagged(colour, source, cache, ttl=60, stale_ttl=600, clock=lambda: now[0])
    await colour.call(ask, 1)
    now[0] += 61

    def fail() -> None:
        raise ConnectionError

    source.meanwhile = fail
    assert (await colour.call(ask, 1)).serial == 1, "kept for this"
    await invalidate(colour, cache, "users")
    with pytest.raises(ConnectionError):
        await colour.call(ask, 1)


async def test_a_far_tier_that_was_down_brings_nothing_back(colour: Colour, source: Source):
    """What could not be invalidated for a failure is not served when the tier works again."""
    far = FaultyBackend(MemoryCache())
    cache = TieredCache(MemoryCache(), far)
    ask = tagged(colour, source, cache)
    await colour.call(ask, 1)
    far.failing()
    await invalidate(colour, cache, "users")
    far.heal()
    health = health_of(far)
    health.reads.succeed()
    health.writes.succeed()
    assert (await colour.call(ask, 1)).serial == 2
    assert (await colour.call(ask, 1)).serial == 2


async def test_while_the_far_tier_is_down_the_near_one_serves(colour: Colour, source: Source):
    """A tagged answer is kept by whichever tiers there are."""
    far = FaultyBackend(MemoryCache())
    far.failing()
    ask = tagged(colour, source, TieredCache(MemoryCache(), far))
    await colour.call(ask, 1)
    assert (await colour.call(ask, 1)).serial == 1


async def test_an_answer_that_is_set_has_its_tags(colour: Colour, source: Source):
    """`cache_set` and `cache_refresh` store an answer that its tags can forget."""
    cache = TieredCache(MemoryCache())
    ask = tagged(colour, source, cache)
    await colour.call(ask.cache_set, Answer(serial=100), 1)
    await colour.call(ask.cache_refresh, 2)
    assert (await colour.call(ask, 1)).serial == 100
    await invalidate(colour, cache, "user:1", "user:2")
    assert (await colour.call(ask, 1)).serial == 2
    assert (await colour.call(ask, 2)).serial == 3


async def test_later_callers_do_not_join_a_call_from_before(source: Source):
    """Who asks after the invalidation gets a new answer, though the old call is under way."""
    cache, started, go_on = TieredCache(MemoryCache()), threading.Event(), threading.Event()
    ask = tagged(Colour("sync"), source, cache)

    def hang() -> None:
        source.meanwhile = lambda: None
        started.set()
        assert go_on.wait(10)

    source.meanwhile = hang
    first = threading.Thread(target=ask, args=(1,))
    first.start()
    assert started.wait(10)
    cache.invalidate_tags("user:1")
    assert ask(1).serial == 2
    go_on.set()
    first.join()
    assert ask(1).serial == 2


def test_a_copy_that_comes_late_brings_nothing_back(source: Source):
    """What was read before an invalidation is not believed, though no near epoch contradicts it."""
    near, cache = MemoryCache(), TieredCache(MemoryCache())
    cache = TieredCache(near, *cache.tiers)
    ask = tagged(Colour("sync"), source, cache)
    ask(1)
    key = TaggedKey(ask.cache_key(1), (tag_key("users"), tag_key("user:1")))
    stack = engine_of(ask).stack
    late = drive(stack.get(key)).entry
    cache.invalidate_tags("users")
    near.clear("tag:")  # evicted, or taken back by somebody who was late as well
    assert not drive(stack.shelves[0].take_over(key, late, lambda: stack.is_valid(key, late)))
    assert ask(1).serial == 2


def test_what_is_taken_back_leaves_an_epoch_that_fits_nothing(source: Source):
    """Who takes a late copy back leaves a new epoch, or others as late could put theirs there."""
    near = MemoryCache()
    ask = tagged(Colour("sync"), source, TieredCache(near, MemoryCache()))
    ask(1)
    key = TaggedKey(ask.cache_key(1), (tag_key("users"), tag_key("user:1")))
    stack = engine_of(ask).stack
    drive(stack.take_back(key, drive(stack.get(key)).entry))
    assert all(near.get(tag) is not None for tag in key.tags)


class Hammer:
    """Calls and invalidates from several threads; notes answers older than they may be."""

    def __init__(self, cache: TieredCache, seconds: float) -> None:
        self.cache, self.source, self.lock = cache, Source(), threading.Lock()
        self.least, self.wrong = 0, list[str]()
        self.until = time.monotonic() + seconds
        self.ask = instructor_cache(cache, tags="t")(self.answer)

    def answer(self, n: int) -> Answer:
        with self.lock:
            answer = self.source()
        time.sleep(0.0002)
        return answer

    def call(self, n: int) -> None:
        while time.monotonic() < self.until:
            least = self.least
            if (got := self.ask(n).serial) <= least:
                self.wrong.append(f"{got} where more than {least} was wanted")

    def forget(self) -> None:
        while time.monotonic() < self.until:
            with self.lock:
                begun = self.source.calls
            self.cache.invalidate_tags("t")
            self.least = begun
            time.sleep(0.001)

    def run(self) -> None:
        threads = [threading.Thread(target=self.call, args=(n % 3,)) for n in range(6)]
        threads.append(threading.Thread(target=self.forget))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not self.wrong, self.wrong[:3]
        assert self.source.calls > 20


def test_no_answer_outlives_an_invalidation_in_any_thread(tmp_path: Path):
    """Whatever calls are under way, what was called before the invalidation is not served."""
    Hammer(TieredCache(MemoryCache(), DiskCache(tmp_path, timeout=10)), 1.0).run()


@pytest.mark.slow
@pytest.mark.parametrize("stack", ["memory", "two", "redis"])
def test_no_answer_outlives_an_invalidation_for_long(stack: str, tmp_path: Path, redis_url: str):
    """The same for longer, over other stacks."""
    tiers: dict[str, Callable[[], list[Any]]] = {
        "memory": lambda: [MemoryCache()],
        "two": lambda: [MemoryCache(), MemoryCache(), DiskCache(tmp_path, timeout=10)],
        "redis": lambda: [MemoryCache(), RedisCache(redis_url, timeout=10)],
    }
    Hammer(TieredCache(*tiers[stack]()), 6.0 if stack == "two" else 3.0).run()


# -- what a tag may be ----------------------------------------------------------------------------


async def test_a_tag_follows_from_any_argument(colour: Colour, source: Source):
    """Callables get the arguments they name, defaults and keywords included; several or no tags."""

    def ask(a: int, /, b: int = 2, *rest: int, c: int = 3, **more: int) -> Answer:
        return source()

    seen: list[Any] = []
    cache = TieredCache(MemoryCache())
    cached = instructor_cache(
        cache,
        ignore=("c",),
        tags=[
            lambda a, c: seen.append((a, c)),
            lambda rest, more: [f"r{n}" for n in rest] + list(more),
            lambda **everything: f"all{sorted(everything)}",
            lambda z="absent": z,
        ],
    )(colour.function(ask))
    await colour.call(cached, 1, 5, 6, z="here")
    assert seen == [(1, 3)]
    for tag in ("r6", "z", "all['a', 'b', 'c', 'more', 'rest', 'z']", "here"):
        calls = source.calls
        await invalidate(colour, cache, tag)
        await colour.call(cached, 1, 5, 6, z="here")
        assert source.calls == calls + 1, tag
    await invalidate(colour, cache, "absent")
    await colour.call(cached, 1, 5, 6, z="here")
    assert source.calls == calls + 1


def test_a_tag_on_a_method():
    """A method's callables may name self."""

    class Extractor:
        tenant = "acme"

        def __cache_key__(self) -> str:
            return self.tenant

        @instructor_cache(MemoryCache(), tags=lambda self, n: f"{self.tenant}:{n}")
        def extract(self, n: int) -> Answer:
            return Answer(serial=n)

    assert Extractor().extract(1) == Extractor().extract(1)


@pytest.mark.parametrize(
    ("tags", "error", "words"),
    [
        (
            lambda nobody: "x",
            ValueError,
            "takes nobody, which .*ask can't give by name; .*: user, topic",
        ),
        (lambda *args: "x", ValueError, r"takes \*args"),
        ([1], TypeError, "found the tag 1; give text"),
        ("", ValueError, "empty tag"),
        ([""], ValueError, "empty tag"),
        ([None], TypeError, "found the tag None"),
        (5, TypeError, "tags is 5; give text"),
        (b"users", TypeError, "tags is b'users'"),
        ({"users": 1}, TypeError, "tags is"),
        (lambda user, /: "x", ValueError, "can't give by name"),
    ],
)
def test_bad_tags_are_refused_at_decoration(tags: Any, error: type[Exception], words: str):
    """What can't be a tag is told when the function is decorated, with the remedy."""
    with pytest.raises(error, match=words):
        tagged(Colour("sync"), Source(), MemoryCache(), tags=tags)


def test_coroutine_functions_make_no_tags():
    """A coroutine function in tags= is refused at decoration."""

    async def tag(user: int) -> str:
        return "x"

    with pytest.raises(TypeError, match="coroutine function"):
        tagged(Colour("sync"), Source(), MemoryCache(), tags=tag)


@pytest.mark.parametrize(
    "made", [lambda: 1 / 0, lambda: 5, lambda: [""], lambda: map(str, range(300))]
)
async def test_a_tag_that_fails_leaves_the_call_uncached(
    colour: Colour, source: Source, made: Callable[[], Any]
):
    """The function answers all the same; an event and one warning tell."""
    events: list[Event] = []
    ask = tagged(colour, source, MemoryCache(), tags=lambda user: made(), observer=events.append)
    with pytest.warns(UnkeyableArgumentWarning, match="tag"):
        await colour.call(ask, 1)
    assert (await colour.call(ask, 1)).serial == 2
    assert [event.kind for event in events] == ["unkeyable", "unkeyable"]


@pytest.mark.parametrize(
    ("tags", "error"), [((), ValueError), ((1,), TypeError), (("",), ValueError)]
)
def test_bad_tags_can_not_be_invalidated(tags: tuple[Any, ...], error: type[Exception]):
    """`invalidate_tags` without a tag, or with what is none, is a clear error."""
    for cache in (MemoryCache(), TieredCache(MemoryCache())):
        with pytest.raises(error):
            cache.invalidate_tags(*tags)


def test_tags_are_not_readable_in_the_store(source: Source):
    """Tags may hold personal data: the store has digests of them only."""
    cache = MemoryCache()
    tagged(Colour("sync"), source, cache, tags=lambda user: f"user:{user}@example.com")(7)
    for key in cache.scan(""):
        assert "example.com" not in key
        assert b"example.com" not in (cache.get(key) or b"")


def test_the_tags_of_a_function_are_among_its_parameters(source: Source):
    """`cache_parameters` tells the tags as they were given."""
    ask = tagged(Colour("sync"), source, MemoryCache(), tags="a")
    assert ask.cache_parameters()["tags"] == ("a",)


# -- whole caches ---------------------------------------------------------------------------------


async def test_clear_forgets_one_prefix_in_every_tier(
    colour: Colour, source: Source, cache: TieredCache, prefix: str
):
    """`cache.clear(prefix)` forgets the functions decorated with it, and no other's answers."""
    mine = tagged(colour, source, cache, prefix=f"{prefix} [*]", tags=())
    others = tagged(colour, source, cache, prefix=f"{prefix} [*]2", tags=())
    await colour.call(mine, 1)
    await colour.call(others, 1)
    await colour.call(cache.aclear if colour.is_async else cache.clear, prefix=f"{prefix} [*]")
    assert await colour.call(mine.cache_get, 1) is MISS
    assert (await colour.call(others.cache_get, 1)).serial == 2
    await colour.call(cache.aclear if colour.is_async else cache.clear, f"{prefix} [*]2")


async def test_clear_wins_over_a_call_that_is_under_way(colour: Colour, source: Source):
    """An answer whose call began before the cache was cleared is not served after it."""
    cache = TieredCache(MemoryCache(), MemoryCache())
    ask = tagged(colour, source, cache, tags=())
    source.meanwhile = cache.clear
    await colour.call(ask, 1)
    source.meanwhile = lambda: None
    assert (await colour.call(ask, 1)).serial == 2


def test_a_backend_is_cleared_by_keyword(redis_url: str, tmp_path: Path, prefix: str):
    """`clear(prefix=...)` works on every backend of ours: what begins with it is deleted."""
    for backend in (MemoryCache(), DiskCache(tmp_path), RedisCache(redis_url)):
        backend.set(f"{prefix}:a", b"1", None)
        backend.clear(prefix=f"{prefix}:")
        assert backend.get(f"{prefix}:a") is None
        backend.close()


async def test_a_backend_is_cleared_by_coroutines(redis_url: str, tmp_path: Path, prefix: str):
    """`await aclear(prefix=...)` does the same on each of them."""
    for backend in (MemoryCache(), DiskCache(tmp_path), RedisCache(redis_url)):
        backend.set(f"{prefix}:a", b"1", None)
        await backend.aclear(prefix=f"{prefix}:")
        assert backend.get(f"{prefix}:a") is None
        await backend.aclose() if isinstance(backend, RedisCache) else backend.close()


# -- what fresh eyes found -------------------------------------------------------------------------


async def test_a_tier_that_is_only_written_brings_no_epoch_back(colour: Colour, source: Source):
    """Who does not read a store must not undo there what others have invalidated."""
    shared = MemoryCache()
    writer = tagged(colour, source, TieredCache(MemoryCache(), Tier(shared, read=False)))
    reader = tagged(colour, source, TieredCache(shared))
    assert (await colour.call(writer, 1)).serial == 1
    assert (await colour.call(reader, 1)).serial == 1
    await invalidate(colour, TieredCache(shared), "users")
    assert (await colour.call(writer, 2)).serial == 2
    assert await colour.call(reader.cache_get, 1) is MISS
    assert (await colour.call(reader, 2)).serial == 2


async def test_a_near_hit_over_a_tier_that_is_only_read(colour: Colour, source: Source):
    """What was copied from there is a near hit from then on, tags or not."""
    theirs = FaultyBackend(MemoryCache())
    await colour.call(tagged(colour, source, TieredCache(theirs)), 1)
    ask = tagged(colour, source, TieredCache(MemoryCache(), Tier(theirs, write=False)))
    assert (await colour.call(ask, 1)).serial == 1
    before = theirs.calls.total()
    assert (await colour.call(ask, 1)).serial == 1
    assert theirs.calls.total() == before
    assert (await colour.call(ask, 2)).serial == 2, "and an answer of its own has their epochs"
    assert (await colour.call(ask, 2)).serial == 2


@pytest.mark.parametrize("write", [True, False])
async def test_many_missed_deletions_bring_no_tag_back(colour: Colour, source: Source, write: bool):
    """However many keys a tier could not forget, it forgets the tags and prefixes as well."""
    far = FaultyBackend(MemoryCache())
    await colour.call(tagged(colour, source, TieredCache(far)), 1)
    cache = TieredCache(MemoryCache(), Tier(far, write=write))
    ask = tagged(colour, source, cache)
    far.failing()
    await invalidate(colour, cache, "users")
    for n in range(1001):
        await invalidate(colour, cache, f"other{n}")
    far.heal()
    health = health_of(far)
    health.reads.succeed()
    health.writes.succeed()
    assert (await colour.call(ask, 1)).serial == 2
    assert len(cache.tiers[1].void) + len(health.missed) <= 1001


async def test_clear_wins_over_calls_of_other_processes(
    colour: Colour, source: Source, tmp_path: Path
):
    """`cache.clear` in one process holds for a call that is under way in another."""
    ask = tagged(colour, source, TieredCache(MemoryCache(), DiskCache(tmp_path)), tags=())
    other = TieredCache(MemoryCache(), DiskCache(tmp_path))  # what it does is not known to `ask`
    source.meanwhile = other.clear
    await colour.call(ask, 1)
    source.meanwhile = lambda: None
    assert (await colour.call(ask, 1)).serial == 2
    assert (await colour.call(ask, 1)).serial == 2


@pytest.mark.parametrize("prefix", ["tag", "lock", "forgotten"])
def test_prefixes_of_the_cache_itself_are_refused(source: Source, prefix: str):
    """A prefix that would mix answers with what keeps them is told at decoration, and by clear."""
    with pytest.raises(ValueError, match="the cache uses itself"):
        tagged(Colour("sync"), source, MemoryCache(), prefix=prefix)
    with pytest.raises(ValueError, match="the cache uses itself"):
        TieredCache(MemoryCache()).clear(prefix)


@pytest.mark.parametrize("prefix", [5, None, b"x", ["a"]])
def test_a_prefix_is_text(prefix: Any):
    """Anything else is a clear error."""
    with pytest.raises(TypeError, match="prefix is .*; it must be text"):
        TieredCache(MemoryCache()).clear(prefix)


def test_tags_from_a_generator_serve_every_function(source: Source):
    """One decorator may decorate several functions."""
    decorate = instructor_cache(MemoryCache(), tags=(tag for tag in "ab"))

    def one(n: int) -> Answer:
        return source()

    def two(n: int) -> Answer:
        return source()

    for func in (one, two):
        assert decorate(func).cache_parameters()["tags"] == ("a", "b")


def test_invalidating_often_needs_few_threads(tmp_path: Path):
    """A thousand invalidations in a row are made by the same few threads."""

    class Watched(MemoryCache):
        """Not bounded, as it does not say so itself: asked in threads."""

    cache = TieredCache(Watched())
    for n in range(200):
        cache.invalidate_tags(f"{n}")
    assert threading.active_count() < 20
