"""`transfer`: what one backend keeps goes to another with the time it has left, come what may."""

from __future__ import annotations

import asyncio
import os
import pickle
import pty
import re
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from functools import partial
from pathlib import Path
from typing import Any

import diskcache
import pytest
import redis
import redis.asyncio
from conftest import Colour, timed
from pydantic import BaseModel
from redis_server import Cluster, RedisServer, free_port

from instructor_cache import (
    DiskCache,
    Entry,
    MemoryCache,
    RedisCache,
    SafeDisk,
    Tier,
    TieredCache,
    TransferInterrupted,
    Transferred,
    atransfer,
    instructor_cache,
    transfer,
)
from instructor_cache._progress import line
from instructor_cache.errors import InstructorCacheWarning
from instructor_cache.ports import adapt
from instructor_cache.testing import FaultyBackend
from instructor_cache.tiers import tiers_of

NOW = 1_000_000_000.0
QUIET: dict[str, Any] = {"progress": False, "clock": lambda: NOW}

pytestmark = pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning")


class User(BaseModel):
    name: str
    age: int = 0


class Stores:
    """Makes empty backends of every kind, all by one clock that stands still."""

    def __init__(self, folder: Path, server: str) -> None:
        self.folder, self.server = folder, server
        self.opened = ExitStack()
        self.count = self.databases = 0

    def make(self, kind: str) -> Any:
        self.count += 1
        made = getattr(self, kind)(self.folder / f"{kind}-{self.count}")
        self.opened.callback(getattr(made, "close", int))
        return made

    def memory(self, _: Path) -> MemoryCache:
        return MemoryCache(None, clock=lambda: NOW)

    def disk(self, folder: Path) -> DiskCache:
        return DiskCache(folder, clock=lambda: NOW)

    def redis(self, _: Path) -> RedisCache:
        self.databases += 1
        RedisCache(self.redis_url()).clear("")
        return RedisCache(self.redis_url(), timeout=10)

    def redis_url(self) -> str:
        """That of the Redis database that was made last."""
        return f"{self.server.rsplit('/', 1)[0]}/{self.databases}"

    def twins(self) -> Iterator[tuple[Any, Any]]:
        """Pairs of objects that keep the same store."""
        one, other = self.make("diskcache"), self.make("disk")
        yield one, self.diskcache(Path(one.directory))
        yield other, TieredCache(MemoryCache(), DiskCache(other.directory))
        link = self.folder / "link"
        link.symlink_to(other.directory)
        yield DiskCache(link), other
        yield self.make("redis"), RedisCache(self.redis_url())
        yield self.redis_url(), redis.Redis.from_url(self.redis_url())
        yield "redis://localhost:1/2", redis.Redis("127.0.0.1", 1, 2)
        yield "redis://LOCALHOST", "valkeys://[::1]:6379/0"
        yield "redis+cluster://h:1,i:2", "valkey+cluster://i:2,h:1"
        yield "redis+cluster://127.0.0.1:1,i:2,j:3", "redis+cluster://localhost:1,k:4"
        yield "redis+sentinel://h/svc", RedisCache("redis+sentinel://:pw@i,h/svc/0")

    def diskcache(self, folder: Path) -> diskcache.Cache:
        return diskcache.Cache(folder, disk=SafeDisk)

    def tiered(self, folder: Path) -> TieredCache:
        return TieredCache(self.memory(folder), self.make("disk"))


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with RedisServer() as server:  # one that may be cleared
        yield server.url


@pytest.fixture
def stores(tmp_path: Path, server: str) -> Iterator[Stores]:
    stores = Stores(tmp_path, server)
    with stores.opened:
        yield stores


def packed(key: str, *, age: float = 10.0, life: float | None = 100.0, payload: bytes = b"{}"):
    """An entry that was made *age* seconds ago, for *life* seconds."""
    until = float("inf") if life is None else NOW - age + life
    return Entry(payload, NOW - age, until, until).pack(key)


def fill(backend: Any, count: int, *, ttl: float | None = 90, **times: Any) -> dict[str, bytes]:
    """Put *count* entries into *backend*; give them."""
    keys = [f"app:f:s:{n:06}" for n in range(count)]
    entries = {key: packed(key, **times) for key in keys}
    for key, raw in entries.items():
        backend.set(key, raw, ttl)
    return entries


def held(backend: Any) -> dict[str, bytes]:
    """All that *backend* holds."""
    return {key: backend.get(key) for key in backend.scan("")}


KINDS = ("memory", "disk", "redis", "diskcache")


