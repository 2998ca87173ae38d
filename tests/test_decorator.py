"""The decorator's promises, each for sync and for coroutine functions."""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import pickle
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import Colour
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from instructor_cache import (
    MISS,
    BackendError,
    CacheInfo,
    DiskCache,
    Event,
    MemoryCache,
    RedisCache,
    Tier,
    TieredCache,
    UnkeyableArgumentWarning,
    Unstorable,
    UnstorableResultWarning,
    instructor_cache,
    lru,
)
from instructor_cache._bridge import drive
from instructor_cache.entry import Entry


class User(BaseModel):
    name: str
    tags: list[str] = []


class Clock:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class Spy:
    """A backend that remembers what was asked of it, and fails on demand."""

    def __init__(self) -> None:
        self.data: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.ttls: list[float | None] = []
        self.broken = False

    def _ask(self, what: str) -> None:
        self.asked.append(what)
        if self.broken:
            raise OSError("the disk is on fire")

    def get(self, key: str, /) -> bytes | None:
        self._ask("get")
        return self.data.get(key)

    def set(self, key: str, value: bytes, ttl: float | None, /) -> None:
        self._ask("set")
        self.ttls.append(ttl)
        self.data[key] = value

    def delete(self, key: str, /) -> None:
        self._ask("delete")
        self.data.pop(key, None)


class AsyncOnly:
    """A backend without a sync face."""

    def __init__(self) -> None:
        self.data: dict[str, bytes] = {}

    async def aget(self, key: str, /) -> bytes | None:
        await asyncio.sleep(0)
        return self.data.get(key)

    async def aset(self, key: str, value: bytes, ttl: float | None, /) -> None:
        self.data[key] = value

    async def adelete(self, key: str, /) -> None:
        self.data.pop(key, None)


def maker(colour: Colour, calls: list[str]) -> Any:
    """A function of the wanted colour that writes down its calls."""

    def extract(text: str, *, lang: str = "en") -> User:
        """Extract a user."""
        calls.append(text)
        if text.startswith("fail"):
            raise LookupError(text)
        return User(name=text)

    return colour.function(extract)


# -- the main job --------------------------------------------------------------------------


async def test_the_second_call_is_a_hit(colour: Colour):
    """The function runs once for each distinct call; each caller owns its answer."""
    calls: list[str] = []
    f = instructor_cache(MemoryCache())(maker(colour, calls))
    first, second = await colour.call(f, "ada"), await colour.call(f, "ada")
    assert first == second == User(name="ada")
    second.tags.append("mine")
    assert (await colour.call(f, text="ada")).tags == []
    await colour.call(f, "ada", lang="de")
    assert calls == ["ada", "ada"]
    info = f.cache_info()
    assert isinstance(info, CacheInfo)
    assert info[:4] == (info.hits, info.misses, info.maxsize, info.currsize) == (2, 2, 1024, 2)
    assert info.max_bytes == 64 * 2**20
    assert info.currbytes is not None
    assert 2 * 300 < info.currbytes < 2 * 1000


async def test_all_backends_serve_both_colours(colour: Colour, tmp_path: Path, redis_url: str):
    """Memory, disk and Redis, by object or URL, and three of them stacked, give the same hits."""
    urls = ["memory://?maxsize=5", f"disk://{tmp_path}/url", redis_url]
    stack = TieredCache(MemoryCache(), DiskCache(tmp_path / "stack"), RedisCache(redis_url))
    for n, backend in enumerate([*urls, stack, DiskCache(tmp_path / "x"), RedisCache(redis_url)]):
        calls: list[str] = []
        f = instructor_cache(backend, prefix=f"{tmp_path}{n}", ttl=60)(maker(colour, calls))
        for _ in range(3):
            assert await colour.call(f, "ada") == User(name="ada")
        assert calls == ["ada"], backend
        await colour.call(f.cache_clear)
        assert not await colour.call(f.cache_contains, "ada")


async def test_none_and_empty_answers_are_answers(colour: Colour):
    """None and an empty list are remembered like any other answer."""
    calls: list[str] = []

    def body(text: str) -> list[User] | None:
        calls.append(text)
        return [] if text == "empty" else None

    f = instructor_cache(MemoryCache())(colour.function(body))
    for text, answer in (("empty", []), ("none", None)):
        assert await colour.call(f, text) == answer
        assert await colour.call(f, text) == answer
        assert await colour.call(f.cache_get, text) == answer
    assert calls == ["empty", "none"]


async def test_an_exception_is_the_callers_and_is_not_kept(colour: Colour):
    """What the function raises arrives as it is, and the next call tries again."""
    calls: list[str] = []
    memory = MemoryCache()
    f = instructor_cache(memory)(maker(colour, calls))
    for _ in range(2):
        with pytest.raises(LookupError, match="fail") as caught:
            await colour.call(f, "fail")
    assert calls == ["fail", "fail"]
    assert len(memory) == 0
    assert caught.traceback[-1].name == "extract"


