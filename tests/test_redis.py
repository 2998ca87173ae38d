"""Redis as a backend, on real servers: refused, silent, restarted, cancelled, shared by loops."""

from __future__ import annotations

import asyncio
import gc
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

import pytest
import redis
import redis.asyncio
import valkey
import valkey.asyncio
from conftest import timed
from pydantic import BaseModel
from redis_server import Cluster, RedisServer, free_port

from instructor_cache import Event, MemoryCache, RedisCache, TieredCache, instructor_cache
from instructor_cache.backends._redis_url import Place
from instructor_cache.errors import BackendClosed
from instructor_cache.ports import is_native
from instructor_cache.testing import BackendContract, FaultyBackend


class User(BaseModel):
    name: str


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """A server of this test's own, which it may stop and start."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def cache(redis_url: str) -> Iterator[RedisCache]:
    cache = RedisCache(redis_url)
    yield cache
    cache.close()


@pytest.fixture
def plain(redis_url: str) -> Iterator[redis.Redis]:
    """A client of redis-py's own, to look behind the cache."""
    with redis.Redis.from_url(redis_url) as client:
        yield client


def until_raised(cache: RedisCache, is_async: bool) -> tuple[Exception, float]:
    """The error of a read, and the seconds that it took."""
    start = time.monotonic()
    with pytest.raises(redis.RedisError) as caught:
        asyncio.run(cache.aget("k")) if is_async else cache.get("k")
    return caught.value, time.monotonic() - start


# -- servers that don't answer -----------------------------------------------------------------

both_colours = pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])


@timed
@both_colours
def test_a_refused_port_fails_fast(is_async: bool) -> None:
    """Where nobody listens the error comes at once, not after a ladder of retries."""
    error, seconds = until_raised(RedisCache(f"redis://127.0.0.1:{free_port()}"), is_async)
    assert isinstance(error, redis.ConnectionError)
    assert seconds < 0.5


