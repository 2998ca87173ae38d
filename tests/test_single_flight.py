"""One call in flight, at the edges: crowds, loops that end, chains of leaders, odd exceptions."""

from __future__ import annotations

import asyncio
import gc
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from functools import partial
from types import FrameType
from typing import Any

import pytest
from conftest import Colour, timed, wait_for_followers
from pydantic import BaseModel

from instructor_cache import MemoryCache, instructor_cache

PACKAGE = "instructor_cache"


class User(BaseModel):
    name: str


def engine_of(function: Any) -> Any:
    get = function.cache_get
    return getattr(get, "__wrapped__", get).__self__.engine


def no_flight_is_left(function: Any) -> bool:
    flights = engine_of(function).flights
    return not flights._open and not flights._under_way


# -- crowds ----------------------------------------------------------------------------------


def test_threads_and_tasks_at_once():
    """200 threads and 200 tasks in two loops ask for one key at once: one call for each colour."""
    calls: list[str] = []
    memory, gate = MemoryCache(), threading.Barrier(202)

    @instructor_cache(memory)
    def in_threads(text: str) -> User:
        calls.append("thread")
        time.sleep(0.3)
        return User(name=text)

    @instructor_cache(memory)
    async def in_tasks(text: str) -> User:
        calls.append("task")
        await asyncio.sleep(0.3)
        return User(name=text)

    def thread() -> list[User]:
        gate.wait(30)
        return [in_threads("ada")]

    def loop() -> list[User]:
        async def main() -> list[User]:
            return await asyncio.gather(*(in_tasks("ada") for _ in range(100)))

        gate.wait(30)
        return asyncio.run(main())

    with ThreadPoolExecutor(202) as pool:
        jobs = [pool.submit(work) for work in [thread] * 200 + [loop] * 2]
        users = [user for job in jobs for user in job.result(60)]
    assert sorted(calls) == ["task", "thread"]
    assert len({id(user) for user in users}) == 400
    assert {user.name for user in users} == {"ada"}
    assert no_flight_is_left(in_threads) and no_flight_is_left(in_tasks)


@timed
async def test_followers_of_a_failure_wait_for_one_call(colour: Colour):
    """Nobody waits longer for a shared failure than one call takes, and a little."""
    calls: list[str] = []

    async def afail(text: str) -> User:
        calls.append(text)
        await asyncio.sleep(0.5)
        raise LookupError

    def fail(text: str) -> User:
        calls.append(text)
        time.sleep(0.5)
        raise LookupError

    function: Any = instructor_cache(MemoryCache())(afail if colour.is_async else fail)

    async def seconds() -> float:
        start = time.monotonic()
        call = function if colour.is_async else partial(asyncio.to_thread, function)
        with pytest.raises(LookupError):
            await call("ada")
        return time.monotonic() - start

    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(10))
    assert max(await asyncio.gather(*(seconds() for _ in range(10)))) < 0.5 + 0.25
    assert len(calls) == 1


# -- leaders that are gone when the answer is there --------------------------------------------


