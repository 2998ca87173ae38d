"""Redis with few connections and many callers: queues, cancelled callers, swaps, close, fork."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from random import Random
from typing import Any

import pytest
import redis
import redis.asyncio
import valkey
from conftest import Colour, timed
from proxy import Proxy
from pydantic import BaseModel
from redis_server import RedisServer

from instructor_cache import RedisCache, instructor_cache
from instructor_cache.errors import BackendBusy, BackendClosed
from instructor_cache.events import Event
from instructor_cache.ports import open_port

CLOSED = pytest.raises(BackendClosed, match="make a new one")


class User(BaseModel):
    name: str


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    """A server for this module, which nobody else uses."""
    with RedisServer() as server:
        yield server


async def do(colour: Colour, cache: RedisCache, operation: str, *args: Any) -> Any:
    """The outcome of an operation of *cache* in this colour."""
    outcome = getattr(cache, ("a" if colour.is_async else "") + operation)(*args)
    return await outcome if isinstance(outcome, Awaitable) else outcome


def in_threads(number: int, work: Callable[[int], Any]) -> list[Any]:
    """What *work* gives, or the exceptions that it raises, in so many threads at once."""
    together = threading.Barrier(number)

    def use(n: int) -> Any:
        together.wait()
        try:
            return work(n)
        except Exception as error:
            return error

    with ThreadPoolExecutor(number) as pool:
        return list(pool.map(use, range(number)))


# -- more callers than connections ---------------------------------------------------------------


def test_200_threads_over_two_connections_all_hit(server: RedisServer, prefix: str) -> None:
    """Every call on a warm key is a hit, whatever the number of threads, and none raises."""
    cache = RedisCache(server.url, max_connections=2, timeout=5)
    events: list[Event] = []
    calls: list[str] = []

    @instructor_cache(cache, observer=events.append, prefix=prefix)
    def extract(text: str) -> User:
        calls.append(text)
        return User(name=text)

    for n in range(10):
        extract(f"{n}")
    events.clear()
    found = in_threads(200, lambda n: [extract(f"{(n + m) % 10}") for m in range(5)])
    assert found == [[User(name=f"{(n + m) % 10}") for m in range(5)] for n in range(200)]
    assert [event.kind for event in events] == ["hit"] * 1000
    assert len(calls) == 10
    cache.close()


async def test_5000_tasks_over_four_connections_all_hit(server: RedisServer) -> None:
    """A gather of 5,000 calls on warm keys has 5,000 hits over four connections."""
    cache = RedisCache(server.url, max_connections=4, timeout=5)
    events: list[Event] = []

    @instructor_cache(cache, observer=events.append, prefix="tasks")
    async def extract(text: str) -> User:
        return User(name=text)

    for n in range(10):
        await extract(f"{n}")
    events.clear()
    found = await asyncio.gather(*(extract(f"{n % 10}") for n in range(5000)))
    assert found == [User(name=f"{n % 10}") for n in range(5000)]
    assert [event.kind for event in events] == ["hit"] * 5000
    await cache.aclose()


@pytest.mark.parametrize(
    "pool", [redis.ConnectionPool, redis.BlockingConnectionPool], ids=["plain", "blocking"]
)
def test_threads_take_turns_with_a_ready_client(server: RedisServer, pool: Any) -> None:
    """A client whose own pool would raise "Too many connections" serves 50 threads all the same."""
    client = redis.Redis(connection_pool=pool.from_url(server.url, max_connections=2))
    cache = RedisCache(client)
    cache.set("k", b"v", None)
    assert in_threads(50, lambda _: [cache.get("k") for _ in range(5)]) == [[b"v"] * 5] * 50
    client.close()
    client.connection_pool.disconnect()


@pytest.mark.parametrize("kind", [redis.Redis, valkey.Valkey])
def test_threads_take_turns_with_a_single_connection(server: RedisServer, kind: Any) -> None:
    """Each gets its own values from a client that has one connection, through either cache."""
    with kind(port=server.port, single_connection_client=True) as client:
        caches = RedisCache(client), RedisCache(client)
        keys = [f"{n}" for n in range(20)]
        for key in keys:
            caches[0].set(key, key.encode(), None)
        found = in_threads(8, lambda n: [caches[n % 2].get(key) for key in keys])
    assert found == [[key.encode() for key in keys]] * 8


async def test_tasks_take_turns_with_a_ready_client(server: RedisServer) -> None:
    """A ready async client serves 3,000 tasks over two connections, whose time in the queue is not
    the server's fault; a sync one serves 500 from worker threads."""
    pool = redis.asyncio.ConnectionPool.from_url(server.url, max_connections=2)
    cache = RedisCache(redis.asyncio.Redis(connection_pool=pool))
    await cache.aset("k", b"v", None)
    assert await asyncio.gather(*(cache.aget("k") for _ in range(3000))) == [b"v"] * 3000
    await pool.disconnect()
    with redis.Redis.from_url(server.url, max_connections=2) as sync:
        port = open_port(RedisCache(sync), for_async=True, timeout=5)
        assert await asyncio.gather(*(port.get("k") for _ in range(500))) == [b"v"] * 500