@timed
@both_colours
def test_a_silent_server_fails_after_the_timeout(is_async: bool) -> None:
    """A server that accepts and says nothing costs about one timeout."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        cache = RedisCache(f"redis://127.0.0.1:{listener.getsockname()[1]}", timeout=0.2)
        error, seconds = until_raised(cache, is_async)
    assert isinstance(error, redis.TimeoutError)
    assert seconds < 1


@timed
@both_colours
def test_a_wrong_password_fails_fast_and_is_not_shown(is_async: bool) -> None:
    """A refused password is an error that does not repeat it."""
    with RedisServer("--requirepass", "right") as server:
        cache = RedisCache(f"redis://:hunter2@127.0.0.1:{server.port}")
        error, seconds = until_raised(cache, is_async)
        assert isinstance(error, redis.AuthenticationError)
        assert "hunter2" not in str(error)
        assert seconds < 0.5
        right = RedisCache(f"redis://:right@127.0.0.1:{server.port}")
        right.set("k", b"1", None)
        assert right.get("k") == b"1"
        right.close()


async def test_a_server_that_comes_back_is_used_again(server: RedisServer) -> None:
    """After a crash and a restart on its port, both colours recover by themselves."""
    cache = RedisCache(server.url)
    for restarted in (False, True):
        if restarted:
            server.stop()
            for _ in range(2):
                with pytest.raises(redis.ConnectionError):
                    cache.get("k")
                with pytest.raises(redis.ConnectionError):
                    await cache.aget("k")
            server.start()
            assert cache.get("k") is await cache.aget("k") is None
        cache.set("k", b"1", None)
        await cache.aset("k2", b"2", None)
        assert (cache.get("k2"), await cache.aget("k")) == (b"2", b"1")
    cache.close()


async def test_a_restart_between_two_calls_is_not_noticed(server: RedisServer) -> None:
    """A connection that went stale is replaced without an error, in both colours."""
    cache = RedisCache(server.url)
    cache.set("k", b"1", None)
    await cache.aset("k", b"1", None)
    server.stop()
    server.start()
    assert cache.get("k") is None
    assert await cache.aget("k") is None
    cache.close()


class Hears:
    """Waits until it is told of changes."""

    def __init__(self) -> None:
        self.is_live = threading.Event()

    def live(self, prefix: str) -> None:
        self.is_live.set()

    def changed(self, keys: list[str] | None) -> None: ...

    def lost(self) -> None: ...


def test_a_user_with_the_rights_that_the_readme_names(server: RedisServer) -> None:
    """They are enough for tags, locks, invalidations, many replicas and listing."""
    readme = (Path(__file__).parent.parent / "README.md").read_text()
    (found,) = re.findall(r"`ACL SETUSER app on >password ([^`]*)`; `(\S*)`", readme)
    server.ask("ACL", "SETUSER", "app", "on", ">pw", *" ".join(found).split())
    server.ask("ACL", "LOG", "RESET")
    cache = RedisCache(f"redis://app:pw@127.0.0.1:{server.port}/1")
    events: list[Event] = []

    @instructor_cache(cache, tags=("people",), lock="backend", observer=events.append)
    def extract(name: str) -> User:
        return User(name=name)

    extract("ada")
    extract.cache_refresh("ada")
    extract.cache_invalidate("ada")
    extract.cache_map([("ada",), ("bob",)])
    TieredCache(MemoryCache(), cache).invalidate_tags("people")
    extract.cache_clear()
    assert (list(cache.scan("instructor:")), cache.swap("lock:1", None, None, 1)) == ([], True)
    assert isinstance(cache.count(), int)
    cache.track(listener := Hears())("instructor:")
    assert listener.is_live.wait(10)
    cache.close()
    assert {event.kind for event in events} <= {"miss", "stored", "hit"}
    with redis.Redis.from_url(server.url, decode_responses=True) as admin:
        refused = {entry["object"] for entry in admin.acl_log()}
    assert refused <= {"client", "client|setinfo", "subscribe"}  # may fail, and do no harm


# -- what is stored ------------------------------------------------------------------------------


@both_colours
def test_a_ttl_is_kept_to_the_millisecond(
    is_async: bool, cache: RedisCache, plain: redis.Redis, prefix: str
) -> None:
    """An entry expires by Redis itself, by a ttl in milliseconds; None and centuries never do."""
    for ttl, least, most in (
        (1.5, 1000, 1500),
        (0.0001, -2, 1),
        (1e9, 999_999_000_000, 1e12),
        (1e300, -1, -1),
        (float("inf"), -1, -1),
        (None, -1, -1),
    ):
        if is_async:
            asyncio.run(cache.aset(prefix, b"", ttl))
        else:
            cache.set(prefix, b"", ttl)
        assert least <= plain.pttl(prefix) <= most, ttl
    plain.delete(prefix)


@both_colours
def test_another_type_under_the_key_is_an_error_that_a_write_heals(
    is_async: bool, cache: RedisCache, plain: redis.Redis, prefix: str
) -> None:
    """A list where an entry should be is an error, and gone after the next set."""
    plain.rpush(prefix, "not", "an", "entry")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        asyncio.run(cache.aget(prefix)) if is_async else cache.get(prefix)
    cache.set(prefix, b"1", 5)
    assert cache.get(prefix) == b"1"


def test_clear_survives_keys_that_are_no_text(server: RedisServer) -> None:
    """Keys of other programs, in whatever bytes, do not stop a clear."""
    with redis.Redis.from_url(server.url) as plain:
        plain.set(b"\xff\xfe", b"other")
        cache = RedisCache(server.url)
        cache.set("mine:1", b"", None)
        cache.clear("mine:")
        asyncio.run(cache.aclear("mine:"))
        assert plain.keys() == [b"\xff\xfe"]
        cache.clear("")
        assert plain.keys() == []
        cache.close()


# -- loops, tasks and threads --------------------------------------------------------------------


def connections(server: RedisServer) -> int:
    """How many clients the server has, beside the one that asks."""
    with redis.Redis.from_url(server.url) as client:
        return len(client.client_list()) - 1


def until(count: Any, wanted: int) -> int:
    """The outcome of *count* once it is *wanted*, or what it is after five seconds."""
    deadline = time.monotonic() + 5
    while (found := count()) != wanted and time.monotonic() < deadline:
        time.sleep(0.01)
    return found


def test_no_event_loop_leaves_anything_behind(server: RedisServer) -> None:
    """Twenty loops in a row leave no socket, no client and no loop, and nobody closed any."""
    cache = RedisCache(server.url)

    loops: list[weakref.ref[asyncio.AbstractEventLoop]] = []

    async def use() -> None:
        loops.append(weakref.ref(asyncio.get_running_loop()))
        await asyncio.gather(*(cache.aget(f"{n}") for n in range(5)))

    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        asyncio.run(use())
    gc.collect()
    # Threads of tests before may just have something open.
    assert until(lambda: len(os.listdir("/proc/self/fd")) <= before, True)
    assert until(lambda: connections(server), 0) == 0
    assert not cache._by_loop
    assert len(loops) == 20
    assert [loop() for loop in loops] == [None] * 20


def test_a_process_with_many_loops_ends_without_warnings(redis_url: str) -> None:
    """With ResourceWarning as an error, a program with 20 loops prints nothing and ends well."""
    program = f"""
