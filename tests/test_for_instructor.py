"""Our backends as instructor's own cache, through the real instructor over HTTP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import diskcache
import instructor
import openai
import pytest
from openai_server import OpenAIServer
from pydantic import BaseModel

from instructor_cache import (
    CacheMiss,
    DiskCache,
    Entry,
    Event,
    MemoryCache,
    RedisCache,
    SafeDisk,
    Tier,
    TieredCache,
    bypass,
    offline,
    refresh,
)
from instructor_cache.backends.diskcache import DiskcacheBackend
from instructor_cache.errors import UnstorableResultWarning
from instructor_cache.integrations import instructor as integration
from instructor_cache.testing import Cassette, CassetteWarning, FaultyBackend

pytest.importorskip("instructor.cache", reason="this instructor has no cache of its own")

ASK: Any = [{"role": "user", "content": "Who is Ada?"}]
GOOD = json.dumps({"model": '{"name":"Ada","age":36}', "raw": None})


class User(BaseModel):
    name: str
    age: int


@pytest.fixture(scope="module")
def running() -> Iterator[OpenAIServer]:
    with OpenAIServer() as server:
        yield server


@pytest.fixture
def server(running: OpenAIServer) -> OpenAIServer:
    running.reset()
    return running


def client_of(server: OpenAIServer, *, api_key: str = "one", **options: Any) -> Any:
    is_async = options.get("async_client", False)
    http = openai.DefaultAsyncHttpxClient if is_async else openai.DefaultHttpxClient
    usual = {"base_url": server.url, "api_key": api_key, "max_retries": 0}
    options = {**usual, "http_client": http(verify=False), **options}
    return instructor.from_provider("openai/gpt-4o", **options)


def ask(client: Any, **options: Any) -> dict[str, Any]:
    """What a client answers; as a dict, since instructor makes a class for each answer."""
    answer: dict[str, Any] = client.create(
        messages=ASK, response_model=User, **options
    ).model_dump()
    return answer


BACKENDS = {
    "memory": lambda path, url: MemoryCache(),
    "disk": lambda path, url: DiskCache(path / "disk"),
    "redis": lambda path, url: RedisCache(url),
    "tiers": lambda path, url: TieredCache(MemoryCache(), DiskCache(path / "tiers")),
    "diskcache": lambda path, url: DiskcacheBackend(diskcache.Cache(path / "dc", disk=SafeDisk)),
}


@pytest.mark.parametrize("kind", BACKENDS)
def test_every_backend_serves(
    server: OpenAIServer, tmp_path: Path, redis_url: str, prefix: str, kind: str
):
    """Two clients of one namespace ask once, whichever backend is behind them; sync and async."""
    backend = BACKENDS[kind](tmp_path, redis_url)
    options = backend.for_instructor(namespace="team", ttl="1h", prefix=prefix)
    first = ask(client_of(server, **options))
    assert ask(client_of(server, **options)) == first
    coming = client_of(server, **options, async_client=True).create(
        messages=ASK, response_model=User
    )
    assert asyncio.run(coming).model_dump() == first
    assert server.calls == 1
    backend.close()


def test_namespaces_keep_apart_where_instructors_key_does_not(server: OpenAIServer):
    """Two tenants get answers of their own in RESPONSES_TOOLS, where instructor forgets the key."""
    memory, mode = MemoryCache(), instructor.Mode.RESPONSES_TOOLS
    users = []
    for tenant in ("one", "two"):
        options = memory.for_instructor(namespace=tenant)
        users.append(ask(client_of(server, api_key=tenant, mode=mode, **options)))
    assert users[0] != users[1] and server.by_key == {"one": 1, "two": 1}


def test_without_a_namespace_a_client_keeps_to_itself(server: OpenAIServer):
    """A second client with the same backend asks for itself, as instructor means it."""
    memory = MemoryCache()
    clients = [client_of(server, **memory.for_instructor()) for _ in range(2)]
    for client in clients * 2:
        ask(client)
    assert server.calls == 2


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def cache_of(backend: Any, **options: Any) -> Any:
    return integration.for_instructor(backend, **options)["cache"]


@pytest.mark.parametrize("ttl", [60, 60.0, timedelta(minutes=1), "1m"], ids=repr)
def test_ttl_in_every_form(ttl: Any):
    """An answer lives for its ttl in every tier, whether that is the cache's own or the call's."""
    clock = Clock()
    near, far = MemoryCache(clock=clock), MemoryCache(clock=clock)
    tiers = TieredCache(near, far)
    own = cache_of(tiers, ttl=ttl, prefix="own", clock=clock)
    of_call = cache_of(tiers, ttl="1d", prefix="call", clock=clock)
    own.set("k", GOOD)
    of_call.set("k", GOOD, ttl=ttl)
    clock.now += 59
    assert own.get("k") == of_call.get("k") == GOOD
    clock.now += 2
    assert own.get("k") is of_call.get("k") is None
    keys = [*near.scan(""), *far.scan("")]
    assert all(near.get(key) is far.get(key) is None for key in keys)


def test_a_tiers_own_ttl_counts():
    """A tier that keeps entries for a minute has none later, while the farther one answers."""
    clock = Clock()
    near, far = MemoryCache(clock=clock), MemoryCache(clock=clock)
    cache = cache_of(TieredCache(Tier(near, ttl="1m"), far), clock=clock)
    cache.set("k", GOOD)
    clock.now += 61
    assert all(near.get(key) is None for key in near.scan(""))
    assert cache.get("k") == GOOD


@pytest.mark.parametrize("ttl", [0, -1, True, "soon", float("nan"), [], lambda _: 60], ids=repr)
def test_a_ttl_that_makes_no_sense_stores_nothing(ttl: Any):
    """A call's ttl that can't be read, or is 0, keeps no answer, and raises nothing."""
    cache = cache_of(MemoryCache())
    cache.set("k", GOOD, ttl=ttl)
    assert cache.get("k") is None


def test_calls_ttl_goes_through_instructor(server: OpenAIServer):
    """``cache_ttl=`` in a call reaches our cache: with 0 the next call asks again."""
    client = client_of(server, **MemoryCache().for_instructor(ttl="1h"))
    ask(client, cache_ttl=0)
    ask(client, cache_ttl=3600)
    ask(client, cache_ttl=3600)
    assert server.calls == 2


@pytest.mark.parametrize("ttl", [-1, "soon", True, lambda _: 60], ids=repr)
def test_wrong_options_are_told_at_once(ttl: Any):
    """A ttl that can't be meant is an error when the cache is made, and names no callable."""
    with pytest.raises((ValueError, TypeError), match=r"instructor\.cache's ttl") as raised:
        MemoryCache().for_instructor(ttl=ttl)
    assert "callable" not in str(raised.value)