@pytest.mark.parametrize("target", [*KINDS, "tiered"])
@pytest.mark.parametrize("origin", KINDS)
async def test_every_pair_of_backends(stores: Stores, origin: str, target: str):
    """Entries arrive as they were, from every kind of backend in every other, in both colours."""
    source = stores.make(origin)
    entries = fill(adapt(source), 40)
    for colour in ("sync", "async"):
        destination = stores.make(target)
        if colour == "sync":
            done = transfer(source, destination, **QUIET)
        else:
            done = await atransfer(source, destination, **QUIET)
        assert (done.copied, done.seen, done.bytes) == (40, 40, sum(map(len, entries.values())))
        for tier in tiers_of(destination):
            assert held(tier.backend) == entries


@pytest.mark.parametrize("target", ["memory", "disk"])
def test_the_time_that_is_left(stores: Stores, target: str):
    """An entry lives at its destination exactly as long as it would have lived at its source."""
    now = NOW
    kind = {"memory": MemoryCache, "disk": lambda **o: DiskCache(stores.folder / "d", **o)}
    source, destination = stores.make("memory"), kind[target](clock=lambda: now)
    source.set("app:f:s:1", packed("app:f:s:1", age=40, life=100), 999)
    source.set("app:f:s:2", packed("app:f:s:2", life=None), 999)
    with closing(destination):
        transfer(source, destination, **QUIET)
        now = NOW + 59.9
        assert set(destination.scan("")) == {"app:f:s:1", "app:f:s:2"}
        now = NOW + 60.1
        assert set(destination.scan("")) == {"app:f:s:2"}


@pytest.mark.parametrize("kind", ["memory", "disk"])
async def test_what_the_destination_refuses_is_told(stores: Stores, colour: Colour, kind: str):
    """An entry that is larger than what it takes counts as refused, in the line as well, and not
    as copied; one that another tier took is copied."""
    source, key = MemoryCache(), "app:f:s:large"
    raw = packed(key, payload=b"x" * 200_000)
    source.set(key, raw, None)
    fill(source, 2)
    small: Any = MemoryCache(max_bytes=1_000_000)
    if kind == "disk":
        small = DiskCache(stores.folder / "small", size_limit=1_000_000)
    work = atransfer if colour.is_async else transfer
    with closing(small):
        for copied in (2, 0):
            done = await colour.call(partial(work, source, small, **QUIET))
            assert (done.copied, done.refused, done.present) == (copied, 1, 2 - copied)
            assert done.seen == 3
            assert str(done).endswith("unreadable: 0, refused as too large: 1")
        stack = TieredCache(small, MemoryCache())
        done = await colour.call(partial(work, source, stack, **QUIET))
        assert (done.copied, done.refused) == (3, 0)
        assert "refused" not in str(done)


def test_the_time_that_is_left_in_redis(stores: Stores):
    """Redis gets the time that is left, or a tier's own if that is shorter, and none for ever."""
    source, one, other = stores.make("memory"), stores.make("redis"), stores.make("redis")
    source.set("app:f:s:1", packed("app:f:s:1", age=40, life=100), 999)
    source.set("app:f:s:2", packed("app:f:s:2", life=None), 999)
    for destination in (one, Tier(other, ttl=30)):
        transfer(source, destination, **QUIET)
    assert 59 < ttl(one, "app:f:s:1") <= 60
    assert ttl(one, "app:f:s:2") == -1
    assert 29 < ttl(other, "app:f:s:1") <= 30 and 29 < ttl(other, "app:f:s:2") <= 30


def ttl(backend: RedisCache, key: str) -> float:
    from instructor_cache._bridge import drive

    left: int = drive(backend._links.command("PTTL", key))
    return left / 1000 if left > 0 else left


def test_an_entry_from_the_future(stores: Stores):
    """What was made by a clock that was ahead gets its whole life, from now on."""
    source, destination = stores.make("memory"), stores.make("redis")
    source.set("app:f:s:1", packed("app:f:s:1", age=-500, life=100), None)
    assert transfer(source, destination, **QUIET).copied == 1
    assert 99 < ttl(destination, "app:f:s:1") <= 100


@pytest.mark.parametrize("origin", KINDS)
def test_what_is_not_copied(stores: Stores, origin: str):
    """The expired, the damaged, the foreign and other formats are counted; locks are left out."""
    source, destination = stores.make(origin), stores.make("memory")
    good = packed("app:f:s:1")
    for key, value in {
        "app:f:s:1": good,
        "app:f:s:2": packed("app:f:s:2", age=101, life=100),
        "app:f:s:3": good,  # another key's
        "app:f:s:4": good[:-1],
        "app:f:s:5": bytes([99]) + packed("app:f:s:5")[1:],
        "someone else's": b"hello",
        "lock:app:f:s:1": b"token",
        "forgotten:app:f:s:1": b"123",
        "tag:0123456789abcdef": b"8 bytes!",
    }.items():
        source.set(key, value, 50)
    done = transfer(source, destination, **QUIET)
    assert (done.copied, done.expired, done.unreadable, done.tags) == (1, 1, 4, 1)
    assert held(destination) == {"app:f:s:1": good, "tag:0123456789abcdef": b"8 bytes!"}