import asyncio, gc
from instructor_cache import RedisCache
cache = RedisCache({redis_url!r})
async def use():
    await asyncio.gather(*(cache.aget("k") for _ in range(5)))
for _ in range(20):
    asyncio.run(use())
cache.get("k")
gc.collect()
"""
    done = subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_loop_closed_by_hand_is_not_kept(redis_url: str) -> None:
    """A loop that was closed without its generators is let go when the next one comes."""
    cache = RedisCache(redis_url)
    for _ in range(3):
        loop = asyncio.new_event_loop()
        loop.run_until_complete(cache.aget("k"))
        loop.close()
    assert list(cache._by_loop) == [loop]
    cache.close()
    del cache
    gc.collect()


async def test_aclose_ends_the_connections_of_this_loop(server: RedisServer) -> None:
    """aclose closes what this loop opened, twice is fine, and later uses say that it is closed."""
    cache = RedisCache(server.url)
    await cache.aset("k", b"1", None)
    assert connections(server) == 1
    await cache.aclose()
    await cache.aclose()
    assert until(lambda: connections(server), 0) == 0
    with pytest.raises(BackendClosed, match="make a new one"):
        await cache.aget("k")


def test_loops_in_several_threads_do_not_share_connections(redis_url: str, prefix: str) -> None:
    """Each of eight threads with a loop of its own reads what it wrote."""
    cache = RedisCache(redis_url)

    async def use(number: int) -> None:
        for n in range(20):
            await cache.aset(f"{prefix}:{number}", b"%d" % n, 60)
            assert await cache.aget(f"{prefix}:{number}") == b"%d" % n

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: asyncio.run(use(number)), range(8)))
    assert not cache._by_loop


async def test_more_tasks_than_connections_take_turns(server: RedisServer) -> None:
    """Two thousand reads at once over four connections all succeed, over no more than four."""
    cache = RedisCache(server.url, max_connections=4)
    for n in range(10):
        await cache.aset(f"{n}", b"%d" % n, None)
    found = await asyncio.gather(*(cache.aget(f"{n % 10}") for n in range(2000)))
    assert found == [b"%d" % (n % 10) for n in range(2000)]
    assert connections(server) <= 4


def test_more_threads_than_connections_take_turns(server: RedisServer) -> None:
    """Forty threads over four connections all succeed, over no more than four."""
    cache = RedisCache(server.url, max_connections=4)
    together = threading.Barrier(40)

    def use(number: int) -> None:
        together.wait()
        for n in range(5):
            cache.set(f"{number}", b"%d" % n, None)
            assert cache.get(f"{number}") == b"%d" % n

    with ThreadPoolExecutor(40) as pool:
        list(pool.map(use, range(40)))
    assert connections(server) <= 4
    cache.close()
    assert until(lambda: connections(server), 0) == 0


async def test_a_cancelled_read_never_answers_another(redis_url: str, prefix: str) -> None:
    """After 500 cancelled reads and writes over two connections, every value found is its key's
    own, and no connection is lost."""
    cache = RedisCache(redis_url, max_connections=2)
    random = Random(11)
    keys = [f"{prefix}:{n}" for n in range(20)]
    for key in keys:
        await cache.aset(key, key.encode() * 50, 60)
    cancelled = 0
    while cancelled < 500:
        tasks = [asyncio.create_task(cache.aget(random.choice(keys))) for _ in range(2)]
        key = random.choice(keys)
        tasks.append(asyncio.create_task(cache.aset(key, key.encode() * 50, 60)))
        for _ in range(random.randrange(12)):
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert not [o for o in outcomes if isinstance(o, Exception)]
        cancelled += sum(isinstance(o, asyncio.CancelledError) for o in outcomes)
        for key in random.sample(keys, 2):
            assert await cache.aget(key) == key.encode() * 50
    await cache.aclear(prefix)


# -- the contract, through ready clients ---------------------------------------------------------


class ClosesItsClient(RedisCache):
    """Closes a ready client, as the user who made it would."""

    def __init__(self, client: Any) -> None:
        super().__init__(client)
        self.client = client

    def close(self) -> None:
        if not self.async_only:
            self.client.close()

    async def aclose(self) -> None:
        if self.async_only:
            await getattr(self.client, "aclose", self.client.close)()  # redis-py 5.0.0


class OverRedis:
    """A test on the session's server."""

    url: str

    @pytest.fixture(autouse=True)
    def _url(self, redis_url: str) -> None:
        self.url = redis_url


