"""Reads of one tick of an event loop, on real servers: few commands, nobody is disturbed."""

from __future__ import annotations

import asyncio
import gc
import signal
import threading
import time
from asyncio import StreamReader
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from contextvars import ContextVar
from functools import partial
from random import Random
from typing import Any, ClassVar

import pytest
import redis
import redis.asyncio
from conftest import timed
from proxy import Proxy
from redis_server import RedisServer

from instructor_cache import RedisCache
from instructor_cache.backends.redis._mget import read_values
from instructor_cache.backends.redis._window import Window
from instructor_cache.errors import BackendBusy, BackendClosed
from instructor_cache.ports import open_port


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    """A server for this module, which nobody else uses."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def own() -> Iterator[RedisServer]:
    """A server that a test may stop and kill."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def plain(server: RedisServer) -> Iterator[redis.Redis]:
    """A client of redis-py's own, to look behind the cache."""
    with redis.Redis.from_url(server.url) as client:
        client.flushall()
        client.config_resetstat()
        yield client


def commands(plain: redis.Redis) -> dict[str, int]:
    """How many commands of each kind that reads the server has had since `config_resetstat`."""
    found: Any = plain.info("commandstats")
    return {
        name: found[f"cmdstat_{name}"]["calls"]
        for name in ("get", "mget")
        if f"cmdstat_{name}" in found
    }


def fill(plain: redis.Redis, number: int) -> dict[str, bytes]:
    """So many keys and their values, which the server has now."""
    values = {f"k{n}": b"%d," % n * (n % 200) for n in range(number)}
    plain.mset(values)  # type: ignore[arg-type]
    return values


async def outcomes(cache: RedisCache, keys: Any) -> list[Any]:
    return await asyncio.gather(*map(cache.aget, keys), return_exceptions=True)


# -- few commands --------------------------------------------------------------------------------


@pytest.mark.parametrize("ready", [False, True], ids=["url", "ready"])
async def test_a_thousand_reads_are_a_few_commands(
    server: RedisServer, plain: redis.Redis, ready: bool
) -> None:
    """A gather of 1,000 gives each its own value in at most four commands, over at most eight
    connections, be it through a URL or a ready client."""
    client = redis.asyncio.Redis.from_url(server.url)
    cache = RedisCache(client if ready else server.url)
    values = fill(plain, 1000)
    clients = len(plain.client_list())
    assert await outcomes(cache, values) == list(values.values())
    assert sum(commands(plain).values()) <= 4
    assert len(plain.client_list()) - clients <= 8
    await cache.aclose()
    await client.connection_pool.disconnect()


async def test_ten_thousand_reads_with_gaps_and_repeats(
    server: RedisServer, plain: redis.Redis
) -> None:
    """Of 10,000 reads each gives its key's value or None, and each key is asked for once."""
    cache = RedisCache(server.url)
    values = fill(plain, 2500)
    keys = [f"k{n}" for n in range(5000)] * 2
    Random(1).shuffle(keys)
    assert await outcomes(cache, keys) == [values.get(key) for key in keys]
    stats: Any = plain.info("stats")
    assert stats["keyspace_hits"] + stats["keyspace_misses"] == 5000
    assert sum(commands(plain).values()) <= 20
    await cache.aclose()


async def test_many_trickling_reads_use_few_connections(
    server: RedisServer, plain: redis.Redis
) -> None:
    """Reads that begin in a tick of their own each, faster than the server answers, wait for a
    command that can take them all, and leave it at eight connections."""
    values = fill(plain, 100)
    with Proxy(server.port, delay=0.05) as proxy:
        cache = RedisCache(proxy.url, timeout=5)
        await cache.aget("k0")
        proxy.mode = "slow"
        reading = []
        for key in values:
            reading.append(asyncio.create_task(cache.aget(key)))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        proxy.mode = "pass"
        assert await asyncio.gather(*reading) == list(values.values())
        assert proxy.accepted <= 8
        await cache.aclose()


