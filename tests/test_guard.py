"""A failing tier hurts nobody: every operation ends in time, and what fails is left out."""

from __future__ import annotations

import asyncio
import contextlib
import os
import statistics
import threading
import time
import traceback
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import redis
from conftest import Colour, engine_of, timed
from pydantic import BaseModel

from instructor_cache import (
    BackendError,
    CacheMetrics,
    DiskCache,
    Event,
    MemoryCache,
    RedisCache,
    Tier,
    instructor_cache,
)
from instructor_cache._breaker import Breaker
from instructor_cache._missed import Missed
from instructor_cache._workers import Workers
from instructor_cache.errors import BackendBusy, BackendClosed
from instructor_cache.testing import FaultyBackend


class User(BaseModel):
    name: str


class Case:
    """A cached function over a backend that fails on demand, its calls and its events."""

    def __init__(self, colour: Colour, **options: Any) -> None:
        self.calls: list[str] = []
        self.events: list[Event] = []
        self.faulty = FaultyBackend(MemoryCache(None))
        self._colour = colour

        def extract(text: str) -> User:
            self.calls.append(text)
            return User(name=text)

        tier = Tier(self.faulty, timeout=options.pop("timeout", 0.1), name="faulty")
        options = {"observer": self.events.append, **options}
        self.cached: Any = instructor_cache(tier, **options)(colour.function(extract))

    async def ask(self, text: str = "ada") -> float:
        """The seconds that a call takes, which answers what it should."""
        start = time.perf_counter()
        user = await self._colour.call(self.cached, text)
        assert user == User(name=text)
        return time.perf_counter() - start

    def count(self, kind: str) -> int:
        return sum(event.kind == kind for event in self.events)