class TestReadyClient(OverRedis, BackendContract):
    shared = True

    def make_backend(self) -> RedisCache:
        return ClosesItsClient(redis.Redis.from_url(self.url, decode_responses=True))


class TestReadyAsyncClient(OverRedis, BackendContract):
    def make_backend(self) -> RedisCache:
        return ClosesItsClient(redis.asyncio.Redis.from_url(self.url, decode_responses=True))


@pytest.mark.parametrize("kind", [None, redis.Redis, redis.asyncio.Redis, valkey.Valkey])
async def test_keys_that_are_no_text_are_not_listed(server: RedisServer, kind: Any) -> None:
    """Keys of other programs, in whatever bytes, are left out, and cleared below a prefix."""
    how: dict[str, Any] = {"port": server.port, "decode_responses": True}
    cache = ClosesItsClient(kind(**how)) if kind else RedisCache(server.url)
    with redis.Redis.from_url(server.url) as plain:
        plain.mset({b"mine:\xff\xfe": b"other", "mine:1": b"1"})
        if not cache.async_only:
            assert list(cache.scan("")) == ["mine:1"]
            cache.clear("mine:")
        if not cache.sync_only:
            plain.mset({b"mine:\xff\xfe": b"other", "mine:1": b"1"})
            assert [key async for key in cache.ascan("mine:")] == ["mine:1"]
            await cache.aclear("mine:")
        assert plain.keys() == []
    await cache.aclose()


# -- other ways to a server ----------------------------------------------------------------------


def test_a_unix_socket_serves_both_colours(tmp_path: Path) -> None:
    """unix:// names a socket."""
    path = tmp_path / "redis.sock"
    with RedisServer("--unixsocket", str(path)):
        cache = RedisCache(f"unix://{path}")
        cache.set("k", b"1", None)
        assert cache.get("k") == asyncio.run(cache.aget("k")) == b"1"
        cache.close()


@pytest.fixture(scope="module", autouse=True)
def _begun(begun_cluster: Cluster) -> None:
    """Let the cluster get ready while the other tests run."""


class OnCluster:
    """A test on the cluster."""

    port: int

    @pytest.fixture(autouse=True)
    def _cluster(self, cluster: Cluster) -> None:
        self.port = cluster.masters[0].port


@pytest.mark.slow
class TestCluster(OnCluster, BackendContract):
    shared = True

    def make_backend(self) -> RedisCache:
        return ClosesItsClient(redis.RedisCluster("127.0.0.1", self.port))


class TestAsyncCluster(OnCluster, BackendContract):
    def make_backend(self) -> RedisCache:
        return ClosesItsClient(redis.asyncio.RedisCluster("127.0.0.1", self.port))