class Patient:
    """A backend that stores nothing before it is let go."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        self.reached, self.goes = asyncio.Event(), asyncio.Event()

    async def aget(self, key: str) -> bytes | None:
        return self.kept.get(key)

    async def aset(self, key: str, value: bytes, _: float | None) -> None:
        self.reached.set()
        await self.goes.wait()
        self.kept[key] = value

    async def adelete(self, key: str) -> None:
        self.kept.pop(key, None)


@pytest.mark.parametrize("name", ["__call__", "cache_refresh"])
async def test_a_cancelled_leader_has_brought_the_answer(name: str):
    """If it comes while the answer is being stored, nobody pays again: it is kept and shared."""
    backend, calls = Patient(), list[str]()

    @instructor_cache(backend)
    async def extract(text: str) -> User:
        calls.append(text)
        return User(name=text)

    leader = asyncio.create_task(getattr(extract, name)("ada"))
    followers = [asyncio.create_task(getattr(extract, name)("ada")) for _ in range(3)]
    await backend.reached.wait()
    leader.cancel()
    await asyncio.sleep(0)
    backend.goes.set()
    with pytest.raises(asyncio.CancelledError):
        await leader
    assert [user.name for user in await asyncio.gather(*followers)] == ["ada"] * 3
    assert await extract.cache_contains("ada")
    assert calls == ["ada"]
    assert no_flight_is_left(extract)


async def test_who_is_cancelled_twice_ends_at_once():
    """Nor is the answer lost then: it is stored behind his back."""
    backend = Patient()

    @instructor_cache(backend)
    async def extract(text: str) -> User:
        return User(name=text)

    leader = asyncio.create_task(extract("ada"))
    await backend.reached.wait()
    backend.reached.clear()
    leader.cancel()
    await asyncio.wait_for(backend.reached.wait(), 5)
    leader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leader
    backend.goes.set()
    while not backend.kept:
        await asyncio.sleep(0)


@timed
@pytest.mark.parametrize("name", ["__call__", "cache_refresh"])
async def test_a_cancelled_leader_waits_for_a_moment_only(name: str):
    """A store that takes long keeps nobody; and what is forgotten after it is not brought back."""
    backend = Patient()

    @instructor_cache(backend, timeout=10)
    async def extract(text: str) -> User:
        return User(name=text)

    leader = asyncio.create_task(getattr(extract, name)("ada"))
    await backend.reached.wait()
    start = time.monotonic()
    leader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leader
    assert time.monotonic() - start < 0.3
    await extract.cache_invalidate("ada")
    backend.goes.set()
    for _ in range(50):
        await asyncio.sleep(0)
    assert not await extract.cache_contains("ada")
    assert no_flight_is_left(extract)


def test_an_interrupted_leader_has_brought_the_answer():
    """Ctrl-C while the answer is being stored: it is kept, and those who wait get it."""
    calls, threads = list[str](), list[threading.Thread]()
    answers = list[User]()

    class Interrupted(MemoryCache):
        bounded = True
        is_quiet = False

        def set(self, *args: Any) -> None:
            if not self.is_quiet:
                self.is_quiet = True
                raise KeyboardInterrupt
            super().set(*args)

        swap = None  # type: ignore[assignment]

    @instructor_cache(Interrupted())
    def extract(text: str) -> User:
        calls.append(text)
        threads.append(threading.Thread(target=lambda: answers.append(extract(text))))
        threads[-1].start()
        return User(name=text)

    with pytest.raises(KeyboardInterrupt):
        extract("ada")
    threads[0].join()
    assert answers == [User(name="ada")]
    assert calls == ["ada"]
    assert no_flight_is_left(extract)


# -- loops that end --------------------------------------------------------------------------


class OtherLoop:
    """An event loop in a thread, in which a leader is under way."""

    def __init__(self, function: Any) -> None:
        self.loop = asyncio.new_event_loop()
        self.task: Any = None
        self._thread = threading.Thread(target=self._run, args=(function,), daemon=True)
        self._thread.start()

    def _run(self, function: Any) -> None:
        self.task = self.loop.create_task(function("ada"))
        self.loop.run_forever()
        self.loop.close()

    def end(self) -> None:
        """Stop and close it as it is, which cancels nothing."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()


def lasting(flight_timeout: float) -> tuple[Any, list[int]]:
    """A function whose first call never ends, and the list of its calls."""
    calls: list[int] = []

    @instructor_cache(MemoryCache(), flight_timeout=flight_timeout)
    async def extract(text: str) -> User:
        calls.append(1)
        await asyncio.sleep(1000 if len(calls) == 1 else 0)
        return User(name=text)

    return extract, calls


async def begun(calls: list[int]) -> None:
    while not calls:
        await asyncio.sleep(0.001)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_closed_loop_gives_its_flights_back(caplog: pytest.LogCaptureFixture):
    """When the leader's loop is closed and forgotten, a follower in another loop takes over."""
    caplog.set_level(logging.CRITICAL, "asyncio")  # "Task was destroyed but it is pending!"
    extract, calls = lasting(flight_timeout=30)
    other = OtherLoop(extract)
    await begun(calls)
    follower = asyncio.create_task(extract("ada"))
    await asyncio.sleep(0.02)
    other.end()
    del other
    gc.collect()
    assert (await asyncio.wait_for(follower, 5)).name == "ada"
    assert len(calls) == 2
    assert no_flight_is_left(extract)


