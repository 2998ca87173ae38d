"""One call in flight: however many ask at once, the function is called once."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import threading
import time
import warnings
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from conftest import Colour, engine_of, wait_for_followers
from pydantic import BaseModel

from instructor_cache import (
    DiskCache,
    Event,
    MemoryCache,
    UnstorableResultWarning,
    instructor_cache,
)
from instructor_cache._bridge import wait_async
from instructor_cache._flights import Changed, Flights
from instructor_cache._waits import Flight


class User(BaseModel):
    name: str
    tags: list[str] = []


def together(count: int, work: Any) -> list[Any]:
    """What *count* threads get that call *work* at the same moment."""
    gate = threading.Barrier(count)

    def run(_: int) -> Any:
        gate.wait()
        return work()

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


def test_threads_share_one_call():
    """Fifty threads, one call, fifty answers of their own."""
    calls: list[str] = []
    events: list[Event] = []

    @instructor_cache(MemoryCache(), observer=events.append)
    def extract(text: str) -> User:
        calls.append(text)
        time.sleep(0.05)
        return User(name=text)

    users = together(50, lambda: extract("ada"))
    assert calls == ["ada"]
    assert len({id(user) for user in users}) == 50
    assert len({id(user.tags) for user in users}) == 50
    assert {user.name for user in users} == {"ada"}
    assert sum(e.kind in ("hit", "shared") for e in events) == 49


@pytest.mark.slow
def test_no_round_of_threads_calls_twice():
    """Who comes just as the leader lands finds the stored answer: 150 rounds, 150 calls."""
    calls: list[str] = []

    @instructor_cache(MemoryCache())
    def extract(text: str) -> User:
        calls.append(text)
        return User(name=text)

    for n in range(150):
        together(8, lambda n=n: extract(str(n)))
    assert len(calls) == 150


async def test_tasks_share_one_call():
    """Fifty tasks, one call."""
    calls: list[str] = []

    @instructor_cache(MemoryCache())
    async def extract(text: str) -> User:
        calls.append(text)
        await asyncio.sleep(0.01)
        return User(name=text)

    users = await asyncio.gather(*(extract("ada") for _ in range(50)))
    assert calls == ["ada"]
    assert len({id(user) for user in users}) == 50


def test_event_loops_in_threads_share_one_call():
    """Eight loops in eight threads that use one async function make one call."""
    calls: list[str] = []

    @instructor_cache(MemoryCache())
    async def extract(text: str) -> User:
        calls.append(text)
        await asyncio.sleep(0.05)
        return User(name=text)

    users = together(8, lambda: asyncio.run(extract("ada")))
    assert calls == ["ada"]
    assert {user.name for user in users} == {"ada"}


def test_a_failure_is_shared_and_not_kept():
    """Ten callers that wait get the leader's failure from one call; the next caller tries again."""
    calls: list[str] = []

    @instructor_cache(MemoryCache())
    def extract(text: str) -> User:
        calls.append(text)
        if len(calls) == 1:
            wait_for_followers(extract, 9)
        raise LookupError("rate limited")

    def attempt() -> str:
        try:
            extract("ada")
        except LookupError as error:
            return str(error)
        return "no error"

    assert together(10, attempt) == ["rate limited"] * 10
    assert len(calls) == 1
    assert attempt() == "rate limited"
    assert len(calls) == 2


async def test_a_follower_takes_over_from_a_cancelled_leader():
    """Cancelling the leader neither cancels nor fails the followers."""
    calls: list[str] = []
    started = asyncio.Event()

    @instructor_cache(MemoryCache())
    async def extract(text: str) -> User:
        calls.append(text)
        started.set()
        await asyncio.sleep(0.02)
        return User(name=text)

    leader = asyncio.create_task(extract("ada"))
    await started.wait()
    followers = [asyncio.create_task(extract("ada")) for _ in range(3)]
    await asyncio.sleep(0)
    leader.cancel()
    assert [user.name for user in await asyncio.gather(*followers)] == ["ada"] * 3
    assert leader.cancelled()
    assert len(calls) == 2