@timed
async def test_connections_that_others_hold_are_waited_for(
    colour: Colour, server: RedisServer
) -> None:
    """When the program itself holds all connections of its client, a read waits for one; if none
    comes, it says that the connections are busy, not that the server failed."""
    if colour.is_async:
        pool: Any = redis.asyncio.ConnectionPool.from_url(server.url, max_connections=1)
        cache = RedisCache(redis.asyncio.Redis(connection_pool=pool), timeout=0.05)
    else:
        pool = redis.ConnectionPool.from_url(server.url, max_connections=1)
        cache = RedisCache(redis.Redis(connection_pool=pool), timeout=0.05)
    name = ["GET"] if redis.__version__ < "5.3" else []
    held = await colour.call(pool.get_connection, *name)
    start = time.monotonic()
    with pytest.raises(BackendBusy, match="max_connections"):
        await do(colour, cache, "get", "k")
    assert 0.4 < time.monotonic() - start < 1.5
    if colour.is_async:
        reading = asyncio.create_task(cache.aget("none"))
        await asyncio.sleep(0.05)
        await pool.release(held)
        assert await reading is None
        await pool.disconnect()
    else:
        threading.Timer(0.05, pool.release, [held]).start()
        assert cache.get("none") is None
        pool.disconnect()


async def test_a_queue_has_an_end(colour: Colour, server: RedisServer) -> None:
    """Who waits for a connection in vain for ten timeouts gets BackendBusy."""
    with Proxy(server.port, delay=0.08) as proxy:
        cache = RedisCache(f"{proxy.url}?timeout=0.02", timeout=5, max_connections=1)
        await do(colour, cache, "get", "k")
        proxy.mode = "slow"
        if colour.is_async:
            found = await asyncio.gather(
                *(cache.adelete("k") for _ in range(3)), return_exceptions=True
            )
        else:
            found = in_threads(3, lambda _: cache.delete("k"))
        assert sum(isinstance(outcome, BackendBusy) for outcome in found) == 2
        await cache.aclose()


@timed
async def test_nobody_queues_for_a_dead_server(colour: Colour, server: RedisServer) -> None:
    """When a server answers nobody, those in the queue are told at once, not one by one."""
    with Proxy(server.port) as proxy:
        cache = RedisCache(proxy.url, timeout=0.2, max_connections=2)
        await do(colour, cache, "get", "k")
        proxy.mode = "blackhole"
        start = time.monotonic()
        if colour.is_async:
            found: Any = await asyncio.gather(
                *(cache.aget("k") for _ in range(20)), return_exceptions=True
            )
        else:
            found = in_threads(20, lambda _: cache.get("k"))
        assert time.monotonic() - start < 1
        assert {type(outcome) for outcome in found} == {redis.TimeoutError}
        await cache.aclose()


