"""Tiers that are only read or only written, and stacks that can't be meant so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio
from conftest import Colour
from pydantic import BaseModel

from instructor_cache import (
    MISS,
    BackendError,
    DiskCache,
    MemoryCache,
    RedisCache,
    Tier,
    TieredCache,
    _health,
    instructor_cache,
)
from instructor_cache._health import health_of
from instructor_cache.testing import FaultyBackend


class Answer(BaseModel):
    serial: int


def counting(colour: Colour, *tiers: Any, **options: Any) -> Any:
    """A cached function that answers with a new number each time."""
    calls = [0]

    def ask(n: int) -> Answer:
        calls[0] += 1
        return Answer(serial=calls[0])

    return instructor_cache(TieredCache(*tiers), **options)(colour.function(ask))


async def filled(colour: Colour, serial: int = 100, **options: Any) -> MemoryCache:
    """A memory with an answer to `ask(1)`, as another process may have put it there."""
    backend = MemoryCache()
    await colour.call(counting(colour, backend, **options).cache_set, Answer(serial=serial), 1)
    return backend


async def test_a_tier_that_is_only_read_serves_and_is_never_changed(colour: Colour):
    """`write=False`: its answers are hits and are copied nearer, but nothing in it changes."""
    theirs = FaultyBackend(await filled(colour))
    near = MemoryCache()
    ask = counting(colour, near, Tier(theirs, write=False))
    assert (await colour.call(ask, 1)).serial == 100
    assert len(near) == 1
    await colour.call(ask, 2)
    await colour.call(ask.cache_set, Answer(serial=7), 3)
    await colour.call(ask.cache_refresh, 1)
    await colour.call(ask.cache_invalidate, 1)
    await colour.call(ask.cache_clear)
    assert set(theirs.calls) <= {"get", "get_many"}
    assert len(theirs.inner) == 1


@pytest.mark.parametrize("near", [True, False])
@pytest.mark.parametrize("tags", [(), ("users",)])
async def test_what_was_forgotten_is_not_served_by_a_tier_that_is_only_read(
    colour: Colour, near: bool, tags: tuple[str, ...]
):
    """An invalidation, a clear and a newer answer hold in this process, wherever the tier is."""
    for change in ("invalidate", "clear", "refresh", "set", *(["tag"] if tags else [])):
        theirs = Tier(await filled(colour, tags=tags), write=False)
        tiers = (theirs, MemoryCache()) if near else (MemoryCache(), theirs)
        cache = TieredCache(*tiers)
        ask = counting(colour, *cache.tiers, tags=tags)
        assert (await colour.call(ask, 1)).serial == 100
        if change == "set":
            await colour.call(ask.cache_set, Answer(serial=1), 1)
        elif change == "tag":
            if not tags:
                continue
            await colour.call(
                cache.ainvalidate_tags if colour.is_async else cache.invalidate_tags, "users"
            )
        else:
            await colour.call(getattr(ask, f"cache_{change}"), *([] if change == "clear" else [1]))
        if change in ("invalidate", "clear", "tag"):
            assert await colour.call(ask.cache_get, 1) is MISS, change
        assert (await colour.call(ask, 1)).serial == 1, change
        assert (await colour.call(ask, 1)).serial == 1, change


async def test_a_tier_that_is_only_written_is_never_asked(colour: Colour):
    """`read=False`: it is filled, and forgets what is invalidated, but answers nothing."""
    theirs = FaultyBackend(await filled(colour))
    ask = counting(colour, MemoryCache(), Tier(theirs, read=False))
    assert (await colour.call(ask, 1)).serial == 1, "not the one it held"
    assert (await colour.call(ask, 1)).serial == 1
    fresh = counting(colour, theirs.inner)
    assert (await colour.call(fresh.cache_get, 1)).serial == 1, "it was written"
    await colour.call(ask.cache_invalidate, 1)
    assert await colour.call(fresh.cache_get, 1) is MISS
    assert theirs.calls["get"] == 0


async def test_a_corrupt_entry_in_a_tier_that_is_only_read_stays_there(colour: Colour):
    """It is a miss; the tier is left as it is."""
    theirs = await filled(colour)
    ask = counting(colour, MemoryCache(), Tier(theirs, write=False))
    theirs.set(ask.cache_key(1), b"garbage", None)
    assert (await colour.call(ask, 1)).serial == 1
    assert theirs.get(ask.cache_key(1)) == b"garbage"


async def test_the_lock_is_in_a_tier_that_is_read_and_written(colour: Colour, tmp_path: Path):
    """A store that is only read, or only written, keeps no locks."""
    writable = DiskCache(tmp_path / "a")
    for options in ({"write": False}, {"read": False}):
        odd: Any = DiskCache(tmp_path / "b")
        ask = counting(colour, writable, Tier(odd, **options), lock="backend")
        assert (await colour.call(ask, 1)).serial == 1
        writable.clear()
        with pytest.raises(ValueError, match="no tier that can keep a lock"):
            counting(colour, MemoryCache(), Tier(odd, **options), lock="backend")
        odd.clear()
        odd.close()
    writable.close()


def test_nested_stacks_are_one(colour: Colour):
    """A `TieredCache` in another gives its tiers, with their own options."""
    inner = TieredCache(Tier(MemoryCache(), ttl=5, name="inner"), MemoryCache())
    outer = TieredCache(MemoryCache(), inner)
    assert len(outer.tiers) == 3
    assert outer.tiers[1].ttl == 5
    assert counting(colour, outer).cache_parameters()["tiers"] == ("memory", "inner", "memory")


def test_stacks_that_can_not_be_meant_are_refused():
    """No backend, one twice (nested or not), nothing to read, or no use at all: a clear error."""
    memory = MemoryCache()
    with pytest.raises(ValueError, match="found no backend"):
        TieredCache()
    with pytest.raises(ValueError, match="same backend twice"):
        TieredCache(memory, TieredCache(MemoryCache(), Tier(memory, ttl=3)))
    with pytest.raises(ValueError, match="no tier with read=True"):
        TieredCache(Tier(memory, read=False))
    with pytest.raises(ValueError, match="neither read nor written"):
        Tier(memory, read=False, write=False)


@pytest.mark.parametrize(
    ("tier", "options", "is_wrong"),
    [
        ("2h", {"ttl": "1h"}, True),
        ("1h", {"ttl": "1h"}, False),
        ("2h", {"ttl": "1h", "stale_ttl": "1h"}, False),
        ("3h", {"ttl": "1h", "stale_ttl": "1h"}, True),
        ("2h", {"ttl": None}, False),
        ("2h", {"ttl": lambda answer: 5}, False),
        (None, {"ttl": "1h"}, False),
    ],
)
def test_a_tier_keeps_nothing_for_longer_than_the_function(
    colour: Colour, tier: Any, options: dict[str, Any], is_wrong: bool
):
    """A tier's ttl above the time for which answers are kept is a mistake, told at decoration."""
    if not is_wrong:
        counting(colour, Tier(MemoryCache(), ttl=tier), **options)
        return
    with pytest.raises(ValueError, match="for the tier 'memory', above the"):
        counting(colour, Tier(MemoryCache(), ttl=tier), **options)