def test_stop_iteration_passes_through_a_sync_function():
    """Even a StopIteration, which a coroutine would turn into a RuntimeError, arrives."""

    @instructor_cache(MemoryCache())
    def extract(text: str) -> User:
        return next(iter([]))

    with pytest.raises(StopIteration):
        extract("ada")


def test_a_sync_function_works_inside_a_running_loop():
    """A sync cached function needs no loop and minds none."""
    f = instructor_cache(MemoryCache())(maker(Colour("sync"), []))

    async def main() -> User:
        return f("ada")

    assert asyncio.run(main()).name == "ada"


def test_drive_refuses_to_suspend():
    """A leaf that suspends in a sync call is our own mistake and is named as such."""
    with pytest.raises(RuntimeError, match="must not suspend"):
        drive(asyncio.sleep(0))


# -- what a decorated function is ------------------------------------------------------------


async def test_the_wrapper_looks_like_the_function(colour: Colour):
    """Name, docstring, signature, colour and `__wrapped__` are the function's own."""
    plain = maker(colour, [])
    f = instructor_cache(MemoryCache())(plain)
    assert (f.__name__, f.__qualname__, f.__doc__) == (
        plain.__name__,
        plain.__qualname__,
        plain.__doc__,
    )
    assert inspect.signature(f) == inspect.signature(plain)
    assert inspect.iscoroutinefunction(f) == colour.is_async
    assert inspect.isfunction(f)
    assert f.__wrapped__ is plain


def test_bare_called_and_url_forms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`@instructor_cache`, `@instructor_cache()` and a URL in the environment all work."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("INSTRUCTOR_CACHE_URL", raising=False)
    calls: list[str] = []
    for decorate in (instructor_cache, instructor_cache()):
        f = decorate(maker(Colour("sync"), calls))
        assert f("ada") == f("ada") == User(name="ada")
    assert calls == ["ada"]
    assert (tmp_path / ".instructor_cache").is_dir()
    monkeypatch.setenv("INSTRUCTOR_CACHE_URL", "memory://")
    f = instructor_cache(maker(Colour("sync"), calls))
    assert f("ada") == f("ada")
    assert calls == ["ada", "ada"]
    assert f.cache_parameters()["tiers"] == ("memory",)


@instructor_cache(MemoryCache())
def at_module_level(text: str) -> User:
    return User(name=text)


def test_a_cached_function_pickles_by_name():
    """It comes back from pickle as itself, so process pools can take it."""
    assert pickle.loads(pickle.dumps(at_module_level)) is at_module_level


def test_what_is_no_function_is_refused():
    """A class, a partial or a plain object in the function's place is told what to do."""
    for thing in (User, functools.partial(print), 5):
        with pytest.raises(TypeError, match="decorates functions and methods"):
            instructor_cache(MemoryCache())(thing)


@pytest.mark.parametrize(
    ("backend", "error", "hint"),
    [
        (object(), TypeError, "a backend has get"),
        (5, TypeError, "a backend has get"),
        (MemoryCache, TypeError, r"make one: MemoryCache\(\.\.\.\)"),
        ("ftp://host", ValueError, "wanted one of: memory://"),
        ("redis", ValueError, "wanted one of"),
        ("disk://", ValueError, "disk://folder"),
        ("memory://?size=1", ValueError, "maxsize, max_bytes"),
    ],
)
def test_a_wrong_backend_is_told_at_decoration(backend: Any, error: type[Exception], hint: str):
    """Nothing waits for the first call to find out that a backend can't keep answers."""
    with pytest.raises(error, match=hint):
        instructor_cache(backend)


def test_an_async_only_backend_under_a_sync_function_is_refused():
    """At decoration, in words that say what to do; under a coroutine function it works."""
    with pytest.raises(TypeError, match="async-only.*make the function async"):
        instructor_cache(AsyncOnly())(maker(Colour("sync"), []))
    calls: list[str] = []
    f = instructor_cache(AsyncOnly())(maker(Colour("async"), calls))
    assert asyncio.run(f("ada")) == asyncio.run(f("ada"))
    assert calls == ["ada"]


def test_wrong_options_are_told_at_decoration():
    """A negative or unreadable ttl, or an unknown option, never waits for a call."""
    with pytest.raises(ValueError, match="ttl is -1"):
        instructor_cache(MemoryCache(), ttl=-1)
    with pytest.raises(ValueError, match="5 parsecs"):
        instructor_cache(MemoryCache(), ttl="5 parsecs")
    with pytest.raises(TypeError, match="tll"):
        instructor_cache(MemoryCache(), tll=1)