async def test_a_lonely_read_is_sent_at_the_end_of_its_tick(
    server: RedisServer, plain: redis.Redis
) -> None:
    """A read that is alone is one GET, which has left after two passes of the loop: there is no
    timer, as the loop stands still while the server is asked what it has got."""
    cache = RedisCache(server.url)
    await cache.aget("none")
    with redis.Redis.from_url(server.url, socket_timeout=5) as other, other.monitor() as monitor:
        reading = asyncio.create_task(cache.aget("lonely"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert monitor.next_command()["command"] == "GET lonely"
        assert await reading is None
    assert commands(plain) == {"get": 2}
    await cache.aclose()


async def test_a_read_sees_what_was_written_before_it(
    server: RedisServer, plain: redis.Redis
) -> None:
    """A read that begins after a write has ended never rides on a command that is under way."""
    with Proxy(server.port, delay=0.2) as proxy:
        cache = RedisCache(proxy.url, timeout=5)
        await cache.aset("k", b"old", None)
        proxy.mode = "slow"
        early = [asyncio.create_task(cache.aget(key)) for key in ("k", "other")]
        while not commands(plain):  # the server has read, and the reply is on its way
            await asyncio.sleep(0.001)
        plain.set("k", b"new")
        late = await asyncio.gather(cache.aget("k"), cache.aget("another"))
        assert late == [b"new", None]
        assert await asyncio.gather(*early) == [b"old", None]
        await cache.aclose()


def test_loops_in_threads_do_not_meet(server: RedisServer, plain: redis.Redis) -> None:
    """Four loops in four threads gather through one cache at once, each its own keys."""
    values = fill(plain, 400)
    cache = RedisCache(server.url)

    def run(part: int) -> bool:
        keys = list(values)[part::4] * 3
        return asyncio.run(outcomes(cache, keys)) == [values[key] for key in keys]

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(run, [0, 1, 2, 3] * 3))
    cache.close()


@pytest.mark.parametrize("ready", [False, True], ids=["url", "ready"])
@pytest.mark.parametrize("why", ["renamed", "forbidden"])
async def test_a_server_that_refuses_mget_is_asked_for_each_key(why: str, ready: bool) -> None:
    """Where MGET is not known, or not permitted, many reads give their values all the same."""
    with RedisServer(*(["--rename-command", "MGET", ""] if why == "renamed" else [])) as server:
        server.ask("ACL", "SETUSER", "app", "on", ">pw", "~*", "+@all", "-mget")
        url = server.url.replace("//", "//app:pw@" if why == "forbidden" else "//")
        sync, native = redis.Redis.from_url(url), redis.asyncio.Redis.from_url(url)
        cache = RedisCache((sync, native) if ready else url)
        wanted = {f"k{n}": b"%d" % n for n in range(30)}
        for key, value in wanted.items():
            cache.set(key, value, None)
        server.ask("RPUSH", "list", 1)
        for _ in range(2):
            assert await outcomes(cache, [*wanted, "none"]) == [*wanted.values(), None]
            assert cache.get_many([*wanted, "list"]) == [*wanted.values(), None]
            assert await cache.aget_many(list(wanted)) == list(wanted.values())
        await cache.aclose()
        sync.close()
        await native.connection_pool.disconnect()


def test_a_key_that_may_not_be_read_fails_for_itself(
    server: RedisServer, plain: redis.Redis
) -> None:
    """That a user may read some keys only is no reason to give up MGET."""
    server.ask("ACL", "SETUSER", "some", "on", ">pw", "~mine:*", "+@all")
    cache = RedisCache(server.url.replace("//", "//some:pw@"))
    with pytest.raises(redis.exceptions.NoPermissionError):
        cache.get_many(["mine:1", "theirs"])
    assert cache.get_many(["mine:1", "mine:2"]) == [None, None]
    assert commands(plain) == {"mget": 1}
    cache.close()


@pytest.mark.parametrize("kind", ["url", "ready"])
async def test_a_key_that_may_not_be_read_spoils_no_other(server: RedisServer, kind: str) -> None:
    """Beside it in a tick other reads give their values; it alone fails."""
    server.ask("ACL", "SETUSER", "some", "on", ">pw", "~mine:*", "+@all")
    server.ask("SET", "mine:1", "value")
    url = server.url.replace("//", "//some:pw@")
    client = redis.asyncio.Redis.from_url(url)
    cache = RedisCache(client if kind == "ready" else url)
    for _ in range(2):
        mine, theirs, none = await outcomes(cache, ["mine:1", "theirs", "mine:2"])
        assert (mine, type(theirs), none) == (b"value", redis.exceptions.NoPermissionError, None)
    await cache.aclose()
    await client.connection_pool.disconnect()


def test_many_reads_without_mget_take_one_timeout(server: RedisServer) -> None:
    """They are sent at once, so that they end in time, however slow the link is."""
    server.ask("ACL", "SETUSER", "app", "on", ">pw", "~*", "+@all", "-mget")
    with Proxy(server.port, delay=0.1) as proxy:
        cache = RedisCache(proxy.url.replace("//", "//app:pw@"), timeout=0.4)
        assert cache.get_many(["a", "b"]) == [None, None]
        proxy.mode = "slow"
        assert cache.get_many([f"k{n}" for n in range(20)]) == [None] * 20
        cache.close()


class ClusterClient:
    """A ready client of a cluster, or its pipeline, whose reads find what is in *outcomes*."""

    mget_nonatomic = nodes_manager = None

    def __init__(self, outcomes: list[Any]) -> None:
        self.outcomes = outcomes

    async def initialize(self) -> None:
        pass

    def pipeline(self, transaction: bool) -> Any:
        return Pipeline(self)

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        raise AssertionError(args)


class Pipeline:
    def __init__(self, client: ClusterClient) -> None:
        self.client = client

    def execute_command(self, *args: Any, **options: Any) -> None:
        pass

    async def execute(self, raise_on_error: bool = True) -> Any:
        if raise_on_error:  # then it finds the node that is there now
            return [b"found", b"found"]
        return self.client.outcomes


async def test_a_ready_cluster_client_is_made_to_look_for_a_new_master() -> None:
    """Where a node is gone the reads are done again in the way in which the client finds out."""
    cache = RedisCache(ClusterClient([b"old", redis.ConnectionError("gone")]))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert await cache.aget_many(["a", "b"]) == [b"found", b"found"]
    await cache.aclose()


async def test_a_ready_cluster_client_of_another_loop_is_explained() -> None:
    """What asyncio says of it in the place of a value comes with what to do about it."""
    cache = RedisCache(ClusterClient([None, RuntimeError("Event loop is closed")]))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with pytest.raises(RuntimeError, match="wanted one for each loop"):
        await cache.aget_many(["a", "b"])
    await cache.aclose()


# -- what the values are -------------------------------------------------------------------------


async def test_another_type_in_company_is_none(server: RedisServer, plain: redis.Redis) -> None:
    """A key of another type is nothing among other keys, and spoils none of them."""
    cache = RedisCache(server.url)
    plain.rpush("list", "x")
    plain.set("text", "y")
    assert await outcomes(cache, ["text", "list", "text"]) == [b"y", None, b"y"]
    await cache.aclose()


@timed
async def test_large_values_come_in_small_commands(server: RedisServer, plain: redis.Redis) -> None:
    """Of 200 values of 200 kB the first command brings twenty, and each that follows no more than
    make four megabytes; all come within the timeout."""
    values = {f"big{n}": bytes([n]) * 200_000 for n in range(200)}
    plain.mset(values)  # type: ignore[arg-type]
    cache = RedisCache(server.url)
    assert await outcomes(cache, values) == list(values.values())
    assert 200 / 20 <= sum(commands(plain).values()) < 40
    await cache.aclose()


@timed
@pytest.mark.slow
async def test_values_of_a_megabyte_come_in_time(server: RedisServer, plain: redis.Redis) -> None:
    """A gather of 300 values of a megabyte loses none to the default timeout of a command."""
    for n in range(300):
        plain.set(f"huge{n}", b"%04d" % n * 250_000)
    cache = RedisCache(f"{server.url}?timeout=30")  # for as long they may wait for their turn
    found = await outcomes(cache, [f"huge{n}" for n in range(300)])
    assert [type(value) for value in found] == [bytes] * 300
    assert [value[:4] for value in found] == [b"%04d" % n for n in range(300)]
    plain.flushall()
    await cache.aclose()


async def trickle(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pause: float = 0.05
) -> None:
    """Answer every GET and MGET with a value of each key, after a *pause* for each."""
    with closing(writer), suppress(ConnectionError):
        while head := await reader.readline():
            lines = [await reader.readline() for _ in range(2 * int(head[1:]))]
            name, *keys = (line.strip() for line in lines[1::2])
            if name not in (b"GET", b"MGET"):
                hello = b"%1\r\n$5\r\nproto\r\n:3\r\n"
                writer.write(hello if name == b"HELLO" else b"+OK\r\n")
                continue
            writer.write(b"*%d\r\n" % len(keys) if name == b"MGET" else b"")
            for _ in keys:
                await asyncio.sleep(pause)
                writer.write(b"$3\r\nyes\r\n")
                await writer.drain()


class Stalling:
    """Answers GET and MGET with the beginning of a reply, and nothing after it."""

    def __init__(self) -> None:
        self.asked: list[list[bytes]] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer), suppress(ConnectionError):
            while head := await reader.readline():
                lines = [await reader.readline() for _ in range(2 * int(head[1:]))]
                name, *keys = (line.strip() for line in lines[1::2])
                if name in (b"GET", b"MGET"):
                    self.asked.append(keys)
                    head = b"*%d\r\n" % len(keys) if name == b"MGET" else b""
                    writer.write(head + b"$3\r\ny")
                else:
                    hello = b"%1\r\n$5\r\nproto\r\n:3\r\n"
                    writer.write(hello if name == b"HELLO" else b"+OK\r\n")


