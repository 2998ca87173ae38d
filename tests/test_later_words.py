"""Who comes later wins: invalidations, other processes' answers, and those who were cancelled."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis
from conftest import Colour, engine_of, timed
from pydantic import BaseModel

from instructor_cache import (
    DiskCache,
    Event,
    MemoryCache,
    RedisCache,
    Tier,
    TieredCache,
    instructor_cache,
)
from instructor_cache.testing import FaultyBackend


class User(BaseModel):
    name: str


class Shared(MemoryCache):
    """A memory that plays a store which other processes see."""

    is_local = False


class Hooked(MemoryCache):
    """A far tier in which something happens just after a read."""

    def __init__(self) -> None:
        super().__init__()
        self.after_get: Callable[[], object] | None = None

    def get(self, key: str, /) -> bytes | None:
        found = super().get(key)
        hook, self.after_get = self.after_get, None
        if hook is not None:
            hook()
        return found

    async def aget(self, key: str, /) -> bytes | None:
        return self.get(key)


@pytest.mark.parametrize("word", ["invalidate", "clear", "set", "refresh"])
def test_no_copy_brings_back_what_was_forgotten(word: str):
    """A reader that copies the old answer to a near tier, while it is deleted, takes it back."""
    near, far = MemoryCache(), Hooked()
    names = iter("12345")

    @instructor_cache(TieredCache(near, Tier(far, name="memory")))  # a name is no identity
    def extract(text: str) -> User:
        return User(name=next(names))

    say = {
        "invalidate": lambda: extract.cache_invalidate("ada"),
        "clear": extract.cache_clear,
        "set": lambda: extract.cache_set(User(name="set"), "ada"),
        "refresh": lambda: extract.cache_refresh("ada"),
    }[word]
    extract("ada")
    near.clear()
    far.after_get = say
    extract("ada")
    assert extract("ada").name != "1"
    key = extract.cache_key("ada")
    assert near.get(key) == far.get(key)


def test_readers_and_invalidations_at_once_leave_no_old_answer(tmp_path: Path):
    """However threads interleave, after an invalidation has returned no tier has the old answer."""
    near, far = MemoryCache(), DiskCache(tmp_path)
    version = ["old"]

    @instructor_cache(TieredCache(near, far))
    def extract(n: int) -> User:
        return User(name=version[0])

    with ThreadPoolExecutor(4) as pool:
        for n in range(60):
            version[0] = "old"
            extract(n)
            near.clear()
            version[0] = "new"
            jobs = [pool.submit(extract, n) for _ in range(3)]
            extract.cache_invalidate(n)
            for job in jobs:
                job.result()
            assert extract(n).name == "new", n


async def test_words_about_one_answer_leave_the_others_alone(colour: Colour):
    """A copy that is made while another key is invalidated stays, in the far tier as well."""
    near, far = MemoryCache(), Hooked()
    calls: list[str] = []

    def body(text: str) -> User:
        calls.append(text)
        return User(name=text)

    f: Any = instructor_cache(TieredCache(near, far))(colour.function(body))
    await colour.call(f, "ada")
    near.clear()
    forgotten = engine_of(f).stack.forgotten

    def forget_another() -> None:
        with forgotten.forgetting(f.cache_key("bob")):
            far.delete(f.cache_key("bob"))

    far.after_get = forget_another
    await colour.call(f, "ada")
    near.clear()
    await colour.call(f, "ada")
    assert calls == ["ada"]


async def test_a_late_leader_leaves_another_ones_newer_answer(colour: Colour):
    """After an invalidation and a new call elsewhere, the end of the old call deletes nothing."""
    store, meanwhile = Shared(), list[Callable[[], Any]]()

    def body(text: str) -> User:
        if meanwhile:
            meanwhile.pop()()
            return User(name="old")
        return User(name="new")

    here: Any = instructor_cache(store)(colour.function(body))
    there: Any = instructor_cache(store)(body)  # as another process has it
    assert here.cache_key("ada") == there.cache_key("ada")

    def invalidate_and_call() -> None:
        there.cache_invalidate("ada")
        there("ada")

    meanwhile.append(invalidate_and_call)
    assert (await colour.call(here, "ada")).name == "old"
    assert (await colour.call(here.cache_get, "ada")).name == "new"


async def test_an_invalidation_by_another_function_object_wins(colour: Colour):
    """Two wrappers of one function over one memory obey each other, like two processes."""
    memory, meanwhile = MemoryCache(), list[Callable[[], Any]]()

    def body(text: str) -> User:
        for do in meanwhile:
            do()
        return User(name=text)

    one: Any = instructor_cache(memory)(colour.function(body))
    other: Any = instructor_cache(memory)(body)
    meanwhile.append(lambda: other.cache_invalidate("ada"))
    await colour.call(one, "ada")
    assert not await colour.call(one.cache_contains, "ada")
    assert len(memory) == 0


async def test_replicas_refresh_an_answer_once(colour: Colour):
    """Who finds the far tier already renewed copies it, and does not call."""
    now, far, calls = [0.0], Shared(), list[str]()
    events: list[Event] = []

    def body(text: str) -> User:
        calls.append(text)
        return User(name=str(len(calls)))

    def replica() -> Any:
        stack = TieredCache(MemoryCache(), far)
        return instructor_cache(
            stack, ttl=100, refresh_ahead=0.5, clock=lambda: now[0], observer=events.append
        )(colour.function(body))

    one, two = replica(), replica()
    await colour.call(one, "ada")
    await colour.call(two, "ada")
    now[0] = 60.0
    for each in (one, two):
        await colour.call(each, "ada")
        deadline = time.monotonic() + 5
        while (await colour.call(each, "ada")).name != "2":
            assert time.monotonic() < deadline
            await asyncio.sleep(0.005)
    assert len(calls) == 2
    assert engine_of(one).announce.misses == 1  # what was made in the background is no miss


@timed
async def test_a_lock_that_the_call_itself_holds_is_not_waited_for(colour: Colour):
    """Decorators that stack over one store, each with a lock, do not lock each other out."""
    store = Shared()

    def body(text: str) -> User:
        return User(name=text)

    inner = instructor_cache(store, lock="backend", flight_timeout=5)(colour.function(body))
    outer: Any = instructor_cache(store, lock="backend", flight_timeout=5)(inner)
    start = time.monotonic()
    assert (await colour.call(outer, "ada")).name == "ada"
    assert time.monotonic() - start < 2


async def test_a_call_that_is_cancelled_again_and_again_gives_its_lock_back():
    """As by a cancel scope, which cancels every await until the task has ended."""
    store = Shared()

    class Slow(Shared):
        async def aswap(self, *args: Any) -> bool:
            await asyncio.sleep(0.01)
            return store.swap(*args)

    @instructor_cache(Slow(), lock="backend")
    async def extract(text: str) -> User:
        await asyncio.sleep(10)
        return User(name=text)

    task = asyncio.create_task(extract("ada"))
    while not len(store):
        await asyncio.sleep(0.005)
    while not task.done():
        task.cancel()
        await asyncio.sleep(0)
    deadline = time.monotonic() + 2
    while len(store):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)
    with contextlib.suppress(asyncio.CancelledError):
        await task


@dataclass(frozen=True)
class FrozenError(Exception):
    """An error whose attributes nobody may set."""

    code: int


@pytest.mark.parametrize("lock", [None, "backend"])
def test_an_error_that_can_not_be_changed_is_passed_on(lock: Any):
    """Leader and followers get the function's own error, whatever kind it is."""

    @instructor_cache(Shared(), lock=lock)
    def extract(text: str) -> User:
        time.sleep(0.1)
        raise FrozenError(429)

    def attempt(_: int) -> object:
        with pytest.raises(FrozenError) as told:
            extract("ada")
        return told.value.code

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(attempt, range(4))) == [429] * 4
    with pytest.raises(FrozenError):
        extract.cache_refresh("ada")