# -- ttl, cache_if -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "ttl", [10, 10.0, "10s", timedelta(seconds=10), lambda user: len(user.name)]
)
async def test_an_answer_is_fresh_for_its_ttl(colour: Colour, ttl: Any):
    """Until the ttl is over the answer is served, then the function is asked again."""
    clock, calls = Clock(), []
    f = instructor_cache(MemoryCache(clock=clock), ttl=ttl, clock=clock)(maker(colour, calls))
    await colour.call(f, "ten chars!")
    clock.now += 9.99
    await colour.call(f, "ten chars!")
    assert len(calls) == 1
    clock.now += 0.01
    await colour.call(f, "ten chars!")
    assert len(calls) == 2


async def test_the_backend_is_told_the_ttl(colour: Colour):
    """Backends get seconds, or None for ever."""
    for ttl, told in (("1h", 3600.0), (None, None), (0.5, 0.5)):
        spy, clock = Spy(), Clock()
        f = instructor_cache(spy, ttl=ttl, clock=clock)(maker(colour, []))
        await colour.call(f, "ada")
        assert spy.ttls == [told]


async def test_a_ttl_of_zero_stores_nothing(colour: Colour):
    """0 means "do not store", not "for ever"; also when a callable says so."""
    for ttl in (0, "0s", lambda user: 0):
        spy, calls = Spy(), []
        f = instructor_cache(spy, ttl=ttl)(maker(colour, calls))
        await colour.call(f, "ada")
        await colour.call(f, "ada")
        assert calls == ["ada", "ada"]
        assert spy.data == {}


async def test_cache_if_decides_what_is_kept(colour: Colour):
    """Only answers that `cache_if` accepts are stored; the others are answers all the same."""
    calls: list[str] = []
    f = instructor_cache(MemoryCache(), cache_if=lambda user: user.name != "no")(
        maker(colour, calls)
    )
    for text in ("yes", "yes", "no", "no"):
        assert (await colour.call(f, text)).name == text
    assert calls == ["yes", "no", "no"]


@pytest.mark.parametrize("option", ["ttl", "cache_if"])
async def test_an_option_that_raises_loses_no_answer(colour: Colour, option: str):
    """A `ttl` or `cache_if` that fails is an event; the paid answer comes back, unstored."""
    events: list[Event] = []

    def broken(result: Any) -> Any:
        raise ZeroDivisionError

    options: dict[str, Any] = {option: broken}
    memory = MemoryCache()
    f = instructor_cache(memory, observer=events.append, **options)(maker(colour, []))
    assert (await colour.call(f, "ada")).name == "ada"
    assert [e.kind for e in events] == ["miss", "failure"]
    assert len(memory) == 0


# -- failures ----------------------------------------------------------------------------------


async def test_a_broken_backend_is_survived(colour: Colour):
    """Every operation fails: the function's own answers come back, and events tell."""
    spy, calls, events = Spy(), [], []
    f = instructor_cache(spy, observer=events.append)(maker(colour, calls))
    spy.broken = True
    for _ in range(2):
        assert (await colour.call(f, "ada")).name == "ada"
    assert calls == ["ada", "ada"]
    failures = [e for e in events if e.kind == "failure"]
    assert {(e.tier, str(e.error)) for e in failures} == {("spy", "the disk is on fire")}
    assert await colour.call(f.cache_get, "ada") is MISS
    await colour.call(f.cache_invalidate, "ada")
    spy.broken = False
    await colour.call(f, "ada")
    await colour.call(f, "ada")
    assert len(calls) == 3


async def test_a_broken_backend_raises_if_asked(colour: Colour):
    """With `fail_open=False` its error arrives as a BackendError that holds the cause."""
    spy = Spy()
    spy.broken = True
    f = instructor_cache(spy, fail_open=False)(maker(colour, []))
    with pytest.raises(BackendError, match="spy failed to get .*on fire") as caught:
        await colour.call(f, "ada")
    assert isinstance(caught.value.__cause__, OSError)


GARBAGE: dict[str, Any] = {
    "empty": lambda raw: b"",
    "short": lambda raw: raw[:10],
    "truncated": lambda raw: raw[:-1],
    "garbage": lambda raw: bytes(reversed(raw)),
    "flipped": lambda raw: raw[:-3] + bytes([raw[-3] ^ 1]) + raw[-2:],
    "version": lambda raw: b"\xff" + raw[1:],
    "flags": lambda raw: raw[:1] + b"\x80" + raw[2:],
    "longer": lambda raw: raw + b" ",
    "text": lambda raw: "text",
    "number": lambda raw: 1,
}


