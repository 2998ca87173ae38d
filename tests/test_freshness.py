"""How long an answer serves: stale ones when the function fails, new ones ahead of time."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from conftest import Colour, engine_of, timed
from pydantic import BaseModel

from instructor_cache import DiskCache, Event, MemoryCache, Tier, TieredCache, instructor_cache
from instructor_cache._behind import Behind
from instructor_cache._bridge import drive
from instructor_cache.entry import Entry
from instructor_cache.testing import FaultyBackend


class User(BaseModel):
    name: str


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class Provider:
    """Answers with a number that grows; fails, or takes its time, when told to."""

    def __init__(self) -> None:
        self.calls = 0
        self.error: Exception | None = None
        self.meanwhile: Callable[[], object] = lambda: None

    def extract(self, text: str) -> User:
        self.calls += 1
        number = self.calls
        self.meanwhile()
        if self.error is not None:
            raise self.error
        return User(name=f"{text} {number}")


class Case:
    """One cached function of a colour, with its provider, its clock and its events."""

    def __init__(self, colour: Colour, backend: Any = None, **options: Any) -> None:
        self.clock, self.provider, self.events = Clock(), Provider(), list[Event]()
        self.backend = MemoryCache(clock=self.clock) if backend is None else backend

        def extract(text: str) -> User:
            return self.provider.extract(text)

        options = {"ttl": 100, "clock": self.clock, "observer": self.events.append, **options}
        self.cached: Any = instructor_cache(self.backend, **options)(colour.function(extract))
        self._colour = colour

    async def ask(self, text: str = "ada") -> str:
        user: User = await self._colour.call(self.cached, text)
        return user.name

    def kinds(self) -> list[str]:
        """The kinds of the events since the last time."""
        kinds = [event.kind for event in self.events]
        self.events.clear()
        return kinds


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait until *condition* holds, as it must within seconds."""
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        await asyncio.sleep(0.002)


# -- stale answers -----------------------------------------------------------------------


async def test_a_stale_answer_serves_when_the_function_fails(colour: Colour):
    """After the ttl a failing function is covered by the old answer, with an event that says so."""
    case = Case(colour, stale_ttl=1000)
    assert await case.ask() == "ada 1"
    case.clock.now += 101
    case.provider.error = LookupError("the provider is down")
    case.kinds()
    assert await case.ask() == "ada 1"
    stale = [event for event in case.events if event.kind == "stale"]
    assert [(str(event.error), event.tier) for event in stale] == [
        ("the provider is down", "memory")
    ]
    assert case.provider.calls == 2


async def test_a_dead_provider_is_not_asked_by_every_call(colour: Colour):
    """A stale answer serves for a while without a call; then the function is tried again."""
    case = Case(colour, stale_ttl=1000)
    await case.ask()
    case.clock.now += 101
    case.provider.error = LookupError("down")
    answers = [await case.ask() for _ in range(50)]
    assert set(answers) == {"ada 1"}
    assert case.provider.calls == 2
    case.clock.now += 31
    assert await case.ask() == "ada 1"
    assert case.provider.calls == 3


async def test_a_provider_that_is_back_is_asked_again(colour: Colour):
    """When the rest is over, a working function's new answer replaces the stale one."""
    case = Case(colour, stale_ttl=1000)
    await case.ask()
    case.clock.now += 101
    case.provider.error = LookupError("down")
    await case.ask()
    case.provider.error = None
    case.clock.now += 31
    case.kinds()
    assert await case.ask() == "ada 3"
    assert await case.ask() == "ada 3"
    assert case.kinds() == ["miss", "stored", "hit"]


async def test_nothing_serves_after_the_stale_ttl(colour: Colour):
    """Past ttl + stale_ttl the failure is the caller's, however often it was covered before."""
    case = Case(colour, MemoryCache(), stale_ttl=50)  # whose own clock does not move
    await case.ask()
    case.provider.error = LookupError("down")
    case.clock.now += 140
    assert await case.ask() == "ada 1"
    case.clock.now += 11
    with pytest.raises(LookupError, match="down"):
        await case.ask()


async def test_without_a_stale_ttl_the_failure_is_told(colour: Colour):
    """The default keeps nothing after the ttl."""
    case = Case(colour)
    await case.ask()
    case.clock.now += 101
    case.provider.error = LookupError("down")
    with pytest.raises(LookupError, match="down"):
        await case.ask()


async def test_a_working_function_is_never_covered(colour: Colour):
    """A stale answer is for failures only: else the function is called when the ttl is over."""
    case = Case(colour, stale_ttl=1000)
    await case.ask()
    case.clock.now += 101
    assert await case.ask() == "ada 2"