# -- deadlines of tasks --------------------------------------------------------------------------


async def test_a_blocked_loop_is_not_the_servers_fault(server: RedisServer) -> None:
    """Somebody who blocks the loop for longer than the timeout makes no read fail, be it on an
    open connection or one that has still to shake hands."""
    client = redis.asyncio.Redis.from_url(server.url)
    for cache in (RedisCache(server.url, timeout=0.2), RedisCache(client, timeout=0.2)):
        for _ in range(2):  # with a new connection, then on an open one
            reading = asyncio.create_task(cache.aget("none"))
            while not reading.done():
                time.sleep(0.25)
                await asyncio.sleep(0.005)
            assert reading.result() is None
        await cache.aclose()
    await client.connection_pool.disconnect()


class Stubborn:
    """A client that doesn't answer, and takes its time when it is cancelled."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0.5)
            self.ended.set()
            raise


@timed
@pytest.mark.slow
async def test_a_slow_cleanup_holds_up_nobody() -> None:
    """A ready client that cleans up for half a second costs the timeout only, and a caller that
    is cancelled is free at once."""
    client = Stubborn()
    cache = RedisCache(client, timeout=0.1)
    start = time.monotonic()
    with pytest.raises(redis.TimeoutError):
        await cache.aget("k")
    assert time.monotonic() - start < 0.4
    reading = asyncio.create_task(cache.aget("k"))
    await asyncio.sleep(0.02)
    start = time.monotonic()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert time.monotonic() - start < 0.3
    await client.ended.wait()
    await asyncio.sleep(0.6)


@pytest.mark.slow
@pytest.mark.parametrize("ready", [False, True], ids=["url", "ready"])
async def test_thousands_of_cancelled_commands_mix_no_replies(
    server: RedisServer, ready: bool
) -> None:
    """After 3,000 reads, writes and swaps cancelled at every moment, each read finds its key's own
    value, no connection is lost, and nothing is left running."""
    client = redis.asyncio.Redis.from_url(server.url, max_connections=3)
    cache = RedisCache(client if ready else server.url, max_connections=3, timeout=5)
    random = Random(7)
    keys = [f"cancel:{ready}:{n}" for n in range(20)]
    values = {key: key.encode() * random.randrange(1, 400) for key in keys}
    for key in keys:
        await cache.aset(key, values[key], 60)
    cancelled = 0
    while cancelled < 3000:
        picked = random.choices(keys, k=9)
        tasks = [asyncio.create_task(cache.aget(key)) for key in picked[:6]]
        tasks += [asyncio.create_task(cache.aset(key, values[key], 60)) for key in picked[6:8]]
        same = values[picked[8]]
        tasks.append(asyncio.create_task(cache.aswap(picked[8], same, same, 60)))
        for _ in range(random.randrange(14)):
            await asyncio.sleep(0)
        for task in random.sample(tasks, 7):
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert not [o for o in outcomes if isinstance(o, Exception)], outcomes
        for key, outcome in zip(picked[:6], outcomes, strict=False):
            assert isinstance(outcome, asyncio.CancelledError) or outcome == values[key]
        cancelled += sum(isinstance(o, asyncio.CancelledError) for o in outcomes)
    found = await asyncio.gather(*(cache.aget(key) for key in keys * 10))
    assert found == [values[key] for key in keys * 10]
    await asyncio.sleep(0.05)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    await cache.aclose()
    await client.connection_pool.disconnect()


# -- swap ----------------------------------------------------------------------------------------


def caches(url: str, colour: Colour) -> list[tuple[RedisCache, Any]]:
    """Over a URL and over ready clients, which may decode what they read, with those clients."""
    ready: Any = redis.asyncio.Redis if colour.is_async else redis.Redis
    clients = [ready.from_url(url, decode_responses=decodes) for decodes in (False, True)]
    of_clients = [(RedisCache(client, timeout=5), client) for client in clients]
    return [(RedisCache(url, timeout=5), None), *of_clients]


async def close(cache: RedisCache, client: Any, colour: Colour) -> None:
    await cache.aclose()
    if client is not None:
        await colour.call(client.connection_pool.disconnect)


@pytest.mark.parametrize("refused", [None, "-@scripting", "-unlink", "-@scripting -unlink"])
async def test_swap_changes_only_what_is_as_believed(
    colour: Colour, server: RedisServer, refused: str | None
) -> None:
    """A swap from nothing, to another value, to nothing, succeeds from the right belief only, and
    leaves everything alone otherwise, whatever bytes there are, also where scripts are refused."""
    url = server.url
    if refused is not None:
        server.ask("ACL", "SETUSER", "app", "reset", "on", ">pw", "~*", "+@all", *refused.split())
        url = url.replace("//", "//app:pw@")
    for cache, client in caches(url, colour):
        for one, two in ((b"1", b"2"), (b"", b"\x00"), (bytes(range(256)), b"\xff\n\r\n$")):
            server.ask("DEL", "s")

            async def swap(old: bytes | None, new: bytes | None) -> tuple[bool, bytes | None]:
                done = await do(colour, cache, "swap", "s", old, new, 60)  # noqa: B023
                if new is None and refused is not None:
                    time.sleep(0.005)  # what may not be deleted is gone after a millisecond
                return done, await do(colour, cache, "get", "s")  # noqa: B023

            assert await swap(one, two) == (False, None)
            assert await swap(one, None) == (False, None)
            assert await swap(None, None) == (True, None)
            assert await swap(None, one) == (True, one)
            assert await swap(None, two) == (False, one)
            assert await swap(None, None) == (False, one)
            assert await swap(two, one) == (False, one)
            assert await swap(two, None) == (False, one)
            assert await swap(one, two) == (True, two)
            assert await swap(two, two) == (True, two)
            assert await swap(two, None) == (True, None)
        await close(cache, client, colour)


async def test_swap_sets_the_ttl(colour: Colour, server: RedisServer) -> None:
    """The ttl is that of the last swap, None is for ever, and what expired counts as nothing."""
    with redis.Redis.from_url(server.url) as plain:
        cache = RedisCache(server.url, timeout=5)
        plain.delete("t")  # which a first try may have left
        for old, new, ttl, least, most in (
            (None, b"1", 1000.5, 1_000_000, 1_000_500),
            (b"1", b"2", None, -1, -1),
            (b"2", b"2", 30, 29_000, 30_000),
            (b"2", b"3", 0.02, 0, 20),
        ):
            assert await do(colour, cache, "swap", "t", old, new, ttl)
            assert least <= plain.pttl("t") <= most
        time.sleep(0.03)
        assert not await do(colour, cache, "swap", "t", b"3", b"4", None)
        assert await do(colour, cache, "swap", "t", None, b"5", None)
        await do(colour, cache, "delete", "t")
        await cache.aclose()


async def test_swap_survives_a_server_that_forgot_the_script(
    colour: Colour, server: RedisServer
) -> None:
    """After SCRIPT FLUSH the script is sent again."""
    with redis.Redis.from_url(server.url) as plain:
        for cache, client in caches(server.url, colour):
            await do(colour, cache, "set", "f", b"1", None)
            plain.script_flush()
            assert await do(colour, cache, "swap", "f", b"1", b"2", None)
            assert await do(colour, cache, "swap", "f", b"2", None, None)
            await close(cache, client, colour)


@pytest.mark.parametrize("rounds", [30, pytest.param(150, marks=pytest.mark.slow)])
async def test_one_of_many_wins_a_swap(colour: Colour, server: RedisServer, rounds: int) -> None:
    """Of 16 callers at once who take a lock, one gets it; in each of many rounds."""
    cache = RedisCache(server.url, timeout=5, max_connections=8)
    await do(colour, cache, "clear", "w")  # what a first try may have left
    for n in range(rounds):
        if colour.is_async:
            won: Any = await asyncio.gather(
                *(cache.aswap(f"w{n}", None, b"%d" % m, 60) for m in range(16))
            )
        else:
            won = in_threads(16, lambda m: cache.swap(f"w{n}", None, b"%d" % m, 60))  # noqa: B023
        assert won.count(True) == 1
        assert await do(colour, cache, "get", f"w{n}") == b"%d" % won.index(True)
    await do(colour, cache, "clear", "w")
    await cache.aclose()


async def test_a_swap_is_never_sent_twice(colour: Colour, server: RedisServer) -> None:
    """When the reply to a swap is lost with its connection, that is an error: asking again would
    say that somebody else was first. A read is asked again, once."""
    with Proxy(server.port) as proxy:
        cache = RedisCache(proxy.url, timeout=5)
        await do(colour, cache, "delete", "once")
        proxy.mode = "cut"
        with pytest.raises(redis.ConnectionError):
            await do(colour, cache, "swap", "once", None, b"1", None)
        assert proxy.accepted == 1
        proxy.mode = "pass"
        assert await do(colour, cache, "get", "once") == b"1"
        proxy.mode = "cut"
        with pytest.raises(redis.ConnectionError):
            await do(colour, cache, "get", "once")
        assert proxy.accepted == 3
        await cache.aclose()


# -- close ---------------------------------------------------------------------------------------


async def test_after_close_every_use_says_so(colour: Colour, server: RedisServer) -> None:
    """Closing twice is fine; then all raises BackendClosed, over URLs and ready clients, and ready
    clients are still open."""
    for cache, client in caches(server.url, colour):
        await do(colour, cache, "set", "k", b"v", None)
        assert not cache.closed
        for _ in range(2):
            await do(colour, cache, "close")
        assert cache.closed
        for operation in (
            *(("get", "k"), ("set", "k", b"", None), ("delete", "k")),
            *(("swap", "k", None, b"", None), ("clear", "k")),
        ):
            with CLOSED:
                await do(colour, cache, *operation)
        if client is not None:
            assert await colour.call(client.ping)
        await close(cache, client, colour)


async def test_a_function_answers_after_its_cache_was_closed(
    colour: Colour, server: RedisServer
) -> None:
    """Use after close calls the function."""
    cache = RedisCache(server.url)
    decorate = instructor_cache(cache, prefix=f"closed-{colour}")
    extract = decorate(colour.function(named))
    assert await colour.call(extract, "a") == User(name="a")
    await do(colour, cache, "close")
    assert await colour.call(extract, "a") == User(name="a")


def named(text: str) -> User:
    return User(name=text)


async def test_close_lets_what_is_under_way_end(colour: Colour, server: RedisServer) -> None:
    """A read that waits for its reply gets it though the cache is closed meanwhile, those in the
    queue are told, and afterwards no connection is open."""
    with Proxy(server.port, delay=0.1) as proxy:
        cache = RedisCache(proxy.url, timeout=5, max_connections=1)
        await do(colour, cache, "set", "u", b"v", None)
        proxy.mode = "slow"
        if colour.is_async:
            reading: Any = [asyncio.ensure_future(cache.aget("u"))]
            await asyncio.sleep(0.03)
            reading.append(asyncio.ensure_future(cache.aget("u")))
            await asyncio.sleep(0.01)
            cache.close()
            found = await asyncio.gather(*reading, return_exceptions=True)
        else:
            threading.Timer(0.03, cache.close).start()
            found = in_threads(2, lambda _: cache.get("u"))
        assert b"v" in found
        assert {type(outcome) for outcome in found} == {bytes, BackendClosed}
    await cache.aclose()


def test_close_from_another_thread_closes_a_loops_connections(server: RedisServer) -> None:
    """A loop that runs in another thread closes its connections when somebody closes the cache."""
    cache = RedisCache(server.url)
    ready, closed = threading.Event(), threading.Event()

    async def use() -> None:
        await asyncio.gather(*(cache.adelete("k") for _ in range(3)))
        ready.set()
        while not closed.is_set():
            await asyncio.sleep(0.01)
        with CLOSED:
            await cache.aget("k")

    thread = threading.Thread(target=lambda: asyncio.run(use()))
    thread.start()
    try:
        assert ready.wait(20)
        assert clients_come_to(server, 3)  # and those of tests before have gone
        cache.close()
        assert clients_come_to(server, 0)
    finally:
        closed.set()  # or the thread would hold up the end of all tests
        thread.join()


def clients_come_to(server: RedisServer, wanted: int) -> bool:
    """Whether so many are connected to it within five seconds, beside the one that asks."""
    deadline = time.monotonic() + 5
    with redis.Redis.from_url(server.url) as plain:
        while (found := len(plain.client_list()) - 1) != wanted and time.monotonic() < deadline:
            time.sleep(0.01)
    return found == wanted


@pytest.mark.slow
def test_200_times_open_use_close_leaves_nothing(server: RedisServer) -> None:
    """No file, thread or task is left of 200 caches used in both colours and closed, nor of those
    that were closed in one colour only."""

    async def use(cache: RedisCache, n: int) -> None:
        await asyncio.gather(cache.aset("k", b"v", None), cache.aget("k"))
        assert cache.get("k") == b"v"
        if n % 3 == 0:
            await cache.aclose()
        elif n % 3 == 1:
            cache.close()
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    def once(n: int) -> None:
        cache = RedisCache(server.url)
        asyncio.run(use(cache, n))
        cache.close()

    once(0)
    gc.collect()
    files, threads = len(os.listdir("/proc/self/fd")), threading.active_count()
    for n in range(200):
        once(n)
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= files
    assert threading.active_count() <= threads
    assert clients_come_to(server, 0)


# -- fork ----------------------------------------------------------------------------------------

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="fork is POSIX")
quiet = pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")


def in_child(check: Callable[[], bool]) -> bool:
    """Whether *check* is true in a forked child, within ten seconds."""
    child = os.fork()
    if child == 0:
        signal.alarm(10)
        try:
            os._exit(0 if check() else 1)
        finally:
            os._exit(2)
    return os.waitpid(child, 0)[1] == 0


@forks
@quiet
def test_a_fork_in_the_middle_of_everything(server: RedisServer) -> None:
    """A child forked while other threads hold the queue's lock and all connections uses its own,
    in both colours, and its parent goes on undisturbed."""
    with Proxy(server.port, delay=0.2) as proxy:
        cache = RedisCache(proxy.url, timeout=5, max_connections=2)
        cache.set("k", b"v", None)
        proxy.mode = "slow"
        busy = [threading.Thread(target=cache.get, args=("k",)) for _ in range(4)]
        for thread in busy:
            thread.start()
        time.sleep(0.05)

        def reads() -> bool:
            return cache.get("k") == b"v" == asyncio.run(cache.aget("k"))

        with cache._sync._lock:  # type: ignore[union-attr]
            assert in_child(reads)
        for thread in busy:
            thread.join()
        proxy.mode = "pass"
        assert cache.get("k") == b"v"
        cache.close()


@forks
@quiet
async def test_a_fork_leaves_the_parents_loop_alone(server: RedisServer) -> None:
    """The connections of a running loop still work after a child was forked, collected its garbage
    and ended."""
    cache = RedisCache(server.url)
    await cache.aset("k", b"v", None)

    def forgets() -> bool:
        gc.collect()
        return cache._by_loop == {} and cache.get("k") == b"v"

    assert in_child(forgets)
    assert await asyncio.gather(*(cache.aget("k") for _ in range(20))) == [b"v"] * 20
    await cache.aclose()