@timed
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_flight_that_will_never_land_costs_one_timeout(caplog: pytest.LogCaptureFixture):
    """A leader that is stuck for ever holds its followers up for the timeout, and nobody later."""
    caplog.set_level(logging.CRITICAL, "asyncio")
    extract, calls = lasting(flight_timeout=0.3)
    other = OtherLoop(extract)  # whose task is kept: it could go on, for all that we can see
    await begun(calls)
    follower = asyncio.create_task(extract("ada"))
    await asyncio.sleep(0.02)
    other.end()
    assert (await asyncio.wait_for(follower, 5)).name == "ada"
    start = time.monotonic()
    for _ in range(3):
        assert (await asyncio.wait_for(extract("ada"), 5)).name == "ada"
    assert time.monotonic() - start < 0.3


def test_a_follower_whose_loop_is_closed_disturbs_nobody(caplog: pytest.LogCaptureFixture):
    """The leader lands without noise, though a follower waits in a loop that is no more."""
    caplog.set_level(logging.CRITICAL, "asyncio")
    entered, leave = threading.Event(), threading.Event()

    @instructor_cache(MemoryCache())
    async def extract(text: str) -> User:
        entered.set()
        while not leave.is_set():
            await asyncio.sleep(0.001)
        return User(name=text)

    with ThreadPoolExecutor(1) as pool:
        leader = pool.submit(asyncio.run, extract("ada"))
        assert entered.wait(5)
        other = OtherLoop(extract)
        while other.task is None:
            time.sleep(0.001)
        time.sleep(0.05)
        other.end()
        leave.set()
        assert leader.result(5).name == "ada"
    assert no_flight_is_left(extract)
    assert [r for r in caplog.records if r.name == "concurrent.futures"] == []
    with pytest.raises(RuntimeError):  # as the loop is closed: only to end its coroutine quietly
        other.task.get_coro().throw(RuntimeError())


# -- recursion -------------------------------------------------------------------------------


async def test_mutual_recursion_in_tasks():
    """Two tasks, two keys, each asking for the other's in a task of its own: both are answered."""
    entered: list[str] = []

    @instructor_cache(MemoryCache(), key=lambda name, n: name, flight_timeout=30)
    async def extract(name: str, n: int) -> User:
        entered.append(name)
        while len(entered) < 2:
            await asyncio.sleep(0.001)
        if n < 3:
            return await asyncio.create_task(extract("b" if name == "a" else "a", n + 1))
        return User(name="end")

    users = await asyncio.wait_for(asyncio.gather(extract("a", 0), extract("b", 0)), 5)
    assert [user.name for user in users] == ["end", "end"]
    assert no_flight_is_left(extract)


@pytest.mark.parametrize("method", ["refresh", "set", "get", "invalidate", "contains", "clear"])
async def test_everything_can_be_asked_from_inside_a_call(colour: Colour, method: str):
    """A call may use its own function's cache, for its own key: it ends, and answers."""
    calls: list[int] = []

    async def aextract(text: str) -> User:
        calls.append(1)
        if len(calls) == 1:
            await getattr(function, f"cache_{method}")(*arguments)
        return User(name=f"{text}{len(calls)}")

    def extract(text: str) -> User:
        calls.append(1)
        if len(calls) == 1:
            getattr(function, f"cache_{method}")(*arguments)
        return User(name=f"{text}{len(calls)}")

    arguments: list[Any] = [] if method == "clear" else ["ada"]
    if method == "set":
        arguments.insert(0, User(name="by hand"))
    function: Any = instructor_cache(MemoryCache(), flight_timeout=30)(
        aextract if colour.is_async else extract
    )
    user = await asyncio.wait_for(colour.call(function, "ada"), 5)
    assert user.name == f"ada{len(calls)}"
    later = await colour.call(function, "ada")
    assert later.name == {"set": "by hand", "invalidate": "ada2", "clear": "ada2"}.get(
        method, user.name
    )
    assert no_flight_is_left(function)


