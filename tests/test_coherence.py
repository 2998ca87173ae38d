"""Near tiers that drop what others change in Redis: real servers, real second processes."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from random import Random
from statistics import quantiles
from typing import Any, ClassVar
from weakref import WeakSet

import pytest
import redis
import redis.asyncio
from conftest import Colour, timed
from other import OtherProcess, User, extract
from redis_server import RedisServer

from instructor_cache import (
    DiskCache,
    Event,
    MemoryCache,
    RedisCache,
    Tier,
    TieredCache,
    instructor_cache,
)
from instructor_cache._health import health_of
from instructor_cache.testing import FaultyBackend


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    """A server for this module, which nobody else uses."""
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="module")
def other(server: RedisServer) -> Iterator[OtherProcess]:
    """A process that uses the same server."""
    with OtherProcess(server.url) as other:
        yield other


def until(is_so: Callable[[], Any], seconds: float = 10.0) -> float:
    """Wait until it is so; give the moment, by `time.time`."""
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.0002)
    return time.time()


def is_live(cache: TieredCache, prefix: str) -> bool:
    """Whether changes under *prefix* are told to the nearest tier of *cache*."""
    return all(c.limit(f"{prefix}:") is None for c in cache.tiers[0].coherences)


class Nearby:
    """A function over memory and Redis whose near tier is told of changes."""

    begun: ClassVar[WeakSet[Nearby]] = WeakSet()

    def __init__(self, colour: Colour, url: str, prefix: str, **options: Any) -> None:
        self.begun.add(self)
        self.now = 0.0
        self.memory = MemoryCache(clock=lambda: self.now)
        self.colour, self.prefix = colour, prefix
        self.far = options.pop("far") if "far" in options else RedisCache(url)
        self.cache = TieredCache(self.memory, self.far, coherent=True)
        self.function = self.of(prefix, **options)

    def of(self, prefix: str, **options: Any) -> Any:
        return instructor_cache(self.cache, prefix=prefix, **options)(self.colour.function(extract))

    async def call(self, text: str) -> str:
        answer = await self.colour.call(self.function, text)
        return str(answer.name)

    async def live(self) -> None:
        """Use the function, and wait until changes are told."""
        await self.call("first")
        until(lambda: is_live(self.cache, self.prefix))

    async def told(self) -> None:
        """Wait until all that was changed so far is told: what we write ourselves comes back."""
        key = f"{self.prefix}:told"
        self.memory.set(key, b"", None)
        write = self.far.aset if self.colour.is_async else self.far.set
        await self.colour.call(write, key, b"", None)
        until(lambda: self.memory.get(key) is None)

    async def held(self, text: str) -> str:
        """Have the answer in memory; give its key."""
        await self.call(text)
        await self.told()
        await self.call(text)
        key: str = self.function.cache_key(text)
        assert self.memory.get(key) is not None
        return key

    async def close(self) -> None:
        await self.cache.aclose()


@pytest.fixture(autouse=True)
def none_left() -> Iterator[None]:
    """Close what a test that failed left open, or those after it would fail, too."""
    yield
    while Nearby.begun:
        Nearby.begun.pop().cache.close()


@pytest.fixture
def nearby(colour: Colour, server: RedisServer, prefix: str) -> Nearby:
    return Nearby(colour, server.url, prefix)


# -- what others change --------------------------------------------------------------------------

CHANGES: dict[str, tuple[Callable[[OtherProcess, str], float], str]] = {
    "set": (lambda other, prefix: other.do("set", prefix, "ada", "theirs"), "theirs"),
    "invalidate": (lambda other, prefix: other.do("invalidate", prefix, "ada"), "made of ada"),
    "end of a tag": (lambda other, prefix: other.do("end", prefix), "made of ada"),
    "clear": (lambda other, prefix: other.do("clear", prefix), "made of ada"),
    "expire": (lambda other, prefix: other.do("expire", prefix, "ada"), "made of ada"),
    "FLUSHALL": (lambda other, _: other.do("raw", "FLUSHALL"), "made of ada"),
    "FLUSHDB": (lambda other, _: other.do("raw", "FLUSHDB"), "made of ada"),
}


@timed
@pytest.mark.parametrize("change", CHANGES)
async def test_what_others_change_is_dropped(
    nearby: Nearby, other: OtherProcess, change: str
) -> None:
    """What another process sets, invalidates, clears, expires or flushes leaves this memory soon,
    and the next call gives what is true then."""
    if change == "end of a tag":
        nearby.function = nearby.of(nearby.prefix, tags=nearby.prefix)
    await nearby.live()
    key = await nearby.held("ada")
    do, after = CHANGES[change]
    before = nearby.function.cache_info()
    began = do(other, nearby.prefix)
    told = until(lambda: nearby.function.cache_info().currsize < before.currsize)
    assert told - began < 1.0
    assert change == "end of a tag" or nearby.memory.get(key) is None
    assert await nearby.call("ada") == after
    assert nearby.function.cache_info().misses == before.misses + (after == "made of ada")


@timed
def test_a_change_is_told_within_a_tenth_of_a_second(
    server: RedisServer, other: OtherProcess, prefix: str
) -> None:
    """Of 200 changes by another process the median takes less than 0.02 s to arrive, and 99 of
    100 take less than 0.1 s."""
    nearby = Nearby(Colour("sync"), server.url, prefix)
    asyncio.run(nearby.live())
    key = nearby.function.cache_key("ada")
    other.do("set", prefix, "ada", "theirs")
    seconds: list[float] = []
    for n in range(200):
        until(lambda: nearby.function("ada") and nearby.memory.get(key) is not None)
        began = other.do("set", prefix, "ada", f"{n}")
        seconds.append(until(lambda: nearby.memory.get(key) is None) - began)
        assert nearby.function("ada").name == f"{n}"
    parts = quantiles(seconds, n=100)
    assert parts[49] < 0.02
    assert parts[98] < 0.1
    nearby.cache.close()


async def test_a_near_hit_asks_redis_nothing(nearby: Nearby, server: RedisServer) -> None:
    """100 hits in memory send no command to Redis."""
    await nearby.live()
    await nearby.held("ada")
    with redis.Redis.from_url(server.url) as client:
        before = commands(client)
        for _ in range(100):
            assert await nearby.call("ada") == "made of ada"
        assert commands(client) == before


def commands(client: Any) -> dict[str, int]:
    """How many commands of a cache the server was sent."""
    names = ("get", "mget", "set", "unlink", "evalsha", "exists")
    sent = client.info("commandstats")
    return {name: sent.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in names}


async def test_what_was_not_changed_stays(nearby: Nearby, other: OtherProcess) -> None:
    """A change of one key, or in another namespace, drops nothing else."""
    elsewhere = nearby.of(f"{nearby.prefix}-2")
    await nearby.colour.call(elsewhere, "ada")
    await nearby.live()
    until(lambda: is_live(nearby.cache, f"{nearby.prefix}-2"))
    keys = [await nearby.held(text) for text in ("ada", "bob")]
    other.do("set", nearby.prefix, "ada", "theirs")
    other.do("set", f"{nearby.prefix}-2", "bob", "theirs")
    until(lambda: nearby.memory.get(keys[0]) is None)
    assert (await nearby.colour.call(elsewhere, "bob")).name == "theirs"
    assert nearby.memory.get(keys[1]) is not None


async def test_each_namespace_is_told_of_its_changes(
    nearby: Nearby, other: OtherProcess, server: RedisServer
) -> None:
    """Functions that come later with prefixes of their own, even odd ones, are coherent too, in
    this stack and in another one over the same Redis, by one connection."""
    await nearby.live()
    second = MemoryCache()
    stack = TieredCache(second, nearby.far, coherent=True)
    for n, prefix in enumerate(["tags", "", "locks", "a:b*c", f"{nearby.prefix}-5"]):
        cache, memory = [(nearby.cache, nearby.memory), (stack, second)][n % 2]
        function: Any = instructor_cache(cache, prefix=prefix)(nearby.colour.function(extract))
        key = function.cache_key("ada")
        other.do("set", prefix, "ada", "theirs")
        await nearby.colour.call(function, "ada")
        until(partial(is_live, cache, key.partition(":")[0]))
        assert (await nearby.colour.call(function, "ada")).name == "theirs"
        assert memory.get(key) is not None
        other.do("set", prefix, "ada", "new")
        until(lambda memory=memory, key=key: memory.get(key) is None)
    assert listener(server)
    nearby.cache.tiers[0].coherences[0].watch("anything")  # which begins all other prefixes, too
    until(lambda: is_live(nearby.cache, nearby.prefix))
    key = await nearby.held("ada")
    other.do("set", nearby.prefix, "ada", "theirs")
    until(lambda: nearby.memory.get(key) is None)
    nearby.cache.close()
    stack.close()


def listeners(server: RedisServer) -> list[dict[str, str]]:
    """The connections on which the server tells of changes."""
    with redis.Redis.from_url(server.url, decode_responses=True) as client:
        found: Any = client.client_list()
    return [each for each in found if "t" in each["flags"]]


def listener(server: RedisServer) -> str:
    """The only such connection: those of tests before end a moment after their caches."""
    until(lambda: len(listeners(server)) == 1)
    return listeners(server)[0]["id"]


# -- races ---------------------------------------------------------------------------------------


class Gate:
    """Holds up who passes it, once, until it is opened."""

    def __init__(self) -> None:
        self.armed, self.reached, self.open = False, threading.Event(), threading.Event()

    def hold(self) -> None:
        if self.armed:
            self.armed = False
            self.reached.set()
            assert self.open.wait(10)


class GatedRedis(RedisCache):
    """A Redis whose values come late."""

    bounded = False

    def __init__(self, url: str, gate: Gate) -> None:
        super().__init__(url, timeout=5)
        self.gate = gate

    def get(self, key: str, /) -> bytes | None:
        found = super().get(key)
        if found is not None:
            self.gate.hold()
        return found

    def get_many(self, keys: Sequence[str], /) -> list[bytes | None]:
        found = super().get_many(keys)
        self.gate.hold()
        return found

    async def aget(self, key: str, /) -> bytes | None:
        found = await super().aget(key)
        if found is not None:
            await asyncio.to_thread(self.gate.hold)
        return found

    async def aget_many(self, keys: Sequence[str], /) -> list[bytes | None]:
        found = await super().aget_many(keys)
        await asyncio.to_thread(self.gate.hold)
        return found


class GatedMemory(MemoryCache):
    """A memory that is slow to write."""

    gate: Gate

    def set(self, key: str, value: bytes, ttl: float | None, /) -> None:
        self.gate.hold()
        super().set(key, value, ttl)

    async def aset(self, key: str, value: bytes, ttl: float | None, /) -> None:
        await asyncio.to_thread(self.gate.hold)
        super().set(key, value, ttl)


async def passes(gate: Gate, call: Callable[[], Any], meanwhile: Callable[[], None]) -> Any:
    """The outcome of *call*, in the middle of which, at the gate, *meanwhile* is done."""
    gate.armed = True
    calling = asyncio.create_task(asyncio.to_thread(lambda: asyncio.run(call())))
    assert await asyncio.to_thread(gate.reached.wait, 10)
    await asyncio.to_thread(meanwhile)
    gate.open.set()
    return await calling


async def test_a_copy_of_what_was_read_before_a_change_does_not_stay(
    colour: Colour, server: RedisServer, other: OtherProcess, prefix: str
) -> None:
    """A far read that began before a change and is copied to memory after the change was told
    leaves nothing there: the next call gives the new answer."""
    gate = Gate()
    nearby = Nearby(colour, "", prefix, far=GatedRedis(server.url, gate), timeout=5)
    await nearby.live()
    other.do("set", prefix, "ada", "old")
    witness = await nearby.held("witness")

    def change() -> None:
        other.do("set", prefix, "ada", "new")
        other.do("invalidate", prefix, "witness")
        until(lambda: nearby.memory.get(witness) is None)  # so the first was told as well

    assert await passes(gate, lambda: nearby.call("ada"), change) == "old"
    assert nearby.memory.get(nearby.function.cache_key("ada")) is None
    assert await nearby.call("ada") == "new"
    await nearby.close()


async def test_an_epoch_that_was_read_before_it_ended_does_not_stay(
    colour: Colour, server: RedisServer, other: OtherProcess, prefix: str
) -> None:
    """When a tag is invalidated elsewhere in the middle of a far read, neither the answer that was
    read nor any other with that tag is given from memory afterwards."""
    gate = Gate()
    options: dict[str, Any] = {"far": GatedRedis(server.url, gate), "timeout": 5, "tags": prefix}
    nearby = Nearby(colour, "", prefix, **options)
    await nearby.live()
    keys = [await nearby.held(text) for text in ("ada", "bob", "witness")]
    nearby.memory.delete(keys[0])

    def change() -> None:
        other.do("end", prefix)
        other.do("expire", prefix, "witness")
        until(lambda: nearby.memory.get(keys[2]) is None)

    await passes(gate, lambda: nearby.call("ada"), change)
    events: list[Event] = []
    watched = nearby.of(prefix, tags=prefix, observer=events.append)
    for text in ("bob", "ada"):
        await nearby.colour.call(watched, text)
    assert [event.kind for event in events] == ["miss", "stored"] * 2
    await nearby.close()


async def test_what_we_store_does_not_outlive_what_others_store_over_it(
    colour: Colour, server: RedisServer, other: OtherProcess, prefix: str
) -> None:
    """An answer that was stored in Redis, overwritten there by another process, and only then
    written to memory, does not stay in memory."""
    nearby = Nearby(colour, server.url, prefix)
    memory = GatedMemory()
    memory.gate = Gate()
    nearby.memory, nearby.cache = memory, TieredCache(memory, nearby.far, coherent=True)
    nearby.function = nearby.of(prefix)
    await nearby.live()
    witness = await nearby.held("witness")

    def change() -> None:
        other.do("set", prefix, "ada", "new")
        other.do("invalidate", prefix, "witness")
        until(lambda: memory.get(witness) is None)

    assert await passes(memory.gate, lambda: nearby.call("ada"), change) == "made of ada"
    assert memory.get(nearby.function.cache_key("ada")) is None
    assert await nearby.call("ada") == "new"
    await nearby.close()


# -- a backend of one's own ----------------------------------------------------------------------


class Telling(MemoryCache):
    """A store that others share, which tells what happens when it is told to."""

    is_local = False
    bounded = True
    listener: Any = None

    def __init__(self) -> None:
        super().__init__()
        self.prefixes: list[str] = []

    def track(self, listener: Any, /) -> Callable[[str], None]:
        self.listener = listener
        return self.prefixes.append


async def test_a_backend_of_ones_own_can_tell(colour: Colour, prefix: str) -> None:
    """What is copied before all changes are told lives for a second, and is dropped when they are;
    then it lives as long as it may, until its change is told or nobody tells any more."""
    far = Telling()
    nearby = Nearby(colour, "", prefix, far=far)
    key = nearby.function.cache_key("ada")
    assert far.prefixes == []
    await nearby.call("ada")
    assert far.prefixes == [f"{prefix}:", "tag:"]
    nearby.now += 1.1
    assert nearby.memory.get(key) is None
    for step in (lambda: [far.listener.live(each) for each in far.prefixes], far.listener.lost):
        await nearby.call("ada")
        assert nearby.memory.get(key) is not None
        step()
        assert nearby.memory.get(key) is None
    for each in far.prefixes:
        far.listener.live(each)
    for keys in (["another", key], None):
        await nearby.call("ada")
        nearby.now += 1000
        assert nearby.memory.get(key) is not None
        far.listener.changed(keys)
        assert nearby.memory.get(key) is None
    far.listener.changed([key] * 2000)  # more than anybody remembers
    assert await nearby.call("ada") == "made of ada"


@pytest.mark.parametrize("why", ["it fails", "it is only read"])
async def test_what_the_far_tier_did_not_take_is_kept_for_a_second(
    colour: Colour, prefix: str, why: str
) -> None:
    """Nobody's invalidation would ever be told of it; what that tier holds is kept as ever."""
    telling = Telling()
    far = FaultyBackend(telling)
    nearby = Nearby(colour, "", prefix, far=Tier(far, write=why == "it fails"))
    key = nearby.function.cache_key("ada")
    await nearby.call("first")
    for each in telling.prefixes:
        telling.listener.live(each)
    with far.failing(on=("set", "swap")):
        await nearby.call("ada")
    assert nearby.memory.get(key) is not None
    nearby.now += 1.1
    assert nearby.memory.get(key) is None
    others: Any = instructor_cache(telling, prefix=prefix)(colour.function(extract))
    await colour.call(others, "ada")
    await nearby.call("ada")
    nearby.now += 1000
    assert nearby.memory.get(key) is not None