async def test_what_other_programs_keep_in_the_same_redis(stores: Stores):
    """Keys that are no text, or hold no value, do not stop a transfer."""
    source, destination = stores.make("redis"), stores.make("memory")
    entries = fill(source, 3)
    with redis.Redis.from_url(stores.redis_url()) as other:
        other.set(b"\xac\xed\x00\x05t\x00session", b"x")
        other.rpush("jobs", 1)
    assert transfer(source, destination, **QUIET).copied == 3
    assert (await atransfer(source, destination, **QUIET)).present == 3
    assert held(destination) == entries


def test_a_list_in_the_place_of_an_entry_makes_room(stores: Stores):
    """What another program has put under a key of ours at the destination is replaced, as ever."""
    source, destination = stores.make("memory"), stores.make("redis")
    entries = fill(source, 3)
    with redis.Redis.from_url(stores.redis_url()) as other:
        other.rpush(next(iter(entries)), 1)
    assert transfer(source, destination, **QUIET).copied == 3
    assert held(destination) == entries


def test_a_user_who_may_not_is_told_at_once(stores: Stores):
    """What Redis does not permit is not tried again."""
    memory = stores.make("memory")
    fill(memory, 3)
    stores.make("redis")
    with redis.Redis.from_url(stores.redis_url()) as admin:
        admin.execute_command("ACL", "SETUSER", "app", "on", ">pw", "~*", "+@all", "-set", "-scan")
    url = stores.redis_url().replace("//", "//app:pw@")
    began = time.monotonic()
    for source, destination in ((memory, url), (url, memory)):
        with pytest.raises(TransferInterrupted, match="NoPermissionError"):
            transfer(source, destination, patience=60, **QUIET)
    assert time.monotonic() - began < 30


def test_a_prefix(stores: Stores):
    """A prefix is that of a decorator: others stay, tags come along, and no pattern is read in."""
    source, destination = stores.make("redis"), stores.make("memory")
    for key in ("app:f:s:1", "app2:f:s:1", "a%2A:f:s:1", "ab:f:s:1"):
        source.set(key, packed(key), None)
    source.set("tag:1", b"epoch", None)
    assert transfer(source, destination, prefix="app", **QUIET).copied == 1
    assert set(held(destination)) == {"app:f:s:1", "tag:1"}
    assert transfer(source, destination, prefix="a*", **QUIET).copied == 1
    assert set(held(destination)) == {"app:f:s:1", "a%2A:f:s:1", "tag:1"}


@pytest.mark.parametrize("prefix", ["ap", "app:", "app:*"])
async def test_a_prefix_that_nothing_has_is_told(stores: Stores, prefix: str):
    """Who mistypes a prefix, or writes a pattern, is told that there was nothing to copy."""
    source, destination = stores.make("memory"), stores.make("disk")
    fill(source, 1)
    with pytest.warns(InstructorCacheWarning, match="no entries below .* check it") as caught:
        transfer(source, destination, prefix=prefix, **QUIET)
        await atransfer(source, destination, prefix=prefix, **QUIET)
    assert [warning.filename for warning in caught] == [__file__] * 2


@pytest.mark.parametrize("target", [*KINDS, "no swap"])
def test_the_newer_entry_stays(stores: Stores, target: str):
    """At the destination the older, the damaged and the dead make room, the newer stays."""
    destination: Any = NoSwap() if target == "no swap" else stores.make(target)
    source = stores.make("memory")
    before = {
        "app:f:s:older": packed("app:f:s:older", age=20),
        "app:f:s:newer": packed("app:f:s:newer", age=5),
        "app:f:s:same age": packed("app:f:s:same age", payload=b"other"),
        "app:f:s:damaged": b"damaged",
        "app:f:s:dead": packed("app:f:s:dead", age=5, life=4),
        "tag:1": b"theirs",
    }
    for key, raw in before.items():
        destination.set(key, raw, None)
        source.set(key, b"ours" if key == "tag:1" else packed(key), None)
    done = transfer(source, destination, **QUIET)
    assert (done.copied, done.present, done.tags) == (3, 2, 0)
    for key, raw in before.items():
        stays = key.endswith(("newer", "same age", "tag:1"))
        assert destination.get(key) == (raw if stays else packed(key)), key
    assert transfer(source, destination, **QUIET).copied == 0


class NoSwap:
    """The least that a source and destination needs: a user's own backend."""

    def __init__(self) -> None:
        self.data: dict[str, bytes] = {}

    def get(self, key: str, /) -> bytes | None:
        return self.data.get(key)

    def set(self, key: str, value: bytes, ttl: float | None, /) -> None:
        self.data[key] = value

    def delete(self, key: str, /) -> None:
        self.data.pop(key, None)

    def scan(self, prefix: str, /) -> Iterator[str]:
        return (key for key in list(self.data) if key.startswith(prefix))