def test_modes_count_for_instructors_own_cache(server: OpenAIServer):
    """Offline never asks the provider; refresh asks and keeps; bypass asks and leaves no trace."""
    client = client_of(server, **MemoryCache().for_instructor(namespace="team"))
    with offline(), pytest.raises(CacheMiss, match="call once without offline mode"):
        ask(client)
    with bypass():
        ask(client)
    with refresh():
        kept = ask(client)
    with bypass():
        assert ask(client) != kept
    with offline():
        assert ask(client) == kept
    assert server.calls == 3


async def test_async_clients_mind_the_mode_too(server: OpenAIServer):
    """A miss offline raises from the awaited call, and nothing is asked."""
    client = client_of(server, **MemoryCache().for_instructor(), async_client=True)
    with offline(), pytest.raises(CacheMiss):
        await client.create(messages=ASK, response_model=User)
    assert server.calls == 0


def test_a_wrong_mode_is_told_when_the_cache_is_made(monkeypatch: pytest.MonkeyPatch):
    """As a decorated function does, it reads the variable at once."""
    monkeypatch.setenv("INSTRUCTOR_CACHE_MODE", "ofline")
    with pytest.raises(ValueError, match="MODE is 'ofline'"):
        MemoryCache().for_instructor()


def test_a_cassette_says_that_it_has_no_such_answers(server: OpenAIServer, tmp_path: Path):
    """While recording a call is made past the store and told; while playing it is refused."""
    memory, path = MemoryCache(), tmp_path / "x.json"
    client = client_of(server, **memory.for_instructor(namespace="team"))
    told = pytest.warns(CassetteWarning, match="@team is kept by instructor's own cache")
    with told, Cassette(path).playing():
        ask(client)
    assert (server.calls, len(memory)) == (1, 0)
    ask(client)
    with Cassette(path, "none").playing(), pytest.raises(CacheMiss, match="can't be recorded"):
        ask(client)
    assert server.calls == 2


