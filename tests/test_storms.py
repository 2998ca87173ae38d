"""Thousands of callers, cancelled or killed at any moment: nobody hangs, nobody gets what is not
his, and nothing is left behind."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

import pytest
from pydantic import BaseModel

from instructor_cache import DiskCache, MemoryCache, RedisCache, TieredCache, instructor_cache
from instructor_cache.testing import FaultyBackend

KEYS = 5  # that are asked for at the same time


class Answer(BaseModel):
    key: str
    text: str


class Boom(Exception):
    """The function's own failure."""


def engine_of(function: Any) -> Any:
    get = function.cache_get
    return getattr(get, "__wrapped__", get).__self__.engine


def check_nothing_is_left(function: Any) -> None:
    """No flight, joined or not, is under way."""
    flights = engine_of(function).flights
    assert flights._open == {}
    assert flights._under_way == {}


@pytest.fixture(params=["memory", "disk", "redis", "tiers"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    makers: dict[str, Callable[[], Any]] = {
        "memory": MemoryCache,
        "disk": lambda: DiskCache(tmp_path / "store"),
        "redis": lambda: RedisCache(request.getfixturevalue("redis_url")),
        "tiers": lambda: TieredCache(
            MemoryCache(), FaultyBackend(MemoryCache()), DiskCache(tmp_path / "store")
        ),
    }
    backend = makers[request.param]()
    yield backend
    if hasattr(backend, "close"):
        backend.close()


# -- tasks -----------------------------------------------------------------------------------


def stormy(backend: Any, prefix: str, seed: int) -> tuple[Any, Counter[str]]:
    """An async cached function that takes any time and fails at times; counts its calls."""
    calls: Counter[str] = Counter()
    random = Random(seed)

    @instructor_cache(backend, prefix=prefix, flight_timeout=20)
    async def answer(key: str) -> Answer:
        calls[key] += 1
        await asyncio.sleep(random.choice([0, 0, 0.001, 0.005]))
        if random.random() < 0.2:
            raise Boom
        return Answer(key=key, text=f"the answer to {key}" * 20)

    return answer, calls


async def check_answer(function: Any, key: str, outcomes: Counter[str]) -> None:
    """Ask, and note what came of it: only the right answer, the failure, or being cancelled."""
    try:
        answer = await function(key)
    except Boom:
        outcomes["failed"] += 1
    except asyncio.CancelledError:
        outcomes["cancelled"] += 1
        raise
    else:
        assert answer == Answer(key=key, text=f"the answer to {key}" * 20)
        outcomes["answered"] += 1


async def storm(function: Any, seed: int, seconds: float) -> Counter[str]:
    """Batches of tasks on new keys, most of them cancelled at some moment."""
    random, outcomes, loop = Random(seed), Counter[str](), asyncio.get_running_loop()
    end, batch = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        batch += 1  # the loops in other threads ask for the same keys, at about the same time
        tasks = [
            asyncio.create_task(
                check_answer(function, f"{batch}:{random.randrange(KEYS)}", outcomes)
            )
            for _ in range(random.choice([5, 50, 100]))
        ]
        for task in tasks:
            if random.random() < 0.7:
                loop.call_later(random.choice([0, 0, 0.001, 0.003, 0.01]), task.cancel)
        done, pending = await asyncio.wait(tasks, timeout=30)
        assert not pending, "somebody hangs"
        for task in done:
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error
    for number in range(1, batch + 1):  # whatever was cancelled, the keys are usable
        for key in range(KEYS) if number > batch - 3 else ():
            await asyncio.wait_for(check_answer(function, f"{number}:{key}", outcomes), 30)
    return outcomes


async def settled() -> None:
    """Wait until no task but this one is left, as it must be soon."""
    deadline = time.monotonic() + 5
    while (left := asyncio.all_tasks() - {asyncio.current_task()}) and time.monotonic() < deadline:
        await asyncio.sleep(0.005)
    assert not left, f"left behind: {left}"


def run_storm(backend: Any, prefix: str, seconds: float, seed: int, loops: int) -> None:
    function, calls = stormy(backend, prefix, seed)

    async def main(number: int) -> Counter[str]:
        outcomes = await asyncio.wait_for(storm(function, seed + number, seconds), seconds + 60)
        await settled()
        return outcomes

    with ThreadPoolExecutor(loops) as pool:
        running = [pool.submit(asyncio.run, main(number)) for number in range(loops)]
        totals = sum((each.result(seconds + 90) for each in running), Counter[str]())
    check_nothing_is_left(function)
    assert min(totals["answered"], totals["cancelled"], 20 * totals["failed"]) >= 20, totals
    assert sum(calls.values()) < totals.total(), "nothing was shared"


@pytest.mark.slow
@pytest.mark.parametrize("loops", [1, 3])
def test_a_storm_of_cancellations(backend: Any, prefix: str, loops: int) -> None:
    """Tasks in one or three event loops, cancelled at any moment: every answer is right."""
    run_storm(backend, prefix, 0.5, seed=7, loops=loops)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_a_long_storm_of_cancellations(backend: Any, prefix: str, seed: int) -> None:
    """The same for longer, with other seeds."""
    run_storm(backend, prefix, 2, seed=100 * seed, loops=3)


async def test_every_leader_is_cancelled(backend: Any, prefix: str) -> None:
    """As often as the leader is cancelled a follower takes over, and the last one answers."""
    calls: list[int] = []
    function, current = None, []

    @instructor_cache(backend, prefix=prefix)
    async def answer(key: str) -> Answer:
        calls.append(1)
        current.append(asyncio.current_task())
        await asyncio.sleep(1000 if len(calls) < 50 else 0.01)
        return Answer(key=key, text="")

    function = answer
    tasks = [asyncio.create_task(function("a")) for _ in range(60)]
    for number in range(1, 50):
        while len(calls) < number:
            await asyncio.sleep(0)
        current[-1].cancel()
    outcomes = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 30)
    assert sum(isinstance(each, asyncio.CancelledError) for each in outcomes) == 49
    assert [each.key for each in outcomes if isinstance(each, Answer)] == ["a"] * 11
    assert len(calls) == 50
    check_nothing_is_left(function)
    await settled()


# -- threads ---------------------------------------------------------------------------------


def run_killing(backend: Any, prefix: str, rounds: int, seed: int) -> None:
    random, outcomes = Random(seed), Counter[str]()
    lock = threading.Lock()

    @instructor_cache(backend, prefix=prefix, flight_timeout=20)
    def answer(key: str) -> Answer:
        with lock:
            fate = random.choice([None, None, SystemExit, KeyboardInterrupt, GeneratorExit, Boom])
            seconds = random.choice([0, 0.002])
        time.sleep(seconds)
        if fate is not None:
            raise fate
        return Answer(key=key, text="x" * 500)

    def ask(key: str) -> None:
        try:
            found = answer(key)
        except (SystemExit, KeyboardInterrupt, GeneratorExit, Boom) as error:
            outcome = type(error).__name__
        else:
            assert found == Answer(key=key, text="x" * 500)
            outcome = "answered"
        with lock:
            outcomes[outcome] += 1

    with ThreadPoolExecutor(16) as pool:
        jobs = [
            pool.submit(ask, f"{number}:{key % 2}") for number in range(rounds) for key in range(16)
        ]
        for job in jobs:
            job.result(60)
    assert outcomes.total() == rounds * 16
    assert min(outcomes.values()) > 0 and len(outcomes) == 5, outcomes
    check_nothing_is_left(answer)


def test_leaders_that_are_killed(backend: Any, prefix: str) -> None:
    """Threads whose call is killed hand over to those that wait; nobody gets another's fate."""
    run_killing(backend, prefix, 30, seed=3)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_many_leaders_that_are_killed(backend: Any, prefix: str, seed: int) -> None:
    """The same, hundreds of times."""
    run_killing(backend, prefix, 300, seed)
