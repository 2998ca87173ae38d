"""Modes: past the cache, anew, or never a call; and what is said where an answer is missing."""

from __future__ import annotations

import asyncio
import copy
import pickle
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import Colour, engine_of, timed
from pydantic import BaseModel, SecretStr

from instructor_cache import (
    BackendError,
    CacheMiss,
    DiskCache,
    Entry,
    Event,
    MemoryCache,
    RedisCache,
    Tier,
    TieredCache,
    bypass,
    instructor_cache,
    lru,
    offline,
    refresh,
)
from instructor_cache._modes import mode
from instructor_cache.testing import FaultyBackend


class User(BaseModel):
    name: str


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class Case:
    """One cached function of a colour that answers with the number of its call."""

    def __init__(self, colour: Colour, backend: Any = None, **options: Any) -> None:
        self.calls, self.events, self.clock = 0, list[Event](), Clock()
        self.backend = MemoryCache(clock=self.clock) if backend is None else backend
        self.meanwhile: Callable[[], object] = lambda: None

        def extract(text: str, model: str = "gpt-4o", api_key: str = "") -> User:
            self.calls += 1
            number = self.calls
            self.meanwhile()
            return User(name=f"{text} {number}")

        options = {"observer": self.events.append, "clock": self.clock, **options}
        self.cached: Any = instructor_cache(self.backend, **options)(colour.function(extract))
        self._colour = colour

    async def ask(self, *args: Any, **kwargs: Any) -> str:
        user: User = await self._colour.call(self.cached, *args, **kwargs)
        return user.name

    async def miss(self, *args: Any, **kwargs: Any) -> CacheMiss:
        """What offline mode says to a call."""
        with offline(), pytest.raises(CacheMiss) as missed:
            await self.ask(*args, **kwargs)
        return missed.value

    def kinds(self) -> list[str]:
        """The kinds of the events since the last time."""
        kinds = [event.kind for event in self.events]
        self.events.clear()
        return kinds


# -- the three modes -------------------------------------------------------------------------------


async def test_bypass_calls_and_leaves_the_store_alone(colour: Colour):
    """In bypass mode nothing is read or written, and no event tells of the cache."""
    case = Case(colour)
    with bypass():
        assert await case.ask("ada") == "ada 1"
    assert case.kinds() == [] and len(case.backend) == 0
    assert await case.ask("ada") == "ada 2"
    with bypass():
        assert await case.ask("ada") == "ada 3"
    assert await case.ask("ada") == "ada 2"


async def test_refresh_puts_a_new_answer_in_place(colour: Colour):
    """In refresh mode each call is made, and what it gives is what later ones get."""
    case = Case(colour, TieredCache(MemoryCache(), MemoryCache()))
    await case.ask("ada")
    with refresh():
        assert [await case.ask("ada"), await case.ask("ada")] == ["ada 2", "ada 3"]
        assert await case.ask("bob") == "bob 4"
    assert [await case.ask("ada"), await case.ask("bob"), case.calls] == ["ada 3", "bob 4", 4]


async def test_offline_answers_or_raises(colour: Colour, tmp_path: Path):
    """In offline mode a hit is a hit, and a miss raises CacheMiss and calls nothing."""
    case = Case(colour, TieredCache(MemoryCache(), DiskCache(tmp_path)))
    await case.ask("ada")
    case.kinds()
    with offline():
        assert await case.ask("ada") == "ada 1"
    missed = await case.miss("bob")
    assert case.kinds() == ["hit", "miss"] and case.calls == 1
    assert missed.key == case.cached.cache_key("bob")
    assert missed.function.endswith("extract")


async def test_events_tell_of_a_miss_without_its_arguments(colour: Colour):
    """What observers and logs get names the function and the key, and quotes no argument."""
    case = Case(colour)
    await case.miss("ada lovelace")
    (event,) = case.events
    assert (event.kind, event.key) == ("miss", case.cached.cache_key("ada lovelace"))
    assert isinstance(event.error, CacheMiss) and "lovelace" not in str(event.error)