async def eventually(condition: Callable[[], bool], seconds: float = 5) -> None:
    """Wait until *condition* holds, as it must within *seconds*."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        await asyncio.sleep(0.005)


# -- deadlines ---------------------------------------------------------------------------


@timed
@pytest.mark.parametrize("operation", ["get", "swap"])
async def test_a_silent_backend_costs_one_timeout(colour: Colour, operation: str):
    """The first call waits for it once; its own answer comes back, and an event names the tier."""
    case = Case(colour)
    with case.faulty.silent(on=operation):
        assert await case.ask() < 0.1 + 0.15
        failures = [event for event in case.events if event.kind == "failure"]
        assert [(type(e.error), str(e.error), e.tier) for e in failures] == [
            (TimeoutError, "no answer within 0.1 s", "faulty")
        ]


@timed
async def test_a_silent_tier_costs_nothing_after_the_first_call(colour: Colour):
    """900 more calls take 2 ms each at most, on average, and the tier is asked a few times only."""
    case = Case(colour, timeout=0.5)
    with case.faulty.silent():
        assert await case.ask("first") < 0.5 + 0.2
        assert statistics.mean([await case.ask(f"{n}") for n in range(900)]) < 0.002
    assert sum(case.faulty.calls.values()) < 20
    assert case.count("opened") == 1


@timed
async def test_concurrent_first_calls_wait_once_each(colour: Colour):
    """Fifty callers that meet the silence together are held up for one timeout together."""
    case = Case(colour, timeout=0.2)
    start = time.perf_counter()
    with case.faulty.silent():
        if colour.is_async:
            await asyncio.gather(*(case.cached(f"{n}") for n in range(50)))
        else:
            threads = [threading.Thread(target=case.cached, args=(f"{n}",)) for n in range(50)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert time.perf_counter() - start < 0.2 + 0.6
    assert len(case.calls) == 50


async def test_a_tier_that_was_only_slow_is_back_at_once(colour: Colour):
    """One late reply does not make the next calls pay again: the first probe finds it working."""
    case = Case(colour, timeout=0.3)
    await case.ask()
    with case.faulty.slow(0.6, on="get", times=1):
        await case.ask()
    case.calls.clear()
    for _ in range(50):
        await case.ask()
    assert len(case.calls) <= 1
    assert case.count("closed") == 1


async def test_a_slow_tier_within_its_time_is_used(colour: Colour):
    """Slow is not failing: a tier that takes most of its timeout still gives hits."""
    case = Case(colour, timeout=0.5)
    await case.ask()
    with case.faulty.slow(0.1, on="get"):
        for _ in range(3):
            await case.ask()
    assert len(case.calls) == 1
    assert case.count("failure") == case.count("opened") == 0


# -- the breaker -------------------------------------------------------------------------


async def test_a_refusing_tier_is_left_out_after_ten_failures(colour: Colour):
    """Quick failures are cheap, but not for ever: then the tier is asked by probes only."""
    case = Case(colour, timeout=5)
    with case.faulty.failing(ConnectionError("refused")):
        for n in range(200):
            await case.ask(f"{n}")
    assert 10 <= sum(case.faulty.calls.values()) < 20
    assert case.count("opened") == 1


@timed
@pytest.mark.parametrize("seconds", [0.6, pytest.param(5, marks=pytest.mark.slow)])
async def test_a_tier_that_recovers_is_used_again_by_itself(colour: Colour, seconds: float):
    """Within 5 seconds of its recovery it gives hits, and an event says that it is back."""
    case = Case(colour, timeout=5)
    await case.ask()
    with case.faulty.failing():
        end = time.monotonic() + seconds
        while time.monotonic() < end:  # in 5 seconds the probes become as rare as they get
            await case.ask()
            await asyncio.sleep(0.01)
    healed = time.monotonic()
    while not case.count("closed"):
        await case.ask()
        await asyncio.sleep(0.01)
    assert time.monotonic() - healed < 5
    case.calls.clear()
    await case.ask()
    assert case.calls == []


async def test_after_five_idle_seconds_the_first_call_is_a_hit():
    """A probe that works is a hit: nobody has to pay to find out that the tier is back."""
    case = Case(Colour("sync"), timeout=0.3)
    await case.ask()
    with case.faulty.silent():
        for _ in range(5):
            await case.ask()
    wait_over(case)
    case.calls.clear()
    await case.ask()
    assert case.calls == []


async def test_a_probe_brings_nothing_back_that_was_invalidated(colour: Colour):
    """The very read that finds the tier working again does not believe what it missed to delete."""
    case = Case(colour, timeout=0.3)
    await case.ask()
    with case.faulty.silent():
        await colour.call(case.cached.cache_invalidate, "ada")
        await case.ask("bob")
    wait_over(case)
    case.calls.clear()
    await case.ask()
    assert case.calls == ["ada"]


def wait_over(case: Case) -> None:
    """Have the next operation be a probe."""
    breaker = _breaker(case)
    assert breaker.is_open
    breaker._due, breaker._probed_at = time.monotonic(), None


def _breaker(case: Case) -> Breaker:
    breaker: Breaker = engine_of(case.cached).stack.shelves[0].guard.health.reads
    return breaker


def test_probes_come_in_growing_jittered_steps(monkeypatch: pytest.MonkeyPatch):
    """0, then 0.25 to 4 seconds, doubling, shortened by up to a half; never more than 4."""
    monkeypatch.setattr("instructor_cache._breaker.monotonic", lambda: 1000.0)
    waits: list[list[float]] = []
    for _ in range(200):
        breaker = Breaker()
        assert breaker.fail(TimeoutError(), 0.5, 0.5)
        steps = [breaker._due]
        for _ in range(8):
            breaker.fail_probe(TimeoutError())
            steps.append(breaker._due - 1000)
        waits.append(steps)
    for n, longest in enumerate([0, 0.25, 0.5, 1, 2, 4, 4, 4, 4]):
        step = [each[n] for each in waits]
        assert longest / 2 - 1e-9 <= min(step) <= max(step) <= longest + 1e-9
        assert longest == 0 or max(step) - min(step) > longest / 4


def test_a_probe_that_never_comes_back_has_failed(monkeypatch: pytest.MonkeyPatch):
    """Another one is due later."""
    now = [1000.0]
    monkeypatch.setattr("instructor_cache._breaker.monotonic", lambda: now[0])
    breaker = Breaker()
    breaker.fail(TimeoutError(), 1, 1)
    assert breaker.admits_probe(timeout=0.05)
    assert breaker.state == "half-open"
    assert not breaker.admits_probe(timeout=0.05)
    now[0] += 0.06
    assert not breaker.admits_probe(timeout=0.05)
    assert breaker.state == "open"
    now[0] += 0.26
    assert breaker.admits_probe(timeout=0.05)


@timed
async def test_all_functions_of_a_backend_share_its_breaker(colour: Colour):
    """What one function has found out, the next one does not pay for."""
    one = Case(colour, timeout=0.3)

    def other(text: str) -> User:
        return User(name=text)

    second: Any = instructor_cache(Tier(one.faulty, timeout=0.3))(colour.function(other))
    with one.faulty.silent():
        await one.ask()
        start = time.perf_counter()
        await colour.call(second, "ada")
        assert time.perf_counter() - start < 0.08


async def test_busy_and_closed_are_no_failures_of_the_backend(colour: Colour):
    """Saturation of our own pool, and our own close, never open the breaker."""
    for error in (BackendBusy("all 50 connections are busy"), BackendClosed("closed")):
        case = Case(colour, timeout=5)
        with case.faulty.failing(error):
            for n in range(30):
                await case.ask(f"{n}")
        assert case.count("opened") == 0
        assert case.count("failure") > 30


async def test_an_occasional_failure_opens_nothing(colour: Colour):
    """A success in between starts the count anew: failures count in a row."""
    case = Case(colour, timeout=5)
    with case.faulty.failing(when=[True, False, False] * 100):
        for n in range(100):
            await case.ask(f"{n}")
    assert case.count("failure") > 50
    assert case.count("opened") == 0


class Speechless(Exception):
    """Has no text to give."""

    def __str__(self) -> str:
        raise AttributeError("response")


@pytest.mark.parametrize("fail_open", [True, False])
async def test_an_error_without_a_text_is_told_by_its_type(colour: Colour, fail_open: bool):
    """A backend's own exception may raise when it is written: that breaks no call."""
    case = Case(colour, fail_open=fail_open)
    with case.faulty.failing(Speechless()):
        for n in range(12):
            with contextlib.suppress(BackendError):
                await case.ask(f"{n}")
    if fail_open:
        assert len(case.calls) == 12