async def test_a_cancelled_follower_disturbs_nobody():
    """The leader and the other followers get their answer."""
    calls: list[str] = []

    @instructor_cache(MemoryCache())
    async def extract(text: str) -> User:
        calls.append(text)
        await asyncio.sleep(0.02)
        return User(name=text)

    tasks = [asyncio.create_task(extract("ada")) for _ in range(4)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    tasks[1].cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(outcomes[1], asyncio.CancelledError)
    assert [o.name for o in outcomes if isinstance(o, User)] == ["ada"] * 3
    assert len(calls) == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_an_interrupted_leader_hands_over(error: type[BaseException]):
    """What is no ordinary error passes through the leader, and a follower calls for itself."""
    calls: list[str] = []

    @instructor_cache(MemoryCache())
    def extract(text: str) -> User:
        calls.append(text)
        time.sleep(0.05)
        if len(calls) == 1:
            raise error
        return User(name=text)

    def attempt() -> str:
        try:
            return extract("ada").name
        except error:
            return "interrupted"

    assert sorted(together(4, attempt)) == ["ada", "ada", "ada", "interrupted"]
    assert len(calls) == 2


async def test_a_call_that_leads_to_itself_runs_directly(colour: Colour):
    """A recursive call on the same key answers what the function answers without a cache."""
    depth: list[int] = []

    if colour.is_async:

        @instructor_cache(MemoryCache())
        async def extract(text: str) -> User:
            depth.append(1)
            return await asyncio.create_task(extract(text)) if len(depth) < 3 else User(name=text)

    else:

        @instructor_cache(MemoryCache())
        def extract(text: str) -> User:
            depth.append(1)
            return extract(text) if len(depth) < 3 else User(name=text)

    assert (await asyncio.wait_for(colour.call(extract, "ada"), 5)).name == "ada"
    assert len(depth) == 3


def test_two_calls_to_each_other_do_not_deadlock():
    """Two threads, two keys, each calling the other's: both get answers at once."""
    gate = threading.Barrier(2)

    def enter() -> None:
        with suppress(threading.BrokenBarrierError):
            gate.wait(timeout=0.2)  # both lead before either calls the other

    @instructor_cache(MemoryCache(), key=lambda n: "a")
    def a(n: int) -> User:
        enter()
        return b(n + 1) if n < 2 else User(name="end")

    @instructor_cache(MemoryCache(), key=lambda n: "b")
    def b(n: int) -> User:
        enter()
        return a(n + 1) if n < 2 else User(name="end")

    start = time.monotonic()
    with ThreadPoolExecutor(2) as pool:
        one, two = pool.submit(a, 0), pool.submit(b, 0)
        assert one.result(timeout=10).name == two.result(timeout=10).name == "end"
    assert time.monotonic() - start < 5


def test_a_call_on_top_of_the_leaders_stack_waits_for_nobody():
    """Where a loop runs inside another one's task, as in notebooks, its calls see no leader."""
    calls: list[str] = []

    @instructor_cache(MemoryCache())
    def extract(text: str) -> User:
        calls.append(text)
        if len(calls) == 1:  # another task, which has a context of its own
            assert contextvars.Context().run(extract, text).name == text
        return User(name=text)

    start = time.monotonic()
    assert extract("ada").name == "ada"
    assert time.monotonic() - start < 5
    assert len(calls) == 2


async def test_equal_refreshes_share_one_call(colour: Colour):
    """Ten who want a new answer at once get one, each his own copy; a later one a newer one."""
    calls: list[str] = []
    entered, leave = threading.Event(), threading.Event()

    def extract(text: str) -> User:
        calls.append(text)
        entered.set()
        assert colour.is_async or leave.wait(5)
        return User(name=f"{text} {len(calls)}")

    f: Any = instructor_cache(MemoryCache())(colour.function(extract))
    if colour.is_async:
        users = await asyncio.gather(*(f.cache_refresh("ada") for _ in range(10)))
    else:
        with ThreadPoolExecutor(10) as pool:
            jobs = [pool.submit(f.cache_refresh, "ada") for _ in range(10)]
            entered.wait(5)
            refreshes = engine_of(f).refreshes
            while sum(len(flight._condition._waiters) for flight in refreshes._under_way) < 9:
                await asyncio.sleep(0.001)
            leave.set()
            users = [job.result() for job in jobs]
    assert [user.name for user in users] == ["ada 1"] * 10
    assert len({id(user) for user in users}) == 10
    assert (await colour.call(f, "ada")).name == "ada 1"
    assert (await colour.call(f.cache_refresh, "ada")).name == "ada 2"


async def test_a_refresh_after_an_invalidation_shares_nothing_older():
    """What was begun before the answer was invalidated is joined by nobody who comes after it."""
    calls: list[str] = []
    leave = asyncio.Event()

    @instructor_cache(MemoryCache())
    async def extract(text: str) -> User:
        calls.append(text)
        number = len(calls)
        await leave.wait()
        return User(name=f"{text} {number}")

    first = asyncio.ensure_future(extract.cache_refresh("ada"))
    await asyncio.sleep(0)
    await extract.cache_invalidate("ada")
    second = asyncio.ensure_future(extract.cache_refresh("ada"))
    await asyncio.sleep(0)
    leave.set()
    assert [(await first).name, (await second).name] == ["ada 1", "ada 2"]
    assert (await extract("ada")).name != "ada 1"


async def test_a_refresh_that_brings_nothing_leaves_a_call_beside_it_alone():
    """Others still join that call, and its answer is kept."""
    calls: list[str] = []
    fail, answer = asyncio.Event(), asyncio.Event()

    @instructor_cache(MemoryCache())
    async def extract(text: str) -> User:
        calls.append(text)
        if len(calls) == 1:
            await fail.wait()
            raise LookupError("down")
        await answer.wait()
        return User(name=f"{text} {len(calls)}")

    refresh = asyncio.ensure_future(extract.cache_refresh("ada"))
    await asyncio.sleep(0)
    beside = asyncio.ensure_future(extract("ada"))
    await asyncio.sleep(0)
    fail.set()
    with pytest.raises(LookupError):
        await refresh
    joined = asyncio.ensure_future(extract("ada"))
    await asyncio.sleep(0)
    answer.set()
    assert [(await each).name for each in (beside, joined)] == ["ada 2"] * 2
    assert await extract.cache_contains("ada")


async def test_a_call_that_outlasts_the_timeout_is_made_twice():
    """All who waited in vain for the first one share a second, whichever of the two ends first."""
    calls: list[str] = []
    leave = asyncio.Event()

    @instructor_cache(MemoryCache(), flight_timeout=0.3)
    async def extract(text: str) -> User:
        calls.append(text)
        await leave.wait()
        return User(name=text)

    asking = [asyncio.ensure_future(extract("ada")) for _ in range(10)]
    while len(calls) < 2:
        await asyncio.sleep(0.001)
    leave.set()
    assert {user.name for user in await asyncio.gather(*asking)} == {"ada"}
    assert len(calls) == 2


async def test_a_wait_that_can_not_be_seen_through_ends(colour: Colour):
    """A function that waits for a worker that calls it gets an answer after `flight_timeout`."""
    depth: list[int] = []

    if colour.is_async:

        @instructor_cache(MemoryCache(), flight_timeout=0.1)
        async def extract(text: str) -> User:
            depth.append(1)
            if len(depth) == 1:  # a worker with a loop of its own knows nothing of its caller
                await asyncio.to_thread(in_a_new_context, lambda: asyncio.run(extract(text)))
            return User(name=text)

    else:

        @instructor_cache(MemoryCache(), flight_timeout=0.1)
        def extract(text: str) -> User:
            depth.append(1)
            if len(depth) == 1:
                in_a_new_context(lambda: extract(text))
            return User(name=text)

    assert (await asyncio.wait_for(colour.call(extract, "ada"), 5)).name == "ada"
    assert len(depth) == 2


def in_a_new_context(work: Any) -> Any:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(contextvars.Context().run, work).result()


def test_an_endless_flight_timeout():
    """Infinity waits as long as it takes."""

    @instructor_cache(MemoryCache(), flight_timeout=float("inf"))
    def extract(text: str) -> User:
        time.sleep(0.2)
        return User(name=text)

    assert {user.name for user in together(3, lambda: extract("ada"))} == {"ada"}


def test_a_negative_flight_timeout_is_refused():
    """It is told at decoration."""
    with pytest.raises(ValueError, match="flight_timeout is -1"):
        instructor_cache(MemoryCache(), flight_timeout=-1)


@pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning")  # other tests' garbage
async def test_a_cancelled_follower_of_a_failing_call_leaves_no_noise():
    """An error that a cancelled follower never saw is not reported as unretrieved."""
    problems: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))

    @instructor_cache(MemoryCache())
    async def extract(text: str) -> User:
        await asyncio.sleep(0.02)
        raise LookupError

    leader, follower = (asyncio.create_task(extract("ada")) for _ in range(2))
    await asyncio.sleep(0.01)
    follower.cancel()
    with pytest.raises(LookupError):
        await leader
    del leader, follower
    gc.collect()
    await asyncio.sleep(0)
    assert problems == []


