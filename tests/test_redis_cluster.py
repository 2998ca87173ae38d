"""A real Redis Cluster by its URL: slots that move, nodes that die, seeds that are not there."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from random import Random
from typing import Any

import pytest
import redis
import redis.asyncio
import redis.cluster
from conftest import Colour, timed
from proxy import Proxy
from pydantic import BaseModel
from redis.crc import key_slot
from redis_server import Cluster, RedisServer, free_port, until

from instructor_cache import Event, MemoryCache, RedisCache, TieredCache, instructor_cache
from instructor_cache._bridge import drive
from instructor_cache.backends.redis._loop import Deadline
from instructor_cache.backends.redis._nodes import redirection
from instructor_cache.errors import BackendClosed, NodeDown
from instructor_cache.testing import BackendContract


class Answer(BaseModel):
    question: str
    number: int


class OnCluster:
    """A test on the session's cluster."""

    cluster: Cluster

    @pytest.fixture(autouse=True)
    def _cluster(self, cluster: Cluster) -> None:
        self.cluster = cluster


class TestCluster(OnCluster, BackendContract):
    shared = True

    def make_backend(self) -> RedisCache:
        return RedisCache(self.cluster.url)


@pytest.fixture
def cache(cluster: Cluster) -> Iterator[RedisCache]:
    cache = RedisCache(cluster.url)
    yield cache
    cache.close()


def slot_of(key: str) -> int:
    return key_slot(key.encode())


# -- keys, and commands of many ------------------------------------------------------------------


def test_keys_of_one_function_spread_over_the_nodes(cluster: Cluster, prefix: str) -> None:
    """Whatever braces are in a prefix or a version, no key is pinned to a slot by them."""

    @instructor_cache(cluster.url, prefix="{" + prefix + "}", version="{v}1", ttl=60)
    def extract(text: str) -> Answer:
        return Answer(question=text, number=1)

    keys = [extract.cache_key(f"{{{n}}}") for n in range(60)]
    assert not any("{" in key for key in keys)
    assert len({slot_of(key) for key in keys}) > 50
    before = [node.ask("DBSIZE") for node in cluster.masters]
    for n in range(60):
        extract(f"{{{n}}}")
    after = [node.ask("DBSIZE") for node in cluster.masters]
    assert all(new - old > 5 for new, old in zip(after, before, strict=True))
    extract.cache_clear()
    left = [key for node in cluster.masters for key in node.ask("KEYS", "*")]
    assert not set(keys).intersection(left)
    assert not any("{" in key for key in left)  # marks of the clearing