class HeldUp(MemoryCache):
    """A store between memory and the teller that does not come back from a deletion for long."""

    is_local = False

    def __init__(self) -> None:
        super().__init__()
        self.go_on = threading.Event()

    def delete(self, key: str, /) -> None:
        assert self.go_on.wait(10)
        super().delete(key)


def told_of_five(nearby: Nearby, far: Telling, between: Any) -> list[str]:
    """Have five answers, which all tiers hold, replaced by others; give their keys."""
    nearby.cache = TieredCache(nearby.memory, between, far, coherent=True)
    nearby.function = nearby.of(nearby.prefix)
    nearby.function("first")
    for each in far.prefixes:
        far.listener.live(each)
    keys = [nearby.function.cache_key(name) for name in "abcde"]
    for name in "abcde" * 2:
        nearby.function(name)
    assert all(between.get(key) and nearby.memory.get(key) for key in keys)
    theirs: Any = instructor_cache(far, prefix=nearby.prefix)(Colour("sync").function(extract))
    for name, key in zip("abcde", keys, strict=True):
        theirs.cache_set(User(name="new"), name)
        far.listener.changed([key])
        assert nearby.memory.get(key) is None
    return keys


def test_a_silent_tier_between_holds_up_nothing(prefix: str) -> None:
    """While a tier in between does not answer, memory drops at once what is told, and the tier
    itself gives no old answer; it drops them as soon as it can."""
    far, between = Telling(), HeldUp()
    nearby = Nearby(Colour("sync"), "", prefix, far=far)
    keys = told_of_five(nearby, far, between)
    assert [nearby.function(name).name for name in "abcde"] == ["new"] * 5
    between.go_on.set()
    until(lambda: not any(between.get(key) for key in keys))


