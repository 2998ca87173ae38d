"""The short way to a hit gives what the engine gives, and only then."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
from conftest import Colour, engine_of
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from instructor_cache import (
    MISS,
    DiskCache,
    Event,
    MemoryCache,
    Tier,
    TieredCache,
    instructor_cache,
)
from instructor_cache._memo import Memo
from instructor_cache.entry import Entry
from instructor_cache.testing import FaultyBackend


class Answer(BaseModel):
    serial: int


def counting(colour: Colour, cache: Any, **options: Any) -> Any:
    """A cached function that answers with a new number each time."""
    calls = [0]

    def ask(*args: Any, **kwargs: Any) -> Answer:
        calls[0] += 1
        return Answer(serial=calls[0])

    return instructor_cache(cache, **options)(colour.function(ask))


@pytest.fixture
def engine_calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys that the engine was asked for."""
    from instructor_cache._engine import Engine

    keys: list[str] = []
    hit = Engine.hit

    async def noting(self: Engine, key: str, *rest: Any) -> Any:
        keys.append(key)
        return await hit(self, key, *rest)

    monkeypatch.setattr(Engine, "hit", noting)
    return keys


async def test_a_hit_in_memory_needs_no_engine(colour: Colour, engine_calls: list[str]):
    """A fresh answer in the nearest tier is given, counted and told without the engine."""
    events: list[Event] = []
    ask = counting(colour, MemoryCache(), observer=events.append)
    first = await colour.call(ask, "a")
    assert await colour.call(ask, "a") == first
    assert await colour.call(ask, "a") is not first
    assert len(engine_calls) == 1
    assert [event.kind for event in events] == ["miss", "stored", "hit", "hit"]
    assert events[-1].tier == "memory"
    assert events[-1].key == ask.cache_key("a")
    assert ask.cache_info()[:2] == (2, 1)


def test_a_hit_on_disk_needs_no_engine(tmp_path: Path, engine_calls: list[str]):
    """So it is with a file, for sync functions; async ones must not wait for it on their loop."""
    ask = counting(Colour("sync"), DiskCache(tmp_path))
    ask("a")
    ask("a")
    assert len(engine_calls) == 1


VALUES: list[Any] = [1, True, 1.0, "1", b"1", None, 0, False, "", b"", "None", -0.0, 0.0, (1,), [1]]


async def test_calls_share_an_answer_only_if_they_share_a_key(colour: Colour):
    """What is equal in Python but not the same (1, True, 1.0) never mixes, wherever it stands."""
    ask = counting(colour, MemoryCache())
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
        *(((value,), {}) for value in VALUES),
        *(((), {"x": value}) for value in VALUES),
        *((("a", value), {}) for value in VALUES),
        *((("a",), {"x": value}) for value in VALUES),
        *((("a",), {"y": value}) for value in VALUES),
        ((), {}),
        (("a",), {"x": "1", "y": "2"}),
        (("a",), {"y": "2", "x": "1"}),
        (("a",), {"x": "2", "y": "1"}),
        (("a", "x", "1"), {}),
        ((("x", "1"),), {}),
    ]
    for _ in range(2):
        answers = [await colour.call(ask, *args, **kwargs) for args, kwargs in calls]
        keys = [ask.cache_key(*args, **kwargs) for args, kwargs in calls]
        for (one, key), (other, other_key) in itertools.combinations(
            zip(answers, keys, strict=True), 2
        ):
            assert (one == other) == (key == other_key)


PLAIN = st.text(max_size=3) | st.binary(max_size=3) | st.integers() | st.booleans() | st.none()
OPTIONS = st.dictionaries(st.sampled_from("xyz"), PLAIN)


@given(st.lists(st.tuples(st.lists(PLAIN, max_size=3), OPTIONS)))
def test_what_is_remembered_of_keys_is_right(calls: list[tuple[list[Any], dict[str, Any]]]):
    """The key by which a call is answered is always its own."""
    ask = counting(Colour("sync"), MemoryCache())
    memo = Memo(ask.cache_key, is_pure=True)
    for args, kwargs in calls * 2:
        assert memo.key(tuple(args), kwargs) == ask.cache_key(*args, **kwargs)


def test_keys_are_remembered_of_some_short_calls_only():
    """Neither many calls nor long arguments pile up in memory."""
    ask = counting(Colour("sync"), MemoryCache())
    memo = Memo(ask.cache_key, is_pure=True)
    for n in range(3000):
        memo.key((f"{n}",), {})
    assert len(memo._keys) <= 1024
    memo._keys.clear()
    for call in (("x" * 1001,), (b"x" * 1001,), ("short", "x" * 5000)):
        memo.key(call, {})
        memo.key((), {"a": call[-1]})
    assert not memo._keys