async def test_callers_deep_in_their_own_calls_leave_a_backend_alone(colour: Colour):
    """That no frame was left for a backend says nothing of it."""
    case = Case(colour)
    with case.faulty.failing(RecursionError()):
        for n in range(30):
            await case.ask(f"{n}")
    assert case.count("failure") >= 30
    assert case.count("opened") == 0


async def test_a_write_that_fails_leaves_reads_alone(colour: Colour):
    """A store that is full or read-only still answers with what it holds."""
    case = Case(colour, timeout=5)
    await case.ask("kept")
    with case.faulty.failing(OSError("disk full"), on="set"):
        for n in range(30):
            await case.ask(f"{n}")
        case.calls.clear()
        await case.ask("kept")
    assert case.calls == []


@timed
async def test_writes_that_are_not_answered_cost_nothing_while_reads_are(colour: Colour):
    """A store that answers reads only, as a paused Redis may, is still read, and not waited for."""
    case = Case(colour, timeout=0.2)
    await case.ask("kept")
    with case.faulty.silent(on=("set", "swap")):
        await case.ask("first")
        assert statistics.mean([await case.ask(f"{n}") for n in range(100)]) < 0.005
        case.calls.clear()
        await case.ask("kept")
    assert case.calls == []


def undecodable(secret: bytes) -> Exception:
    return UnicodeDecodeError("utf-8", secret, 0, 1, f"invalid start byte in {secret!r}")