def test_what_a_tier_between_failed_to_drop_is_dropped_by_who_asks_next(prefix: str) -> None:
    """Until then it gives no old answer."""
    far, between = Telling(), FaultyBackend(HeldUp())
    between.inner.go_on.set()
    nearby = Nearby(Colour("sync"), "", prefix, far=far)
    with between.failing(on=("delete",)):
        keys = told_of_five(nearby, far, between)
        assert [nearby.function(name).name for name in "abcde"] == ["new"] * 5
    missed = health_of(between).missed
    until(lambda: not any(thread.name == "instructor_cache" for thread in threading.enumerate()))
    missed._due = 0.0
    nearby.function("another")
    until(lambda: not missed.of(*keys))
    assert [nearby.function(name).name for name in "abcde"] == ["new"] * 5


async def test_a_memory_that_fails_to_drop_is_not_believed(colour: Colour, prefix: str) -> None:
    """What a near tier could not drop is not answered by it before it has dropped it."""
    far, faulty = Telling(), FaultyBackend(MemoryCache())
    function: Any = instructor_cache(TieredCache(faulty, far, coherent=True), prefix=prefix)(
        colour.function(extract)
    )
    await colour.call(function, "ada")
    key = function.cache_key("ada")
    for each in far.prefixes:
        far.listener.live(each)
    await colour.call(function, "ada")
    assert faulty.inner.get(key) is not None
    theirs: Any = instructor_cache(far, prefix=prefix)(colour.function(extract))
    await colour.call(theirs.cache_set, User(name="new"), "ada")
    with faulty.failing(on="delete", times=1):
        far.listener.changed([key])
    assert (await colour.call(function, "ada")).name == "new"