class AsyncOnly:
    """The same for coroutines only."""

    def __init__(self) -> None:
        self.data: dict[str, bytes] = {}

    async def aget(self, key: str, /) -> bytes | None:
        return self.data.get(key)

    async def aset(self, key: str, value: bytes, ttl: float | None, /) -> None:
        self.data[key] = value

    async def adelete(self, key: str, /) -> None:
        self.data.pop(key, None)

    async def ascan(self, prefix: str, /) -> Any:
        for key in list(self.data):
            if key.startswith(prefix):
                yield key


async def test_backends_for_coroutines_only(stores: Stores):
    """They work with `atransfer`, ready clients as well, in both places."""
    source, between, destination = NoSwap(), AsyncOnly(), stores.make("disk")
    entries = fill(source, 50)
    assert (await atransfer(source, between, **QUIET)).copied == 50
    assert between.data == entries
    stores.make("redis")
    async with redis.asyncio.Redis.from_url(stores.redis_url()) as client:
        assert (await atransfer(between, client, **QUIET)).copied == 50
        assert (await atransfer(client, destination, **QUIET)).copied == 50
        with pytest.raises(TypeError, match="RedisCache that is for coroutines only.* atransfer"):
            transfer(client, destination)
    assert held(destination) == entries
    with pytest.raises(TypeError, match=r"AsyncOnly that is for coroutines only.*await atransfer"):
        transfer(NoSwap(), AsyncOnly())


async def test_in_a_running_loop(stores: Stores):
    """`transfer` works there as blocking code does; `atransfer` leaves the loop to others."""
    source = stores.make("disk")
    fill(source, 300)
    assert transfer(source, stores.make("memory"), **QUIET).copied == 300
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    task = asyncio.ensure_future(others())
    assert (await atransfer(source, stores.make("disk"), **QUIET)).copied == 300
    assert turns > 20
    task.cancel()


def test_a_stack(stores: Stores):
    """Of a stack the farthest tier that is read is copied; entries go to all that are written."""
    near, far = stores.make("memory"), stores.make("disk")
    near.set("app:f:s:near", packed("app:f:s:near"), None)
    entries = fill(far, 5)
    l1, l2 = stores.make("memory"), stores.make("redis")
    done = transfer(TieredCache(near, far), TieredCache(Tier(l1, ttl=20), l2), **QUIET)
    assert done.copied == 5
    assert held(l1) == held(l2) == entries
    l2.set("app:f:s:000000", newer := packed("app:f:s:000000", age=1), None)
    l1.clear("")
    done = transfer(TieredCache(near, far), TieredCache(Tier(l1, ttl=20), l2), **QUIET)
    assert (done.copied, done.present) == (4, 1)  # a near tier gets nothing older than the far one
    assert "app:f:s:000000" not in held(l1) and l2.get("app:f:s:000000") == newer


def test_tiers_that_are_only_read_or_only_written(stores: Stores):
    """What is not read is not copied from, and what is not written is not copied to."""
    one, two, three = (stores.make("memory") for _ in range(3))
    entries = fill(one, 5)
    source = TieredCache(one, Tier(two, read=False))
    assert transfer(source, TieredCache(two, Tier(three, write=False)), **QUIET).copied == 5
    assert (held(two), held(three)) == (entries, {})
    with pytest.raises(ValueError, match="no tier to write to"):
        transfer(one, Tier(three, write=False))
    with pytest.raises(ValueError, match="no tier to read from"):
        transfer(Tier(one, read=False), three)


def test_answers_are_hits_afterwards(stores: Stores):
    """Functions over the destination answer without being called; tags forget them there too."""
    calls: list[str] = []

    def function(backend: Any) -> Any:
        @instructor_cache(backend, ttl="1h", prefix="app", tags=("all", lambda text: text))
        def extract(text: str) -> User:
            calls.append(text)
            return User(name=text)

        return extract

    source, destination = stores.make("redis"), DiskCache(stores.folder / "moved")
    answers = [function(source)(f"{n}") for n in range(20)]
    calls.clear()
    with destination:
        done = transfer(source, destination, prefix="app", progress=False)
        assert (done.copied, done.tags) == (20, 21)
        assert [function(destination)(f"{n}") for n in range(20)] == answers
        assert not calls
        TieredCache(destination).invalidate_tags("7")
        assert [function(destination)(f"{n}") for n in range(20)] == answers
        assert calls == ["7"]


KILLED = """
import sys, time
from instructor_cache import transfer

transfer(sys.argv[1], sys.argv[2], clock=lambda: 1e9, progress=lambda done: (
    print(done.copied, flush=True), time.sleep(0.5)))
"""