async def test_unstorable_answers_are_shared_as_copies():
    """Followers of an answer that can't be stored get copies of it, all from one call."""
    calls: list[str] = []

    @instructor_cache(MemoryCache(), cache_if=lambda _: False)
    async def extract(text: str) -> User:
        calls.append(text)
        await asyncio.sleep(0.01)
        return User(name=text)

    users = await asyncio.gather(*(extract("ada") for _ in range(5)))
    assert len(calls) == 1
    assert len({id(user) for user in users}) == 5

    @instructor_cache(MemoryCache())
    async def opaque(text: str) -> User:
        await asyncio.sleep(0.01)
        return threading.Lock()  # type: ignore[return-value]

    with pytest.warns(UnstorableResultWarning):
        locks = await asyncio.gather(*(opaque("ada") for _ in range(5)))
    assert len({id(lock) for lock in locks}) == 1  # what can't be copied is shared


@pytest.mark.parametrize("case", ["refused", "invalidated", "unstorable"])
async def test_followers_get_the_answer_as_it_was_before_the_leader_changed_it(case: str):
    """Their copies are of what the call gave, though nothing of it is kept."""

    @instructor_cache(MemoryCache(), cache_if=lambda _: case != "refused")
    async def extract(text: str) -> User:
        await asyncio.sleep(0)
        if case == "invalidated":
            await extract.cache_invalidate(text)
        return [text, ("ada", {"ada": object})] if case == "unstorable" else User(name=text)  # type: ignore[return-value]

    async def change() -> str:
        answer: Any = await extract("ada")
        before = str(answer)
        if case == "unstorable":
            answer.append("changed")
        else:
            answer.tags.append("changed")
        return before

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnstorableResultWarning)
        seen = await asyncio.gather(*(change() for _ in range(3)))
    assert len(set(seen)) == 1 and "changed" not in seen[0]