@pytest.mark.parametrize("damage", GARBAGE.values(), ids=list(GARBAGE))
async def test_a_corrupt_entry_is_a_miss_and_is_replaced(colour: Colour, damage: Any):
    """Bytes that are no entry are told of, deleted, and the answer stored anew."""
    spy, calls, events = Spy(), [], []
    f = instructor_cache(spy, observer=events.append)(maker(colour, calls))
    await colour.call(f, "ada")
    ((key, raw),) = spy.data.items()
    spy.data[key] = damage(raw)
    assert await colour.call(f, "ada") == User(name="ada")
    assert len(calls) == 2
    assert "corrupt" in [e.kind for e in events]
    assert await colour.call(f, "ada") == User(name="ada")
    assert len(calls) == 2


@pytest.mark.parametrize("kind", [bytearray, memoryview])
@pytest.mark.parametrize("tags", [(), ("a",)])
async def test_drivers_have_their_own_types_of_bytes(colour: Colour, kind: Any, tags: Any):
    """A database may give a memoryview for what was stored as bytes: that is a hit."""
    spy, calls = Spy(), []
    f = instructor_cache(spy, tags=tags)(maker(colour, calls))
    await colour.call(f, "ada")
    for key, raw in spy.data.items():
        spy.data[key] = kind(raw)
    assert await colour.call(f, "ada") == User(name="ada")
    assert len(calls) == 1


async def test_an_entry_under_another_key_is_a_miss(colour: Colour):
    """Rows that were swapped are never served."""
    spy, calls = Spy(), []
    f = instructor_cache(spy)(maker(colour, calls))
    for name in ("ada", "bob"):
        await colour.call(f, name)
    a, b = spy.data
    spy.data[a], spy.data[b] = spy.data[b], spy.data[a]
    assert (await colour.call(f, "ada")).name == "ada"
    assert (await colour.call(f, "bob")).name == "bob"
    assert len(calls) == 4


async def test_a_payload_of_another_shape_is_a_miss(colour: Colour):
    """An intact entry whose payload does not fit the type is discarded."""
    spy, calls, events = Spy(), [], []
    f = instructor_cache(spy, observer=events.append)(maker(colour, calls))
    key = f.cache_key("ada")
    spy.data[key] = Entry(b'{"nonsense": 1}', 0.0).pack(key)
    assert (await colour.call(f.cache_explain, "ada")).outcome == "unreadable"
    assert (await colour.call(f, "ada")).name == "ada"
    assert "corrupt" in [e.kind for e in events]


async def test_an_unstorable_answer_is_returned(colour: Colour):
    """An answer of another type than annotated comes back, is not stored, and is told once."""
    events: list[Event] = []

    def body(text: str) -> User:
        return object()  # type: ignore[return-value]

    memory = MemoryCache()
    f = instructor_cache(memory, observer=events.append)(colour.function(body))
    with pytest.warns(UnstorableResultWarning) as warned:
        for _ in range(3):
            assert type(await colour.call(f, "ada")) is object
    assert len(warned) == 1
    assert [e.kind for e in events] == ["miss", "unstorable"] * 3
    assert len(memory) == 0
    with pytest.raises(Unstorable):
        await colour.call(f.cache_set, object(), "ada")


# -- tiers -------------------------------------------------------------------------------------


async def test_a_far_hit_fills_the_nearer_tiers_with_the_time_left(colour: Colour):
    """A hit in the second tier is copied to the first for as long as it has left to live."""
    clock, near, far, events = Clock(), Spy(), Spy(), []
    options: dict[str, Any] = {"ttl": 10, "clock": clock, "observer": events.append}
    f = instructor_cache(TieredCache(near, Tier(far, name="far")), **options)(maker(colour, []))
    await colour.call(f, "ada")
    assert near.data == far.data != {}
    near.data.clear()
    clock.now += 4
    await colour.call(f, "ada")
    assert near.data == far.data
    assert near.ttls == [10, 6]
    far.asked.clear()
    await colour.call(f, "ada")
    assert far.asked == []
    assert [(e.kind, e.tier) for e in events if e.kind == "hit"] == [("hit", "far"), ("hit", "spy")]


async def test_a_tier_may_keep_entries_for_less(colour: Colour):
    """A tier's own ttl bounds what it is told, never extends it."""
    near, far = Spy(), Spy()
    stack = TieredCache(Tier(near, ttl="5s"), Tier(far, ttl="1h"))
    f = instructor_cache(stack, ttl=lambda answer: 60, clock=Clock())(maker(colour, []))
    await colour.call(f, "ada")
    assert (near.ttls, far.ttls) == ([5], [60])


async def test_a_broken_tier_is_skipped(colour: Colour):
    """The tiers behind a failing one answer."""
    near, far, calls = Spy(), Spy(), []
    near.broken = True
    f = instructor_cache(TieredCache(near, far))(maker(colour, calls))
    await colour.call(f, "ada")
    await colour.call(f, "ada")
    assert calls == ["ada"]