async def test_an_interruption_is_not_covered(colour: Colour):
    """What is no ordinary error passes through."""
    case = Case(colour, stale_ttl=1000)
    await case.ask()
    case.clock.now += 101

    def interrupt() -> None:
        raise KeyboardInterrupt

    case.provider.meanwhile = interrupt
    if colour.is_async:  # where it would tear down the loop
        return
    with pytest.raises(KeyboardInterrupt):
        await case.ask()


async def test_followers_share_the_stale_answer():
    """Ten threads that wait for one failing call are all covered, by one call."""
    case = Case(Colour("sync"), stale_ttl=1000)
    await case.ask()
    case.clock.now += 101
    case.provider.error = LookupError("down")
    case.provider.meanwhile = lambda: time.sleep(0.2)
    gate = threading.Barrier(10)

    def ask(_: int) -> str:
        gate.wait()
        return str(case.cached("ada").name)

    with ThreadPoolExecutor(10) as pool:
        assert set(pool.map(ask, range(10))) == {"ada 1"}
    assert case.provider.calls == 2


async def test_an_invalidated_answer_covers_nothing(colour: Colour):
    """What was invalidated does not come back, not even if that happens during the failing call."""
    case = Case(colour, stale_ttl=1000)
    await case.ask()
    case.provider.error = LookupError("down")
    await colour.call(case.cached.cache_invalidate, "ada")
    with pytest.raises(LookupError):
        await case.ask()

    case.provider.error = None
    await case.ask()
    case.clock.now += 101
    case.provider.error = LookupError("down")
    if colour.is_async:  # from inside the call it could not be waited for
        return
    case.provider.meanwhile = lambda: case.cached.cache_invalidate("ada")
    with pytest.raises(LookupError):
        await case.ask()
    assert not case.cached.cache_contains("ada")


async def test_cache_refresh_tells_the_failure_and_keeps_the_answer(colour: Colour):
    """Who asks for a new answer wants to know that there is none; the old one is still good."""
    case = Case(colour, stale_ttl=1000)
    await case.ask()
    case.provider.error = LookupError("down")
    with pytest.raises(LookupError):
        await colour.call(case.cached.cache_refresh, "ada")
    assert await case.ask() == "ada 1"


async def test_the_freshest_tier_covers(colour: Colour):
    """With several tiers the last answer that any of them keeps is the one that serves."""
    clock = Clock()
    near, far = MemoryCache(clock=clock), MemoryCache(clock=clock)
    case = Case(colour, TieredCache(Tier(near, name="near"), Tier(far, name="far")), clock=clock)
    case.clock = clock
    case = Case(colour, case.backend, stale_ttl=1000, clock=clock)
    await case.ask()
    key = case.cached.cache_key("ada")
    old = Entry.unpack(key, near.get(key) or b"")
    near.set(key, old._replace(fresh_until=old.fresh_until - 60).pack(key), None)
    clock.now += 101
    case.provider.error = LookupError("down")
    await case.ask()
    assert [event.tier for event in case.events if event.kind == "stale"] == ["far"]


async def test_a_stale_answer_survives_a_restart(colour: Colour, tmp_path: Any):
    """What is kept for a failure is kept on disk, and the rest it gives counts for all."""
    case = Case(colour, DiskCache(tmp_path), stale_ttl=1000, clock=time.time, ttl=0.05)
    await case.ask()
    await asyncio.sleep(0.06)
    again = Case(colour, DiskCache(tmp_path), stale_ttl=1000, clock=time.time, ttl=0.05)
    again.provider.error = LookupError("down")
    assert await again.ask() == "ada 1"


# -- ahead of time -----------------------------------------------------------------------


async def test_an_ageing_answer_is_made_anew_in_the_background(colour: Colour):
    """A hit in the last fifth of its life returns the old answer; soon there is a new one."""
    case = Case(colour, refresh_ahead=0.8)
    await case.ask()
    case.clock.now += 79
    assert await case.ask() == "ada 1"
    assert case.provider.calls == 1
    case.clock.now += 2
    assert await case.ask() == "ada 1"
    await eventually(lambda: "refreshed" in [event.kind for event in case.events])
    assert await case.ask() == "ada 2"
    case.clock.now += 70  # the new one has a life of its own
    assert await case.ask() == "ada 2"
    assert case.provider.calls == 2


@timed
async def test_one_refresh_for_many_hits(colour: Colour):
    """Hits do not wait for the refresh that is under way, nor begin another one."""
    case = Case(colour, refresh_ahead=0.5)
    await case.ask()
    case.clock.now += 60
    leave = threading.Event()
    case.provider.meanwhile = (lambda: None) if colour.is_async else (lambda: leave.wait(5))
    start = time.monotonic()
    assert {await case.ask() for _ in range(50)} == {"ada 1"} or colour.is_async
    assert time.monotonic() - start < 2
    leave.set()
    await eventually(lambda: "refreshed" in [event.kind for event in case.events])
    assert case.provider.calls == 2