def wrapped(secret: bytes) -> Exception:
    error = ConnectionError(f"Command # 1 caused error: {secret!r}")
    error.__cause__ = undecodable(secret)
    return error


@pytest.mark.parametrize(
    "error",
    [
        undecodable(b"\xffhunter2"),
        wrapped(b"\xffhunter2"),
        redis.InvalidResponse("Protocol Error: b'hunter2'"),
    ],
)
@pytest.mark.parametrize("fail_open", [True, False])
async def test_no_stored_byte_is_told(
    colour: Colour, error: Exception, fail_open: bool, caplog: pytest.LogCaptureFixture
):
    """An error that quotes what it could not read is told without it: in events, in the log, in
    what is raised, and in what is said of a tier that is left out."""
    case = Case(colour, fail_open=fail_open, timeout=5)
    case.faulty.failing(error, on="get")
    told: list[str] = []
    for n in range(12):
        try:
            await case.ask(f"{n}")
        except BackendError as raised:
            told += traceback.format_exception(raised)
    told += [
        f"{event.error} {event.error!r} {vars(event.error)}" for event in case.events if event.error
    ]
    told += [record.getMessage() for record in caplog.records]
    assert len(told) > 10
    assert [text for text in told if "hunter2" in text] == []
    assert any(type(error).__name__ in text or "UnicodeDecodeError" in text for text in told)


@timed
async def test_fail_closed_tells_at_once(colour: Colour):
    """With `fail_open=False` a tier that is left out raises, naming what opened it."""
    case = Case(colour, fail_open=False)
    with case.faulty.silent():
        with pytest.raises(BackendError, match=r"faulty failed to get .* no answer within 0.1 s"):
            await case.ask()
        start = time.perf_counter()
        with pytest.raises(BackendError, match=r"faulty is left out while it fails: TimeoutError"):
            await case.ask()
        assert time.perf_counter() - start < 0.08


async def test_metrics_tell_what_is_open(colour: Colour):
    """`CacheMetrics` counts failures by tier and names the tiers that are left out."""
    metrics = CacheMetrics()
    case = Case(colour, observer=metrics, timeout=5)
    with case.faulty.failing():
        for n in range(5):
            await case.ask(f"{n}")
        assert metrics.get_stats()["failures"]["faulty"] >= 10
        assert metrics.get_stats()["open_tiers"] == ["faulty"]
    await eventually_closed(case)
    assert metrics.get_stats()["open_tiers"] == []


async def test_an_invalidation_that_can_not_reach_a_tier_is_told(colour: Colour):
    """Leaving out a read is harmless; leaving out a delete is an event, each time."""
    case = Case(colour, timeout=0.3)
    await case.ask()
    with case.faulty.silent():
        await case.ask()
        case.events.clear()
        await case._colour.call(case.cached.cache_invalidate, "ada")
    assert case.count("failure") >= 1


# -- the loop is never blocked -----------------------------------------------------------


class SyncOnly:
    """The sync face of a memory, which may stall."""

    def __init__(self) -> None:
        self._memory = MemoryCache(None)
        self.stall = 0.0

    def get(self, key: str, /) -> bytes | None:
        time.sleep(self.stall)
        return self._memory.get(key)

    def set(self, key: str, value: bytes, ttl: float | None, /) -> None:
        time.sleep(self.stall)
        self._memory.set(key, value, ttl)

    def delete(self, key: str, /) -> None:
        time.sleep(self.stall)
        self._memory.delete(key)