def test_a_set_during_a_call_wins():
    """An answer whose call began before `cache_set` does not overwrite what was set."""

    @instructor_cache(MemoryCache())
    def extract(text: str) -> User:
        if text == "ada":
            extract.cache_set(User(name="set by hand"), "ada")
        return User(name=text)

    assert extract("ada").name == "ada"
    assert extract("ada").name == "set by hand"


async def test_an_invalidation_during_a_call_wins(colour: Colour):
    """An answer whose call began before the invalidation is not served after it."""
    answers = iter(["old", "new"])
    memory = MemoryCache()

    def body(text: str) -> User:
        answer = next(answers)
        if answer == "old":
            memory_forgets(text)
        return User(name=answer)

    f = instructor_cache(memory)(colour.function(body))

    def memory_forgets(text: str) -> None:
        outcome = f.cache_invalidate(text)
        if colour.is_async:
            with pytest.raises(StopIteration):
                outcome.send(None)

    assert (await colour.call(f, "ada")).name == "old"
    assert (await colour.call(f, "ada")).name == "new"
    assert (await colour.call(f, "ada")).name == "new"


async def test_arguments_changed_while_a_call_waits_give_no_answer_to_the_old_ones(tmp_path: Path):
    """A list that grows before the function reads it: the answer is the caller's, and not kept."""
    events: list[Event] = []

    @instructor_cache(DiskCache(tmp_path), observer=events.append)
    async def extract(texts: list[str]) -> User:
        return User(name=texts[-1])

    mine = ["ada"]
    call = asyncio.ensure_future(extract(mine))
    await asyncio.sleep(0)
    mine.append("eve")
    assert (await call).name == "eve"
    assert not await extract.cache_contains(["ada"])
    assert not await extract.cache_contains(["ada", "eve"])
    assert [type(e.error) for e in events if e.kind == "unstorable"] == [Changed]


def test_arguments_changed_while_a_thread_waits_give_no_answer_to_the_old_ones():
    """The same where another thread's call is waited for, which ends without an answer."""
    entered, leave = threading.Event(), threading.Event()

    @instructor_cache(MemoryCache())
    def extract(texts: list[str]) -> User:
        if not leave.is_set():
            entered.set()
            leave.wait(5)
            raise SystemExit
        return User(name=texts[-1])

    mine = ["ada"]
    with ThreadPoolExecutor(2) as pool:
        killed = pool.submit(extract, ["ada"])
        assert entered.wait(5)
        (flight,) = engine_of(extract).flights._under_way
        waiting = pool.submit(extract, mine)
        while not flight._condition._waiters:
            time.sleep(0.001)
        mine.append("eve")
        leave.set()
        assert isinstance(killed.exception(), SystemExit)
        assert waiting.result().name == "eve"
    assert not extract.cache_contains(["ada"])