async def test_a_failing_refresh_keeps_the_answer(colour: Colour):
    """The old answer serves to its end; the failure is an event, and not repeated by every hit."""
    case = Case(colour, refresh_ahead=0.5)
    await case.ask()
    case.clock.now += 60
    case.provider.error = LookupError("down")
    for _ in range(20):
        assert await case.ask() == "ada 1"
        await asyncio.sleep(0.002)
    await eventually(lambda: "failure" in [event.kind for event in case.events])
    assert [str(e.error) for e in case.events if e.kind == "failure"] == ["down"]
    assert case.provider.calls == 2
    assert await case.ask() == "ada 1"


async def test_an_invalidation_during_a_refresh_wins(colour: Colour):
    """A refresh that began before the invalidation brings nothing back."""
    case = Case(colour, refresh_ahead=0.5)
    await case.ask()
    case.clock.now += 60
    entered, leave = threading.Event(), threading.Event()

    def wait() -> None:
        entered.set()
        leave.wait(5)

    case.provider.meanwhile = wait
    if colour.is_async:  # the waiting would block the loop; sync shows the engine's rule
        return
    await case.ask()
    entered.wait(5)
    case.cached.cache_invalidate("ada")
    case.provider.meanwhile = lambda: None
    leave.set()
    await eventually(lambda: case.provider.calls == 2)
    await asyncio.sleep(0.05)
    assert not case.cached.cache_contains("ada")


async def test_an_endless_answer_is_never_refreshed(colour: Colour):
    """Without a ttl there is no end of life to be ahead of."""
    case = Case(colour, refresh_ahead=0.1, ttl=None)
    await case.ask()
    case.clock.now += 10**9
    assert await case.ask() == "ada 1"
    await asyncio.sleep(0.02)
    assert case.provider.calls == 1


# -- clocks that jump --------------------------------------------------------------------


@pytest.mark.parametrize("jump", [-3600, 3600])
async def test_a_clock_that_jumps_and_comes_back_loses_no_answer(colour: Colour, jump: int):
    """An hour's jump in either direction, and the way back: a long-lived answer is still there."""
    case = Case(colour, ttl=7200)
    await case.ask()
    for seconds in (jump, 1, -jump, 1):
        case.clock.now += seconds
        assert await case.ask() == "ada 1", seconds
    assert case.provider.calls == 1


async def test_a_clock_that_is_put_back_and_corrected_loses_no_short_lived_answer(colour: Colour):
    """An answer that lives for less than the jump is there during it and after it."""
    case = Case(colour, ttl=60)
    await case.ask()
    for seconds in (-3600, 30, 3571):
        case.clock.now += seconds
        assert await case.ask() == "ada 1", seconds


async def test_an_answer_from_the_future_lives_no_longer_than_its_ttl(colour: Colour):
    """Seen by a clock that was put back, it has its ttl from then on, and not an hour more."""
    case = Case(colour, ttl=60)
    await case.ask()
    case.clock.now -= 3600
    assert await case.ask() == "ada 1"
    case.clock.now += 59
    assert await case.ask() == "ada 1"
    case.clock.now += 2
    assert await case.ask() == "ada 2"


async def test_a_clock_that_is_ahead_serves_nothing_past_its_time(colour: Colour):
    """By the clock that it reads, an expired answer is expired."""
    case = Case(colour, ttl=60, stale_ttl=60)
    await case.ask()
    case.clock.now += 3600
    case.provider.error = LookupError("down")
    with pytest.raises(LookupError):
        await case.ask()


async def test_refreshes_do_not_pile_up():
    """However many answers age at once, a few calls are made at a time in the background."""
    case = Case(Colour("sync"), MemoryCache(None), refresh_ahead=0.5)
    for n in range(200):
        await case.ask(str(n))
    case.clock.now += 60
    leave = threading.Event()
    case.provider.meanwhile = lambda: leave.wait(5)
    for n in range(200):
        await case.ask(str(n))
    assert case.provider.calls <= 200 + 16
    leave.set()
    await eventually(lambda: case.kinds().count("refreshed") >= 1)