def test_wrong_stacks_are_refused():
    """No tier at all, or one backend twice, is told when the stack is made."""
    memory = MemoryCache()
    with pytest.raises(ValueError, match="at least one"):
        TieredCache()
    with pytest.raises(ValueError, match="twice"):
        TieredCache(memory, Spy(), memory)
    nested = TieredCache(memory, TieredCache(Spy(), "memory://"))
    assert [tier.name for tier in nested.tiers] == ["memory", "spy", "memory"]


def test_a_stack_closes_its_tiers(tmp_path: Path):
    """Leaving the stack's context closes what can be closed; later calls still answer."""
    with TieredCache(MemoryCache(), DiskCache(tmp_path)) as stack:
        f = instructor_cache(stack)(maker(Colour("sync"), []))
        f("ada")
    assert f("bob").name == "bob"


async def test_decorators_stack(colour: Colour, tmp_path: Path, redis_url: str, prefix: str):
    """`@lru` on disk on Redis, as stacked decorators, answers from the nearest."""
    calls: list[str] = []
    far = instructor_cache(RedisCache(redis_url), ttl=3600, prefix=prefix)(maker(colour, calls))
    middle = instructor_cache(DiskCache(tmp_path))(far)
    near = lru(maxsize=100)(middle)
    assert await colour.call(near, "ada") == await colour.call(near, "ada") == User(name="ada")
    assert calls == ["ada"]
    assert [f.cache_info()[:2] for f in (near, middle, far)] == [(1, 1), (0, 1), (0, 1)]
    for forget, arguments in ((near.cache_invalidate, ["ada"]), (near.cache_clear, [])):
        await colour.call(near, "ada")
        await colour.call(forget, *arguments)
        for f in (near, middle, far):
            assert not await colour.call(f.cache_contains, "ada")
    await colour.call(near, "ada")
    await colour.call(near.cache_refresh, "ada")
    assert calls == ["ada"] * 4


async def test_lru_forgets_what_was_used_least(colour: Colour):
    """`lru` keeps at most *maxsize* answers and works bare, called, and with a ttl."""
    calls: list[str] = []
    f = lru(maxsize=2)(maker(colour, calls))
    for text in ("a", "b", "a", "c", "a"):
        await colour.call(f, text)
    assert calls == ["a", "b", "c"]
    assert f.cache_info().maxsize == 2
    bare = lru(maker(colour, calls))
    assert (await colour.call(bare, "x")).name == "x"
    assert bare.cache_info().maxsize == 128
    assert lru(None)(maker(colour, calls)).cache_info().maxsize is None


# -- functools-style methods ---------------------------------------------------------------------


async def test_get_set_contains_invalidate(colour: Colour):
    """Answers can be looked at, set and forgotten without calling the function."""
    calls: list[str] = []
    f = instructor_cache(MemoryCache())(maker(colour, calls))
    assert await colour.call(f.cache_get, "ada") is MISS
    assert not MISS
    assert not await colour.call(f.cache_contains, "ada")
    await colour.call(f.cache_set, User(name="Ada L."), "ada")
    assert await colour.call(f.cache_get, text="ada") == User(name="Ada L.")
    assert await colour.call(f.cache_contains, "ada")
    assert await colour.call(f, "ada") == User(name="Ada L.")
    await colour.call(f.cache_invalidate, "ada")
    assert await colour.call(f.cache_get, "ada") is MISS
    assert calls == []
    assert pickle.loads(pickle.dumps(MISS)) is MISS


async def test_refresh_calls_and_replaces(colour: Colour):
    """`cache_refresh` calls the function whatever is stored and stores what it says."""
    calls: list[str] = []
    f = instructor_cache(MemoryCache())(maker(colour, calls))
    await colour.call(f.cache_set, User(name="old"), "ada")
    assert (await colour.call(f.cache_refresh, "ada")).name == "ada"
    assert (await colour.call(f, "ada")).name == "ada"
    assert calls == ["ada"]
    assert f.cache_info()[:2] == (1, 1)


async def test_clear_forgets_this_function_only(colour: Colour):
    """`cache_clear` leaves other functions and prefixes alone, and starts the counts anew."""
    memory = MemoryCache()
    f = instructor_cache(memory)(maker(colour, []))
    version = instructor_cache(memory, version="2")(maker(colour, []))
    other = instructor_cache(memory, prefix="instructor2")(maker(colour, []))
    for each in (f, version, other, instructor_cache(memory)(at_module_level.__wrapped__)):
        await colour.call(each, "ada")
    await colour.call(f.cache_clear)
    assert not await colour.call(f.cache_contains, "ada")
    assert not await colour.call(version.cache_contains, "ada")
    assert await colour.call(other.cache_contains, "ada")
    assert len(memory) == 2
    assert f.cache_info()[:2] == (0, 0)