@timed
async def test_a_stalling_disk_delays_no_other_task():
    """While a sync-only backend stalls for 2 s, no task waits for 50 ms, nor do others' threads."""
    backend = SyncOnly()

    @instructor_cache(backend)
    async def extract(text: str) -> User:
        return User(name=text)

    async def ask() -> None:
        users = await asyncio.gather(*(extract(f"{n}") for n in range(50)))
        assert [user.name for user in users] == [f"{n}" for n in range(50)]

    usual = await lag_during(asyncio.sleep(0.6))  # of a busy machine
    backend.stall = 2.0
    start = time.perf_counter()
    stalled = await lag_during(ask())
    assert time.perf_counter() - start < 2.0
    assert stalled < 0.05 + usual
    backend.stall = 0.0


async def lag_during(work: Coroutine[Any, Any, Any]) -> float:
    """The longest that another task, or a thread of the loop's own, had to wait during *work*."""
    lags: list[float] = []

    async def watch() -> None:
        while True:
            start = time.perf_counter()
            await asyncio.sleep(0.005)
            await asyncio.to_thread(int)
            lags.append(time.perf_counter() - start - 0.005)

    watcher = asyncio.create_task(watch())
    await work
    watcher.cancel()
    return max(lags)


@pytest.mark.parametrize("many", [1000, pytest.param(2500, marks=pytest.mark.slow)])
async def test_thousands_of_reads_wait_their_turn(many: int):
    """Waiting for a free thread is not the backend's silence: every warm read is a hit."""
    backend, calls = SyncOnly(), []

    @instructor_cache(backend)
    async def extract(n: int) -> User:
        calls.append(n)
        return User(name=str(n))

    await asyncio.gather(*(extract(n) for n in range(many)))
    calls.clear()
    backend.stall = 0.02  # on 32 threads, a thousand reads take longer than the timeout
    start = time.perf_counter()
    await asyncio.gather(*(extract(n) for n in range(many)))
    assert time.perf_counter() - start > 0.5
    assert calls == []


@timed
async def test_a_loop_that_was_held_up_blames_no_backend():
    """Time in which the loop did not run is not counted against a reply that came."""

    class Native:
        async def aget(self, key: str, /) -> bytes | None:
            for _ in range(20):  # a reply that comes in parts
                await asyncio.sleep(0.001)
            return None

        async def aset(self, key: str, value: bytes, ttl: float | None, /) -> None: ...
        async def adelete(self, key: str, /) -> None: ...

    events: list[Event] = []

    @instructor_cache(Tier(Native(), timeout=0.1), observer=events.append)
    async def extract(text: str) -> User:
        return User(name=text)

    asking = asyncio.create_task(extract("ada"))
    await asyncio.sleep(0.005)
    time.sleep(0.3)  # somebody blocks the loop
    await asking
    assert [event.kind for event in events if event.kind == "failure"] == []


@timed
async def test_a_native_backend_that_refuses_to_be_cancelled_is_left_behind():
    """A coroutine that swallows its cancellation holds up nobody."""
    leave = asyncio.Event()

    class Stubborn:
        async def aget(self, key: str, /) -> bytes | None:
            while not leave.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await leave.wait()
            return None

        async def aset(self, key: str, value: bytes, ttl: float | None, /) -> None: ...
        async def adelete(self, key: str, /) -> None: ...

    @instructor_cache(Tier(Stubborn(), timeout=0.05))
    async def extract(text: str) -> User:
        return User(name=text)

    start = time.perf_counter()
    await extract("ada")
    assert time.perf_counter() - start < 0.3
    leave.set()


async def test_a_cancelled_caller_cancels_its_operation():
    """Nothing goes on in the background for a caller who is gone."""
    cancelled = asyncio.Event()

    class Native:
        async def aget(self, key: str, /) -> bytes | None:
            try:
                await asyncio.sleep(10)
            except asyncio.CancelledError:
                cancelled.set()
                raise
            return None

        async def aset(self, key: str, value: bytes, ttl: float | None, /) -> None: ...
        async def adelete(self, key: str, /) -> None: ...

    @instructor_cache(Tier(Native(), timeout=5))
    async def extract(text: str) -> User:
        return User(name=text)

    asking = asyncio.create_task(extract("ada"))
    await asyncio.sleep(0.01)
    asking.cancel()
    await asyncio.wait_for(cancelled.wait(), 1)