# -- connections that are lost -------------------------------------------------------------------


async def test_a_connection_that_is_killed_comes_back(
    nearby: Nearby, server: RedisServer, other: OtherProcess
) -> None:
    """CLIENT KILL empties the memory; soon changes are told again."""
    await nearby.live()
    key = await nearby.held("ada")
    other.do("raw", "CLIENT", "KILL", "ID", listener(server))
    until(lambda: nearby.memory.get(key) is None)
    until(lambda: is_live(nearby.cache, nearby.prefix))
    key = await nearby.held("ada")
    other.do("set", nearby.prefix, "ada", "theirs")
    until(lambda: nearby.memory.get(key) is None)


async def test_a_server_that_is_killed_leaves_a_memory_of_a_second(
    colour: Colour, prefix: str
) -> None:
    """While the server is gone the memory is emptied and keeps answers for a second; when it is
    back, with other data, so is the memory, which then keeps them for as long as they live."""
    with RedisServer() as server:
        nearby = Nearby(colour, server.url, prefix)
        await nearby.live()
        key = await nearby.held("ada")
        server.stop()
        until(lambda: nearby.memory.get(key) is None)
        assert await nearby.call("ada") == "made of ada"
        assert nearby.memory.get(key) is not None
        nearby.now += 1.1
        assert nearby.memory.get(key) is None
        server.start()
        until(lambda: is_live(nearby.cache, prefix))
        with OtherProcess(server.url) as other:
            other.do("set", prefix, "bob", "theirs")
            while await nearby.call("bob") != "theirs":  # until the breaker lets it through
                nearby.now += 1.1
            key = await nearby.held("bob")
            nearby.now += 1000
            assert nearby.memory.get(key) is not None
            other.do("invalidate", prefix, "bob")
            until(lambda: nearby.memory.get(key) is None)
        await nearby.close()


