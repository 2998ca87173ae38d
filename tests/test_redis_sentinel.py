"""A real master behind Redis Sentinel, by its URL: found, killed, demoted, out of reach."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Iterator

import pytest
import redis
from conftest import Colour, timed
from pydantic import BaseModel
from redis_server import RedisServer, Sentinels, free_port, until

from instructor_cache import RedisCache, instructor_cache
from instructor_cache._bridge import drive
from instructor_cache.errors import BackendClosed
from instructor_cache.testing import BackendContract


class Answer(BaseModel):
    question: str


@pytest.fixture(scope="module")
def sentinels() -> Iterator[Sentinels]:
    """A master, its replica and a sentinel, which stay as they are."""
    with Sentinels() as sentinels:
        yield sentinels


@pytest.fixture
def own_sentinels() -> Iterator[Sentinels]:
    """The same for one test, which may kill them."""
    with Sentinels() as sentinels:
        yield sentinels


@pytest.mark.slow
class TestSentinel(BackendContract):
    shared = True
    sentinels: Sentinels

    @pytest.fixture(autouse=True)
    def _sentinels(self, sentinels: Sentinels) -> None:
        self.sentinels = sentinels

    def make_backend(self) -> RedisCache:
        return RedisCache(self.sentinels.url)


both_colours = pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])


def get(cache: RedisCache, key: str, is_async: bool) -> bytes | None:
    return asyncio.run(cache.aget(key)) if is_async else cache.get(key)


# -- which sentinel --------------------------------------------------------------------------------


@timed
@both_colours
def test_the_first_sentinel_that_answers_is_used(
    sentinels: Sentinels, prefix: str, is_async: bool
) -> None:
    """One that refuses and one that is silent cost a part of the first operation's time, and
    nothing after it."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        ports = [free_port(), silent.getsockname()[1], sentinels.sentinels[0].port]
        hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
        cache = RedisCache(f"redis+sentinel://{hosts}/{sentinels.service}", timeout=0.4)
        for most in (0.4, 0.1):
            start = time.monotonic()
            assert get(cache, prefix, is_async) is None
            assert time.monotonic() - start < most
        cache.close()


@timed
@both_colours
def test_a_service_that_no_sentinel_knows(sentinels: Sentinels, is_async: bool) -> None:
    """A wrong name is an error at the first use, at once."""
    cache = RedisCache(f"redis+sentinel://127.0.0.1:{sentinels.sentinels[0].port}/no-such-thing")
    start = time.monotonic()
    with pytest.raises(redis.ConnectionError, match="none of 1 servers"):
        get(cache, "k", is_async)
    assert time.monotonic() - start < 0.3


@pytest.mark.slow
async def test_sentinels_that_are_not_there_yet(prefix: str, colour: Colour) -> None:
    """With no sentinel in reach the function answers, and is cached as soon as one is there."""
    port, events = free_port(), []  # type: ignore[var-annotated]
    url = f"redis+sentinel://127.0.0.1:{port}/the-cache"

    @instructor_cache(RedisCache(url), prefix=prefix, observer=events.append)
    @colour.function
    def extract(text: str) -> Answer:
        return Answer(question=text)

    for n in range(3):
        assert await colour.call(extract, f"{n}") == Answer(question=f"{n}")
    assert "failure" in {event.kind for event in events}
    with Sentinels(1) as sentinels:
        moved = RedisServer(port=port)
        moved._command = sentinels.sentinels[0]._command
        sentinels.sentinels[0].stop()
        _set_port(str(moved._command[1]), sentinels.sentinels[0].port, port)
        with moved:
            deadline = time.monotonic() + 10
            while not extract.cache_info().hits:
                assert time.monotonic() < deadline
                await colour.call(extract, "again")


def _set_port(config: str, old: int, new: int) -> None:
    with open(config) as file:
        text = file.read()
    with open(config, "w") as file:
        file.write(text.replace(f"port {old}\n", f"port {new}\n"))