async def test_clear_needs_a_backend_that_can(colour: Colour):
    """A backend of three methods can't be cleared, and the error says what it lacks."""
    f = instructor_cache(Spy())(maker(colour, []))
    with pytest.raises(TypeError, match=r"spy can't be cleared.*clear\(prefix\)"):
        await colour.call(f.cache_clear)


async def test_map_answers_many_calls(colour: Colour):
    """`cache_map` takes values, tuples and dicts, keeps their order, and calls once for each."""
    calls: list[str] = []
    f = instructor_cache(MemoryCache())(maker(colour, calls))
    wanted = ["a", ("b",), {"text": "c"}, "a"] * 5
    users = await colour.call(f.cache_map, wanted, concurrency=4)
    assert [u.name for u in users] == ["a", "b", "c", "a"] * 5
    assert sorted(calls) == ["a", "b", "c"]
    assert await colour.call(f.cache_map, []) == []
    with pytest.raises(LookupError, match="fail 1"):
        await colour.call(f.cache_map, ["x", "fail 1", "fail 2"])
    outcome = await colour.call(f.cache_map, ["x", "fail 1"], return_exceptions=True)
    assert outcome[0].name == "x"
    assert isinstance(outcome[1], LookupError)
    with pytest.raises(ValueError, match="concurrency is 0"):
        await colour.call(f.cache_map, ["x"], concurrency=0)


async def test_looking_changes_nothing(colour: Colour):
    """`cache_get` counts nothing; `cache_contains` and `cache_explain` copy nothing either."""
    near, far = MemoryCache(), MemoryCache()
    f = instructor_cache(TieredCache(Tier(near), Tier(far, name="far")))(maker(colour, []))
    await colour.call(f, "ada")
    near.clear()
    for _ in range(2):
        assert await colour.call(f.cache_contains, "ada")
        assert (await colour.call(f.cache_explain, "ada")).tier == "far"
    assert len(near) == 0
    assert (await colour.call(f.cache_get, "ada")).name == "ada"
    assert f.cache_info()[:2] == (0, 1)


async def test_a_miss_costs_one_read_and_one_write(colour: Colour):
    """Nothing is asked of a backend twice for one call."""
    spy = Spy()
    f = instructor_cache(spy)(maker(colour, []))
    await colour.call(f, "ada")
    await colour.call(f, "ada")
    assert spy.asked == ["get", "set", "get"]


async def test_explain_tells_why(colour: Colour):
    """`cache_explain` says hit or miss, where, how old, and for how long, without a call."""
    clock, calls = Clock(), []
    f = instructor_cache(MemoryCache(clock=clock), ttl=60, clock=clock)(maker(colour, calls))
    told = await colour.call(f.cache_explain, "ada")
    assert (told.outcome, told.key, told.tier) == ("miss", f.cache_key("ada"), None)
    await colour.call(f, "ada")
    clock.now += 20
    told = await colour.call(f.cache_explain, "ada")
    assert (told.outcome, told.tier, told.age, told.expires_in) == ("hit", "memory", 20, 40)
    assert (await colour.call(f.cache_explain, object())).outcome == "unkeyable"
    assert calls == ["ada"]
    assert f.cache_info()[:2] == (0, 1)


def test_parameters_are_told():
    """`cache_parameters` gives the options as they are meant."""
    f = instructor_cache(MemoryCache(), ttl="1m", prefix="p", version=3)(maker(Colour("sync"), []))
    assert f.cache_parameters() == {
        "ttl": 60,
        "stale_ttl": None,
        "refresh_ahead": None,
        "jitter": 0.0,
        "prefix": "p",
        "version": "3",
        "ignore": (),
        "tags": (),
        "keep_arguments": True,
        "fail_open": True,
        "timeout": None,
        "lock": None,
        "tiers": ("memory",),
        "coherent": False,
    }


# -- events, log -----------------------------------------------------------------------------------


async def test_events_tell_what_happened(colour: Colour):
    """One event for each fact, with function, key, tier, and the seconds of the original call."""
    events: list[Event] = []

    def body(text: str) -> User:
        deadline = 0.02
        import time

        time.sleep(deadline)
        return User(name=text)

    f = instructor_cache(MemoryCache(), observer=events.append)(colour.function(body))
    await colour.call(f, "ada")
    await colour.call(f, "ada")
    assert [e.kind for e in events] == ["miss", "stored", "hit"]
    assert {e.key for e in events} == {f.cache_key("ada")}
    assert events[-1].tier == "memory"
    assert events[-1].function.endswith("body")
    assert 0.015 < events[-1].seconds == pytest.approx(events[1].seconds, rel=1e-3)
    with pytest.raises(AttributeError):
        events[0].kind = "hit"  # type: ignore[misc]