async def test_after_the_flights_timeout_one_caller_leads_and_its_answer_is_kept():
    """A leader that hangs costs one timeout; what was paid for afterwards is stored."""
    leave, calls = asyncio.Event(), list[str]()

    @instructor_cache(MemoryCache(), flight_timeout=0.1)
    async def extract(text: str) -> User:
        calls.append(text)
        if len(calls) == 1:
            await leave.wait()
        return User(name=text)

    hung = asyncio.create_task(extract("ada"))
    await asyncio.sleep(0.01)
    await asyncio.gather(*(extract("ada") for _ in range(5)))
    assert await extract.cache_contains("ada")
    leave.set()
    await hung


def test_readers_do_not_get_past_a_clear_that_was_missed():
    """While one caller makes up for it, the others are not served what it should delete."""
    memory = MemoryCache(None)

    class SlowClear(MemoryCache):
        def clear(self, prefix: str = "", /) -> None:
            time.sleep(0.3)
            memory.clear(prefix)

        def get(self, key: str, /) -> bytes | None:
            return memory.get(key)

        def set(self, key: str, value: bytes, ttl: float | None, /) -> None:
            memory.set(key, value, ttl)

        def swap(self, *args: Any) -> bool:
            return memory.swap(*args)

    faulty, version = FaultyBackend(SlowClear()), ["old"]

    @instructor_cache(faulty)
    def extract(n: int) -> User:
        return User(name=version[0])

    for n in range(20):
        extract(n)
    version[0] = "new"
    with faulty.failing(on="clear", times=1):
        extract.cache_clear()
    with ThreadPoolExecutor(8) as pool:
        names = {user.name for user in pool.map(extract, list(range(20)) * 5)}
    assert names == {"new"}