@pytest.mark.parametrize("library", [redis, valkey], ids=["redis", "valkey"])
async def test_a_cluster_client_that_decodes(cluster: Cluster, prefix: str, library: Any) -> None:
    """Values that are no text come back as they are, one or many, from a client that decodes."""
    sync = getattr(library, "RedisCluster", None) or library.ValkeyCluster
    native = getattr(library.asyncio, "RedisCluster", None) or library.asyncio.ValkeyCluster
    place: dict[str, Any] = {"port": cluster.masters[0].port, "decode_responses": True}
    clients = sync("127.0.0.1", **place), native("127.0.0.1", **place)
    cache = RedisCache(clients)
    keys = [f"{prefix}:{n}" for n in range(6)]
    for key in keys[:5]:
        cache.set(key, b"\xff\xfe" + key.encode(), 60)
    wanted = [*(b"\xff\xfe" + key.encode() for key in keys[:5]), None]
    assert cache.get_many(keys) == await cache.aget_many(keys) == wanted
    assert await asyncio.gather(*map(cache.aget, keys)) == wanted
    clients[0].set(f"{prefix}:".encode() + b"\xff", b"other")
    assert sorted(cache.scan(prefix)) == keys[:5]
    assert sorted([key async for key in cache.ascan(prefix)]) == keys[:5]
    await cache.aclear(prefix)
    assert list(cache.scan(prefix)) == []
    clients[0].close()
    await clients[1].aclose()


# -- URLs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("redis+cluster://h:1/3", "a database number"),
        ("redis+cluster://h:1?db=2", "a database number"),
        ("valkey+cluster://h:1/x", "a database number"),
        ("redis+cluster://", "no host"),
        ("rediss+cluster:///0", "no host"),
        ("redis+cluster://:hunter2@", "no host"),
        ("redis+cluster://h:1,,i:2", "a host that can't be read"),
        ("redis+cluster://h:hunter2", "an unreadable port"),
        ("redis+cluster://h:70000", "an unreadable port"),
        ("redis+cluster://h:0", "an unreadable port"),
        ("redis+cluster://[::1", "a host that can't be read"),
        ("redis+sentinel://:hunter2@h:1", "no service name"),
        ("redis+sentinel://h:1/", "no service name"),
        ("redis+sentinel:///mymaster/0", "no host"),
        ("redis+sentinel://h:1/mymaster/hunter2", "no number after the service"),
        ("rediss+sentinel://h:-1/mymaster", "an unreadable port"),
        ("redis+sentinel://user:hunter2/@h:1/mymaster", "can't be read"),
        ("redis+sentinel://h:1/mymaster?no_such_option=hunter2", "an unknown option"),
        ("redis+cluster://h:1?ssl_ca_certs=x", "an unknown option"),
        ("redis://h:hunter2", "can't be read"),
        ("redis://:hunter2@h:1,i:2", "several hosts .* redis\\+cluster://"),
        ("redis://h?connection_class=hunter2", "connection_class can't be given"),
        ("rediss://h?ssl_ca_certs=hunter2", "nothing where ssl_ca_certs"),
        ("rediss+cluster://h?ssl_keyfile=hunter2", "nothing where ssl_keyfile"),
        ("redis+nonsense://:hunter2@h:1", "can't be read"),
        ("unix+cluster://:hunter2@/x", "can't be read"),
        ("rediss://h?ssl_cert_reqs=hunter2", "an option in a Redis URL that can't be read"),
        ("unix://", "no path"),
        # Passwords with unescaped special characters, which would be taken for something else.
        ("redis://:p@hunter2@h:1/0", "can't be read"),
        ("rediss://u:p@hunter2/1@h/0", "can't be read"),
        ("redis://user:12#hunter2@h:1/0", "can't be read"),
        ("redis://user:12/hunter2@h:1/0", "can't be read"),
        ("valkey://user:12?hunter2@h:1/0", "can't be read"),
        ("redis://:p@hunter2/w?rd#1@h:1/0", "can't be read"),
        ("redis+cluster://user:12?hunter2@h:1", "can't be read"),
        ("redis+sentinel://user:12?hunter2@h:1/svc", "can't be read"),
        ("unix://:p/hunter2@/tmp/x.sock", "can't be read"),
        ("redis://h/hunter2", "can't be read"),
        ("redis://h:1/0#hunter2", "can't be read"),
    ],
)
def test_a_wrong_url_is_refused_at_once(url: str, found: str) -> None:
    """What is wrong in a URL is told at construction, with the remedy and without a password."""
    with pytest.raises(ValueError, match=found) as caught:
        RedisCache(url)
    assert "hunter2" not in str(caught.value)
    assert "wanted" in str(caught.value) or "unknown" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("max_connections", [0, -1, "x", None, True, 1.5]),
        ("retries", [-1, "x", None, True, 1.5]),
        ("timeout", [0, -1, "x", None, True, float("inf"), float("nan")]),
    ],
)
def test_a_wrong_option_is_refused_at_once(name: str, values: list[Any]) -> None:
    """A number that no connection could work with is told at construction, with what is wanted."""
    for value in values:
        with pytest.raises(ValueError, match=f"{name} is .* must be"):
            RedisCache(**{name: value})