async def test_an_observer_that_raises_is_survived(
    colour: Colour, caplog: pytest.LogCaptureFixture
):
    """Its error goes to the log; the answer comes back."""

    def broken(event: Event) -> None:
        raise RuntimeError("observer")

    f = instructor_cache(MemoryCache(), observer=broken)(maker(colour, []))
    assert (await colour.call(f, "ada")).name == "ada"
    assert "an observer raised" in caplog.text


def refuse(user: User) -> bool:
    raise LookupError(f"no {user}")


async def test_the_log_holds_no_prompt(colour: Colour, caplog: pytest.LogCaptureFixture):
    """At any level the log has keys and kinds, never an argument or an answer."""
    caplog.set_level(logging.DEBUG, "instructor_cache")
    spy = Spy()
    f = instructor_cache(spy)(maker(colour, []))
    await colour.call(f, "my secret prompt")
    await colour.call(f, "my secret prompt")
    spy.broken = True
    await colour.call(f, "my secret prompt")
    spy.broken = False
    key = f.cache_key("my secret prompt")
    spy.data[key] = Entry(b'{"nonsense": "secret answer"}', 0.0).pack(key)
    await colour.call(f, "my secret prompt")
    g = instructor_cache(spy, cache_if=refuse, prefix="other")(maker(colour, []))
    await colour.call(g, "my secret prompt")
    assert {r.name for r in caplog.records} == {"instructor_cache"}
    assert "secret" not in caplog.text
    assert "hit " in caplog.text
    warnings = [r.getMessage().split()[0] for r in caplog.records if r.levelno == logging.WARNING]
    assert warnings == [
        "failure",
        "corrupt",
        "failure",
    ]  # three operations failed at first: one line


# -- races and odd backends --------------------------------------------------------------------


async def test_a_stop_iteration_of_a_backend_is_a_failure(colour: Colour):
    """Even the error that no future can hold is survived."""

    class Stopping(Spy):
        def get(self, key: str, /) -> bytes | None:
            raise StopIteration

    events: list[Event] = []
    f = instructor_cache(Stopping(), observer=events.append)(maker(colour, []))
    assert (await asyncio.wait_for(colour.call(f, "ada"), 5)).name == "ada"
    assert "failure" in [event.kind for event in events]


async def test_stored_means_that_a_tier_took_it(colour: Colour):
    """Where every write fails there is no *stored* event."""
    spy, events = Spy(), []
    spy.broken = True
    f = instructor_cache(spy, observer=events.append)(maker(colour, []))
    await colour.call(f, "ada")
    assert [event.kind for event in events] == ["failure", "miss", "failure"]


async def test_an_invalidation_wins_over_a_refresh_and_a_copy(colour: Colour):
    """What is forgotten while it is made anew, or copied to a nearer tier, stays forgotten."""

    class Far(Spy):
        meanwhile: Any = None

        def get(self, key: str, /) -> bytes | None:
            found = super().get(key)
            if self.meanwhile is not None:
                self.meanwhile()
            return found

    near, far = MemoryCache(), Far()
    engine: list[Any] = []

    def body(text: str) -> User:
        engine[0].flights.forget("instructor:")
        return User(name=text)

    f = instructor_cache(TieredCache(near, far))(colour.function(body))
    engine.append(f.cache_get.__self__.engine if colour.is_async else _engine_of(f))
    await colour.call(f.cache_refresh, "ada")
    assert not await colour.call(f.cache_contains, "ada")

    g = instructor_cache(TieredCache(near, far))(maker(colour, []))
    await colour.call(g, "ada")
    near.clear()
    owner = g.cache_get.__self__.engine if colour.is_async else _engine_of(g)

    def forget() -> None:
        far.meanwhile = None
        owner.flights.forget(g.cache_key("ada"))
        with owner.stack.forgotten.forgetting(g.cache_key("ada")):
            far.data.clear()

    far.meanwhile = forget
    await colour.call(g, "ada")
    assert far.meanwhile is None
    assert near.get(g.cache_key("ada")) == far.data.get(g.cache_key("ada"))


def _engine_of(f: Any) -> Any:
    return f.cache_get.__wrapped__.__self__.engine


async def test_a_call_that_leads_to_itself_through_map(colour: Colour):
    """`cache_map` inside the function sees the call that it is part of."""
    if colour.is_async:

        @instructor_cache(MemoryCache())
        async def extract(text: str) -> User:
            if text == "a" and len(seen) < 1:
                seen.append(text)
                return (await extract.cache_map(["a", "b"]))[0]
            return User(name=text)

    else:

        @instructor_cache(MemoryCache())
        def extract(text: str) -> User:
            if text == "a" and len(seen) < 1:
                seen.append(text)
                return extract.cache_map(["a", "b"])[0]
            return User(name=text)

    seen: list[str] = []
    assert (await asyncio.wait_for(asyncio.to_thread(_run, colour, extract), 5)).name == "a"