async def test_the_innermost_block_counts():
    """Modes nest, and leaving a block brings back the one around it, also through an error."""
    assert mode() is None
    with bypass():
        with refresh():
            assert mode() == "refresh"
        with pytest.raises(KeyError), refresh():
            raise KeyError
        assert mode() == "bypass"
    assert mode() is None


@pytest.mark.parametrize("block", [bypass, refresh])
async def test_offline_is_not_undone_inside(
    colour: Colour, block: Any, monkeypatch: pytest.MonkeyPatch
):
    """Who says offline gets no call from code that bypasses or refreshes in a block of its own."""
    case = Case(colour)

    async def ask() -> None:
        with block(), pytest.raises(CacheMiss):
            await case.ask("ada")

    with refresh(), offline():
        await ask()
    monkeypatch.setenv("INSTRUCTOR_CACHE_MODE", "offline")
    await ask()
    assert case.calls == 0


async def test_explicit_methods_are_what_they_say(colour: Colour):
    """Reading, writing and forgetting by hand work in every mode; cache_refresh minds the mode."""
    case = Case(colour)
    cached, call = case.cached, colour.call
    with offline():
        await call(cached.cache_set, User(name="set"), "ada")
        assert await case.ask("ada") == "set"
        with pytest.raises(CacheMiss, match="cache_refresh"):
            await call(cached.cache_refresh, "ada")
    with bypass():
        assert (await call(cached.cache_get, "ada")).name == "set"
        assert (await call(cached.cache_refresh, "ada")).name == "ada 1"
        await call(cached.cache_invalidate, "bob")
    assert await case.ask("ada") == "set"


# -- where modes reach -----------------------------------------------------------------------------


class Extractor:
    def __init__(self) -> None:
        self.calls = 0

    def __cache_key__(self) -> str:
        return "extractor"

    @instructor_cache(MemoryCache())
    def extract(self, text: str) -> User:
        self.calls += 1
        return User(name=f"{text} {self.calls}")


def test_modes_reach_methods():
    """A cached method is in the mode of its caller."""
    one = Extractor()
    with offline(), pytest.raises(CacheMiss, match="Extractor.extract"):
        one.extract("ada")
    assert [one.extract("ada").name, one.extract("ada").name] == ["ada 1", "ada 1"]
    with refresh():
        assert one.extract("ada").name == "ada 2"
    assert one.extract("ada").name == "ada 2"


async def test_modes_reach_stacked_decorators(colour: Colour, tmp_path: Path):
    """Bypass goes through to the function, refresh renews both caches, offline asks both."""
    inner = Case(colour, DiskCache(tmp_path))
    outer: Any = lru(maxsize=10)(inner.cached)

    async def ask(text: str) -> str:
        user: User = await colour.call(outer, text)
        return user.name

    assert await ask("ada") == "ada 1"
    with bypass():
        assert await ask("ada") == "ada 2"
    assert [await ask("ada"), await inner.ask("ada")] == ["ada 1", "ada 1"]
    with refresh():
        assert await ask("ada") == "ada 3"
    assert [await ask("ada"), await inner.ask("ada")] == ["ada 3", "ada 3"]
    await inner.ask("bob")  # which only the inner one has
    with offline():
        assert await ask("bob") == "bob 4"
        with pytest.raises(CacheMiss, match="nearest of 2"):
            await ask("bo")
    assert inner.calls == 4


async def test_modes_reach_what_cache_map_calls(colour: Colour):
    """Threads and tasks of cache_map are in the mode of their caller."""
    case = Case(colour)
    await colour.call(case.cached.cache_map, ["a", "b"])
    with refresh():
        await colour.call(case.cached.cache_map, ["a", "b"])
    assert case.calls == 4
    with offline():
        mapped = case.cached.cache_map(["a", "b", "c"], return_exceptions=True)
        found = await mapped if colour.is_async else mapped
    assert case.calls == 4 and [type(each) for each in found] == [User, User, CacheMiss]