@timed
async def test_a_server_that_says_nothing_is_noticed(prefix: str) -> None:
    """A stopped server, whose connections are all open, has the memory emptied within four
    seconds; when it goes on, changes are told again."""
    with RedisServer() as server:
        nearby = Nearby(Colour("sync"), server.url, prefix)
        await nearby.live()
        key = await nearby.held("ada")
        assert server.process is not None
        server.process.send_signal(signal.SIGSTOP)
        try:
            until(lambda: nearby.memory.get(key) is None, 4)
        finally:
            server.process.send_signal(signal.SIGCONT)
        until(lambda: is_live(nearby.cache, prefix))
        await nearby.close()


@timed
async def test_a_server_that_is_not_there_yet(colour: Colour, prefix: str) -> None:
    """Decorating and calling neither wait nor fail without a server; once there is one, changes
    are told."""
    server = RedisServer()
    nearby = Nearby(colour, server.url, prefix)
    began = time.monotonic()
    assert await nearby.call("ada") == "made of ada"
    assert time.monotonic() - began < 1
    assert not is_live(nearby.cache, prefix)
    with server:
        until(lambda: is_live(nearby.cache, prefix))
        await nearby.close()


# -- what it takes -------------------------------------------------------------------------------


async def test_closing_leaves_nothing(colour: Colour, server: RedisServer, prefix: str) -> None:
    """Closed or only dropped, 20 caches leave no thread, socket or connection behind."""

    async def once(n: int) -> None:
        nearby = Nearby(colour, server.url, prefix)
        await nearby.live()
        if n % 2:
            await nearby.close()
        else:
            await nearby.far.aclose()

    await once(1)
    gc.collect()
    threads, files = threading.active_count(), len(os.listdir("/proc/self/fd"))
    for n in range(20):
        await once(n)
    gc.collect()
    until(lambda: threading.active_count() <= threads)
    until(lambda: len(os.listdir("/proc/self/fd")) <= files)
    until(lambda: not listeners(server))