async def test_a_full_store_still_deletes(colour: Colour):
    """Writes that are refused, often enough to be given up, keep no invalidation from the store."""
    memory = MemoryCache()
    faulty = FaultyBackend(memory)

    def body(text: str) -> User:
        return User(name=text)

    f: Any = instructor_cache(faulty)(colour.function(body))
    await colour.call(f, "ada")
    with faulty.failing(OSError("full"), on=("set", "swap")):
        for n in range(30):
            await colour.call(f, f"{n}")
        await colour.call(f.cache_invalidate, "ada")
        assert memory.get(f.cache_key("ada")) is None


async def test_a_backend_that_cancels_itself_is_a_failing_backend():
    """Nobody who was not cancelled sees a cancellation."""

    class Cancelling:
        async def aget(self, key: str, /) -> bytes | None:
            raise asyncio.CancelledError

        async def aset(self, key: str, value: bytes, ttl: float | None, /) -> None: ...
        async def adelete(self, key: str, /) -> None: ...

    events: list[Event] = []

    @instructor_cache(Cancelling(), observer=events.append)
    async def extract(text: str) -> User:
        return User(name=text)

    assert (await extract("ada")).name == "ada"
    assert "ConnectionError" in {type(event.error).__name__ for event in events}


def test_a_dropped_table_is_begun_anew(tmp_path: Path):
    """A store that another program has emptied is set aside, and serves again."""

    @instructor_cache(DiskCache(tmp_path))
    def extract(text: str) -> User:
        return User(name=text)

    extract("ada")
    with contextlib.closing(sqlite3.connect(next(tmp_path.rglob("*.sqlite3")))) as other:
        other.execute("DROP TABLE entries")
        other.commit()
    with pytest.warns(UserWarning, match="unusable"):
        for _ in range(3):
            extract("ada")
    assert extract.cache_contains("ada")


async def test_more_callers_than_a_ready_client_has_connections(colour: Colour, redis_url: str):
    """Waiting for one's turn is no failure of the server, whoever made the client."""
    kind = redis.asyncio.Redis if colour.is_async else redis.Redis
    client: Any = kind.from_url(redis_url, max_connections=2)
    calls, events = list[str](), list[Event]()

    def body(text: str) -> User:
        calls.append(text)
        return User(name=text)

    cache = RedisCache(client)
    f: Any = instructor_cache(cache, prefix="turns", observer=events.append)(colour.function(body))
    await colour.call(f, "ada")
    calls.clear()
    if colour.is_async:
        await asyncio.gather(*(f("ada") for _ in range(300)))
        await client.aclose()
    else:
        with ThreadPoolExecutor(50) as pool:
            list(pool.map(f, ["ada"] * 300))
        client.close()
    assert calls == []
    assert [event.kind for event in events if event.kind == "opened"] == []