@dataclass
class Plain:
    """A backend without a hash, as a plain dataclass is."""

    data: dict[str, bytes] = field(default_factory=dict[str, bytes])
    is_down: bool = False

    def get(self, key: str) -> bytes | None:
        self.check()
        return self.data.get(key)

    def set(self, key: str, value: bytes, ttl: float | None) -> None:
        self.check()
        self.data[key] = value

    def delete(self, key: str) -> None:
        self.check()
        self.data.pop(key, None)

    def check(self) -> None:
        if self.is_down:
            raise ConnectionError("down")


async def test_a_backend_needs_no_hash(colour: Colour):
    """What it missed while it was down is known to all who use it, hashable or not."""
    far = Plain()
    one, other = counting(colour, far), counting(colour, far)
    assert health_of(far) is health_of(far)
    assert health_of(far) is not health_of(Plain())
    await colour.call(one, 1)
    far.is_down = True
    await colour.call(one.cache_invalidate, 1)
    far.is_down = False
    assert await colour.call(other.cache_get, 1) is MISS


def test_the_health_of_a_backend_ends_with_it():
    """Nothing is kept of a backend that is gone, nor taken for that of another in its place."""
    before = len(_health._all)
    for _ in range(100):
        health_of(Plain())
    assert len(_health._all) == before