@pytest.mark.parametrize(
    "option",
    [
        *("max_connections=0", "max_connections=-5", "max_connections=x", "timeout=-1"),
        *("timeout=x", "socket_timeout=0", "socket_timeout=-1", "socket_timeout=inf"),
    ],
)
@pytest.mark.parametrize("url", ["redis://h", "redis+cluster://h", "redis+sentinel://h/svc"])
def test_a_wrong_option_in_a_url_is_refused_at_once(option: str, url: str) -> None:
    """So is one in a URL, of every kind."""
    with pytest.raises(ValueError, match="must be|can't be read"):
        RedisCache(f"{url}?{option}")


@pytest.mark.parametrize("scheme", ["redis", "valkey", "REDIS"])
async def test_both_names_of_a_plain_url(redis_url: str, prefix: str, scheme: str) -> None:
    """A valkey:// URL names what a redis:// URL does, in the decorator as well."""
    url = redis_url.replace("redis", scheme, 1)
    cache = RedisCache(url)
    cache.set(prefix, b"1", 60)
    assert await cache.aget(prefix) == b"1"
    cache.close()

    @instructor_cache(url, prefix=prefix, ttl=60)
    def extract(text: str) -> User:
        return User(name=text)

    assert extract("a") == extract("a") == User(name="a")
    assert extract.cache_info().hits == 1


def test_addresses_of_every_kind() -> None:
    """Hosts may be names, IPv4 and IPv6 addresses, with the usual port if none is given."""
    place = Place.read("redis+cluster://u:p%40@h,10.0.0.1:7000,[::1]:7001,[fe80::1]?protocol=3")
    assert place.seeds == (("h", 6379), ("10.0.0.1", 7000), ("::1", 7001), ("fe80::1", 6379))
    assert place.url == "redis://u:p%40@localhost?protocol=3"
    place = Place.read("valkeys+sentinel://p:q@h/a%20%2Fb/2?sentinel_password=%2F&client_name=x")
    assert (place.seeds, place.service) == ((("h", 26379),), "a /b")
    assert place.url == "rediss://p:q@localhost/2?client_name=x"
    assert place.sentinel_url == "rediss://:%2F@localhost?db=0&client_name=x"
    assert "q" not in repr(place)


# -- pairs, and clients of valkey-py ---------------------------------------------------------------


class ClosesBoth(RedisCache):
    """Closes a pair of clients, as the user who made them would."""

    def __init__(self, sync: Any, native: Any) -> None:
        super().__init__((sync, native))
        self.clients = sync, native

    def close(self) -> None:
        super().close()
        self.clients[0].close()

    async def aclose(self) -> None:
        await super().aclose()
        await getattr(self.clients[1], "aclose", self.clients[1].close)()


@pytest.mark.slow
class TestPair(OverRedis, BackendContract):
    def make_backend(self) -> RedisCache:
        native = redis.asyncio.Redis.from_url(self.url)
        return ClosesBoth(redis.Redis.from_url(self.url), native)


@pytest.mark.slow
class TestPairOfValkey(OverRedis, BackendContract):
    def make_backend(self) -> RedisCache:
        native = valkey.asyncio.Valkey.from_url(self.url)
        return ClosesBoth(valkey.Valkey.from_url(self.url), native)


@pytest.mark.slow
class TestPairOfValkeyClusters(OnCluster, BackendContract):
    def make_backend(self) -> RedisCache:
        native = valkey.asyncio.ValkeyCluster("127.0.0.1", self.port)
        return ClosesBoth(valkey.ValkeyCluster("127.0.0.1", self.port), native)