def _run(colour: Colour, extract: Any) -> User:
    return asyncio.run(colour.call(extract, "a"))


async def test_a_refresh_that_is_not_stored_forgets_the_old_answer(colour: Colour):
    """What was outdated enough to ask again is not served again."""
    calls: list[str] = []
    f = instructor_cache(MemoryCache(), ttl=lambda _: None if len(calls) == 1 else 0)(
        maker(colour, calls)
    )
    await colour.call(f, "ada")
    assert await colour.call(f.cache_contains, "ada")
    await colour.call(f.cache_refresh, "ada")
    assert not await colour.call(f.cache_contains, "ada")


async def test_a_cache_beneath_with_other_arguments_is_survived(colour: Colour):
    """Where the inner cache has no key for a call, the outer one goes on."""

    def body(client: Any, text: str) -> User:
        return User(name=text)

    inner = lru(colour.function(body))
    f = instructor_cache(MemoryCache(), ignore=("client",))(inner)
    with pytest.warns(UnkeyableArgumentWarning):
        await colour.call(f, object(), "ada")
    assert (await colour.call(f.cache_refresh, object(), "ada")).name == "ada"
    await colour.call(f.cache_invalidate, object(), "ada")
    assert not await colour.call(f.cache_contains, object(), "ada")


async def test_a_decorator_between_two_caches(colour: Colour):
    """A plain wrapper between stacked caches keeps its part in what is refreshed."""

    def shout(func: Any) -> Any:
        if colour.is_async:

            @functools.wraps(func)
            async def wrapper(text: str, **options: Any) -> User:
                return User(name=(await func(text, **options)).name.upper())

        else:

            @functools.wraps(func)
            def wrapper(text: str, **options: Any) -> User:
                return User(name=func(text, **options).name.upper())

        return wrapper

    calls: list[str] = []
    f = lru(shout(lru(maker(colour, calls))))
    assert (await colour.call(f, "ada")).name == "ADA"
    assert (await colour.call(f.cache_refresh, "ada")).name == "ADA"
    assert (await colour.call(f, "ada")).name == "ADA"
    assert calls == ["ada", "ada"]
    await colour.call(f.cache_clear)
    assert (await colour.call(f, "ada")).name == "ADA"
    assert len(calls) == 3


def test_a_backend_with_async_names_is_refused():
    """Coroutine methods called get, set and delete are told what their names should be."""

    class Misnamed:
        async def get(self, key: str, /) -> bytes | None: ...
        async def set(self, key: str, value: bytes, ttl: float | None, /) -> None: ...
        async def delete(self, key: str, /) -> None: ...

    with pytest.raises(TypeError, match="name it aget"):
        instructor_cache(Misnamed())


@pytest.mark.parametrize("option", ["cache_if", "ttl", "key", "observer", "clock"])
def test_a_coroutine_function_as_an_option_is_refused(option: str):
    """Nobody would await it."""

    async def wrong(*_: Any) -> Any: ...

    options: dict[str, Any] = {option: wrong}
    with pytest.raises(TypeError, match="plain"):
        instructor_cache(MemoryCache(), **options)


def test_a_prefix_must_be_text():
    """Anything else is told at decoration."""
    with pytest.raises(TypeError, match="prefix is None"):
        instructor_cache(MemoryCache(), prefix=None)(at_module_level.__wrapped__)  # type: ignore[arg-type]


# -- both colours agree ----------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.sampled_from("cirsgt"), st.sampled_from(["a", "b", "fail"])), max_size=25)
)
def test_the_colours_agree(steps: list[tuple[str, str]]):
    """Any sequence of calls, invalidations and clock steps looks the same in both colours."""

    async def trace(colour: Colour) -> list[Any]:
        clock, events, calls = Clock(), [], []
        near, far = MemoryCache(1, clock=clock), MemoryCache(clock=clock)
        options: dict[str, Any] = {"ttl": 2, "clock": clock, "observer": events.append}
        f = instructor_cache(TieredCache(near, far), **options)(maker(colour, calls))
        actions = {"c": f, "i": f.cache_invalidate, "r": f.cache_refresh, "g": f.cache_get}
        answers: list[Any] = []
        for action, text in steps:
            if action == "t":
                clock.now += 1
            elif action == "s":
                await colour.call(f.cache_set, User(name="set"), text)
            else:
                try:
                    answers.append(await colour.call(actions[action], text))
                except LookupError as error:
                    answers.append(str(error))
        return [answers, calls, [(e.kind, e.tier) for e in events]]

    async def both() -> None:
        assert await trace(Colour("sync")) == await trace(Colour("async"))

    asyncio.run(both())