@pytest.mark.slow
def test_a_cache_that_is_forgotten_stops_listening(server: RedisServer, prefix: str) -> None:
    """A cache that was not closed and that nobody refers to any more takes its thread with it."""
    threads = threading.active_count()

    def use() -> None:
        cache = TieredCache(MemoryCache(), RedisCache(server.url), coherent=True)
        cache.tiers[0].coherences[0].watch(f"{prefix}:")
        until(lambda: is_live(cache, prefix))

    use()
    gc.collect()
    until(lambda: threading.active_count() <= threads)
    until(lambda: not listeners(server))


def test_the_interpreter_ends_at_once(server: RedisServer, prefix: str) -> None:
    """A program that listens, or still tries to, ends when its work is done."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        code = f"""
from instructor_cache import *
from other import extract
for port in ({server.port}, {silent.getsockname()[1]}):
    far = RedisCache(f"redis://127.0.0.1:{{port}}/0", timeout=0.2)
    cache = TieredCache(MemoryCache(), far, coherent=True)
    instructor_cache(cache, prefix={prefix!r}, observer=lambda _: None)(extract)("ada")
print("done", flush=True)
"""
        command = [sys.executable, "-W", "error", "-c", code]
        began, folder = time.monotonic(), Path(__file__).parent
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=20)
    assert (done.returncode, done.stdout) == (0, "done\n")
    assert "Traceback" not in done.stderr
    assert time.monotonic() - began < 10


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork is POSIX")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_parent_and_child_are_both_told(
    server: RedisServer, other: OtherProcess, prefix: str
) -> None:
    """A forked child trusts nothing that its parent was told, hears for itself, and does not
    disturb the parent."""
    nearby = Nearby(Colour("sync"), server.url, prefix)
    asyncio.run(nearby.live())
    key = asyncio.run(nearby.held("ada"))
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        with suppress(BaseException):
            assert nearby.function("bob").name == "made of bob"
            assert nearby.memory.get(key) is None
            until(lambda: is_live(nearby.cache, prefix))
            until(lambda: nearby.function("ada") and nearby.memory.get(key) is not None)
            os.write(writer, b"1")
            until(lambda: nearby.memory.get(key) is None)
            os._exit(0)
        os._exit(1)
    os.close(writer)
    try:
        assert os.read(reader, 1) == b"1"
        until(lambda: nearby.function("ada") and nearby.memory.get(key) is not None)
        other.do("set", prefix, "ada", "theirs")
        until(lambda: nearby.memory.get(key) is None)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        os.close(reader)
        nearby.cache.close()


@pytest.mark.parametrize("kind", ["async", "unix", pytest.param("sync", marks=pytest.mark.slow)])
async def test_ready_clients_are_listened_beside(tmp_path: Path, prefix: str, kind: str) -> None:
    """A ready client of either colour, with a password, a user without rights to channels, a
    database of its own or a socket in the file system, gives the settings to listen with."""
    path = tmp_path / "redis.sock"
    options = ("--unixsocket", str(path), "--user", "ada", "on", ">secret", "~*", "+@all")
    with RedisServer(*options) as server:
        where: dict[str, Any] = {"host": "127.0.0.1", "port": server.port}
        where = {"unix_socket_path": str(path)} if kind == "unix" else where
        who: dict[str, Any] = {**where, "username": "ada", "password": "secret", "db": 3}
        client: Any = (redis.asyncio if kind == "async" else redis).Redis(**who, protocol=2)
        colour = Colour("async" if kind == "async" else "sync")
        nearby = Nearby(colour, "", prefix, far=RedisCache(client))
        await nearby.live()
        key = await nearby.held("ada")
        with OtherProcess(f"redis://ada:secret@127.0.0.1:{server.port}/3") as other:
            other.do("set", prefix, "ada", "theirs")
            until(lambda: nearby.memory.get(key) is None)
        assert await nearby.call("ada") == "theirs"
        nearby.cache.close()
        if kind == "async":
            await client.connection_pool.disconnect()
        else:
            client.connection_pool.disconnect()


# -- stacks --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tiers", "words"),
    [
        (lambda far, _: (MemoryCache(),), "add a RedisCache"),
        (lambda far, disk: (MemoryCache(), disk), "add a RedisCache"),
        (lambda far, _: (MemoryCache(), Tier(far, read=False)), "without read=False"),
        (lambda far, _: (far,), "put a MemoryCache there"),
        (lambda far, disk: (disk, far), "put a MemoryCache there"),
        (lambda far, _: (far, MemoryCache()), "put a MemoryCache there"),
    ],
)
def test_coherent_needs_a_memory_and_a_teller(
    tmp_path: Path, server: RedisServer, tiers: Any, words: str
) -> None:
    """Without a tier that tells of changes, or a nearer one in memory, coherent is an error that
    says which tiers were found and what to do."""
    far, disk = RedisCache(server.url), DiskCache(tmp_path / "store")
    with pytest.raises(ValueError, match=f"found coherent=True over .*{words}"):
        TieredCache(*tiers(far, disk), coherent=True)


def test_a_client_that_reads_from_replicas_is_refused(server: RedisServer) -> None:
    """Replicas lag behind what is told, so coherent refuses an async sentinel's client."""
    pool: Any = redis.asyncio.sentinel.SentinelConnectionPool(
        "primary", redis.asyncio.sentinel.Sentinel([("127.0.0.1", server.port)])
    )
    far = RedisCache(redis.asyncio.Redis(connection_pool=pool))
    with pytest.raises(ValueError, match="give RedisCache a URL"):
        TieredCache(MemoryCache(), far, coherent=True)