def test_killed_and_resumed(stores: Stores):
    """A transfer that was killed goes on where it was: nothing is lost, nothing is copied twice."""
    source = DiskCache(stores.folder / "source")
    entries = fill(source, 600, life=1e9, ttl=None)
    destination = stores.make("redis")
    command = [sys.executable, "-c", KILLED, f"disk://{source.directory}", stores.redis_url()]
    with closing(source), subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while int(process.stdout.readline()) < 32:  # the first batch
            pass
        process.send_signal(signal.SIGKILL)
        process.wait()
        arrived = len(held(destination))
        assert 32 <= arrived < 600
        done = transfer(source, destination, **QUIET)
    assert (done.copied, done.present) == (600 - arrived, arrived)
    assert held(destination) == entries


@pytest.mark.parametrize("target", ["memory", "disk", "redis"])
def test_others_write_at_the_same_time(stores: Stores, target: str):
    """What others write to the destination meanwhile is never replaced by something older."""
    source, destination = stores.make("memory"), stores.make(target)
    keys = list(fill(source, 400))
    newer = {key: packed(key, age=1, payload=b"newer") for key in keys[::2]}
    started = threading.Event()

    def write() -> None:
        started.wait()
        for key, raw in reversed(newer.items()):
            destination.set(key, raw, 90)

    writer = threading.Thread(target=write, daemon=True)  # it waits for ever if this fails
    writer.start()
    done = transfer(source, destination, progress=lambda _: started.set(), clock=lambda: NOW)
    writer.join()
    assert done.copied + done.present == 400
    for key in keys:
        assert destination.get(key) == newer.get(key, packed(key))


def test_a_backend_that_fails_for_a_while(stores: Stores):
    """An operation that fails is tried again, in all places, as long as patience lasts."""
    source, destination = FaultyBackend(stores.make("memory")), FaultyBackend(stores.make("disk"))
    entries = fill(source.inner, 60)
    source.failing(ConnectionError("lost"), on="get", times=2)
    destination.failing(ConnectionError("lost"), on=("get", "swap"), times=2)
    assert transfer(source, destination, **QUIET).copied == 60
    assert held(destination.inner) == entries


class Breaking(NoSwap):
    """A source whose lists break off *times* times, after *after* keys each."""

    def __init__(self, times: int, after: int) -> None:
        super().__init__()
        self.times, self.after = times, after

    def scan(self, prefix: str, /) -> Iterator[str]:
        for n, key in enumerate(super().scan(prefix)):
            if n >= self.after and self.times > 0:
                self.times -= 1
                raise ConnectionError("lost")
            yield key


@timed
@pytest.mark.parametrize("after", [0, 40])
async def test_a_list_that_breaks_off_is_begun_anew(colour: Colour, after: int):
    """Listing the source is tried again as long as patience lasts, and nothing counts twice."""
    source, destination = full(Breaking(2, after), 100), NoSwap()
    fill(destination, 10)
    told: list[Transferred] = []
    move = transfer if colour.name == "sync" else atransfer
    done = await colour.call(move, source, destination, progress=told.append, clock=lambda: NOW)
    assert source.times == 0
    assert (done.copied, done.present, done.seen) == (90, 10, 100)
    assert all(0 <= each.seen <= 100 for each in told)
    source.times, start = 10**6, time.monotonic()
    with pytest.raises(TransferInterrupted, match="ConnectionError"):
        await colour.call(move, source, NoSwap(), patience=0.2, **QUIET)
    assert time.monotonic() - start < 1


@timed
async def test_a_backend_that_hangs(stores: Stores, colour: Colour):
    """Who gets no answer waits for no longer than the tier's timeout, in every operation."""
    move = transfer if colour.name == "sync" else atransfer
    for on in ("get", "scan", "swap"):
        source, destination = stores.make("memory"), FaultyBackend(stores.make("memory"))
        fill(source, 10)
        places = [Tier(source), Tier(destination, timeout=0.02)]
        if on == "scan":
            fill(destination.inner, 10)
            places.reverse()
        start = time.monotonic()
        with destination.silent(on=on), pytest.raises(TransferInterrupted, match="TimeoutError"):
            await colour.call(move, *places, patience=0, **QUIET)
        assert time.monotonic() - start < 2


async def test_a_backend_that_goes_on_failing(stores: Stores, colour: Colour):
    """The error tells what was done until then, which is what the next transfer finds there."""
    source, destination = stores.make("memory"), FaultyBackend(stores.make("disk"))
    fill(source, 300)
    destination.failing(ConnectionError("full"), on="swap", when=[n >= 100 for n in range(999)])
    move = transfer if colour.name == "sync" else atransfer
    with pytest.raises(TransferInterrupted, match="ConnectionError after 100 entries") as caught:
        await colour.call(move, source, destination, patience=0, **QUIET)
    assert caught.value.done.copied == len(held(destination.inner)) == 100
    assert isinstance(caught.value.__cause__, ConnectionError)
    assert pickle.loads(pickle.dumps(caught.value)).done == caught.value.done
    destination.heal()
    done = transfer(source, destination, **QUIET)
    assert (done.copied, done.present) == (200, 100)