@timed
def test_a_hang_of_many_threads_costs_each_of_them_little():
    """Two hundred callers of a silent backend are not let in thirty-two by thirty-two."""
    faulty, gate = FaultyBackend(MemoryCache()), threading.Barrier(200)

    @instructor_cache(faulty, timeout=0.2)
    def extract(n: int) -> User:
        return User(name=str(n))

    def ask(n: int) -> float:
        gate.wait()
        start = time.monotonic()
        extract(n)
        return time.monotonic() - start

    with faulty.silent(), ThreadPoolExecutor(200) as pool:
        assert max(pool.map(ask, range(200))) < 1.0  # not 200 / 32 timeouts


def test_every_tier_is_closed_though_one_raises(tmp_path: Path):
    """The error of one tier's close is raised after the others were closed."""

    class Stubborn(MemoryCache):
        def close(self) -> None:
            raise OSError("stuck")

    disk = DiskCache(tmp_path)
    with pytest.raises(OSError, match="stuck"):
        TieredCache(Stubborn(), disk).close()
    assert disk.closed


AT_THE_END = """
from pydantic import BaseModel
from instructor_cache import MemoryCache, instructor_cache

class User(BaseModel):
    name: str

class Own(MemoryCache):
    pass  # promises nothing, so it is watched in a thread

@instructor_cache(Own())
def extract(text: str) -> User:
    return User(name=text)

class Late:
    def __del__(self, extract=extract):
        print(extract("ada").name, flush=True)

late = Late()
late.itself = late
"""


def test_a_call_while_the_interpreter_ends_does_not_hang():
    """No thread can begin any more: the function answers, and the process ends."""
    command = [sys.executable, "-c", AT_THE_END]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "ada\n"


async def test_many_invalidations_at_once_win_over_calls_elsewhere(redis_url: str, prefix: str):
    """However many answers are forgotten at the same time, none of the calls for them that another
    process has under way is kept."""
    started, leave = asyncio.Semaphore(0), asyncio.Event()

    async def extract(n: int) -> User:
        started.release()
        await leave.wait()
        return User(name=f"{n}")

    here, there = RedisCache(redis_url), RedisCache(redis_url)  # each its own process' state
    caller = instructor_cache(there, prefix=prefix)(extract)
    calls = [asyncio.create_task(caller(n)) for n in range(20)]
    for _ in calls:
        await started.acquire()
    other = instructor_cache(here, prefix=prefix)(extract)
    await asyncio.gather(*(other.cache_invalidate(n) for n in range(20)))
    leave.set()
    await asyncio.gather(*calls)
    assert not any([await other.cache_contains(n) for n in range(20)])
    for cache in (here, there):
        await cache.aclose()