async def test_a_refresh_for_changed_arguments_is_dropped(
    colour: Colour, monkeypatch: pytest.MonkeyPatch
):
    """A list that grows after the hit: what was asked before keeps its answer."""
    clock, asked, due = Clock(), list[str](), list[Any]()

    def extract(texts: list[str]) -> User:
        asked.append(texts[-1])
        return User(name=f"{texts[-1]} {len(asked)}")

    options: Any = {"ttl": 100, "refresh_ahead": 0.5, "clock": clock}
    f = instructor_cache(MemoryCache(clock=clock), **options)(colour.function(extract))
    monkeypatch.setattr(engine_of(f).behind, "_spawn", lambda work: due.append(work) or bool)
    mine = ["ada"]
    await colour.call(f, mine)
    clock.now += 60
    await colour.call(f, mine)
    mine.append("eve")
    await due.pop()()
    assert asked == ["ada"]
    assert (await colour.call(f, ["ada"])).name == "ada 1"
    await due.pop()()
    assert (await colour.call(f, ["ada"])).name == "ada 2"


async def test_a_refresh_that_is_refused_is_no_failure(colour: Colour):
    """When cache_if refused what a refresh gave, the function is called when the time comes."""
    wanted = ["ada 1", "ada 3"]
    case = Case(
        colour, refresh_ahead=0.5, stale_ttl=1000, cache_if=lambda user: user.name in wanted
    )
    await case.ask()
    case.clock.now += 60
    await case.ask()
    await eventually(
        lambda: case.provider.calls == 2 and not engine_of(case.cached).behind._under_way
    )
    assert await case.ask() == "ada 1"
    assert case.provider.calls == 2  # refreshes take a rest
    case.clock.now += 60
    assert await case.ask() == "ada 3"


def test_a_refresh_whose_loop_ends_is_no_failure():
    """A loop for each call may end before a refresh; the answer serves for no longer then."""
    case = Case(Colour("async"), refresh_ahead=0.5, stale_ttl=1000)
    asyncio.run(case.ask())
    case.clock.now += 60
    asyncio.run(case.ask())
    case.clock.now += 60
    assert asyncio.run(case.ask()) == f"ada {case.provider.calls}"
    assert case.kinds()[-2:] == ["miss", "stored"]


async def test_a_failing_refresh_is_a_failure(colour: Colour):
    """The provider has its rest also when the answer expires a moment after a failed refresh."""
    case = Case(colour, refresh_ahead=0.5, stale_ttl=1000)
    await case.ask()
    case.clock.now += 60
    case.provider.error = LookupError("down")
    await case.ask()
    await eventually(lambda: "failure" in case.kinds())
    case.clock.now += 60
    assert await case.ask() == "ada 1"
    assert case.provider.calls == 2


def test_a_refresh_that_ends_at_once_disturbs_no_other_hit():
    """A job may end before its start returns, just when the jobs under way are looked through."""
    is_done, is_looked_through, is_started = (threading.Event() for _ in range(3))

    def spawn(work: Any) -> Callable[[], bool]:
        if threading.current_thread() is threading.main_thread():
            return lost
        drive(work())
        is_done.set()
        is_looked_through.wait(5)
        return lambda: True

    def lost() -> bool:
        is_looked_through.set()
        return not is_started.wait(5)

    def start(key: str) -> None:
        behind.start(key, work)
        is_started.set()

    async def work() -> bool:
        return True

    behind = Behind(spawn, 30.0)
    with ThreadPoolExecutor() as pool:
        other = pool.submit(start, "ada")
        is_done.wait(5)
        behind.start("eve", work)
        behind.start("bob", work)  # which looks whether eve's is lost
        other.result()
    assert set(behind._under_way) == {"eve", "bob"}


async def test_a_stale_answer_is_not_brought_back_by_its_own_rearming(colour: Colour):
    """Another process that forgets it, just when it is found to be kept, is obeyed."""
    memory = MemoryCache()
    case = Case(colour, FaultyBackend(memory), stale_ttl=1000)
    await case.ask()
    case.clock.now += 101
    case.provider.error = LookupError("down")
    key = case.cached.cache_key("ada")

    def forget(value: bytes) -> bytes:
        memory.delete(key)
        return value

    with case.backend.corrupt(forget, on="get", when=[False, True]) as fault:
        assert await case.ask() == "ada 1"
        assert fault.struck == 1
    assert memory.get(key) is None


def test_an_invalidation_while_the_stale_answer_is_fetched_wins():
    """What is forgotten at the last moment does not cover the failure."""
    case = Case(Colour("sync"), FaultyBackend(MemoryCache()), stale_ttl=1000)
    case.cached("ada")
    case.clock.now += 101
    case.provider.error = LookupError("down")

    def forget(value: bytes) -> bytes:
        case.cached.cache_invalidate("ada")
        return value

    with case.backend.corrupt(forget, on="get", when=[False, True]) as fault:
        with pytest.raises(LookupError):
            case.cached("ada")
        assert fault.struck == 1