async def test_many_keys_of_many_slots(cache: RedisCache, prefix: str) -> None:
    """Values of many keys come back in their order, in both colours, and none for none."""
    keys = [f"{prefix}:{n}" for n in range(200)]
    for n, key in enumerate(keys[::2]):
        cache.set(key, b"%d" % n, 60)
    wanted = [b"%d" % (n // 2) if n % 2 == 0 else None for n in range(200)]
    assert drive(cache._links.mget(keys)) == wanted  # type: ignore[attr-defined]
    assert await (await cache._here()).mget(keys) == wanted  # type: ignore[attr-defined]
    assert sorted(cache.scan(prefix)) == sorted(keys[::2])
    await cache.aclear(f"{prefix}:1")
    left = [key for key in keys[::2] if not key.startswith(f"{prefix}:1")]
    assert sorted(cache.scan(prefix)) == sorted(left)
    cache.clear(prefix)
    assert list(cache.scan(prefix)) == []


async def test_a_list_among_many_keys(cluster: Cluster, cache: RedisCache, prefix: str) -> None:
    """Where another program keeps what is no value, there is none, as on a single server."""
    keys = [f"{prefix}:{n}" for n in range(5)]
    with closing(redis.RedisCluster("127.0.0.1", cluster.masters[0].port)) as client:
        client.rpush(keys[0], 1)
        for key in keys[1:]:
            cache.set(key, b"1", 60)
        wanted = [None, *[b"1"] * 4]
        assert cache.get_many(keys) == await cache.aget_many(keys) == wanted
        assert await asyncio.gather(*map(cache.aget, keys)) == wanted
        assert RedisCache(client).get_many(keys) == wanted
        assert cache.swap(keys[0], None, b"2", 60) is True
    assert cache.get(keys[0]) == b"2"


async def test_the_masters_are_told(cluster: Cluster, cache: RedisCache) -> None:
    """Who wants a connection of his own to each master learns how to reach them."""
    ports = {node.port for node in cluster.masters}
    for masters in (drive(cache._links.masters()), await (await cache._here()).masters()):
        assert {master.address[1] for master in masters if master.address} == ports


def test_what_reads_from_replicas_is_not_coherent() -> None:
    """A replica may still answer what all memories were told has changed, so it is refused."""
    option: dict[str, Any] = {"read_from_replicas": True}
    if strategies := getattr(redis.cluster, "LoadBalancingStrategy", None):  # redis-py 5.3
        option = {"load_balancing_strategy": strategies.RANDOM_REPLICA}
    client = redis.asyncio.RedisCluster("127.0.0.1", 1, **option)
    with pytest.raises(ValueError, match="reads from replicas"):
        TieredCache(MemoryCache(), client, coherent=True)


# -- seeds -----------------------------------------------------------------------------------------


@timed
async def test_the_first_seed_that_answers_is_used(cluster: Cluster, prefix: str) -> None:
    """A seed that refuses and one that is silent cost a part of the first operation's time."""
    node = cluster.masters[0].port
    with socket.create_server(("127.0.0.1", 0)) as silent:
        seeds = f"127.0.0.1:{free_port()},127.0.0.1:{silent.getsockname()[1]},127.0.0.1:{node}"
        cache = RedisCache(f"redis+cluster://{seeds}", timeout=0.4)
        start = time.monotonic()
        cache.set(prefix, b"1", 60)
        assert time.monotonic() - start < 0.4
        other = RedisCache(f"redis+cluster://{seeds}", timeout=0.4)
        start = time.monotonic()
        assert await other.aget(prefix) == b"1"
        assert time.monotonic() - start < 0.4
        cache.close()


@timed
async def test_seeds_that_are_not_there_yet(cluster: Cluster, prefix: str, colour: Colour) -> None:
    """With no seed in reach the function answers, a tier event tells why, and when one appears
    answers are kept again."""
    events: list[Event] = []
    with Proxy(cluster.masters[1].port) as proxy:
        proxy.mode = "refuse"
        start = time.monotonic()

        @instructor_cache(
            f"redis+cluster://127.0.0.1:{proxy.port}", prefix=prefix, observer=events.append
        )
        @colour.function
        def extract(text: str) -> Answer:
            return Answer(question=text, number=1)

        for n in range(5):
            assert (await colour.call(extract, f"{n}")).question == f"{n}"
        assert time.monotonic() - start < 1
        assert extract.cache_info().hits == 0
        assert "failure" in {event.kind for event in events}
        proxy.mode = "pass"
        await _until_kept(colour, extract)
        await colour.call(extract.cache_clear)


async def _until_kept(colour: Colour, extract: Any) -> None:
    deadline = time.monotonic() + 10
    hits = extract.cache_info().hits
    while extract.cache_info().hits == hits:
        assert time.monotonic() < deadline
        await colour.call(extract, "again")


@timed
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_silent_seeds_cost_one_timeout(is_async: bool) -> None:
    """Seeds that accept and say nothing are an error after the timeout, not after one each."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        seed = f"127.0.0.1:{silent.getsockname()[1]}"
        cache = RedisCache(f"redis+cluster://{seed},{seed},localhost:{seed[10:]}", timeout=0.2)
        start = time.monotonic()
        with pytest.raises(redis.TimeoutError):
            asyncio.run(cache.aget("k")) if is_async else cache.get("k")
        assert 0.1 < time.monotonic() - start < 0.35


# -- promises that hold for a single server --------------------------------------------------------


async def test_a_cancelled_read_never_answers_another(cluster: Cluster, prefix: str) -> None:
    """After 150 cancelled reads of one key and of many, every value found is its key's own."""
    cache = RedisCache(cluster.url, max_connections=2)
    random = Random(7)
    keys = [f"{prefix}:{n}" for n in range(20)]
    for key in keys:
        await cache.aset(key, key.encode() * 50, 60)
    links: Any = await cache._here()
    cancelled = 0
    while cancelled < 150:
        tasks = [
            asyncio.create_task(cache.aget(random.choice(keys))),
            asyncio.create_task(links.mget(keys)),
        ]
        for _ in range(random.randrange(12)):
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert not [o for o in outcomes if isinstance(o, Exception)]
        cancelled += sum(isinstance(o, asyncio.CancelledError) for o in outcomes)
        key = random.choice(keys)
        assert await cache.aget(key) == key.encode() * 50
        assert await links.mget(keys) == [key.encode() * 50 for key in keys]
    await cache.aclear(prefix)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork is POSIX")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_child_has_connections_of_its_own(cache: RedisCache, prefix: str) -> None:
    """Parent and child that go on after a fork read their own values, never each other's."""
    keys = [f"{prefix}:{n}" for n in range(20)]
    for key in keys:
        cache.set(key, key.encode(), 60)
    child = os.fork()
    if child == 0:
        good = all(cache.get(key) == key.encode() for key in keys * 5)
        os._exit(0 if good else 1)
    for key in keys * 5:
        assert cache.get(f"{key}:none") is None
    assert os.waitpid(child, 0)[1] == 0


async def test_a_closed_cache_stays_closed(cluster: Cluster) -> None:
    """After close every use raises, in both colours, and no connection is left."""
    cache = RedisCache(cluster.url)
    cache.get("k")
    await cache.aget("k")
    before = sum(_clients(node) for node in cluster.masters)
    await cache.aclose()
    with pytest.raises(BackendClosed):
        cache.get("k")
    with pytest.raises(BackendClosed):
        await cache.aget("k")
    until(lambda: sum(_clients(node) for node in cluster.masters) < before)


def _clients(node: RedisServer) -> int:
    return len(node.ask("CLIENT", "LIST", "TYPE", "normal"))


# -- slots that move -------------------------------------------------------------------------------


class Traffic:
    """Cached functions of both colours that are called without a pause, by a thread each."""

    def __init__(self, url: str, prefix: str, questions: int, **options: Any) -> None:
        self.errors: list[BaseException] = []
        self.events: list[Event] = []
        self.calls = 0
        self._numbers: dict[str, int] = {}
        self._is_over = threading.Event()
        self._questions = [f"{n}" for n in range(questions)]
        options = {"prefix": prefix, "ttl": 600, "observer": self.events.append} | options

        def answer(question: str) -> Answer:
            return Answer(question=question, number=1)

        async def aanswer(question: str) -> Answer:
            return Answer(question=question, number=1)

        self.sync = instructor_cache(RedisCache(url), **options)(answer)
        self.both = [self.sync, instructor_cache(RedisCache(url), **options)(aanswer)]

    def all_keys(self) -> list[str]:
        return [cached.cache_key(question) for cached in self.both for question in self._questions]

    def ask_all(self) -> None:
        for question in self._questions:
            assert self.both[0](question).question == question

        async def ask() -> None:
            for question in self._questions:
                assert (await self.both[1](question)).question == question  # type: ignore[misc]

        asyncio.run(ask())

    def _run(self, work: Callable[[], None]) -> None:
        try:
            while not self._is_over.is_set():
                work()
                self.calls += len(self._questions)
        except BaseException as error:
            self.errors.append(error)

    def _sync(self) -> None:
        for question in self._questions:
            assert self.sync(question) == Answer(question=question, number=1)

    def _async(self) -> None:
        async def ask() -> None:
            while not self._is_over.is_set():
                asked = (self.both[1](question) for question in self._questions)
                answers: list[Any] = await asyncio.gather(*asked)
                assert [answer.question for answer in answers] == self._questions

        asyncio.run(ask())

    def __enter__(self) -> Traffic:
        self._threads = [
            threading.Thread(target=self._run, args=(work,)) for work in (self._sync, self._async)
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join(20)

    def misses(self) -> int:
        return sum(cached.cache_info().misses for cached in self.both)


@pytest.mark.parametrize("count", [5, pytest.param(40, marks=pytest.mark.slow)])
def test_slots_that_move_under_traffic(cluster: Cluster, prefix: str, count: int) -> None:
    """While slots move from node to node no caller sees an error, no hit becomes a miss, and
    nothing is told; the moved keys are hits at their new place."""
    traffic = Traffic(f"{cluster.url}?socket_timeout=10", prefix, count)
    traffic.ask_all()
    misses = traffic.misses()
    moved = sorted({slot_of(key) for key in traffic.all_keys()})[:count]
    places = {slot: cluster.owner(slot) for slot in moved}
    try:
        with traffic:
            for slot, source in places.items():
                target = next(node for node in cluster.masters if node is not source)
                for _ in cluster.move(slot, source, target):
                    time.sleep(0.005)
        traffic.ask_all()
        assert all(cluster.owner(slot) is not places[slot] for slot in moved)
    finally:
        for slot, source in places.items():
            if (now := cluster.owner(slot)) is not source:
                list(cluster.move(slot, now, source))
    assert not traffic.errors
    assert [event for event in traffic.events if event.kind == "failure"] == []
    assert traffic.misses() == misses
    traffic.sync.cache_clear()


@pytest.mark.parametrize("step", range(3))
async def test_everything_works_in_the_middle_of_a_move(
    cluster: Cluster, cache: RedisCache, prefix: str, step: int
) -> None:
    """With a slot between two nodes, keys here or there: reads, writes, swaps, deletes, many at
    once and a clear do what they do elsewhere, in both colours."""
    key = f"{prefix}:1"
    pinned = [f"{{{key}}}:{n}" for n in range(6)]  # all in the slot of `key`
    for name in pinned:
        cache.set(name, b"old", 60)
    slot, source = slot_of(key), cluster.owner(slot_of(key))
    target = next(node for node in cluster.masters if node is not source)
    moving = cluster.move(slot, source, target)
    for _ in range(1 + 2 * step):  # 0, 2 or 4 of the keys have moved
        next(moving)
    try:
        links: Any = await cache._here()
        assert drive(cache._links.mget(pinned)) == [b"old"] * 6  # type: ignore[attr-defined]
        assert await links.mget(pinned) == [b"old"] * 6
        for n, name in enumerate(pinned):
            assert cache.get(name) == await cache.aget(name) == b"old"
            assert cache.swap(name, b"old", b"new", 60) is True
            assert await cache.aswap(name, b"old", b"no", 60) is False
            assert await cache.aget(name) == b"new"
            if n % 2:
                await cache.adelete(name)
        assert await cache.aswap(pinned[1], None, b"new", 60) is True
        assert await links.mget(pinned) == [b"new", b"new", b"new", None, b"new", None]
        cache.clear("{" + prefix)
        assert await links.mget(pinned) == [None] * 6
    finally:
        list(moving)
        list(cluster.move(slot, target, source))


# -- nodes that die --------------------------------------------------------------------------------


def _timed(work: Callable[..., Any], *args: Any) -> tuple[Any, float]:
    start = time.monotonic()
    return work(*args), time.monotonic() - start


@pytest.fixture
def own_cluster() -> Iterator[Cluster]:
    """A cluster of this test's own, with a replica of the first master."""
    with Cluster(3, 1) as cluster:
        yield cluster


@timed
@pytest.mark.slow
def test_a_killed_node_fails_alone_until_its_replica_takes_over(
    own_cluster: Cluster, prefix: str
) -> None:
    """Keys of the other nodes stay hits, each call of one of the dead node's ends in time, and
    when the replica was promoted all are kept again."""
    traffic = Traffic(own_cluster.url, prefix, 60)
    traffic.ask_all()
    cached = traffic.sync
    dead = own_cluster.masters[0]
    lost = [
        q for q in traffic._questions if own_cluster.owner(slot_of(cached.cache_key(q))) is dead
    ]
    kept = [q for q in traffic._questions if q not in lost]
    assert len(lost) > 5 and len(kept) > 20
    dead.stop()
    killed_at = time.monotonic()
    slowest = 0.0
    for question in lost * 3:
        answer, seconds = _timed(cached, question)
        assert answer == Answer(question=question, number=1)
        slowest = max(slowest, seconds)
        hits = cached.cache_info().hits
        cached(kept[0])
        assert cached.cache_info().hits == hits + 1
    assert slowest < 1.2  # a read and a write
    hits = cached.cache_info().hits
    for question in kept:
        cached(question)
    assert cached.cache_info().hits == hits + len(kept)
    until(lambda: _is_hit(cached, lost[0]))
    print(
        f"kept again {time.monotonic() - killed_at:.2f} s after the kill; slowest {slowest:.3f} s"
    )
    until(lambda: all(_is_hit(cached, question) for question in lost))
    traffic.ask_all()


def _is_hit(cached: Any, question: str) -> bool:
    hits = cached.cache_info().hits
    cached(question)
    return bool(cached.cache_info().hits == hits + 1)


@timed
@pytest.mark.slow
@pytest.mark.parametrize("is_silent", [False, True], ids=["refuses", "is silent"])
async def test_a_node_that_comes_back(is_silent: bool, prefix: str, colour: Colour) -> None:
    """A node without a replica that dies or falls silent: others' keys stay hits, its own answers
    come within a timeout, of which few are paid, and are kept again when it is back."""
    with Cluster(3, 0, "--cluster-allow-reads-when-down", "yes") as cluster:
        cache = RedisCache(cluster.url, timeout=0.3)

        @instructor_cache(cache, prefix=prefix)
        @colour.function
        def extract(text: str) -> Answer:
            return Answer(question=text, number=1)

        questions = [f"{n}" for n in range(60)]
        for question in questions:
            await colour.call(extract, question)
        node = cluster.masters[1]
        lost = [q for q in questions if cluster.owner(slot_of(extract.cache_key(q))) is node]
        kept = [q for q in questions if q not in lost]
        node.freeze() if is_silent else node.stop()
        slow = 0
        for question in lost * 2:
            start = time.monotonic()
            assert (await colour.call(extract, question)).question == question
            seconds = time.monotonic() - start
            assert seconds < 0.75  # a read and a write, each a timeout at most
            slow += seconds > 0.1
            hits = extract.cache_info().hits
            for other in kept[:3]:
                await colour.call(extract, other)
            assert extract.cache_info().hits == hits + 3
        assert slow <= 3
        node.thaw() if is_silent else node.start()
        deadline = time.monotonic() + 15
        for question in lost:
            while not await _hits(colour, extract, question):
                assert time.monotonic() < deadline
                await asyncio.sleep(0.02)
        cache.close()


async def _hits(colour: Colour, cached: Any, question: str) -> bool:
    hits = cached.cache_info().hits
    await colour.call(cached, question)
    return bool(cached.cache_info().hits == hits + 1)


@timed
@pytest.mark.slow
async def test_many_keys_with_a_silent_node(prefix: str) -> None:
    """Of many keys asked for together, also by many tasks at once, only those of a silent node
    fail, in one timeout."""
    with Cluster(3) as cluster:
        cache = RedisCache(cluster.url, timeout=0.5)
        keys = [f"{prefix}:{n}" for n in range(60)]
        for key in keys:
            cache.set(key, key.encode(), 60)
        links: Any = await cache._here()
        await links.mget(keys)
        cluster.masters[0].freeze()
        for outcomes in (links.outcomes, partial(_now, cache), partial(_in_tasks, cache)):
            start = time.monotonic()
            found = await outcomes(keys)
            assert time.monotonic() - start < 0.8
            for key, outcome in zip(keys, found, strict=True):
                lives = cluster.masters[0].port != _port_of(cluster, key)
                assert outcome == key.encode() if lives else isinstance(outcome, NodeDown)
        cache.close()


async def _now(cache: RedisCache, keys: list[str]) -> list[Any]:
    links: Any = cache._links
    return list(drive(links.outcomes(keys)))


async def _in_tasks(cache: RedisCache, keys: list[str]) -> list[Any]:
    return await asyncio.gather(*map(cache.aget, keys), return_exceptions=True)


def _port_of(cluster: Cluster, key: str) -> int:
    for first, last, master, *_ in cluster.masters[1].ask("CLUSTER", "SLOTS"):
        if first <= slot_of(key) <= last:
            return int(master[1])
    raise LookupError(key)


@pytest.fixture(scope="module")
def begun_behind() -> Iterator[tuple[Cluster, Proxy]]:
    """A cluster of which one node is reached through a proxy."""
    cluster = Cluster(3)
    node = cluster.masters[1]
    proxy = Proxy(node.port)
    announced = ("--cluster-announce-port", str(proxy.port))
    node._command += [*announced, "--cluster-announce-bus-port", str(node.port + 10_000)]
    with proxy, cluster:
        yield cluster, proxy


@pytest.fixture
def behind(begun_behind: tuple[Cluster, Proxy]) -> Iterator[tuple[Cluster, Proxy]]:
    """The same, whose proxy behaves again in the end."""
    yield begun_behind
    begun_behind[1].mode = "pass"


@timed
@pytest.mark.slow
@pytest.mark.parametrize(
    "mode", ["refuse", "blackhole", "drip", "reset", "half_close", "garbage", "cut", "stale"]
)
async def test_a_node_that_misbehaves(
    mode: str, prefix: str, colour: Colour, behind: tuple[Cluster, Proxy]
) -> None:
    """Whatever one node does, every call ends in time with its own answer, keys of the others are
    hits, and its own are again when it behaves."""
    cluster, proxy = behind
    cache = RedisCache(cluster.url, timeout=0.3)

    @instructor_cache(cache, prefix=prefix)
    @colour.function
    def extract(text: str) -> Answer:
        return Answer(question=text, number=1)

    questions = [f"{n}" for n in range(40)]
    for question in questions:
        await colour.call(extract, question)
    theirs = [
        question
        for question in questions
        if _port_of(cluster, extract.cache_key(question)) != proxy.port
    ]
    proxy.mode = mode
    for n, question in enumerate([*questions, *questions]):
        start = time.monotonic()
        assert (await colour.call(extract, question)).question == question
        assert time.monotonic() - start < 0.9, n
    hits = extract.cache_info().hits
    for question in theirs:
        await colour.call(extract, question)
    assert extract.cache_info().hits == hits + len(theirs)
    proxy.mode = "pass"
    deadline = time.monotonic() + 15
    for question in questions:
        while not await _hits(colour, extract, question):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)
    cache.close()


# -- one timeout ---------------------------------------------------------------------------------


async def test_no_time_left_is_an_end_at_once() -> None:
    """A deadline that has passed before it begins is over at once."""
    with Deadline(-1) as limit:
        await asyncio.wait_for(limit.over, 1)


@timed
@pytest.mark.slow
@pytest.mark.parametrize("silent", [1, 3])
@pytest.mark.parametrize("options", [{}, {"tags": ["a", "b", "c"]}])
def test_silence_costs_a_call_one_timeout(prefix: str, silent: int, options: Any) -> None:
    """A call that needs several silent nodes, to read and to write, waits for one timeout."""
    with Cluster(3, 0, "--cluster-allow-reads-when-down", "yes") as cluster:
        cached = instructor_cache(RedisCache(cluster.url), prefix=prefix, returns=int, **options)(
            lambda number: number
        )
        cached(0)
        for node in cluster.masters[:silent]:
            node.freeze()
        assert max(_timed(cached, number)[1] for number in range(1, 20)) < 0.75


@pytest.mark.parametrize("host", ["", "?"])
def test_a_redirection_to_an_unknown_host(host: str) -> None:
    """A cluster that does not know its own names means the host that was asked."""
    moved = redis.ResponseError(f"MOVED 7 {host}:7001")
    assert redirection(moved, ("asked", 7000)) == (("asked", 7001), True)
    ask = redis.ResponseError("ASK 7 other:7002")
    assert redirection(ask, ("asked", 7000)) == (("other", 7002), False)