async def test_followers_of_changed_arguments_ask_for_themselves():
    """What the leader asks by now is not what they asked: one of them leads."""
    flights = Flights[str](wait_async)

    async def changed(_: Flight[str]) -> str:
        await asyncio.sleep(0)
        raise Changed

    async def alone() -> str:
        raise AssertionError("nobody waits for himself")

    async def unchanged(_: Flight[str]) -> str:
        await asyncio.sleep(0)
        return "ada"

    asking = (flights.share("key", lead, alone) for lead in (changed, unchanged, unchanged))
    outcomes = await asyncio.gather(*asking, return_exceptions=True)
    assert isinstance(outcomes[0], Changed)
    assert outcomes[1:] == [("ada", True), ("ada", False)]


async def test_arguments_changed_before_a_stream_begins_give_no_answer_to_the_old_ones(
    colour: Colour,
):
    """The same for a function that is called when its first item is wanted."""
    asked: list[list[str]] = []

    def items(texts: list[str]) -> list[User]:
        asked.append(list(texts))
        return [User(name=texts[-1])]

    @instructor_cache(MemoryCache())
    def extract(texts: list[str]) -> Iterator[User]:
        return iter(items(texts))

    @instructor_cache(MemoryCache())
    async def aextract(texts: list[str]) -> AsyncIterator[User]:
        async def pass_on() -> AsyncIterator[User]:
            for item in items(texts):
                yield item

        return pass_on()

    async def names(stream: Any) -> list[str]:
        return [item.name async for item in stream] if colour.is_async else [i.name for i in stream]

    f: Any = aextract if colour.is_async else extract
    mine = ["ada"]
    changed, same = await colour.call(f, mine), await colour.call(f, ["ada"])
    mine.append("eve")
    assert await names(changed) == ["eve"]
    assert await names(same) == ["ada"]
    assert await names(await colour.call(f, ["ada"])) == ["ada"]
    assert asked == [["ada", "eve"], ["ada"]]


async def test_a_refresh_of_changed_arguments_is_kept_for_nobody(tmp_path: Path):
    """The caller gets what he asks by now; what is stored stays as it is."""

    @instructor_cache(DiskCache(tmp_path))
    async def extract(texts: list[str]) -> User:
        return User(name=f"{texts[-1]} {len(texts)}")

    await extract.cache_set(User(name="by hand"), ["ada"])
    mine = ["ada"]
    refresh = asyncio.ensure_future(extract.cache_refresh(mine))
    await asyncio.sleep(0)
    mine.append("eve")
    assert (await refresh).name == "eve 2"
    assert (await extract(["ada"])).name == "by hand"


def test_one_shared_error_grows_no_endless_traceback():
    """Followers raise the leader's error with a traceback of bounded length."""
    lengths: list[int] = []
    raised: list[Exception] = []

    @instructor_cache(MemoryCache())
    def extract(text: str) -> User:
        wait_for_followers(extract, 15)
        raise LookupError

    def attempt() -> None:
        try:
            extract("ada")
        except LookupError as error:
            raised.append(error)
            tb, length = error.__traceback__, 0
            while tb is not None:
                tb, length = tb.tb_next, length + 1
            lengths.append(length)

    together(16, attempt)
    assert len({id(error) for error in raised}) == 1
    assert max(lengths) < 30


def test_nothing_is_left_of_landed_flights():
    """Failing and succeeding keys leave no flight behind."""

    @instructor_cache(MemoryCache(10))
    def extract(n: int) -> User:
        if n % 2:
            raise LookupError
        return User(name=str(n))

    for n in range(500):
        try:
            extract(n)
        except LookupError:
            continue
    engine = extract.cache_get.__wrapped__.__self__.engine  # type: ignore[attr-defined]
    assert engine.flights._open == {}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_child_starts_without_flights():
    """A child forked while a call is in flight makes its own call instead of waiting for ever."""
    entered, leave = threading.Event(), threading.Event()

    @instructor_cache(MemoryCache())
    def extract(text: str) -> User:
        entered.set()
        leave.wait(10)
        return User(name=text)

    leader = threading.Thread(target=extract, args=("ada",))
    leader.start()
    entered.wait()
    child = os.fork()
    if child == 0:
        leave.set()
        os._exit(0 if extract("ada").name == "ada" else 1)
    leave_in_time = time.monotonic() + 10
    status = None
    while status is None and time.monotonic() < leave_in_time:
        done, code = os.waitpid(child, os.WNOHANG)
        status = code if done else None
        time.sleep(0.01)
    leave.set()
    leader.join()
    assert status == 0