@timed
def test_a_server_that_is_gone(stores: Stores):
    """Without a server a transfer ends in its time, and says so."""
    destination = RedisCache(f"redis://127.0.0.1:{free_port()}", timeout=0.2)
    start = time.monotonic()
    with closing(destination), pytest.raises(TransferInterrupted, match="ConnectionError after 0"):
        transfer(full(stores.make("memory"), 10), destination, patience=0.2, **QUIET)
    assert time.monotonic() - start < 2


def full(backend: Any, count: int) -> Any:
    fill(backend, count)
    return backend


def test_memory_is_bounded():
    """Large entries travel few at a time."""
    source, destination = Endless(120, 2**20), Discarding()
    tracemalloc.start()
    try:
        done = transfer(source, destination, **QUIET)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert done.refused == 120
    assert peak < 2.5 * 32 * 2**20  # the first batch, before it is known how large they are


class Endless(NoSwap):
    """Makes its entries when they are asked for."""

    def __init__(self, count: int, size: int) -> None:
        super().__init__()
        self.count, self.payload = count, b"x" * size

    def get(self, key: str, /) -> bytes | None:
        return None if key.startswith("tag:") else packed(key, payload=self.payload)

    def scan(self, prefix: str, /) -> Iterator[str]:
        return (f"app:f:s:{n}" for n in range(self.count if not prefix else 0))


class Discarding(NoSwap):
    def set(self, key: str, value: bytes, ttl: float | None, /) -> None:
        pass


class Slow(NoSwap):
    """Takes its time, and tells how many operations were under way at once."""

    lanes = 4

    def __init__(self) -> None:
        super().__init__()
        self.present = self.most = 0

    def set(self, key: str, value: bytes, ttl: float | None, /) -> None:
        self.present += 1
        self.most = max(self.most, self.present)
        time.sleep(0.002)
        self.present -= 1
        super().set(key, value, ttl)


class AsyncSlow(Slow, AsyncOnly):
    async def aset(self, key: str, value: bytes, ttl: float | None, /) -> None:
        self.present += 1
        self.most = max(self.most, self.present)
        await asyncio.sleep(0.002)
        self.present -= 1
        self.data[key] = value


async def test_several_operations_at_once():
    """A backend that names its lanes has so many operations under way, any other has one."""
    source = full(NoSwap(), 64)
    single = Slow()
    single.lanes = 1
    for destination, lanes in ((Slow(), 4), (single, 1)):
        assert transfer(source, destination, **QUIET).copied == 64
        assert destination.most == lanes
    for destination, lanes in ((AsyncSlow(), 4), (Slow(), 4)):
        assert (await atransfer(source, destination, **QUIET)).copied == 64
        assert (destination.most, destination.data) == (lanes, source.data)


def test_tags_travel_first():
    """Who used the destination meanwhile would else begin new epochs, which no entry fits."""
    source, destination = full(NoSwap(), 5), NoSwap()
    source.data["tag:1"] = b"epoch"
    transfer(source, destination, **QUIET)
    assert list(destination.data) == ["tag:1", *list(source.data)[:5]]


def test_answers_of_another_epoch_are_not_copied(stores: Stores):
    """Where the destination has the tag already, in an epoch of its own, tagged answers of the
    source could never be hits; they are counted by themselves."""
    source, destination = stores.make("memory"), stores.make("disk")

    def extract(number: int) -> int:
        return number

    options: dict[str, Any] = {"ttl": 60, "returns": int, "clock": lambda: NOW}
    for backend, first in ((source, 0), (destination, 3)):
        tagged = instructor_cache(backend, tags=["users"], **options)(extract)
        plain = instructor_cache(backend, prefix="plain", **options)(extract)
        for number in range(first, first + 3):
            tagged(number)
            plain(number)
    done = transfer(source, destination, **QUIET)
    assert (done.copied, done.outdated, done.seen, done.tags) == (3, 3, 6, 0)
    assert "outdated: 3, unreadable: 0" in str(done)


class Racing(NoSwap):
    """Does *then* with a key in the moment in which it is to be written here."""

    def __init__(self, then: Callable[[str], None]) -> None:
        super().__init__()
        self.then = then

    def set(self, key: str, value: bytes, ttl: float | None, /) -> None:
        self.then(key)
        super().set(key, value, ttl)


class RacingMemory(MemoryCache):
    """The same, where values are compared and swapped."""

    def __init__(self, then: Callable[[str], None]) -> None:
        super().__init__(clock=lambda: NOW)
        self.then = then

    def swap(self, key: str, old: bytes | None, new: bytes | None, ttl: float | None, /) -> bool:
        if new is not None:
            self.then(key)
        return super().swap(key, old, new, ttl)