# -- worker threads ----------------------------------------------------------------------


def test_workers_end_soon_after_the_work():
    """Idle threads do not stay."""
    workers = Workers("test")
    assert [job.result(5) for job in [workers.submit(lambda: 1) for _ in range(40)]] == [1] * 40
    deadline = time.monotonic() + 3
    while any("instructor_cache-test" in thread.name for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert workers.submit(lambda: 2).result(5) == 2


def test_work_never_waits_behind_work_that_hangs():
    """A thread is found for each job while there are any; none is handed to a busy one."""
    workers, leave = Workers("test"), threading.Event()
    for _ in range(100):
        workers.submit(int).result(5)
    hanging = [workers.submit(leave.wait) for _ in range(31)]
    for _ in range(100):
        assert workers.submit(lambda: 7).result(1) == 7
    leave.set()
    assert all(job.result(5) for job in hanging)


def test_workers_that_all_hang_take_no_more_work():
    """A queue that nobody works off does not grow for ever."""
    workers, leave = Workers("test"), threading.Event()
    hanging = [workers.submit(leave.wait) for _ in range(32)]
    queued = workers.submit(lambda: 7)
    workers.progress_at -= 10
    assert workers.submit(lambda: 8).result(5) == 8  # in one more thread: that work may go well
    deadline = time.monotonic() + 5
    while workers._threads > 32:  # until that thread ends
        assert time.monotonic() < deadline
        time.sleep(0.01)
    while workers._threads < 128:
        workers.progress_at -= 10
        hanging.append(workers.submit(leave.wait))
    workers.progress_at -= 10
    with pytest.raises(BackendBusy, match="none of 128 operations came back"):
        workers.submit(int)
    leave.set()
    assert queued.result(5) == 7
    assert all(job.result(5) for job in hanging)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_child_has_workers_and_breakers_of_its_own():
    """Threads do not survive a fork: the child starts its own, whatever the parent's do."""
    workers, leave = Workers("test"), threading.Event()
    hanging = [workers.submit(leave.wait) for _ in range(32)]
    child = os.fork()
    if child == 0:
        os._exit(0 if workers.submit(lambda: 7).result(5) == 7 else 1)
    assert os.waitpid(child, 0)[1] == 0
    leave.set()
    assert all(job.result(5) for job in hanging)


# -- deletions that a tier was not there for ------------------------------------------------


@pytest.mark.parametrize("whole", [False, True], ids=["one answer", "all answers"])
@pytest.mark.parametrize("silent", [False, True], ids=["refusing", "silent"])
async def test_what_was_invalidated_does_not_come_back_with_its_tier(
    colour: Colour, silent: bool, whole: bool
):
    """An invalidation that a failing tier missed is made up for before it answers again."""
    case = Case(colour, timeout=0.04 if whole else 0.3)  # a clear may take twenty of them
    await case.ask("ada")
    await case.ask("bob")
    forget = case.cached.cache_clear if whole else case.cached.cache_invalidate
    with case.faulty.silent() if silent else case.faulty.failing():
        await colour.call(forget, *(() if whole else ("ada",)))
        for _ in range(12):
            await case.ask("eve")
    case.calls.clear()
    await eventually_closed(case)
    await case.ask("ada")
    await case.ask("bob")
    assert "ada" in case.calls
    assert ("bob" in case.calls) is whole


async def eventually_closed(case: Case) -> None:
    """Ask until the breaker is closed, without waiting for the time of its next probe."""
    deadline = time.monotonic() + 5
    while (breaker := _breaker(case)).is_open:
        assert time.monotonic() < deadline
        breaker._due = 0.0
        await case.ask("probe")
        await asyncio.sleep(0.02)


async def test_a_recovered_tier_is_rid_of_all_that_was_invalidated(colour: Colour):
    """Other processes do not find it either: nobody has to ask for it first."""
    case = Case(colour, timeout=0.3)
    for n in range(20):
        await case.ask(f"{n}")
    with case.faulty.silent():
        for n in range(20):
            await colour.call(case.cached.cache_invalidate, f"{n}")
    await eventually_closed(case)
    keys = [case.cached.cache_key(f"{n}") for n in range(20)]
    deadline = time.monotonic() + 5
    while any(case.faulty.inner.get(key) for key in keys):
        assert time.monotonic() < deadline
        await case.ask("anything else")
        await asyncio.sleep(0.02)


async def test_an_answer_that_could_not_be_replaced_is_not_served(colour: Colour):
    """After `cache_set` no tier that missed it gives the old answer."""
    case = Case(colour, timeout=5)
    await case.ask("ada")
    with case.faulty.failing(on="set", times=1):
        await colour.call(case.cached.cache_set, User(name="new"), "ada")
    case.calls.clear()
    await case.ask("ada")
    assert case.calls == ["ada"]


async def test_a_store_that_can_not_delete_serves_the_rest(colour: Colour):
    """Where a deletion fails for good, that answer is not served, and all others are."""
    case = Case(colour, timeout=5)
    await case.ask("ada")
    await case.ask("bob")
    with case.faulty.failing(OSError("read-only"), on=("set", "delete")):
        await colour.call(case.cached.cache_invalidate, "ada")
        case.calls.clear()
        for _ in range(3):
            await case.ask("ada")
            await case.ask("bob")
        assert case.calls == ["ada"] * 3


def test_missed_deletions_do_not_grow_for_ever():
    """Too many become the clearing of what their functions have stored: none is forgotten."""
    missed = Missed()
    for n in range(5000):
        missed.add("delete", f"app:f:schema:{n}", can_clear=True)
    assert len(missed) <= 1000
    assert missed.of("app:f:schema:0") == [("clear", "app:f:")]
    assert missed.of("app:g:schema:0") == []


async def test_a_deletion_that_is_never_made_up_for_is_told_again(colour: Colour):
    """While a backend refuses a deletion nothing of it is cached, and events go on to say so."""

    class Refusing(MemoryCache):
        def delete(self, key: str, /) -> None:
            raise PermissionError("you may not delete")

    events: list[Event] = []

    @instructor_cache(Refusing(), observer=events.append)
    @colour.function
    def extract(text: str) -> User:
        return User(name=text)

    await colour.call(extract, "ada")
    await colour.call(extract.cache_invalidate, "ada")
    missed = engine_of(extract).stack.shelves[0].guard.health.missed
    for _ in range(3):
        events.clear()
        missed._due = 0.0
        await colour.call(extract, "ada")
        assert [event.kind for event in events] == ["failure", "miss"]
    assert missed._pause > 1


# -- no more threads ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["disk", "redis"])
async def test_a_process_out_of_threads_still_hits(
    kind: str, tmp_path: Path, redis_url: str, prefix: str, monkeypatch: pytest.MonkeyPatch
):
    """That no thread is to be had is no fault of a backend: what needs none goes on."""
    backend: Any = DiskCache(tmp_path) if kind == "disk" else RedisCache(redis_url)
    calls, events = [], []

    @instructor_cache(backend, prefix=prefix, observer=lambda event: events.append(event.kind))
    def extract(text: str) -> User:
        calls.append(text)
        return User(name=text)

    @instructor_cache(backend, prefix=prefix, observer=lambda event: events.append(event.kind))
    async def extract_later(text: str) -> User:
        return User(name=text)

    extract.cache_map("abcde")
    calls.clear()

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    for n in range(12):
        assert (await extract_later(f"{n}")).name == f"{n}"
    assert [user.name for user in extract.cache_map("abcde")] == list("abcde")
    assert calls == []
    assert "opened" not in events
