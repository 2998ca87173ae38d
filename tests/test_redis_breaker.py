"""A dead Redis costs next to nothing and comes back; a busy or a slow one is no dead one."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from conftest import Colour, timed
from proxy import Proxy
from pydantic import BaseModel
from redis_server import RedisServer

from instructor_cache import RedisCache, instructor_cache
from instructor_cache.events import Event

TIMEOUT = 0.5
SLACK = 0.3  # seconds that a busy machine may add to one call


class User(BaseModel):
    name: str


def named(text: str) -> User:
    return User(name=text)


class Subject:
    """A cached function of one colour over Redis, and what happens to it."""

    def __init__(self, colour: Colour, url: str, **settings: Any) -> None:
        self.cache = RedisCache(url, timeout=TIMEOUT, **settings)
        self.events: list[Event] = []
        self.colour = colour
        self.function = instructor_cache(self.cache, observer=self.events.append)(
            colour.function(named)
        )

    async def call(self, text: str) -> float:
        """The seconds of a call, whose answer is right."""
        start = time.monotonic()
        assert await self.colour.call(self.function, text) == User(name=text)
        return time.monotonic() - start

    async def all_at_once(self, texts: list[str]) -> None:
        """Call for all *texts* at once, in threads or tasks; every answer is right."""
        if self.colour.is_async:
            found: list[User] = await asyncio.gather(*(self.function(text) for text in texts))
        else:
            with ThreadPoolExecutor(len(texts)) as pool:
                found = list(pool.map(self.function, texts))
        assert found == [User(name=text) for text in texts]

    def tiers(self, kind: str) -> list[str | None]:
        """The tiers of the events of one kind, in order."""
        return [event.tier for event in self.events if event.kind == kind]

    async def until_hit(self, text: str) -> float:
        """The seconds until a call is answered from Redis again, ten at most."""
        start, hits = time.monotonic(), len(self.tiers("hit"))
        while len(self.tiers("hit")) == hits and time.monotonic() - start < 10:
            await asyncio.sleep(0.02)
            await self.call(text)
        return time.monotonic() - start

    async def until_closed(self) -> None:
        """Wait for the breaker's event, which may come from the thread of a probe."""
        start = time.monotonic()
        while not self.tiers("closed") and time.monotonic() - start < 5:
            await asyncio.sleep(0.01)
        assert self.tiers("closed") == ["redis"]


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """A server of this test's own, which it may stop and start."""
    with RedisServer() as server:
        yield server


async def dies_and_comes_back(
    subject: Subject, die: Callable[[], object], live: Callable[[], object]
) -> None:
    """The first call costs the timeout at most, the next 900 at most 2 ms each on average, the
    breaker tells of itself, and five seconds after the recovery there are hits again."""
    for _ in range(2):
        await subject.call("warm")
    assert subject.tiers("hit") == ["redis"]
    die()
    assert await subject.call("first") < TIMEOUT + SLACK
    start = time.monotonic()
    for n in range(900):
        await subject.call(f"next {n}")
    assert (time.monotonic() - start) / 900 < 0.002
    assert subject.tiers("opened") == ["redis"]
    assert subject.tiers("closed") == []
    live()
    assert await subject.until_hit("warm") < 5
    await subject.until_closed()
    assert subject.tiers("opened") == subject.tiers("closed") == ["redis"]
    await subject.cache.aclose()


@timed
@pytest.mark.slow
async def test_a_stopped_server(colour: Colour, server: RedisServer) -> None:
    """SIGSTOP costs one timeout; after SIGCONT there are hits again within five seconds."""
    assert server.process is not None
    send = server.process.send_signal
    subject = Subject(colour, server.url)
    await dies_and_comes_back(subject, lambda: send(signal.SIGSTOP), lambda: send(signal.SIGCONT))


@timed
@pytest.mark.slow
async def test_a_killed_server(colour: Colour, server: RedisServer) -> None:
    """kill -9 costs next to nothing; after a restart there are hits again within five seconds."""
    await dies_and_comes_back(Subject(colour, server.url), server.stop, server.start)


@timed
@pytest.mark.slow
@pytest.mark.parametrize("mode", ["refuse", "blackhole", "drip", "reset", "cut", "garbage"])
async def test_a_network_that_fails(colour: Colour, server: RedisServer, mode: str) -> None:
    """Whatever the network does, it costs one timeout at most until it is over."""
    with Proxy(server.port, delay=0.3) as proxy:

        def become(mode: str) -> Callable[[], None]:
            return lambda: setattr(proxy, "mode", mode)

        await dies_and_comes_back(Subject(colour, proxy.url), become(mode), become("pass"))


async def test_a_network_that_stutters_is_noticed_and_forgiven(
    colour: Colour, server: RedisServer
) -> None:
    """Refused calls open the breaker, which tells of it, and a success closes it again."""
    with Proxy(server.port) as proxy:
        subject = Subject(colour, proxy.url)
        await subject.call("warm")
        proxy.mode = "refuse"
        for n in range(20):
            await subject.call(f"{n}")
        assert subject.tiers("opened") == ["redis"]
        proxy.mode = "pass"
        assert await subject.until_hit("warm") < 5
        await subject.until_closed()
        await subject.cache.aclose()


async def test_a_slow_server_is_not_a_dead_one(colour: Colour, server: RedisServer) -> None:
    """Replies that take a fifth of the timeout are hits, and open no breaker."""
    with Proxy(server.port, delay=TIMEOUT / 5) as proxy:
        subject = Subject(colour, proxy.url)
        await subject.call("warm")
        proxy.mode = "slow"
        for _ in range(5):
            await subject.call("warm")
        assert subject.tiers("hit") == ["redis"] * 5
        assert subject.tiers("opened") == []
        await subject.cache.aclose()


@timed
async def test_a_busy_pool_is_not_a_dead_server(colour: Colour, server: RedisServer) -> None:
    """Callers whose turn doesn't come call the function, and open no breaker."""
    with Proxy(server.port, delay=0.1) as proxy:
        subject = Subject(colour, f"{proxy.url}?timeout=0.05", max_connections=1)
        await subject.call("warm")
        proxy.mode = "slow"
        for _ in range(2):
            await subject.all_at_once(["warm"] * 10)
        proxy.mode = "pass"
        assert subject.tiers("opened") == []
        assert await subject.until_hit("warm") < 1
        await subject.cache.aclose()


async def test_a_saturated_pool_keeps_its_hits(colour: Colour, server: RedisServer) -> None:
    """A hundred callers over two connections have hits only."""
    subject = Subject(colour, f"{server.url}?socket_timeout=10", max_connections=2)
    names = [f"{n % 10}" for n in range(100)]
    for name in names[:10]:
        await subject.call(name)
    subject.events.clear()
    await subject.all_at_once(names)
    assert len(subject.tiers("hit")) + len(subject.tiers("shared")) >= 90
    assert subject.tiers("opened") == subject.tiers("failure") == []
    await subject.cache.aclose()