async def test_modes_stay_in_their_task():
    """A block around an await in one task affects no other tasks but those begun in it."""
    is_open, may_end = asyncio.Event(), asyncio.Event()

    async def one() -> Any:
        with offline():
            is_open.set()
            await may_end.wait()
            return await asyncio.create_task(other())

    async def other() -> Any:
        return mode()

    task = asyncio.create_task(one())
    await is_open.wait()
    assert [mode(), await other()] == [None, None]
    may_end.set()
    assert await task == "offline"


def test_modes_stay_in_their_thread():
    """Other threads are in no mode."""
    with offline(), ThreadPoolExecutor(1) as pool:
        assert pool.submit(mode).result() is None


def steps() -> Iterator[Any]:
    with offline():
        yield mode()
    yield mode()


def test_generators_leave_no_mode_behind():
    """Blocks that end out of turn, or with a generator that is given up, leave nothing open."""
    first, second = steps(), steps()
    assert next(first) == "offline"
    with refresh():
        assert next(first) == "refresh"
        assert next(second) == "offline"
        del second  # closed where it stood
        assert mode() == "refresh"
    assert mode() is None


async def test_async_generators_leave_no_mode_behind():
    """One that is closed by another task, as an event loop does it, leaves nothing open."""

    async def steps() -> AsyncIterator[Any]:
        with offline():
            yield mode()

    given_up = steps()
    assert await given_up.__anext__() == "offline"
    await asyncio.create_task(given_up.aclose())  # type: ignore[attr-defined]
    assert mode() is None


def test_a_fixture_passes_the_mode_on():
    """A context manager that is written as a generator puts its caller in the mode."""

    @contextmanager
    def frozen() -> Iterator[None]:
        with offline():
            yield

    with frozen():
        assert mode() == "offline"
    assert mode() is None


@pytest.mark.parametrize("make", [bypass, refresh, offline])
def test_a_block_is_opened_as_often_as_is_wanted(make: Any):
    """One that is kept counts each time: in turn, in itself, in a generator that is given up."""
    block, name = make(), make.__name__

    def steps() -> Iterator[Any]:
        with block:
            yield mode()

    for _ in range(2):
        with block, bypass(), block:
            assert mode() == name
        with block:
            given_up = steps()
            assert next(given_up) == name
            del given_up
            assert mode() == name
        assert mode() is None


def test_a_block_that_threads_share_ends_for_each_alone():
    """Who leaves it first takes nobody else out of it."""
    block, is_open, may_end = offline(), threading.Event(), threading.Event()

    def stay() -> Any:
        with block:
            is_open.set()
            assert may_end.wait(10)
            return mode()

    with ThreadPoolExecutor(1) as pool:
        stays = pool.submit(stay)
        assert is_open.wait(10)
        with block:
            pass
        assert mode() is None
        may_end.set()
        assert stays.result(10) == "offline" and pool.submit(mode).result(10) is None


async def test_a_block_that_tasks_share_ends_for_each_alone():
    """Closed by another task it ends for nobody who is inside, and is over when all have left."""
    block = offline()

    async def steps() -> AsyncIterator[Any]:
        with block:
            yield mode()

    async def close(items: Any) -> None:
        with bypass():  # a context of its own, in which the block was open when it was copied
            await items.aclose()
            assert mode() == "offline"

    given_up = steps()
    assert await given_up.__anext__() == "offline"
    with block:
        await asyncio.create_task(close(given_up))
        assert mode() == "offline"
    assert mode() is None
    with block:
        assert mode() == "offline"
    assert mode() is None


# -- the environment -------------------------------------------------------------------------------


def test_the_environment_sets_the_mode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """INSTRUCTOR_CACHE_MODE is the mode outside all blocks; these go before it but for offline."""

    def run(word: str) -> list[str]:
        monkeypatch.setenv("INSTRUCTOR_CACHE_MODE", word)
        case = Case(Colour("sync"), DiskCache(tmp_path))
        found = [mode()]
        for text in ("ada", "ada", "bob"):
            try:
                found.append(case.cached(text).name)
            except CacheMiss:
                found.append("miss")
        with refresh():
            assert mode() == ("offline" if word == "offline" else "refresh")
        return found

    assert run("bypass") == ["bypass", "ada 1", "ada 2", "bob 3"]
    assert run("offline") == ["offline", "miss", "miss", "miss"]
    assert run(" Refresh ") == ["refresh", "ada 1", "ada 2", "bob 3"]
    assert run("offline") == ["offline", "ada 2", "ada 2", "bob 3"]
    assert run("") == [None, "ada 2", "ada 2", "bob 3"]