async def test_a_key_function_is_asked_for_every_call(colour: Colour):
    """What the user's own key function says may change from call to call."""
    said = ["one"]
    ask = counting(colour, MemoryCache(), key=lambda text: said[0])
    assert (await colour.call(ask, "a")).serial == 1
    assert (await colour.call(ask, "a")).serial == 1
    said[0] = "two"
    assert (await colour.call(ask, "a")).serial == 2


@pytest.mark.parametrize("change", ["damaged", "other key", "expired", "future", "format"])
async def test_what_is_not_plainly_fresh_is_left_to_the_engine(
    colour: Colour, change: str, tmp_path: Path
):
    """A damaged, foreign, expired or future entry is what it is for the engine."""
    now = [1.7e9]
    disk = DiskCache(tmp_path, clock=lambda: now[0])
    ask = counting(colour, disk, ttl=60, stale_ttl=600, clock=lambda: now[0])
    await colour.call(ask, "a")
    await colour.call(ask, "b")
    key, raw = ask.cache_key("a"), disk.get(ask.cache_key("a")) or b""
    if change == "damaged":
        disk.set(key, raw[:-3] + b"9" + raw[-2:], None)
    elif change == "other key":
        disk.set(key, disk.get(ask.cache_key("b")) or b"", None)
    elif change == "format":
        disk.set(key, b"\x02" + raw[1:], None)
    else:
        now[0] += 61 if change == "expired" else -3600
    expected = 1 if change == "future" else 3
    assert (await colour.call(ask, "a")).serial == expected
    assert (await colour.call(ask, "a")).serial == expected
    disk.close()


async def test_a_tier_that_failed_is_left_to_the_engine(colour: Colour, engine_calls: list[str]):
    """While a tier fails, or has to catch up on deletions, the engine decides what to ask it."""
    memory = MemoryCache()
    ask = counting(colour, memory)
    await colour.call(ask, "a")
    health = engine_of(ask).stack.shelves[0].guard.health
    health.missed.add("delete", "something", can_clear=True)
    await colour.call(ask, "a")
    assert len(engine_calls) == 2
    health.missed.clear()
    health.reads.failures = 1
    await colour.call(ask, "a")
    assert len(engine_calls) == 3
    await colour.call(ask, "a")
    assert len(engine_calls) == 3, "it works again"


async def test_other_backends_are_left_to_the_engine(colour: Colour, engine_calls: list[str]):
    """A backend of the user's may wait for anything, so it is always watched."""
    backend = FaultyBackend(MemoryCache())
    ask = counting(colour, TieredCache(backend))
    for _ in range(3):
        await colour.call(ask, "a")
    assert len(engine_calls) == 3
    assert await colour.call(ask.cache_get, "b") is MISS


async def test_a_tier_that_is_not_read_is_not_looked_into(colour: Colour):
    """`Tier(read=False)` holds for the short way, too."""
    near = MemoryCache()
    ask = counting(colour, TieredCache(Tier(near, read=False), MemoryCache()))
    await colour.call(ask, "a")
    near.set(ask.cache_key("a"), Entry(b'{"serial":9}', 0.0).pack(ask.cache_key("a")), None)
    assert (await colour.call(ask, "a")).serial == 1


async def test_wrong_arguments_are_told_by_the_function(colour: Colour):
    """The short way says nothing of its own: the error is the function's."""

    def ask(text: str) -> Answer:
        return Answer(serial=len(text))

    cached = instructor_cache(MemoryCache())(colour.function(ask))
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'text'"):
        await colour.call(cached)


async def test_a_default_that_changes_changes_the_answer(colour: Colour):
    """A mutable default counts as it is at the call, as it would if it were spelled out."""
    options: list[str] = []
    serials = itertools.count(1)

    def ask(text: str, options: list[str] = options) -> Answer:
        return Answer(serial=next(serials))

    cached = instructor_cache(MemoryCache())(colour.function(ask))
    assert (await colour.call(cached, "a")).serial == 1
    assert (await colour.call(cached, "a")).serial == 1
    options.append("brief")
    assert (await colour.call(cached, "a")).serial == 2
    assert (await colour.call(cached, "a", ["brief"])).serial == 2