def test_servers_and_sentinels_with_passwords(prefix: str) -> None:
    """The user and password of the URL are the servers', the options' are the sentinels'; a wrong
    one is an error that repeats none."""
    secret = ("--requirepass", "s3cret/1", "--masterauth", "s3cret/1")
    with RedisServer(*secret[:2]) as master:
        sentinel = RedisServer("--requirepass", "s3ntinel@2")
        with Watching(sentinel, master, "s3cret/1"):
            end = f"127.0.0.1:{sentinel.port}/the-cache"
            right = f"redis+sentinel://:s3cret%2F1@{end}?sentinel_password=s3ntinel%402"
            cache = RedisCache(right)
            cache.set(prefix, b"1", 60)
            assert cache.get(prefix) == asyncio.run(cache.aget(prefix)) == b"1"
            in_query = f"redis+sentinel://{end}?password=s3cret%2F1&sentinel_password=s3ntinel%402"
            assert RedisCache(in_query).get(prefix) == b"1"
            for wrong in (right.replace("s3cret", "wrong"), right.replace("s3ntinel", "wrong")):
                with pytest.raises(redis.RedisError) as caught:
                    RedisCache(wrong).get(prefix)
                assert "s3cret" not in str(caught.value) and "wrong" not in str(caught.value)
            cache.close()


def test_sentinels_without_a_password_get_none(sentinels: Sentinels, prefix: str) -> None:
    """The master's user and password go to the master only, wherever the URL names them."""
    asked = sentinels.sentinels[0]
    sentinels.master.ask("ACL", "SETUSER", "app", "on", ">s3cret", "~*", "+@all")
    asked.ask("ACL", "LOG", "RESET")
    cache = RedisCache(f"{sentinels.url}?username=app&password=s3cret")
    cache.set(prefix, b"1", 60)
    assert cache.get(prefix) == b"1"
    assert asked.ask("ACL", "LOG") == []


class Watching(Sentinels):
    """A sentinel of its own making that watches one master, both with passwords."""

    def __init__(self, sentinel: RedisServer, master: RedisServer, password: str) -> None:
        super().__init__(1)
        self.servers = [sentinel]
        config = os.path.join(self._folder.name, "sentinel.conf")
        with open(config, "w") as file:
            file.write(
                f"port {sentinel.port}\nrequirepass s3ntinel@2\n"
                f"sentinel monitor the-cache 127.0.0.1 {master.port} 1\n"
                f"sentinel auth-pass the-cache {password}\n"
            )
        sentinel._command = [sentinel._command[0], config, "--sentinel"]

    def start(self) -> Watching:
        self.servers[0].start()
        return self


# -- promises that hold for a single server --------------------------------------------------------


async def test_a_closed_cache_stays_closed(sentinels: Sentinels) -> None:
    """After close every use raises, in both colours."""
    cache = RedisCache(sentinels.url)
    cache.get("k")
    await cache.aget("k")
    await cache.aclose()
    with pytest.raises(BackendClosed):
        cache.get("k")
    with pytest.raises(BackendClosed):
        await cache.aget("k")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork is POSIX")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_child_has_connections_of_its_own(sentinels: Sentinels, prefix: str) -> None:
    """Parent and child that go on after a fork read their own values, never each other's."""
    cache = RedisCache(sentinels.url)
    cache.set(prefix, b"before", 60)
    child = os.fork()
    if child == 0:
        good = all(cache.get(prefix) == b"before" for _ in range(100))
        os._exit(0 if good else 1)
    for _ in range(100):
        assert cache.get(f"{prefix}:none") is None
    assert os.waitpid(child, 0)[1] == 0
    cache.close()


# -- failover --------------------------------------------------------------------------------------


@timed
async def test_a_master_that_is_killed(own_sentinels: Sentinels, prefix: str) -> None:
    """From the kill on every call of either colour is answered in time; once the replica is the
    master, what was replicated is a hit and new answers are kept, with nothing to be done."""

    def answer(text: str) -> Answer:
        return Answer(question=text)

    async def aanswer(text: str) -> Answer:
        return Answer(question=text)

    extract = instructor_cache(RedisCache(own_sentinels.url), prefix=prefix)(answer)
    aextract = instructor_cache(RedisCache(own_sentinels.url), prefix=prefix)(aanswer)
    extract("before"), await aextract("before")
    until(lambda: own_sentinels.replica.ask("DBSIZE") == 2)
    own_sentinels.master.stop()
    killed_at, slowest, n = time.monotonic(), 0.0, 0
    while not (extract.cache_info().hits and aextract.cache_info().hits):
        start, n = time.monotonic(), n + 1
        assert extract(f"{n // 2}") == Answer(question=f"{n // 2}")
        slowest, start = max(slowest, time.monotonic() - start), time.monotonic()
        assert await aextract(f"{n // 2}") == Answer(question=f"{n // 2}")
        slowest = max(slowest, time.monotonic() - start)
        assert time.monotonic() - killed_at < 15
        await asyncio.sleep(0.01)
    print(
        f"kept again {time.monotonic() - killed_at:.2f} s after the kill; slowest {slowest:.3f} s"
    )
    assert slowest < 1.2  # a read and a write
    hits = extract.cache_info().hits, aextract.cache_info().hits
    assert extract("before") == await aextract("before") == Answer(question="before")
    assert (extract.cache_info().hits, aextract.cache_info().hits) == (hits[0] + 1, hits[1] + 1)