GARBAGE: list[Any] = [
    *("", "{", "null", "[]", '"text"', "{}", '{"raw": null}', '{"model": null}'),
    *('{"model": {"name": "Ada"}}', '{"model": "{"}', '{"model": "{}", "raw": 1}', b"{}", None, 7),
    '{"model": "' + "[" * 100_000 + '"}',
]


@pytest.mark.parametrize("value", GARBAGE, ids=lambda value: repr(value)[:30])
def test_garbage_is_not_stored(value: Any):
    """What is no answer of instructor's is refused with a warning, and nothing is found."""
    cache = cache_of(MemoryCache())
    with pytest.warns(UnstorableResultWarning, match="no answer of instructor's"):
        cache.set("k", value)
    assert cache.get("k") is None


class Lying:
    """A backend that answers every key with the same bytes."""

    def __init__(self, payload: bytes) -> None:
        self.payload = payload
        self.deleted: list[str] = []

    def get(self, key: str, /) -> bytes | None:
        is_entry = not self.payload.startswith(b"*")
        return Entry(self.payload, 1.0).pack(key) if is_entry else self.payload

    def set(self, key: str, value: bytes, ttl: float | None, /) -> None: ...

    def delete(self, key: str, /) -> None:
        self.deleted.append(key)


@pytest.mark.parametrize("payload", [b"*raw", b"{}", b"\xff", b'{"model": 1}', b"[1]"], ids=repr)
def test_garbage_under_a_key_is_a_miss(server: OpenAIServer, payload: bytes):
    """What others put under instructor's key is told and deleted, and the provider is asked."""
    events: list[Event] = []
    backend = Lying(payload)
    client = client_of(server, **integration.for_instructor(backend, observer=events.append))
    assert ask(client)["name"].startswith("Ada") and server.calls == 1
    assert "corrupt" in {event.kind for event in events} and backend.deleted


def test_failing_backends_cost_nothing_but_calls(server: OpenAIServer):
    """A backend that raises is told by events; every call is answered by the provider."""
    events: list[Event] = []
    backend = FaultyBackend(MemoryCache())
    backend.failing()
    client = client_of(server, **integration.for_instructor(backend, observer=events.append))
    assert ask(client) != ask(client)
    assert server.calls == 2 and "failure" in {event.kind for event in events}


def test_what_is_told_of_a_hit(server: OpenAIServer):
    """The observer hears of the miss and the hit, under our name for instructor's cache."""
    events: list[Event] = []
    client = client_of(server, **MemoryCache().for_instructor(observer=events.append))
    ask(client)
    ask(client)
    assert [event.kind for event in events] == ["miss", "stored", "hit"]
    assert {event.function for event in events} == {"instructor.cache"}


def test_the_guides_redis_cache(server: OpenAIServer, redis_url: str, prefix: str):
    """`RedisCache(redis_url=..., ttl=...)` works where instructor's guide uses it."""
    caches = [integration.RedisCache(redis_url=redis_url, ttl=60, prefix=prefix) for _ in range(2)]
    for cache in caches:
        ask(client_of(server, cache=cache, cache_namespace="team"))
    assert server.calls == 1