@pytest.mark.parametrize("kind", [Racing, RacingMemory])
@pytest.mark.parametrize("key", ["app:f:s:000003", "tag:1"])
def test_what_is_forgotten_meanwhile_does_not_come_back(key: str, kind: Any):
    """Who forgets it at the source and then at the destination finds it at neither."""

    def forget(written: str) -> None:
        if written == key:
            source.delete(key)
            destination.delete(key)

    source, destination = full(NoSwap(), 5), kind(forget)
    source.data["tag:1"] = b"8 bytes!"
    done = transfer(source, destination, **QUIET)
    assert held(destination) == source.data
    assert key not in source.data
    assert done.copied + done.tags == 5


def test_what_is_replaced_meanwhile_is_copied_anew(stores: Stores):
    """Who gets a newer entry just then has it copied; who changes all the time is left out."""

    def replace(written: str) -> None:
        if written == "app:f:s:000003" and source.data[written] != newer:
            source.set(written, newer, None)
        if written == "app:f:s:000004":
            restless = packed(written, payload=source.data[written][-9:] + b"x")
            source.set(written, restless, None)

    newer = packed("app:f:s:000003", age=1)
    source, destination = full(NoSwap(), 5), Racing(replace)
    done = transfer(source, destination, **QUIET)
    assert destination.data == {key: source.data[key] for key in sorted(source.data)[:4]}
    assert (done.copied, done.expired, done.seen) == (4, 1, 5)
    assert destination.data["app:f:s:000003"] == newer


def test_a_coherent_stack(stores: Stores):
    """Near tiers that are kept coherent are filled by reads, which know what changes meanwhile."""
    near, far = stores.make("memory"), stores.make("redis")
    with TieredCache(near, far, coherent=True) as stack:
        assert transfer(full(stores.make("memory"), 5), stack, **QUIET).copied == 5
        assert (len(near), len(held(far))) == (0, 5)


def test_a_closed_backend(stores: Stores):
    """What was closed is not waited for."""
    source, destination = full(stores.make("memory"), 5), stores.make("disk")
    destination.close()
    start = time.monotonic()
    with pytest.raises(TransferInterrupted, match="BackendClosed"):
        transfer(source, destination, patience=60, **QUIET)
    assert time.monotonic() - start < 5


def test_wrong_use(stores: Stores):
    """What can't work is refused before anything is copied, with what to do instead."""
    memory, disk = stores.make("memory"), stores.make("disk")
    with pytest.raises(TypeError, match=r"Nameless, which can't list its keys; wanted .*scan\("):
        transfer(Nameless(), memory)
    for source, destination in [
        (memory, memory),
        (memory, Tier(memory)),
        (TieredCache(disk, memory), TieredCache(memory, stores.make("disk"))),
        (f"disk://{stores.folder}/x", f"disk://{stores.folder}/x"),
        *stores.twins(),
    ]:
        with pytest.raises(ValueError, match="the same .* as source and destination"):
            transfer(source, destination)
    with pytest.raises(TypeError, match="found a int"):
        transfer(3, memory)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="prefix is 3"):
        transfer(memory, disk, prefix=3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="progress is None"):
        transfer(memory, disk, progress=None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="patience is -1"):
        transfer(memory, disk, patience=-1)
    with pytest.raises(TypeError, match="clock is 5"):
        transfer(memory, disk, clock=5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="which is async"):
        transfer(memory, disk, progress=asyncio.sleep)
    with pytest.raises(FileNotFoundError, match="no folder at .*typo"):
        transfer(f"disk://{stores.folder}/typo", memory)
    assert not (stores.folder / "typo").exists()


class Nameless:
    """A backend that can't list its keys."""

    def get(self, key: str, /) -> bytes | None: ...
    def set(self, key: str, value: bytes, ttl: float | None, /) -> None: ...
    def delete(self, key: str, /) -> None: ...


def test_ready_objects_stay_open(stores: Stores):
    """Who made a client closes it; what was made around it is closed."""
    cache = stores.make("diskcache")
    with closing(redis.Redis.from_url(stores.make("redis") and stores.redis_url())) as client:
        transfer(full(stores.make("memory"), 5), client, **QUIET)
        assert transfer(client, cache, **QUIET).copied == 5
        assert client.ping() and len(cache) == 5


# -- progress ------------------------------------------------------------------------------------


def test_progress_is_told_to_a_callable(stores: Stores):
    """It gets what is done so far, which only grows, and in the end is the result."""
    told: list[Transferred] = []
    source = full(stores.make("memory"), 1200)
    done = transfer(source, stores.make("memory"), progress=told.append, clock=lambda: NOW)
    assert [each.copied for each in told] == sorted({each.copied for each in told})
    assert len(told) > 2 and told[-1].copied == done.copied == 1200
    with pytest.raises(ZeroDivisionError):  # its errors are its own
        transfer(source, stores.make("memory"), progress=lambda _: 1 / 0, clock=lambda: NOW)