async def test_a_pair_serves_each_colour_natively(redis_url: str, prefix: str) -> None:
    """A pair's sync client answers sync functions, its async client async ones, in either order."""
    with redis.Redis.from_url(redis_url) as sync:
        async with redis.asyncio.Redis.from_url(redis_url) as native:
            for pair in ((sync, native), (native, sync)):
                cache = RedisCache(pair)
                assert is_native(cache) and not cache.async_only and not cache.sync_only
                cache.set(prefix, b"1", 60)
                assert cache.get(prefix) == await cache.aget(prefix) == b"1"
            for wrong in ((sync, sync), (native, native), (sync, native, sync), ()):
                with pytest.raises(TypeError, match="a pair of a sync and an async one"):
                    RedisCache(wrong)  # type: ignore[arg-type]
            with pytest.raises(TypeError, match="wanted a Redis URL, or a client"):
                RedisCache((sync, redis_url))  # type: ignore[arg-type]


async def test_clients_of_valkey_serve_decorated_functions(redis_url: str, prefix: str) -> None:
    """A ready client of valkey-py is accepted wherever a backend is, in both colours."""
    with valkey.Valkey.from_url(redis_url) as sync:

        @instructor_cache(sync, prefix=prefix, ttl=60)
        def extract(text: str) -> User:
            return User(name=text)

        assert extract("a") == extract("a")
        assert extract.cache_info().hits == 1
    async with valkey.asyncio.Valkey.from_url(redis_url) as native:

        @instructor_cache(native, prefix=prefix, ttl=60)
        async def aextract(text: str) -> User:
            return User(name=text)

        assert await aextract("a") == await aextract("a")
        assert aextract.cache_info().hits == 1


# -- ready clients -------------------------------------------------------------------------------


def test_an_async_client_is_refused_for_a_sync_function(redis_url: str) -> None:
    """A ready async client under a sync function is a TypeError at decoration, with the remedy."""
    client = redis.asyncio.Redis.from_url(redis_url)
    with pytest.raises(TypeError, match=r"async-only.*make the function async"):

        @instructor_cache(client)
        def extract(text: str) -> User:
            return User(name=text)


def test_an_async_client_is_forgotten_by_coroutines_only(redis_url: str) -> None:
    """To clear it, or end its tags, from blocking code is a TypeError that names the coroutine."""
    cache = TieredCache(redis.asyncio.Redis.from_url(redis_url))
    with pytest.raises(TypeError, match=r"for coroutines only.*await cache\.aclear\("):
        cache.clear("app")
    with pytest.raises(TypeError, match=r"await cache\.ainvalidate_tags\("):
        cache.invalidate_tags("users")


async def test_an_async_client_serves_an_async_function(redis_url: str, prefix: str) -> None:
    """A ready async client is accepted wherever a backend is, and is not closed by us."""
    async with redis.asyncio.Redis.from_url(redis_url, decode_responses=True) as client:

        @instructor_cache(client, prefix=prefix, ttl=60)
        async def extract(text: str) -> User:
            return User(name=text)

        assert [await extract("a"), await extract("a")] == [User(name="a")] * 2
        assert extract.cache_info().hits == 1
        await RedisCache(client).aclose()
        assert await client.ping()


async def test_a_sync_client_serves_both_colours(redis_url: str, prefix: str) -> None:
    """A ready sync client serves sync functions, and async ones off the event loop."""
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:

        @instructor_cache(client, prefix=prefix, ttl=60)
        def extract(text: str) -> User:
            return User(name=text)

        @instructor_cache(client, prefix=prefix, ttl=60)
        async def aextract(text: str) -> User:
            return User(name=text)

        for _ in range(2):
            assert extract("a") == await aextract("a") == User(name="a")
        assert (extract.cache_info().hits, aextract.cache_info().hits) == (1, 1)
        RedisCache(client).close()
        assert client.ping()


class OwnCache(redis.Redis):
    """A client with a cache of its own, which only serves what is asked for by its methods.

    As with ``cache_config``, for which redis-py wants a newer server than the tests.
    """

    def execute_command(self, *args: Any, **options: Any) -> Any:
        if args[0] in ("GET", "MGET", "EXISTS"):
            raise ValueError("Cannot create cache key.")
        return super().execute_command(*args, **options)