async def test_a_failing_far_tier_does_not_keep_the_near_one_from_forgetting(colour: Colour):
    """With `fail_open=False` an invalidation raises, after all tiers had their turn."""
    near, far = MemoryCache(), FaultyBackend(MemoryCache())
    ask = counting(colour, near, far, fail_open=False)
    await colour.call(ask, 1)
    far.failing()
    with pytest.raises(BackendError):
        await colour.call(ask.cache_invalidate, 1)
    assert len(near) == 0


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Tier(MemoryCache(), read="no"), "read is 'no'; it must be True or False"),  # type: ignore[arg-type]
        (lambda: Tier(MemoryCache(), write=None), "write is None"),  # type: ignore[arg-type]
        (lambda: Tier(MemoryCache(), name=5), "name is 5; it must be text"),  # type: ignore[arg-type]
        (lambda: Tier(MemoryCache(), ttl=lambda _: 5), "a tier's ttl is .* or None$"),  # type: ignore[arg-type]
        (lambda: Tier(Tier(MemoryCache())), "found a Tier in a Tier"),
        (lambda: Tier(TieredCache(MemoryCache())), "found a TieredCache in a Tier"),
        (lambda: TieredCache([MemoryCache()]), r"write TieredCache\(near, far\)"),  # type: ignore[arg-type]
        (lambda: TieredCache(MemoryCache(), coherent="no"), "coherent is 'no'"),  # type: ignore[arg-type]
    ],
)
def test_wrong_options_of_tiers_are_told(make: Callable[[], object], words: str):
    """What a tier or a stack can't be made of is a TypeError that says what to give."""
    with pytest.raises(TypeError, match=words):
        make()


class Mute(MemoryCache):
    """A far tier that would tell of changes, but never can."""

    def track(self, listener: object, /) -> Callable[[str], None]:
        return lambda prefix: None


async def test_a_disk_in_between_is_not_believed_before_changes_are_told(
    colour: Colour, tmp_path: Path
):
    """What an earlier process left on disk may have been changed since: it does not answer."""
    disk, far = DiskCache(tmp_path), Mute()
    await colour.call(counting(colour, disk).cache_set, Answer(serial=100), 1)
    ask = counting(colour, TieredCache(MemoryCache(), disk, far, coherent=True))
    assert (await colour.call(ask, 1)).serial == 1
    disk.close()


def test_a_pair_of_clients_is_a_backend(redis_url: str, colour: Colour):
    """One sync and one async client serve functions of both kinds, wherever a backend is wanted."""
    pair = redis.Redis.from_url(redis_url), redis.asyncio.Redis.from_url(redis_url)
    for cache in (TieredCache(pair), TieredCache(Tier(pair))):
        assert cache.tiers[0].name == "redis"
    counting(colour, pair)
    pair[0].close()


def test_one_store_under_two_objects_is_refused(tmp_path: Path, redis_url: str):
    """The same folder, server or client twice in one stack is a mistake, however it is named."""
    client = redis.Redis.from_url(redis_url)
    doubles: list[tuple[Any, Any]] = [
        (DiskCache(tmp_path), f"disk://{tmp_path}"),
        (redis_url, RedisCache(redis_url)),
        (client, client),
    ]
    for double in doubles:
        with pytest.raises(ValueError, match="same backend twice"):
            TieredCache(MemoryCache(), *double)
    client.close()


async def test_what_is_gone_from_the_far_tier_is_near_no_longer_than_its_ttl(colour: Colour):
    """A provider that is down, and stale answers that cover for it, make no near tier keep longer
    what others have forgotten; what the far tier still holds is covered as ever."""
    now, is_down, far = [0.0], [False], MemoryCache(clock=lambda: 0.0)
    near = Tier(MemoryCache(clock=lambda: now[0]), ttl=50)

    def extract(text: str) -> Answer:
        if is_down[0]:
            raise LookupError("down")
        return Answer(serial=len(text))

    f: Any = instructor_cache(TieredCache(near, far), ttl=10, stale_ttl=1000, clock=lambda: now[0])(
        colour.function(extract)
    )
    for text in ("ada", "bob"):
        await colour.call(f, text)
    is_down[0] = True
    far.delete(f.cache_key("ada"))  # as another process does it
    for _ in range(4):
        now[0] += 11
        for text in ("ada", "bob"):
            assert (await colour.call(f, text)).serial == 3
    now[0] += 11
    assert (await colour.call(f, "bob")).serial == 3
    with pytest.raises(LookupError):
        await colour.call(f, "ada")