class Written(DiskCache):
    """A store that remembers under which keys anything was ever put."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.keys = set[str]()

    def set(self, key: str, *args: Any) -> None:
        self.keys.add(key)
        super().set(key, *args)

    def swap(self, key: str, *args: Any) -> bool:
        self.keys.add(key)
        return super().swap(key, *args)


@pytest.mark.parametrize("method", ["call", "refresh"])
async def test_what_others_forgot_during_the_call_is_not_even_stored(
    colour: Colour, tmp_path: Path, method: str
):
    """Else who reads it in between, anywhere, would have it in memory for as long as that keeps."""
    here, elsewhere = Written(tmp_path), DiskCache(tmp_path)  # the first knows nothing of that one

    def body(text: str) -> User:
        other.cache_invalidate(text)
        return User(name=text)

    other: Any = instructor_cache(elsewhere)(body)
    f: Any = instructor_cache(TieredCache(MemoryCache(), here))(colour.function(body))
    await colour.call(f.cache_refresh if method == "refresh" else f, "ada")
    assert here.keys == set()
    here.close()
    elsewhere.close()


@pytest.mark.parametrize("is_promised", [True, False])
async def test_a_stream_that_others_forgot_is_joined_by_nobody(
    colour: Colour, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_promised: bool
):
    """Who comes after another process's invalidation gets a call that began after it."""
    monkeypatch.setattr("instructor_cache._flights._BRIEF", 0.0)
    calls: list[str] = []

    def body(text: str) -> Iterator[User]:
        calls.append(text)
        return iter([User(name=f"{text} {len(calls)}")] * 2)

    async def abody(text: str) -> AsyncIterator[User]:
        for user in body(text):
            yield user

    async def begun(text: str) -> AsyncIterator[User]:
        return abody(text)

    async def names(stream: Any, most: int) -> list[str]:
        if colour.is_async:
            return [(await anext(stream)).name for _ in range(most)]
        return [next(stream).name for _ in range(most)]

    items = AsyncIterator[User] if colour.is_async else Iterator[User]
    with DiskCache(tmp_path) as here, DiskCache(tmp_path) as elsewhere:
        f, other = (
            instructor_cache(disk, returns=items if is_promised else User)(
                begun if colour.is_async else body
            )
            for disk in (here, elsewhere)
        )
        first = await colour.call(f, "ada")
        assert await names(first, 1) == ["ada 1"]
        await colour.call(other.cache_invalidate, "ada")
        second = await colour.call(f, "ada")
        assert await names(second, 2) == ["ada 2"] * 2
        assert await names(first, 1) == ["ada 1"]


@pytest.mark.parametrize("is_read", [False, True])
@pytest.mark.parametrize("word", ["here", "elsewhere"])
async def test_a_stream_where_none_was_promised_is_not_kept_if_it_was_forgotten(
    colour: Colour, tmp_path: Path, word: str, is_read: bool
):
    """Neither if that was before its call gave it, nor if it was before anybody read of it."""
    words: list[Callable[[], Any]] = []

    def body(text: str) -> User:
        for forget in words if is_read else ():
            forget()
        return iter([User(name=text)])  # type: ignore[return-value]

    with DiskCache(tmp_path) as here, DiskCache(tmp_path) as elsewhere:
        other: Any = instructor_cache(here if word == "here" else elsewhere)(body)
        f: Any = instructor_cache(here)(colour.function(body))
        words.append(lambda: other.cache_invalidate("ada"))
        stream = await colour.call(f, "ada")
        if not is_read:
            other.cache_invalidate("ada")
        assert [user.name for user in stream] == ["ada"]
        assert not await colour.call(f.cache_contains, "ada")


class Invalidating(Hooked):
    """A far tier in which another process forgets what was just stored; it can be held up then."""

    is_local = False

    def __init__(self) -> None:
        super().__init__()
        self.stored, self.read = threading.Event(), threading.Event()

    def swap(self, key: str, old: bytes | None, new: bytes | None, ttl: float | None, /) -> bool:
        swapped = super().swap(key, old, new, ttl)
        if new is not None:
            self.set(f"forgotten:{key}", b"by another process", None)
            self.stored.set()
            assert self.read.wait(5)
        return swapped


def test_a_copy_of_what_is_taken_back_does_not_stay():
    """Who has read the outdated answer before it is taken back, and copies it after, has it no
    longer in any tier."""
    near, far = MemoryCache(), Invalidating()

    @instructor_cache(TieredCache(near, far))
    def extract(text: str) -> User:
        return User(name=text)

    def let_go_on() -> None:
        far.read.set()
        maker.join()

    maker = threading.Thread(target=extract, args=("ada",))
    maker.start()
    assert far.stored.wait(5)
    far.after_get = let_go_on
    extract.cache_get("ada")
    assert not maker.is_alive()
    assert near.get(extract.cache_key("ada")) is None