def test_a_ready_client_with_a_cache_of_its_own(redis_url: str, prefix: str) -> None:
    """What it keeps in this process is passed by: every operation works, and asks the server."""
    client = OwnCache.from_url(redis_url)
    client.ping()  # by a connection that is made without it
    client.connection_pool.cache = object()
    backend = RedisCache(client)
    key, other = f"{prefix}:1", f"{prefix}:2"
    assert backend.swap(key, None, None, 60)
    backend.set(key, b"\xff", 60)
    assert backend.get(key) == b"\xff"
    assert backend.get_many([key, other]) == [b"\xff", None]
    assert backend.swap(key, b"\xff", b"new", 60)
    assert backend.get(key) == b"new"
    assert list(backend.scan(prefix)) == [key]
    backend.clear(prefix)
    assert backend.get(key) is None
    client.lpush(key, "a list")
    with pytest.raises(redis.ResponseError, match="^WRONGTYPE"):
        backend.get(key)
    client.close()


def test_a_fork_leaves_the_only_connection_to_the_parent(redis_url: str, prefix: str) -> None:
    """The child of a fork in the middle of a command, by a client with a single connection, neither
    waits for that command nor reads its reply."""
    client = redis.Redis.from_url(redis_url, single_connection_client=True, socket_timeout=5)
    backend, busy, forked = RedisCache(client), threading.Event(), threading.Event()
    backend.set(f"{prefix}:1", b"one", 60)

    def hold(_: Any) -> bytes:
        busy.set()
        assert forked.wait(10)
        return b"late"

    client.set_response_callback("ECHO", hold)
    holder = threading.Thread(target=client.execute_command, args=("ECHO", "late"))
    holder.start()
    assert busy.wait(10)
    if (pid := os.fork()) == 0:
        signal.alarm(5)
        os._exit(0 if backend.get(f"{prefix}:1") == b"one" else 1)
    status = os.waitpid(pid, 0)[1]
    forked.set()
    holder.join()
    assert os.waitstatus_to_exitcode(status) == 0
    assert backend.get(f"{prefix}:1") == b"one"
    client.close()


async def test_a_ready_client_has_one_colour(redis_url: str) -> None:
    """Used directly in the other colour, a ready client is a TypeError with the remedy; what wraps
    a sync one is reached from worker threads as well."""
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        with pytest.raises(TypeError, match="use aget, aset"):
            RedisCache(client).get("k")
    with redis.Redis.from_url(redis_url) as sync:
        with pytest.raises(TypeError, match="use get, set"):
            await RedisCache(sync).aget("k")
        assert not is_native(FaultyBackend(RedisCache(sync)))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork is POSIX")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_child_has_connections_of_its_own(cache: RedisCache, prefix: str) -> None:
    """Parent and child that go on after a fork read their own values, never each other's."""
    cache.set(prefix, b"before", 60)
    child = os.fork()
    if child == 0:
        good = all(cache.get(prefix) == b"before" for _ in range(200))
        os._exit(0 if good else 1)
    for _ in range(200):
        assert cache.get(f"{prefix}:none") is None
    assert os.waitpid(child, 0)[1] == 0


class OfAnotherLoop:
    """An async client whose connections were made on a loop that is closed by now."""

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        raise RuntimeError("Event loop is closed")


async def test_an_async_client_of_another_loop_is_told_as_such() -> None:
    """Who has several loops is told to give a URL, not only that one of them is closed."""
    with pytest.raises(RuntimeError, match=r"another event loop .*: give RedisCache a URL"):
        await RedisCache(OfAnotherLoop()).aget("k")


@pytest.mark.parametrize("wrong", [5, None, object(), redis.ConnectionPool()])
def test_what_is_no_client_is_refused(wrong: Any) -> None:
    """A number, a pool or nothing in the place of a URL or client is told at once."""
    with pytest.raises(TypeError, match="wanted a Redis URL, or a client"):
        RedisCache(wrong)


@pytest.mark.parametrize("kind", [redis.Redis, redis.asyncio.Redis, valkey.Valkey])
def test_a_class_is_refused(kind: Any) -> None:
    """The class of a client is no client."""
    with pytest.raises(TypeError, match=r"found the class \w+; make one"):
        RedisCache(kind)


def test_a_pipeline_is_refused(redis_url: str) -> None:
    """A pipeline, which would only collect commands, is no client."""
    with redis.Redis.from_url(redis_url) as client, pytest.raises(TypeError, match="Pipeline"):
        RedisCache(client.pipeline())