def test_a_word_that_is_no_mode_is_told(monkeypatch: pytest.MonkeyPatch):
    """It is a ValueError at decoration that names the variable, the word and the choice."""
    monkeypatch.setenv("INSTRUCTOR_CACHE_MODE", "ofline")
    with pytest.raises(ValueError, match="MODE is 'ofline'; it must be bypass, refresh, offline"):
        Case(Colour("sync"))


def test_offline_in_the_environment_counts_at_once(monkeypatch: pytest.MonkeyPatch):
    """Set after the decoration, offline keeps functions from being called all the same."""
    case = Case(Colour("sync"))
    monkeypatch.setenv("INSTRUCTOR_CACHE_MODE", "offline")
    with pytest.raises(CacheMiss):
        case.cached("ada")
    assert case.calls == 0


async def test_every_mode_in_the_environment_counts_at_once(
    colour: Colour, monkeypatch: pytest.MonkeyPatch
):
    """Set after the decoration and the first hits, it reaches the next call, hit or not."""
    case = Case(colour)
    seen: list[str] = []
    for word in ("", "", "bypass", "refresh", "", "offline", "bypass"):
        monkeypatch.setenv("INSTRUCTOR_CACHE_MODE", word)
        seen.append((await colour.call(case.cached, "ada")).name)
    assert seen == ["ada 1", "ada 1", "ada 2", "ada 3", "ada 3", "ada 3", "ada 4"]


def test_wrong_arguments_stay_wrong_offline():
    """Who calls with arguments that the function does not take is told so, in any mode."""
    case = Case(Colour("sync"))
    with offline(), pytest.raises(TypeError, match="missing"):
        case.cached()


# -- single flight, failures, what is stale --------------------------------------------------------