async def test_a_renewed_answer_that_is_forgotten_as_it_is_copied_stays_forgotten(colour: Colour):
    """Who would make an ageing answer anew, and finds that another process has, puts nothing back
    into the far tier."""
    now, near, far = [0.0], MemoryCache(), FaultyBackend(Shared())
    looked, names = threading.Event(), iter("123")

    def body(text: str) -> User:
        return User(name=next(names))

    def replica(cache: Any) -> Any:
        return instructor_cache(cache, ttl=100, refresh_ahead=0.5, clock=lambda: now[0])(
            colour.function(body)
        )

    here, there = replica(TieredCache(near, far)), replica(far)
    await colour.call(here, "ada")
    now[0] = 60.0
    await colour.call(there.cache_refresh, "ada")
    key = here.cache_key("ada")

    def forget(value: bytes) -> bytes:
        far.delete(key)  # as another process does it
        looked.set()
        return value

    with far.corrupt(forget, on="get", times=1):
        assert (await colour.call(here, "ada")).name == "1"
        deadline = time.monotonic() + 5
        while not looked.is_set() or engine_of(here).behind._under_way:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.002)
    assert far.get(key) is None


@pytest.mark.parametrize("word", ["invalidate", "clear", "end of a tag"])
@pytest.mark.parametrize("is_anew", [False, True], ids=["call", "refresh"])
async def test_who_asks_after_an_invalidation_elsewhere_does_not_share_an_old_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str, is_anew: bool
):
    """He gets a new answer, and so do those who come with him, in one call; the old call's caller
    gets his own, which is not kept."""
    monkeypatch.setattr("instructor_cache._flights._BRIEF", 0.0)
    calls, began, leave = [0], asyncio.Event(), asyncio.Event()

    async def body(text: str) -> User:
        calls[0] += 1
        mine = calls[0]
        began.set()
        await leave.wait()
        return User(name=f"{mine}")

    here, elsewhere = DiskCache(tmp_path), DiskCache(tmp_path)
    f = instructor_cache(TieredCache(MemoryCache(), here), tags="people")(body)
    other = instructor_cache(elsewhere, tags="people")(body)
    ask = f.cache_refresh if is_anew else f
    old = asyncio.create_task(ask("ada"))
    await began.wait()
    if word == "invalidate":
        await other.cache_invalidate("ada")
    elif word == "clear":
        await TieredCache(elsewhere).aclear()
    else:
        await elsewhere.ainvalidate_tags("people")
    began.clear()
    new = [asyncio.create_task(ask("ada")) for _ in range(3)]
    await began.wait()
    leave.set()
    assert (await old).name == "1"
    assert [(await each).name for each in new] == ["2", "2", "2"]
    assert (await f("ada")).name == "2"
    for cache in (here, elsewhere):
        cache.close()


@pytest.mark.parametrize("when", ["before the call", "as it begins"])
async def test_a_store_that_failed_for_a_moment_is_asked_again_what_was_forgotten(
    colour: Colour, tmp_path: Path, when: str
):
    """An invalidation by another process wins over a call that begins just after a failure, and
    over one that began during it."""
    here, elsewhere = FaultyBackend(DiskCache(tmp_path)), DiskCache(tmp_path)

    def body(text: str) -> User:
        here.heal()
        if text == "ada":
            other.cache_invalidate(text)
        return User(name=text)

    other: Any = instructor_cache(elsewhere)(body)
    f: Any = instructor_cache(here)(colour.function(body))
    here.failing(ConnectionError("down"))
    await colour.call(f, "bob" if when == "before the call" else "ada")
    if when == "before the call":
        await colour.call(f, "ada")
    assert not other.cache_contains("ada")
    assert await colour.call(f.cache_contains, "bob") is (when == "before the call")
    elsewhere.close()


async def test_a_user_who_may_not_read_what_was_forgotten_is_told_so_twice(colour: Colour):
    """Where a store answers about all keys but those, it is left alone with them for a while, and
    answers are stored as ever."""
    far, events = FaultyBackend(Shared()), list[Event]()

    def body(n: int) -> User:
        return User(name=f"{n}")

    f: Any = instructor_cache(far, observer=events.append)(colour.function(body))
    with far.failing(PermissionError("not you"), on="get_many"):
        for n in range(20):
            await colour.call(f, n)
    assert [event.kind for event in events].count("failure") == 2
    assert await colour.call(f.cache_contains, 19)