def test_a_nested_cache_keeps_its_coherence(
    server: RedisServer, other: OtherProcess, prefix: str
) -> None:
    """A coherent cache inside another one is told of changes, and `cache_parameters` says so; the
    tiers as the user made them are not changed by it."""
    memory, near = MemoryCache(), MemoryCache()
    tier = Tier(memory)
    inner = TieredCache(tier, FaultyBackend(RedisCache(server.url)), coherent=True)
    assert tier.coherences == ()
    outer = TieredCache(Tier(near, ttl=0.001), inner)
    function: Any = instructor_cache(outer, prefix=prefix)(extract)
    assert function.cache_parameters()["coherent"] is True
    assert instructor_cache(tier)(extract).cache_parameters()["coherent"] is False
    function("ada")
    key = function.cache_key("ada")
    until(lambda: not inner.tiers[0].coherences[0].limit(f"{prefix}:"))
    until(lambda: function("ada") and memory.get(key) is not None)
    other.do("set", prefix, "ada", "theirs")
    until(lambda: memory.get(key) is None)
    until(lambda: function("ada").name == "theirs")
    outer.close()


async def test_a_disk_between_does_not_bring_old_answers_back(
    colour: Colour, tmp_path: Path, server: RedisServer, other: OtherProcess, prefix: str
) -> None:
    """What is changed elsewhere leaves a disk between memory and Redis as well; and what the disk
    held before anybody listened is not believed."""
    nearby = Nearby(colour, server.url, prefix)
    disk = DiskCache(tmp_path / "store")
    nearby.cache = TieredCache(nearby.memory, disk, nearby.far, coherent=True)
    nearby.function = nearby.of(prefix)
    await nearby.live()
    key = await nearby.held("ada")
    other.do("set", prefix, "ada", "theirs")
    until(lambda: nearby.memory.get(key) is None and disk.get(key) is None)
    assert await nearby.call("ada") == "theirs"
    other.do("raw", "CLIENT", "KILL", "ID", listener(server))
    until(lambda: nearby.memory.get(key) is None)
    other.do("set", prefix, "ada", "newer")
    until(lambda: is_live(nearby.cache, prefix))
    await asyncio.sleep(0)
    assert await nearby.call("ada") == "newer"
    await nearby.close()


# -- stress --------------------------------------------------------------------------------------