@pytest.mark.parametrize("stale_ttl", [60])
async def test_a_set_during_a_failing_call_stays(colour: Colour, stale_ttl: float):
    """The later word wins: what was set while a call was under way is there when it fails."""

    async def aextract(text: str) -> User:
        await function.cache_set(User(name="by hand"), text)
        raise LookupError

    def extract(text: str) -> User:
        function.cache_set(User(name="by hand"), text)
        raise LookupError

    function: Any = instructor_cache(MemoryCache(), ttl=60, stale_ttl=stale_ttl)(
        aextract if colour.is_async else extract
    )
    with suppress(LookupError):
        await colour.call(function, "ada")
    assert await colour.call(function.cache_get, "ada") == User(name="by hand")


async def test_a_set_during_a_refresh_stays(colour: Colour):
    """The later word wins over a refresh, too."""

    async def aextract(text: str) -> User:
        await function.cache_set(User(name="by hand"), text)
        return User(name="refreshed")

    def extract(text: str) -> User:
        function.cache_set(User(name="by hand"), text)
        return User(name="refreshed")

    function: Any = instructor_cache(MemoryCache())(aextract if colour.is_async else extract)
    assert (await colour.call(function.cache_refresh, "ada")).name == "refreshed"
    assert await colour.call(function.cache_get, "ada") == User(name="by hand")


# -- odd exceptions --------------------------------------------------------------------------