@pytest.mark.slow
async def test_a_failover_on_request(own_sentinels: Sentinels, prefix: str) -> None:
    """The new master is used within two seconds, though the old one takes commands as before for
    ten seconds: a deletion there would be lost."""
    cache, new = RedisCache(own_sentinels.url), own_sentinels.replica
    cache.set(prefix, b"1", 60)
    assert await cache.aget(prefix) == b"1"
    until(lambda: _fails_over(own_sentinels))
    until(lambda: new.ask("ROLE")[0] == "master")
    cache.get(prefix)  # while the sentinel may not know yet
    until(lambda: _arrives(cache, new, f"{prefix}:1"), 3)
    await cache.aset(f"{prefix}:2", b"2", 60)
    assert new.ask("GET", f"{prefix}:2") == "2"
    for masters in (drive(cache._links.masters()), await (await cache._here()).masters()):
        assert [master.address for master in masters] == [("127.0.0.1", new.port)]
    cache.close()


def _fails_over(sentinels: Sentinels) -> bool:
    try:
        return bool(sentinels.sentinels[0].ask("SENTINEL", "FAILOVER", sentinels.service))
    except redis.ResponseError:  # it does not know the replica well enough yet
        return False


def _arrives(cache: RedisCache, server: RedisServer, key: str) -> bool:
    cache.set(key, b"2", 60)
    return bool(server.ask("EXISTS", key))


@pytest.mark.slow
async def test_a_write_that_a_demoted_master_refuses(own_sentinels: Sentinels, prefix: str) -> None:
    """A master that turns into a replica with its connections open refuses the next write, which
    goes to the new master in the same call, in both colours."""
    sentinel = own_sentinels.sentinels[0]
    cache = RedisCache(own_sentinels.url)
    cache.set(prefix, b"1", 60)
    await cache.aset(prefix, b"1", 60)
    own_sentinels.replica.ask("REPLICAOF", "NO", "ONE")
    own_sentinels.master.ask("REPLICAOF", "127.0.0.1", str(own_sentinels.replica.port))
    sentinel.ask("SENTINEL", "REMOVE", own_sentinels.service)
    new = ("127.0.0.1", str(own_sentinels.replica.port))
    sentinel.ask("SENTINEL", "MONITOR", own_sentinels.service, *new, "1")
    cache.set(f"{prefix}:1", b"1", 60)
    await cache.aset(f"{prefix}:2", b"2", 60)
    assert own_sentinels.replica.ask("GET", f"{prefix}:1") == "1"
    assert own_sentinels.replica.ask("GET", f"{prefix}:2") == "2"
    cache.close()


@timed
@pytest.mark.slow
async def test_a_silent_master_costs_few_timeouts(prefix: str, colour: Colour) -> None:
    """A master that freezes with its connections open: few calls wait, none longer than two
    timeouts, and three sentinels agree on the replica, whereupon answers are kept again."""
    with Sentinels(3) as sentinels:
        cache = RedisCache(sentinels.url, timeout=0.3)

        @instructor_cache(cache, prefix=prefix)
        @colour.function
        def extract(text: str) -> Answer:
            return Answer(question=text)

        await colour.call(extract, "before")
        sentinels.master.freeze()
        began, slow, n = time.monotonic(), 0, 0
        while not extract.cache_info().hits:
            start, n = time.monotonic(), n + 1
            await colour.call(extract, f"{n // 2}")
            seconds = time.monotonic() - start
            assert seconds < 0.75
            slow += seconds > 0.1
            assert time.monotonic() - began < 20
            await asyncio.sleep(0.01)
        print(f"kept again {time.monotonic() - began:.2f} s after it froze; {slow} calls waited")
        assert slow <= 3
        cache.close()