class Readers:
    """Four threads that read; they tell how long ago what they got had been replaced."""

    def __init__(self, function: Any) -> None:
        self.function = function
        self.replaced: dict[str, float] = {}  # when, by the answer
        self.ages: list[float] = []
        self._done = threading.Event()
        self._threads = [threading.Thread(target=self._read, args=(n,)) for n in range(4)]

    def __enter__(self) -> Readers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()

    def _read(self, seed: int) -> None:
        random = Random(seed)
        while not self._done.is_set():
            asked = time.time()
            answer = self.function(f"{random.randrange(20)}").name
            self.ages.append(asked - self.replaced.get(answer, asked))
            time.sleep(0.0005)


@timed
@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_no_answer_is_older_than_a_tenth_of_a_second(
    server: RedisServer, other: OtherProcess, prefix: str, seed: int
) -> None:
    """While another process makes thousands of changes, and connections are cut now and then, four
    threads that read never get an answer that was replaced more than 0.1 s before they asked; what
    changes while nobody tells of it may be older."""
    random, last = Random(seed), dict[str, str]()
    nearby = Nearby(Colour("sync"), server.url, prefix)
    asyncio.run(nearby.live())
    with Readers(nearby.function) as readers:
        for n in range(2500):
            text = f"{random.randrange(20)}"
            other.do("set", prefix, text, f"v{n}")
            readers.replaced[last.get(text, "")] = time.time()
            last[text] = f"v{n}"
            if n % 500 == 499:
                cut = listener(server)
                other.do("raw", "CLIENT", "KILL", "ID", cut)
                until(lambda cut=cut: cut not in [each["id"] for each in listeners(server)])
                until(lambda: listeners(server) and is_live(nearby.cache, prefix))
    asyncio.run(nearby.told())
    assert {text: nearby.function(text).name for text in last} == last
    nearby.cache.close()
    assert len(readers.ages) > 1000
    assert max(readers.ages) < 0.1


class Users:
    """Threads that read, store, refresh and invalidate, and stand still when they are asked to."""

    def __init__(self, cache: TieredCache, function: Any) -> None:
        self._cache, self._function = cache, function
        self._still, self._done = threading.Event(), threading.Event()
        self._threads = [threading.Thread(target=self._use, args=(n,)) for n in range(3)]
        self._turns = threading.Barrier(4)
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Wait until nothing is under way."""
        self._still.set()
        self._turns.wait(20)

    def go_on(self) -> None:
        self._still.clear()
        self._turns.wait(20)

    def end(self) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()

    def _use(self, seed: int) -> None:
        random = Random(seed)
        function, store = self._function, lambda text: self._function.cache_set(mine, text)
        mine = User(name="mine")
        rest = [function.cache_invalidate, function.cache_refresh, store, self._end]
        while not self._done.is_set():
            if self._still.is_set():
                self._turns.wait(20)
                self._turns.wait(20)
            what = function if random.random() < 0.9 else random.choice(rest)
            what(f"{random.randrange(12)}")

    def _end(self, text: str) -> None:
        self._cache.invalidate_tags(tag_of(text))


def tag_of(text: str) -> str:
    return f"tag {text[-1] in '02468'}"


@pytest.mark.slow
def test_near_and_far_agree_whenever_all_is_still(
    server: RedisServer, other: OtherProcess, prefix: str
) -> None:
    """After a storm of stores, invalidations, ended tags, flushes and cut connections from two
    processes, whatever memory answers is what Redis alone answers; dozens of times."""
    random, found = Random(7), 0
    nearby = Nearby(Colour("sync"), server.url, prefix, tags=tag_of)
    asyncio.run(nearby.live())
    near: Any = instructor_cache(nearby.memory, prefix=prefix, tags=tag_of)(extract)
    far: Any = instructor_cache(nearby.far, prefix=prefix, tags=tag_of)(extract)
    orders: list[tuple[Any, ...]] = [("clear", prefix), ("end", "tag True"), ("raw", "FLUSHALL")]
    users = Users(nearby.cache, nearby.function)
    try:
        for rounds in range(400):
            if rounds >= 40 and found > 50:  # a slow machine has less in memory in each of them
                break
            for n in range(40):
                order = random.choice(["set", "invalidate"])
                text = f"{random.randrange(12)}"
                other.do(order, prefix, text, *[f"theirs {n}"][: order == "set"])
            other.do(*random.choice(orders))
            if random.random() < 0.2:
                other.do("raw", "CLIENT", "KILL", "ID", listener(server))
            time.sleep(0.02)  # in which the users go on alone
            users.stop()
            until(lambda: is_live(nearby.cache, prefix))
            asyncio.run(nearby.told())
            for text in map(str, range(12)):
                if answer := near.cache_get(text):
                    assert answer == far.cache_get(text)
                    found += 1
            users.go_on()
    finally:
        users.end()
        nearby.cache.close()
    assert found > 50