def _in_thread(work: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result(10)


def test_modes_share_no_flight():
    """While a call is under way, bypass and refresh call themselves, and offline does not wait."""
    case = Case(Colour("sync"))
    is_begun, may_end = threading.Event(), threading.Event()

    def wait_once() -> None:
        if case.calls == 1:
            is_begun.set()
            assert may_end.wait(10)

    case.meanwhile = wait_once

    def moded(block: Any) -> str:
        with block:
            return str(case.cached("ada").name)

    with ThreadPoolExecutor(1) as pool:
        leader = pool.submit(case.cached, "ada")
        assert is_begun.wait(10)
        assert _in_thread(lambda: moded(bypass())) == "ada 2"
        with pytest.raises(CacheMiss):
            _in_thread(lambda: moded(offline()))
        assert _in_thread(lambda: moded(refresh())) == "ada 3"
        may_end.set()
        assert leader.result(10).name == "ada 1"
    assert case.cached("ada").name == "ada 3"  # what was under way did not overwrite it


async def test_offline_gives_a_stale_answer(colour: Colour):
    """An answer that has expired and is still kept is given; one that isn't is missing."""
    case = Case(colour, ttl=10, stale_ttl=100)
    await case.ask("ada")
    case.clock.now += 50
    case.kinds()
    with offline():
        assert await case.ask("ada") == "ada 1"
    assert case.kinds() == ["stale"]
    assert await case.ask("ada") == "ada 2"  # online it is as expired as before
    case.clock.now += 200
    assert "nothing is stored for this function" in str(await case.miss("ada"))


async def test_offline_makes_nothing_ahead_of_time(colour: Colour):
    """An ageing answer is given, and not made anew in the background."""
    case = Case(colour, ttl=100, refresh_ahead=0.5)
    await case.ask("ada")
    case.clock.now += 80
    with offline():
        assert await case.ask("ada") == "ada 1"
    assert case.calls == 1 and not engine_of(case.cached).behind._under_way


@pytest.mark.parametrize("fail_open", [True, False])
async def test_offline_says_that_a_tier_failed(colour: Colour, fail_open: bool):
    """A backend that is down is no reason to call: CacheMiss names the tier and its error."""
    faulty = FaultyBackend(MemoryCache())
    case = Case(colour, TieredCache(Tier(faulty, name="far")), fail_open=fail_open)
    await case.ask("ada")
    faulty.failing()
    missed = await case.miss("ada")
    assert "the tier 'far' failed: " in str(missed) and case.calls == 1
    assert isinstance(missed.__cause__, BackendError) is not fail_open
    for _ in range(10):  # the breaker opens
        missed = await case.miss("ada")
    assert "the tier 'far' failed: " in str(missed) and case.calls == 1


async def test_offline_goes_without_a_lock(colour: Colour, redis_url: str, prefix: str):
    """With lock="backend" nothing is locked, and a miss does not wait for a holder."""
    case = Case(colour, RedisCache(redis_url), prefix=prefix, lock="backend", clock=time.time)
    await case.ask("ada")
    with offline():
        assert await case.ask("ada") == "ada 1"
    missed = await case.miss("adam")
    assert missed.nearest == case.cached.cache_key("ada")
    await colour.call(case.cached.cache_clear)


@pytest.mark.parametrize("fail_open", [True, False])
async def test_offline_refuses_what_has_no_key(colour: Colour, fail_open: bool):
    """A call without a key can't be answered: CacheMiss names the argument and the remedies."""
    case = Case(colour, fail_open=fail_open)
    missed = await case.miss(object())
    assert missed.key is None and case.calls == 0
    assert "the argument 'text' has no stable key" in str(missed) and "ignore=" in str(missed)


# -- what is said of a miss ------------------------------------------------------------------------


async def test_a_miss_shows_what_differs(colour: Colour):
    """The nearest stored call is found; what is the same is named, what differs is shown."""
    case = Case(colour)
    for text in ("Grace was born in 1906", "Ada was born in 1815", "x"):
        await case.ask(text)
    missed = await case.miss("Ada was born in 1816")
    nearest = case.cached.cache_key("Ada was born in 1815")
    assert missed.nearest == nearest
    assert str(missed).splitlines()[1:] == [
        f"  key: {missed.key}",
        f"  nearest of 3 stored calls: {nearest}",
        "    the same: model, api_key",
        "    text:",
        "      - 'Ada was born in 1815'",
        "      + 'Ada was born in 1816'",
        "  to record it, call once without offline mode",
    ]


def test_a_miss_shows_of_long_texts_what_differs():
    """Of a text of many lines only the differing parts are shown, with a little around."""
    case = Case(Colour("sync"))
    lines = [f"line {n} of this text" for n in range(6)]
    case.cached("\n".join(lines))
    lines[2] = "line two of this text"
    missed = asyncio.run(case.miss("\n".join(lines)))
    assert "      - … this text\\nline 2 of this text\\nl …" in str(missed)
    assert "      + … this text\\nline two of this text\\nl …" in str(missed)
    case.cached("a" * 1000 + "b" + "a" * 1000)
    missed = asyncio.run(case.miss("a" * 1000 + "c" + "a" * 1000))
    assert "differs in what is left out: 'aaa" in str(missed)


def test_a_miss_shows_what_only_one_call_has():
    """An option that one of two calls does without is said not to be given."""

    @instructor_cache(TieredCache(Tier(MemoryCache(), read=False), MemoryCache()))
    def ask(text: str, **options: Any) -> User:
        return User(name=text)

    ask("ada", seed=1)
    with offline(), pytest.raises(CacheMiss) as missed:
        ask("ada", top=2)
    assert "seed:\n      - 1\n      + (not given)" in str(missed.value)
    assert "top:\n      - (not given)\n      + 2" in str(missed.value)


@pytest.mark.parametrize(("raw", "why"), [(b"?", "can't be read"), (None, "has expired")])
def test_a_miss_tells_of_an_entry_that_is_no_answer(raw: bytes | None, why: str):
    """What lies under the very key and is damaged, or has expired, is told."""
    store = MemoryCache()  # whose clock is not the function's
    case = Case(Colour("sync"), TieredCache(Tier(store, write=False)))
    key, then = case.cached.cache_key("ada"), case.clock.now
    old = Entry(b'{"name":"ada"}', then - 20, then - 10, then - 10).pack(key)
    store.set(key, raw or old, None)
    missed = asyncio.run(case.miss("ada"))
    assert f"what the tier 'memory' has under this key {why}" in str(missed)


def test_a_miss_keeps_secrets():
    """What is masked with the stored call is masked in the message, on both sides."""

    @instructor_cache(MemoryCache())
    def ask(text: str, key: SecretStr, api_key: str, options: dict[str, str]) -> User:
        return User(name=text)

    def call(text: str, n: int) -> Any:
        options = {"Authorization": f"Bearer hush{n}", "password": f"hush{n}"}
        return ask(f"{text} sk-hush{n}", SecretStr(f"hush{n}"), f"hush{n}", options)

    call("ada", 1)
    with offline(), pytest.raises(CacheMiss) as missed:
        call("ada", 2)
    assert "hush" not in str(missed.value).replace("refresh()", "")
    assert "can't be told, being masked: text, key, api_key, options" in str(missed.value)
    assert "what differs is not shown" in str(missed.value)


def test_a_miss_tells_a_changed_function_from_a_changed_call():
    """Where the arguments are the same: the version, the schema, or what was captured."""
    store = MemoryCache()

    def make(answers: type[BaseModel], version: str, style: str) -> Any:
        def ask(text: str) -> Any:
            return answers(name=text + style)

        return instructor_cache(store, returns=answers, version=version)(ask)

    class Other(BaseModel):
        name: str
        age: int = 0

    make(User, "1", "plain")("ada")
    made = {
        "schema: the return type has changed since": make(Other, "1", "plain"),
        "      - 1\n      + 2": make(User, "2", "plain"),
        "captured: the function's own constants": make(User, "1", "terse"),
    }
    for said, ask in made.items():
        with offline(), pytest.raises(CacheMiss) as missed:
            ask("ada")
        assert "the same: all arguments" in str(missed.value) and said in str(missed.value)


def test_a_miss_tells_of_another_form_of_entries():
    """What another version of this library stored is not found, and said to be there."""
    case = Case(Colour("sync"))
    key = case.cached.cache_key("ada")
    before = key.replace("4:", "3:")
    assert before != key
    case.backend.set(before, b"\3" + bytes(60), None)
    missed = asyncio.run(case.miss("ada"))
    assert missed.nearest == before
    assert "format: it was stored by another version of this library" in str(missed)


async def test_a_miss_works_where_arguments_are_not_kept(colour: Colour):
    """With keep_arguments=False nothing of them is stored or shown, only what keys tell."""
    case = Case(colour, keep_arguments=False)
    await case.ask("ada lovelace")
    missed = await case.miss("bob")
    assert "the only stored call: " in str(missed) and "'bob'" not in str(missed)
    assert "arguments: others, of which nothing was kept" in str(missed)
    (key,) = case.backend.scan("")
    assert b"lovelace 1" in case.backend.get(key) and b"lovelace'" not in case.backend.get(key)


async def test_a_miss_tells_why_its_own_entry_does_not_count(colour: Colour):
    """What lies under the very key, but was invalidated by its tag, is told."""
    case = Case(colour, tags="users")
    await case.ask("ada")
    TieredCache(case.backend).invalidate_tags("users")
    assert "under this key does not count any more" in str(await case.miss("ada"))


async def test_a_miss_looks_through_all_tiers(colour: Colour, tmp_path: Path):
    """The nearest call may be in any tier, behind one that can't list or one that is down."""

    class Silent:
        def get(self, key: str) -> bytes | None:
            return None

        def set(self, key: str, value: bytes, ttl: float | None) -> None: ...

        def delete(self, key: str) -> None: ...

    down = FaultyBackend(MemoryCache())
    tiers = TieredCache(Tier(Silent(), name="silent"), Tier(down, name="down"), DiskCache(tmp_path))
    case = Case(colour, tiers)
    await case.ask("ada")
    down.failing()
    missed = await case.miss("adam")
    assert missed.nearest == case.cached.cache_key("ada")
    assert "the tier 'silent' can't be searched" in str(missed)
    assert "the tier 'down' failed" in str(missed)


@timed
def test_the_search_is_bounded():
    """Among many stored calls the first 1,000 are looked at, in bounded time."""
    case = Case(Colour("sync"), MemoryCache(5_000))
    for n in range(1_500):
        case.cached(f"text number {n}")
    start = time.perf_counter()
    missed = asyncio.run(case.miss("text number 1x"))
    assert time.perf_counter() - start < 3
    assert "nearest of 1,000 stored calls" in str(missed)


class Slow(MemoryCache):
    """A backend that takes its time to list."""

    def scan(self, prefix: str) -> Iterator[str]:
        for key in super().scan(prefix):
            time.sleep(0.5)
            yield key


@timed
@pytest.mark.slow
async def test_a_slow_listing_is_given_up(colour: Colour):
    """What can't be listed in about two seconds is left out, and a miss is told all the same."""
    case = Case(colour, Slow())
    for n in range(30):
        await case.ask(f"text {n}")
    start = time.perf_counter()
    missed = await case.miss("text")
    assert time.perf_counter() - start < 4
    assert "can't be searched: " in str(missed)


def test_a_miss_can_be_copied():
    """Copies and pickles of the error tell the same."""
    case = Case(Colour("sync"))
    case.cached("ada")
    missed = asyncio.run(case.miss("adam"))
    for twin in (copy.copy(missed), pickle.loads(pickle.dumps(missed))):
        assert str(twin) == str(missed)
        assert (twin.function, twin.key, twin.nearest) == (
            missed.function,
            missed.key,
            missed.nearest,
        )
    assert isinstance(missed, LookupError)


# -- streams ---------------------------------------------------------------------------------------


class Stream:
    """A stream function of a colour; counts its calls."""

    def __init__(self, colour: Colour) -> None:
        self.calls, self._colour, cached = 0, colour, instructor_cache(MemoryCache())

        def names(text: str) -> Iterator[User]:
            self.calls += 1
            for n in range(3):
                yield User(name=f"{text} {n} of {self.calls}")

        async def names_later(text: str) -> AsyncIterator[User]:
            for user in names(text):
                yield user

        self.cached: Any = cached(names_later) if colour.is_async else cached(names)

    async def ask(self, text: str) -> str:
        """The last item, when all have come."""
        items = self.cached(text)
        users = [i async for i in items] if self._colour.is_async else list(items)
        assert len(users) == 3
        return str(users[-1].name)


async def test_modes_reach_streams(colour: Colour):
    """A stream is called past the cache, renewed, or given from the store, as any answer."""
    stream = Stream(colour)
    with offline(), pytest.raises(CacheMiss, match="nothing is stored"):
        await stream.ask("ada")
    assert await stream.ask("ada") == "ada 2 of 1"
    with bypass():
        assert await stream.ask("ada") == "ada 2 of 2"
    with offline():
        assert await stream.ask("ada") == "ada 2 of 1"
    with refresh():
        assert await stream.ask("ada") == "ada 2 of 3"
    assert [await stream.ask("ada"), stream.calls] == ["ada 2 of 3", 3]
    with offline(), pytest.raises(CacheMiss, match="the only stored call") as missed:
        await stream.ask("adam")
    assert "      - 'ada'\n      + 'adam'" in str(missed.value)


async def test_a_refreshed_stream_is_live(colour: Colour):
    """In refresh mode items pass as they come; given up half way, the old answer stays."""
    stream = Stream(colour)
    await stream.ask("ada")
    with refresh():
        items = stream.cached("ada")
        first = await items.__anext__() if colour.is_async else next(items)
        assert first.name == "ada 0 of 2"
        await items.aclose() if colour.is_async else items.close()
    assert await stream.ask("ada") == "ada 2 of 1"