class Demanding(Exception):
    """Can't be made anew from its arguments, nor copied."""

    def __init__(self, code: int, *, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.lock = threading.Lock()

    def __reduce__(self) -> Any:
        raise TypeError("not to be copied")


def holding_frames() -> Exception:
    error = Demanding(1, reason="frames")
    error.frame = sys._getframe()  # type: ignore[attr-defined]
    error.itself = error  # type: ignore[attr-defined]
    return error


ODD: list[Callable[[], BaseException]] = [
    lambda: Demanding(429, reason="too many"),
    holding_frames,
    StopIteration,
    StopAsyncIteration,
    asyncio.CancelledError,
    GeneratorExit,
    TimeoutError,
    asyncio.TimeoutError,
    RecursionError,
    BaseException,
]
if sys.version_info >= (3, 11):
    ODD.append(lambda: ExceptionGroup("both", [ValueError(), Demanding(1, reason="inner")]))  # noqa: F821


@pytest.mark.parametrize("make", ODD, ids=lambda make: getattr(make, "__name__", "?"))
async def test_any_exception_reaches_everybody(colour: Colour, make: Callable[[], BaseException]):
    """Each of ten callers gets the function's exception; nobody hangs; nothing is cached."""
    kind = type(make())
    if colour.is_async and kind is StopIteration:
        kind = RuntimeError  # which a coroutine makes of it, with or without a cache
    calls: list[int] = []
    others = [9 if issubclass(kind, Exception) else 0]  # who are there before it fails

    def extract(text: str) -> User:
        calls.append(1)
        wait_for_followers(function, others[0])
        time.sleep(0.01)
        raise make()

    async def aextract(text: str) -> User:
        await asyncio.sleep(0)
        return extract(text)  # each caller has a thread of his own

    function: Any = instructor_cache(MemoryCache(), flight_timeout=30)(
        aextract if colour.is_async else extract
    )

    gate = threading.Barrier(10)

    def attempt() -> type[BaseException]:
        try:
            if not colour.is_async:
                return type(function("ada"))
            with closing(asyncio.new_event_loop()) as loop:
                return type(loop.run_until_complete(function("ada")))
        except BaseException as error:
            return type(error)

    def attempt_together() -> type[BaseException]:
        gate.wait(10)
        return attempt()

    with ThreadPoolExecutor(10) as pool:
        jobs = [pool.submit(attempt_together) for _ in range(10)]
        assert {job.result(10) for job in jobs} == {kind}
    assert len(calls) == 1 if issubclass(kind, Exception) else len(calls) <= 10
    assert no_flight_is_left(function)
    calls.clear()
    others[0] = 0
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(attempt).result(10) is kind
    assert len(calls) == 1


def test_a_shared_failure_keeps_its_own_context():
    """A follower that is itself handling another error does not put it into the shared one."""
    started = threading.Event()
    errors: list[BaseException] = []

    @instructor_cache(MemoryCache())
    def extract(text: str) -> User:
        started.set()
        time.sleep(0.2)
        raise LookupError("shared")

    def lead() -> None:
        try:
            extract("ada")
        except LookupError as error:
            errors.append(error)

    def follow() -> None:
        started.wait()
        try:
            raise ValueError("a secret of the follower's")
        except ValueError:
            lead()

    with ThreadPoolExecutor(2) as pool:
        for job in [pool.submit(lead), pool.submit(follow)]:
            job.result(10)
    assert len(errors) == 2
    assert errors[0].__context__ is None


# -- interrupts ------------------------------------------------------------------------------


def interrupt() -> None:
    raise KeyboardInterrupt


class InterruptAt:
    """Calls *handler* at the n-th moment at which a signal could be handled, in code of ours.

    Python looks for signals when it enters a function, and after a call of one written in C.
    """

    def __init__(self, n: int, handler: Callable[[], object] = interrupt) -> None:
        self.left = n
        self.handler = handler
        self.place = ""
        # Kept: Python holds no reference of its own while it calls this, and lets go of it when it
        # has raised, as it may in a finalizer that runs just before the call.
        self._hook = self._look

    def __enter__(self) -> InterruptAt:
        sys.setprofile(self._hook)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _look(self, frame: FrameType, event: str, _: Any) -> None:
        if event not in ("call", "c_return") or self.left == 0:
            return
        if not str(frame.f_globals.get("__name__", "")).startswith(PACKAGE):
            return
        self.left -= 1
        if self.left == 0:
            self.place = f"{frame.f_globals['__name__']}:{frame.f_lineno} {event}"
            self.handler()


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_at_any_moment_leaves_the_key_usable():
    """Ctrl-C at any moment in our code: the next call is answered, and waits for nobody."""
    broken: list[str] = []
    for n in range(1, 2000):
        function = make_quick()
        with InterruptAt(n) as interrupt, suppress(KeyboardInterrupt):
            function("ada")
        if not interrupt.place:
            break
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(function, "ada").result(10).name == "ada", interrupt.place
        if engine_of(function).flights._open:
            broken.append(interrupt.place)
    assert 50 < n < 1999
    assert broken == []


@pytest.mark.parametrize("text", ["ada", "eve"])
def test_a_signal_handler_at_any_moment_gets_its_answer(text: str):
    """A handler, or a `__del__`, may call what it interrupts, and waits for nothing it holds up."""
    reached: list[str] = []

    def ask(function: Any) -> None:
        handled.append(function(text).name)

    def at_every_moment() -> None:
        for n in range(1, 2000, 3):  # every third, to be quick
            function = make_quick(flight_timeout=60)
            with InterruptAt(n, partial(ask, function)) as interrupted:
                assert function("ada").name == "ada"
            if not interrupted.place:
                break
            assert handled.pop() == text
            reached.append(interrupted.place)
            assert function("ada").name == "ada"

    handled: list[str] = []
    thread = threading.Thread(target=at_every_moment, daemon=True)
    thread.start()
    thread.join(60)
    assert not thread.is_alive(), reached[-1:]
    assert 20 < len(reached) < 600
    assert not handled


def make_quick(flight_timeout: float = 0.05) -> Any:
    @instructor_cache(MemoryCache(), flight_timeout=flight_timeout)
    def extract(text: str) -> User:
        return User(name=text)

    extract("warm")  # so that what is made at the first use is there
    return extract


# -- the end of the interpreter --------------------------------------------------------------

_AT_EXIT = """
import logging, threading, time
from pydantic import BaseModel
from instructor_cache import MemoryCache, instructor_cache
from instructor_cache.testing import FaultyBackend

class User(BaseModel):
    name: str

logging.disable()
faulty = FaultyBackend(MemoryCache())
entered = threading.Event()

@instructor_cache(MemoryCache())
def lasting(text: str) -> User:
    entered.set()
    time.sleep(1000)
    return User(name=text)

@instructor_cache(faulty)
def quick(text: str) -> User:
    return User(name=text)

for _ in range(3):  # a leader and two followers
    threading.Thread(target=lasting, args=("ada",), daemon=True).start()
entered.wait()
faulty.silent()
print(quick("ada").name, flush=True)
"""


def test_the_interpreter_ends_though_calls_are_under_way():
    """Daemon threads that lead or follow, and a backend that is silent, do not hold it up."""
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", _AT_EXIT], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "ada\n", "")
    assert time.monotonic() - start < 20