def on_terminal(monkeypatch: pytest.MonkeyPatch, work: Callable[[], object]) -> str:
    """What a real terminal gets while *work* is done."""
    ours, theirs = pty.openpty()
    with open(theirs, "w") as terminal, monkeypatch.context() as patched:
        patched.setattr(sys, "stderr", terminal)
        patched.setenv("COLUMNS", "200")
        work()
    text = b""
    with suppress(OSError):  # the end of a terminal, on Linux
        while part := os.read(ours, 65536):
            text += part
    os.close(ours)
    return text.decode()


@pytest.mark.parametrize("origin", ["memory", "disk", "redis"])
def test_progress_on_a_terminal(stores: Stores, origin: str, monkeypatch: pytest.MonkeyPatch):
    """A terminal shows a bar with counts, rate and the time left, then the result in its place."""
    monkeypatch.setattr("instructor_cache._progress._EVERY", 0.0)
    source, destination = full(stores.make(origin), 100), stores.make("memory")
    text = on_terminal(monkeypatch, lambda: transfer(source, destination, clock=lambda: NOW))
    *drawn, last = text.replace("\x1b[K", "").removesuffix("\r\n").split("\r")[1:]
    assert re.fullmatch(r"\[#{7}-{17}\] 32 %  32 of 100  [\d,]+/s  0:00:\d\d left", drawn[0]), drawn
    assert re.fullmatch(r"copied 100 entries \(0.\d MB\) in \d+\.\d s; .*unreadable: 0", last)


def test_progress_on_a_terminal_never_holds_up_the_loop(monkeypatch: pytest.MonkeyPatch):
    """What counts the source for the bar blocks, but not the loop."""
    threads: list[threading.Thread] = []

    class Counted(NoSwap):
        def count(self, prefix: str) -> int:
            threads.append(threading.current_thread())
            return 100

    source = full(Counted(), 100)
    work = atransfer(source, NoSwap(), clock=lambda: NOW)
    assert "copied 100" in on_terminal(monkeypatch, lambda: asyncio.run(work))
    assert threads and threading.main_thread() not in threads


def test_progress_without_a_total(stores: Stores, monkeypatch: pytest.MonkeyPatch):
    """Where nobody knows how much there is, counts and rate are shown, on lines that fit."""
    monkeypatch.setattr("instructor_cache._progress._EVERY", 0.0)
    source, destination = full(NoSwap(), 100), stores.make("memory")
    text = on_terminal(monkeypatch, lambda: transfer(source, destination, clock=lambda: NOW))
    assert re.search(r"\r32 entries  [\d,]+/s  0:00:00\x1b", text)
    assert line(12_345, 20_000, 10.0) == (
        "[##############----------] 61 %  12,345 of 20,000  1,234/s  0:00:06 left"
    )
    assert line(0, 20_000, 10.0) == f"[{'-' * 24}] 0 %  0 of 20,000  0/s"


def test_no_progress_in_a_pipe(stores: Stores, capfd: pytest.CaptureFixture[str]):
    """What is no terminal gets nothing."""
    transfer(full(stores.make("memory"), 100), stores.make("disk"), clock=lambda: NOW)
    assert capfd.readouterr() == ("", "")


# -- scale ---------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_a_cluster(stores: Stores):
    """The entries of all nodes of a cluster are listed and counted, and each goes to its own."""
    there, back, ready = stores.make("disk"), stores.make("memory"), stores.make("memory")
    entries = fill(there, 500)
    with Cluster(3) as servers:
        cluster = RedisCache(servers.url)
        assert transfer(there, cluster, **QUIET).copied == cluster.count() == 500
        assert transfer(cluster, back, **QUIET).copied == 500
        assert (await atransfer(cluster, back, **QUIET)).present == 500
        with closing(redis.RedisCluster("127.0.0.1", servers.masters[0].port)) as client:
            assert transfer(client, ready, **QUIET).copied == 500
        await cluster.aclose()
    assert held(back) == held(ready) == entries


@pytest.mark.slow
def test_twenty_thousand_entries(stores: Stores):
    """They go from Redis to disk and back in less than a millisecond each."""
    source, disk = stores.make("redis"), stores.make("disk")
    transfer(full(stores.make("memory"), 20_000), source, **QUIET)
    there = transfer(source, disk, **QUIET)
    back = transfer(disk, other := stores.make("redis"), **QUIET)
    assert there.copied == back.copied == 20_000
    assert there.seconds + back.seconds < 40
    keys = list(source.scan(""))
    assert other.get_many(keys) == source.get_many(keys)