@timed
@pytest.mark.parametrize("protocol", [2, 3])
async def test_a_server_that_stalls_in_mid_reply_costs_two_timeouts(protocol: int) -> None:
    """Some of the first are asked for once more; then each of the readers has an error."""
    stalling = Stalling()
    async with await asyncio.start_server(stalling, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        cache = RedisCache(f"redis://127.0.0.1:{port}/0?protocol={protocol}", timeout=0.1)
        for _ in range(2):
            start = time.monotonic()
            found = await outcomes(cache, [f"k{n}" for n in range(100)])
            assert time.monotonic() - start < 0.35
            assert all(isinstance(error, redis.TimeoutError) for error in found)
            assert len({id(error) for error in found}) == 100
        assert [len(keys) for keys in stalling.asked] == [20, 2, 1]
        await cache.aclose()


async def test_readers_that_leave_while_a_server_stalls() -> None:
    """Who is cancelled while his key is asked for again hinders neither the others nor those who
    come meanwhile, for the same keys."""
    stalling = Stalling()
    async with await asyncio.start_server(stalling, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        cache = RedisCache(f"redis://127.0.0.1:{port}/0", timeout=0.1)
        keys = [f"k{n}" for n in range(60)]
        early = [asyncio.ensure_future(cache.aget(key)) for key in keys]
        while len(stalling.asked) < 2:
            await asyncio.sleep(0.001)
        for reading in early[::2]:
            reading.cancel()
        late = [asyncio.ensure_future(cache.aget(key)) for key in keys]
        found = await asyncio.gather(*early, *late, return_exceptions=True)
        assert {type(error) for error in found[:60:2]} == {asyncio.CancelledError}
        assert all(isinstance(error, redis.TimeoutError) for error in found[1:60:2] + found[60:])
        await cache.aclose()


@timed
async def test_many_values_on_a_slow_link_all_come() -> None:
    """More than the window holds: those that wait for their turn do not count as tried."""
    async with await asyncio.start_server(partial(trickle, pause=0.01), "127.0.0.1", 0) as slow:
        port = slow.sockets[0].getsockname()[1]
        cache = RedisCache(f"redis://127.0.0.1:{port}/0", timeout=0.15)
        keys = [f"k{n}" for n in range(40)]
        leaving = asyncio.ensure_future(outcomes(cache, keys))
        reading = asyncio.ensure_future(outcomes(cache, keys))
        await asyncio.sleep(0)
        leaving.cancel()
        assert await reading == [b"yes"] * 40
        assert await outcomes(cache, keys[:5]) == [b"yes"] * 5
        await cache.aclose()


@pytest.mark.parametrize("protocol", [2, 3])
async def test_values_that_come_too_slowly_together_are_asked_for_by_fewer(protocol: int) -> None:
    """Of a reply that was still coming when its time was over no reader hears; a server that is
    too slow for a single value fails each of them."""
    async with await asyncio.start_server(trickle, "127.0.0.1", 0) as slow:
        port = slow.sockets[0].getsockname()[1]
        cache = RedisCache(f"redis://127.0.0.1:{port}/0?protocol={protocol}", timeout=0.2)
        assert await outcomes(cache, "abcdef") == [b"yes"] * 6
        await cache.aclose()
        cache = RedisCache(f"redis://127.0.0.1:{port}/0?protocol={protocol}", timeout=0.04)
        found = await outcomes(cache, "abc")
        assert [isinstance(error, redis.TimeoutError) for error in found] == [True] * 3
        await cache.aclose()


def test_the_window_follows_the_size_of_values() -> None:
    """It begins with 20, opens by what small values show, closes at once for large ones and late
    ones, and rests at 20 again; missing values only double it."""
    window = Window()
    assert window.room() == 20
    window.learn([b"x" * 100] * 2)
    assert window.room() == 50
    window.learn([b"x" * 100] * 50)
    assert window.room() == 500
    assert window.room(under_way=1240) == 10
    assert window.room(under_way=9999) == 0
    window.learn([b"x" * 2**20] * 50)
    assert window.room() == 4
    window.learn([b"x" * 2**23])
    assert window.room() == 1
    window.learn([b"x"] * 8)
    assert window.room() == 200
    window.shrink(100, is_long=False)
    assert window.room() == 12
    window.learn([b"x" * 2**20] * 8)
    assert window.room() == 4
    window.shrink(2, is_long=False)
    assert window.room() == 1
    window.rest()
    window.learn([b"x" * 2**20] * 8)
    assert window.room() == 4
    window.learn([b"x" * 2**16])
    assert window.room() == 25
    window.learn([None, None])
    assert window.room() == 50
    for _ in range(9):
        window.learn([b"", None] * 250)
    window.rest()
    assert window.room() == 20


def test_the_window_opens_again_after_late_replies() -> None:
    """It closes once for all that came too late together, opens by small steps where it is never
    at rest, and all the way."""
    window, values = Window(), [b"x" * 10_000] * 100
    window.learn(values)
    assert window.room() == 419
    for _ in range(8):
        window.shrink(400, is_long=True)
    sizes = [window.room()]
    for _ in range(50):
        window.learn(values[: window.room()])
        sizes.append(window.room())
    assert sizes[:3] == [50, 57, 65] and sizes[-1] == 419
    window.shrink(1, is_long=True)
    window.learn([b"x"])
    assert window.room() == 2
    window.rest()
    window.learn([b"x"])
    assert window.room() == 25


async def read(pieces: list[bytes]) -> list[bytes | None]:
    """What `read_values` gives for a stream that comes in these pieces and ends."""
    reader = StreamReader()
    reading = asyncio.create_task(read_values(reader, redis.ResponseError, lambda: None))
    for piece in pieces:
        reader.feed_data(piece)
        await asyncio.sleep(0)
    reader.feed_eof()
    return await reading


async def test_a_reply_may_be_torn_anywhere() -> None:
    """However a reply comes in pieces its values are the same, those that look like the protocol
    too; one that ends early, at whatever byte, is a lost connection."""
    values = [b"", None, b"\r\n", b"$5\r\nhello\r\n", None, b"x" * 1000, b"*1\r\n", b"-ERR"]
    bulks = [b"$-1" if v is None else b"$%d\r\n%b" % (len(v), v) for v in values]
    reply = b"\r\n".join([b"*%d" % len(values), *bulks, b""])
    random = Random(3)
    for size in (1, 2, 3, 7, 100, 5000):
        cuts = range(0, len(reply), size)
        assert await read([reply[cut : cut + size] for cut in cuts]) == values
    for end in random.sample(range(len(reply)), 60):
        with pytest.raises(redis.ConnectionError):
            await read([reply[:end]])


@pytest.mark.parametrize(
    "reply", [b"+OK\r\n", b":1\r\n", b"*1\r\n:1\r\n", b"*1\r\n+OK\r\n", b"*x\r\n", b"$1\r\n"]
)
async def test_a_reply_to_something_else_is_refused(reply: bytes) -> None:
    """What is no array of values is an error of the protocol."""
    with pytest.raises(redis.InvalidResponse):
        await read([reply])


# -- callers that go away ------------------------------------------------------------------------


async def test_cancelled_readers_disturb_nobody(server: RedisServer, plain: redis.Redis) -> None:
    """Whoever of many readers is cancelled, at whatever moment, the others get their own values;
    no connection is lost and nothing is left running."""
    values = fill(plain, 30)
    keys, random = list(values), Random(5)
    cache = RedisCache(server.url, timeout=5)
    await outcomes(cache, keys)
    received = plain.info("stats")["total_connections_received"]  # type: ignore[index]
    for number in range(300):
        picked = random.choices(keys, k=random.randrange(2, 25))
        reading = [asyncio.create_task(cache.aget(key)) for key in picked]
        for _ in range(number % 7):
            await asyncio.sleep(0)
        if number % 11 == 0:
            await asyncio.sleep(0.0002)
        gone = random.sample(reading, random.choice([1, len(reading) // 2, len(reading)]))
        for task in gone:
            task.cancel()
        found = await asyncio.gather(*reading, return_exceptions=True)
        for key, task, outcome in zip(picked, reading, found, strict=True):
            if task in gone and isinstance(outcome, asyncio.CancelledError):
                continue
            assert outcome == values[key]
    assert await outcomes(cache, keys) == list(values.values())
    await asyncio.sleep(0.02)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    lost = plain.info("stats")["total_connections_received"] - received  # type: ignore[index]
    assert lost < 300  # a lonely one ends its own, a batch none
    await cache.aclose()


async def test_a_batch_that_all_have_left_does_no_harm(
    server: RedisServer, plain: redis.Redis
) -> None:
    """When every reader of a command is cancelled its reply is read all the same, by nobody: the
    next reader on that connection gets its own."""
    values = fill(plain, 20)
    with Proxy(server.port, delay=0.03) as proxy:
        cache = RedisCache(proxy.url, timeout=5, max_connections=1)
        await cache.aget("k1")
        proxy.mode = "slow"
        leaving = [asyncio.create_task(cache.aget(f"k{n}")) for n in range(10)]
        await asyncio.sleep(0.01)
        for task in leaving:
            task.cancel()
        proxy.mode = "pass"
        assert await outcomes(cache, values) == list(values.values())
        assert proxy.accepted == 1
        await cache.aclose()


def test_a_loop_ends_without_a_word(server: RedisServer) -> None:
    """A loop that ends while reads are under way leaves neither a warning nor a connection."""
    cache = RedisCache(server.url, timeout=5)

    async def leave() -> None:
        await outcomes(cache, ["a", "b"])
        for number in (1, 30, 200):
            for n in range(number):
                asyncio.get_running_loop().create_task(cache.aget(f"k{n}"))
            await asyncio.sleep(0)
        for _ in range(3):
            await asyncio.sleep(0)

    for _ in range(5):
        asyncio.run(leave())
    gc.collect()
    assert asyncio.run(outcomes(cache, ["a", "b"])) == [None, None]
    cache.close()


@pytest.mark.filterwarnings("ignore")  # who closes a loop by hand is told what he has left open
@pytest.mark.parametrize("is_used_again", [False, True])
def test_a_loop_closed_by_hand_is_let_go(server: RedisServer, is_used_again: bool) -> None:
    """A loop that was closed while reads waited hinders neither the next loop nor `close`."""

    async def leave(cache: RedisCache) -> None:
        await outcomes(cache, ["a", "b"])
        left.extend(asyncio.ensure_future(cache.aget(f"k{n}")) for n in range(100))
        for _ in range(3):
            await asyncio.sleep(0)

    def run(cache: RedisCache) -> None:
        loop = asyncio.new_event_loop()
        loop.run_until_complete(leave(cache))
        loop.close()
        if is_used_again:
            assert asyncio.run(outcomes(cache, ["a", "b"])) == [None, None]
        cache.close()

    left: list[Any] = []
    run(RedisCache(server.url, max_connections=1))
    assert not all(reading.done() for reading in left)
    left.clear()
    gc.collect()


async def test_closing_ends_all_waits(server: RedisServer) -> None:
    """Readers that wait for a command when the cache is closed are told so, each by an error of
    its own, and what was under way ends."""
    with Proxy(server.port, delay=0.05) as proxy:
        cache = RedisCache(proxy.url, timeout=5, max_connections=1)
        await cache.aget("k")
        proxy.mode = "slow"
        reading = [asyncio.create_task(cache.aget("first"))]
        await asyncio.sleep(0.01)
        reading += [asyncio.create_task(cache.aget(f"k{n}")) for n in range(5)]
        await asyncio.sleep(0.01)
        cache.close()
        first, *others = await asyncio.gather(*reading, return_exceptions=True)
        assert first is None
        assert [type(error) for error in others] == [BackendClosed] * 5
        assert len({id(error) for error in others}) == 5


seen: ContextVar[str] = ContextVar("seen", default="")


class Client(redis.asyncio.Redis):
    """Notes in whose context each command runs."""

    contexts: ClassVar[list[tuple[Any, str]]] = []

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        self.contexts.append((args[0], seen.get()))
        return await super().execute_command(*args, **options)


async def test_a_batch_runs_in_nobodys_context(server: RedisServer) -> None:
    """A lonely read runs in its caller's context; one for many callers in that of none."""
    client = Client.from_url(server.url)
    cache = RedisCache(client)
    seen.set("caller")
    await cache.aget("alone")
    await outcomes(cache, ["a", "b"])
    assert Client.contexts == [("GET", "caller"), ("MGET", "")]
    await client.connection_pool.disconnect()


# -- servers that fail ---------------------------------------------------------------------------


def depth(error: BaseException) -> int:
    """The length of a traceback."""
    traceback, length = error.__traceback__, 0
    while traceback is not None:
        traceback, length = traceback.tb_next, length + 1
    return length


@timed
@pytest.mark.parametrize("end", ["stopped", "killed"])
async def test_a_server_that_goes_fails_each_reader_in_time(own: RedisServer, end: str) -> None:
    """When the server stands still or dies in mid-command each of 300 readers has an error of its
    own within the timeout, with a traceback that is its own; then all is well again."""
    cache = RedisCache(own.url, timeout=0.4)
    await outcomes(cache, ["a", "b"])
    assert own.process is not None
    own.process.send_signal(signal.SIGSTOP)
    start = time.monotonic()
    if end == "killed":
        threading.Timer(0.1, own.process.kill).start()
    found = await outcomes(cache, [f"k{n}" for n in range(300)])
    assert time.monotonic() - start < 0.6
    wanted = redis.TimeoutError if end == "stopped" else redis.ConnectionError
    assert {type(error) for error in found} == {wanted}
    assert len({id(error) for error in found}) == 300
    assert max(map(depth, found)) < 10
    if end == "stopped":
        own.process.send_signal(signal.SIGCONT)
    else:
        own.process.wait()
        own.start()
    assert await outcomes(cache, [f"k{n}" for n in range(300)]) == [None] * 300
    await cache.aclose()


async def in_line(cache: Any, get: Callable[[str], Any]) -> list[Any]:
    """The outcomes of a read, and of two that have to wait until it is done."""
    reading = [asyncio.ensure_future(get("first"))]
    await asyncio.sleep(0.01)
    reading += [asyncio.ensure_future(get(key)) for key in ("second", "third")]
    return await asyncio.gather(*reading, return_exceptions=True)


async def test_waiting_for_a_command_is_off_the_clock(server: RedisServer) -> None:
    """Readers that wait for the one connection have all of their time when their turn comes, also
    where a tier's shorter timeout watches each of them."""
    with Proxy(server.port, delay=0.3) as proxy:
        cache = RedisCache(proxy.url, timeout=5, max_connections=1)
        port = open_port(cache, for_async=True, timeout=0.5)  # for one reply, and not for two
        await cache.aget("first")
        proxy.mode = "slow"
        assert await in_line(cache, port.get) == [None, None, None]
        holding = asyncio.create_task(cache.adelete("k"))  # of another kind, on the connection
        await asyncio.sleep(0.01)
        assert await in_line(cache, port.get) == [None, None, None]
        await holding
        proxy.delay = 0.7
        assert {type(error) for error in await in_line(cache, port.get)} == {TimeoutError}
        await cache.aclose()


async def test_waiting_for_a_command_has_an_end(server: RedisServer) -> None:
    """Who waits in vain for ten timeouts gets BackendBusy; the reader before gets its value."""
    with Proxy(server.port, delay=0.3) as proxy:
        cache = RedisCache(f"{proxy.url}?timeout=0.05", timeout=5, max_connections=1)
        await cache.aget("first")
        proxy.mode = "slow"
        first, *others = await in_line(cache, cache.aget)
        assert first is None
        assert [type(error) for error in others] == [BackendBusy] * 2
        proxy.mode = "pass"
        assert await outcomes(cache, ["first", "second", "third"]) == [None] * 3
        await cache.aclose()


async def test_a_blocked_loop_blames_nobody(server: RedisServer, plain: redis.Redis) -> None:
    """Somebody who blocks the loop for longer than the timeout makes none of many reads fail."""
    values = fill(plain, 300)
    cache = RedisCache(server.url, timeout=0.1)
    for _ in range(2):
        reading = asyncio.ensure_future(outcomes(cache, values))
        for _ in range(3):
            time.sleep(0.12)
            await asyncio.sleep(0)
        assert await reading == list(values.values())
    await cache.aclose()
