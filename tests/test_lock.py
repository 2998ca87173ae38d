"""One call at a time across processes: `lock="backend"`, and the first answer wins without it."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import redis
from conftest import Colour, engine_of, timed
from proxy import Proxy
from pydantic import BaseModel
from redis_server import RedisServer

from instructor_cache import (
    DiskCache,
    Event,
    MemoryCache,
    RedisCache,
    TieredCache,
    instructor_cache,
)
from instructor_cache.testing import FaultyBackend

pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")

# Processes that ask one question each, and write down when the function was really called. They
# are forked by one that has done nothing yet but import, so that all are ready in no time.
SCRIPT = """
import asyncio, os, sys, time
from pydantic import BaseModel
from instructor_cache import DiskCache, RedisCache, MemoryCache, TieredCache, instructor_cache
url, log, plan = sys.argv[1:4]
class User(BaseModel):
    name: str
for asked, answered, colour, seconds, text, options in eval(plan):
    if os.fork() == 0:
        os.dup2(asked, 0)
        os.dup2(answered, 1)
        os.closerange(3, 256)
        break
else:
    os.closerange(3, 256)
    sys.stdin.read()  # until the test is over
    sys.exit()
backend = RedisCache(url) if url.startswith("redis") else DiskCache(url)
def called():
    with open(log, "a") as file:
        file.write(f"{os.getpid()}\\n")
def make(f):
    return instructor_cache(backend, prefix="locks", **options)(f)
if colour == "sync":
    @make
    def extract(text: str) -> User:
        called()
        time.sleep(seconds)
        return User(name=str(os.getpid()))
    ask = lambda: extract(text)
else:
    @make
    async def extract(text: str) -> User:
        called()
        await asyncio.sleep(seconds)
        return User(name=str(os.getpid()))
    ask = lambda: asyncio.run(extract(text))
print(os.getpid(), flush=True)
sys.stdin.readline()
print(ask().name, flush=True)
"""


class User(BaseModel):
    name: str


@pytest.fixture(params=["disk", "redis"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A folder, or the URL of an empty Redis database."""
    if request.param == "disk":
        return str(tmp_path / "cache")
    url: str = request.getfixturevalue("redis_url")
    client = redis.Redis.from_url(url)
    for key in client.scan_iter("*locks*"):
        client.delete(key)
    client.close()
    return url


class Asker:
    """A process that asks one question."""

    def __init__(self, *plan: Any) -> None:
        asked, asking = os.pipe()
        answering, answered = os.pipe()
        self.plan, self.inherited = (asked, answered, *plan), (asked, answered)
        self._asking, self._answering = os.fdopen(asking, "w"), os.fdopen(answering)
        self.pid = 0

    def ready(self) -> None:
        """Wait until it is."""
        self.pid = int(self.answer())

    def ask(self) -> None:
        self._asking.write("\n")
        self._asking.flush()

    def answer(self) -> str:
        return self._answering.readline().strip()

    def end(self) -> None:
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
        self._asking.close()
        self._answering.close()


class Processes:
    """Processes that are ready to ask."""

    def __init__(self, place: str, log: Path) -> None:
        self.place, self.log = place, log
        self.all: list[Asker] = []
        self._parent: subprocess.Popen[bytes] | None = None

    def start(self, colour: str, seconds: float, text: str = "ada", **options: Any) -> Asker:
        self.all.append(Asker(colour, seconds, text, {"lock": "backend", **options}))
        return self.all[-1]

    def ready(self) -> None:
        plan = repr([process.plan for process in self.all])
        inherited = [end for process in self.all for end in process.inherited]
        self._parent = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, self.place, str(self.log), plan],
            stdin=subprocess.PIPE,
            pass_fds=inherited,
        )
        for end in inherited:
            os.close(end)
        for process in self.all:
            process.ready()

    def calls(self) -> list[str]:
        return self.log.read_text().split() if self.log.exists() else []

    def wait_for_calls(self, count: int) -> None:
        deadline = time.monotonic() + 10
        while len(self.calls()) < count:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def end(self) -> None:
        for process in self.all:
            process.end()
        if self._parent is not None:
            self._parent.communicate()


@pytest.fixture
def processes(place: str, tmp_path: Path) -> Iterator[Processes]:
    made = Processes(place, tmp_path / "calls")
    yield made
    made.end()


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_processes_share_one_call(processes: Processes, kind: str):
    """Four processes that ask the same at once make one call, and all get its answer."""
    for _ in range(4):
        processes.start(kind, 0.4)
    processes.ready()
    for process in processes.all:
        process.ask()
    answers = [process.answer() for process in processes.all]
    assert len(set(answers)) == 1
    assert processes.calls() == answers[:1]


@timed
def test_a_killed_leader_holds_up_nobody_for_longer_than_its_lease(processes: Processes):
    """A process that is killed in the middle of its call leaves its lock; it lapses."""
    leader = processes.start("sync", 30, lock_lease=0.6)
    follower = processes.start("sync", 0.0, lock_lease=0.6)
    processes.ready()
    leader.ask()
    processes.wait_for_calls(1)
    follower.ask()
    time.sleep(0.1)
    os.kill(leader.pid, signal.SIGKILL)
    start = time.monotonic()
    assert follower.answer() == str(follower.pid)
    assert time.monotonic() - start < 0.6 + 0.25 + 0.5


@pytest.mark.slow
def test_a_lease_is_renewed_while_the_function_runs(processes: Processes):
    """A call that takes three leases keeps its lock: the other process waits for its answer."""
    pairs = [
        [processes.start(kind, 3.0, text=kind, lock_lease=1.0) for _ in range(2)]
        for kind in ("sync", "async")
    ]
    processes.ready()
    for leader, _ in pairs:
        leader.ask()
    processes.wait_for_calls(2)
    for _, follower in pairs:
        follower.ask()
    for leader, follower in pairs:
        assert follower.answer() == leader.answer() == str(leader.pid)


@pytest.mark.slow
def test_without_a_lock_the_first_answer_wins(processes: Processes):
    """Two processes that both call keep one answer: the one that was there first."""
    slow = processes.start("sync", 2.0, lock=None)
    fast = processes.start("sync", 0.1, lock=None)
    later = processes.start("sync", 0.0, lock=None)
    processes.ready()
    slow.ask()
    processes.wait_for_calls(1)
    fast.ask()
    assert fast.answer() == str(fast.pid)
    assert slow.answer() == str(slow.pid)  # what it paid for
    later.ask()
    assert later.answer() == str(fast.pid)


async def test_the_near_tier_of_the_second_leader_gets_the_first_answer(
    colour: Colour, tmp_path: Path
):
    """Later readers see one answer in every process, not each their own from a near tier."""
    disk, meanwhile = DiskCache(tmp_path), list[bytes]()

    def extract(text: str) -> User:
        if meanwhile:  # another process was faster
            disk.set(f.cache_key(text), meanwhile[0], None)
            return User(name="second")
        return User(name="first")

    f: Any = instructor_cache(TieredCache(MemoryCache(), disk))(colour.function(extract))
    await colour.call(f, "ada")
    meanwhile.append(disk.get(f.cache_key("ada")) or b"")
    await colour.call(f.cache_invalidate, "ada")
    assert (await colour.call(f, "ada")).name == "second"
    assert (await colour.call(f, "ada")).name == "first"


@timed
@pytest.mark.slow
async def test_waiting_is_cheap(colour: Colour):
    """A waiter sends at most 20 commands a second."""
    faulty = FaultyBackend(_Shared())

    def extract(text: str) -> User:
        return User(name=text)

    f: Any = instructor_cache(faulty, lock="backend", flight_timeout=1.2)(colour.function(extract))
    faulty.inner.swap(f"lock:{f.cache_key('ada')}", None, b"another process", None)
    start = time.monotonic()
    assert (await colour.call(f, "ada")).name == "ada"  # after the flight's timeout
    waited = time.monotonic() - start
    assert 0.9 < waited < 2.5
    assert sum(faulty.calls.values()) / waited <= 20


class _Shared(MemoryCache):
    """A memory that plays a store which other processes see."""

    is_local = False


async def test_a_store_that_fails_is_no_lock(colour: Colour):
    """Lost before, while holding, or while waiting: the function is called all the same."""
    for operation, times in (("swap", None), (("get", "set", "swap", "delete"), None), ("swap", 1)):
        faulty, events = FaultyBackend(_Shared()), list[Event]()

        def extract(text: str) -> User:
            return User(name=text)

        f: Any = instructor_cache(faulty, lock="backend", observer=events.append)(
            colour.function(extract)
        )
        with faulty.failing(on=operation, times=times):
            assert (await colour.call(f, "ada")).name == "ada"
        assert "failure" in [event.kind for event in events]


async def test_a_failing_call_gives_its_lock_back(colour: Colour):
    """The next caller need not wait for the lease."""
    backend = _Shared()

    def extract(text: str) -> User:
        raise LookupError(text)

    f: Any = instructor_cache(backend, lock="backend")(colour.function(extract))
    for _ in range(2):
        with pytest.raises(LookupError):
            await colour.call(f, "ada")
    assert len(backend) == 0


async def test_a_stream_that_is_left_gives_its_lock_back(colour: Colour):
    """At once: the program may end now, and others would wait for the lease."""
    backend = _Shared()

    def sync_stream(text: str) -> Iterator[User]:
        yield User(name=text)
        yield User(name="more")

    async def async_stream(text: str) -> AsyncIterator[User]:
        for user in sync_stream(text):
            yield user

    f: Any = instructor_cache(backend, lock="backend")
    items = f(async_stream if colour.is_async else sync_stream)("ada")
    assert await anext(items) if colour.is_async else next(items)
    assert len(backend) == 1
    await colour.call(items.aclose if colour.is_async else items.close)
    assert len(backend) == 0


async def test_a_cancelled_call_gives_its_lock_back():
    """So does one that was cancelled while it waited or called."""
    backend = _Shared()

    @instructor_cache(backend, lock="backend")
    async def extract(text: str) -> User:
        await asyncio.sleep(10)
        return User(name=text)

    task = asyncio.create_task(extract("ada"))
    await asyncio.sleep(0.05)
    assert len(backend) == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(backend) == 0
    await asyncio.sleep(0)
    assert len(asyncio.all_tasks()) == 1


def test_nothing_renews_a_lock_that_was_given_back():
    """After the call no thread of its is left."""
    backend = _Shared()

    @instructor_cache(backend, lock="backend", lock_lease=0.3)
    def extract(text: str) -> User:
        return User(name=text)

    for n in range(20):
        extract(str(n))
    deadline = time.monotonic() + 2
    while any(thread.name == "instructor_cache" for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.005)


async def test_a_lock_that_was_lost_is_not_taken_from_its_new_holder(colour: Colour):
    """Who held it too long gives nothing back but his own."""
    backend = _Shared()
    name: list[str] = []

    def extract(text: str) -> User:
        backend.set(name[0], b"another process", None)
        return User(name=text)

    f: Any = instructor_cache(backend, lock="backend")(colour.function(extract))
    name.append(f"lock:{f.cache_key('ada')}")
    await colour.call(f, "ada")
    assert backend.get(name[0]) == b"another process"


@pytest.mark.parametrize("backend", [MemoryCache, lambda: TieredCache(MemoryCache())])
def test_a_lock_needs_a_store_that_others_see(backend: Callable[[], Any]):
    """It is told at decoration that a memory of this process can keep no lock, and what can."""
    with pytest.raises(
        ValueError, match=r"no tier that can keep a lock.*DiskCache or a RedisCache"
    ):

        @instructor_cache(backend(), lock="backend")
        def extract(text: str) -> User:
            return User(name=text)


def test_a_lock_is_in_the_farthest_tier_that_offers_one(tmp_path: Path, redis_url: str):
    """That is the one which most processes see."""
    stack = TieredCache(MemoryCache(), DiskCache(tmp_path), RedisCache(redis_url))

    @instructor_cache(stack, lock="backend")
    def extract(text: str) -> User:
        return User(name=text)

    assert engine_of(extract).lock.guard.name == (
        "redis" if hasattr(RedisCache, "swap") else "disk"
    )


@pytest.mark.slow
def test_a_stopped_leader_is_overtaken_and_its_answer_does_not_win(processes: Processes):
    """Stopped for longer than its lease, a leader finds another's answer and leaves it there."""
    leader = processes.start("sync", 2.0, lock_lease=0.5)
    follower = processes.start("sync", 0.0, lock_lease=0.5)
    later = processes.start("sync", 0.0)
    processes.ready()
    leader.ask()
    processes.wait_for_calls(1)
    os.kill(leader.pid, signal.SIGSTOP)
    follower.ask()
    assert follower.answer() == str(follower.pid)
    os.kill(leader.pid, signal.SIGCONT)
    assert leader.answer() == str(leader.pid)
    later.ask()
    assert later.answer() == str(follower.pid)


# -- invalidations that other processes make ----------------------------------------------


@pytest.mark.parametrize("whole", [False, True], ids=["one answer", "all answers"])
async def test_an_invalidation_by_another_process_wins(colour: Colour, place: str, whole: bool):
    """An answer whose call began before it, anywhere, is not there after it; later ones are."""
    backends = [DiskCache(place) if "://" not in place else RedisCache(place) for _ in range(2)]
    meanwhile: list[Callable[[], Any]] = []

    def body(text: str) -> User:
        for do in meanwhile:
            do()
        return User(name=text)

    here: Any = instructor_cache(backends[0], prefix="locks-i")(colour.function(body))
    there: Any = instructor_cache(backends[1], prefix="locks-i")(body)  # as another process has it
    assert here.cache_key("ada") == there.cache_key("ada")
    forget = there.cache_clear if whole else lambda: there.cache_invalidate("ada")
    for text, forgotten in (("ada", True), ("bob", whole)):
        meanwhile[:] = [forget]
        await colour.call(here, text)
        assert await colour.call(here.cache_contains, text) is not forgotten, text
        meanwhile.clear()
        await colour.call(here, text)
        assert await colour.call(here.cache_contains, text)
    meanwhile[:] = [forget]
    await colour.call(here.cache_refresh, "ada")
    assert not await colour.call(here.cache_contains, "ada")


async def test_an_invalidation_leaves_nothing_under_its_key(colour: Colour, tmp_path: Path):
    """The mark that it was made is kept elsewhere, for an hour."""
    disk = DiskCache(tmp_path)

    def body(text: str) -> User:
        return User(name=text)

    f: Any = instructor_cache(disk)(colour.function(body))
    await colour.call(f, "ada")
    await colour.call(f.cache_invalidate, "ada")
    assert disk.get(f.cache_key("ada")) is None
    assert list(disk.scan("instructor:")) == []


async def test_a_lock_whose_reply_was_lost_is_given_back(colour: Colour):
    """Who did not hear that the lock is his leaves nobody waiting for its lease."""
    faulty = FaultyBackend(_Shared())

    def extract(text: str) -> User:
        return User(name=text)

    f: Any = instructor_cache(faulty, lock="backend", cache_if=lambda _: False)(
        colour.function(extract)
    )
    with faulty.losing_replies(on="swap", times=1) as fault:
        assert (await colour.call(f, "ada")).name == "ada"
        assert fault.struck == 1
    assert len(faulty.inner) == 0


@pytest.mark.parametrize("refused", ["-@scripting", "-evalsha -eval", "-@scripting -unlink"])
async def test_a_lock_is_given_back_where_scripts_are_refused(colour: Colour, refused: str):
    """A Redis that lets a lock be taken, but not compared and deleted, keeps nobody waiting."""
    with RedisServer() as server:
        server.ask("ACL", "SETUSER", "app", "on", ">pw", "~*", "&*", "+@all", *refused.split())
        backend = RedisCache(server.url.replace("redis://", "redis://app:pw@"))

        @instructor_cache(backend, lock="backend", cache_if=lambda _: False)
        @colour.function
        def extract(text: str) -> User:
            return User(name=text)

        start = time.monotonic()
        for _ in range(3):
            assert (await colour.call(extract, "ada")).name == "ada"
        assert time.monotonic() - start < 5  # of the ten seconds of a lease
        backend.close()


async def test_a_lock_is_given_back_over_a_slow_link_without_scripts(colour: Colour):
    """However long a server takes to refuse a script."""
    with RedisServer() as server, Proxy(server.port, delay=0.06) as proxy:
        server.ask("ACL", "SETUSER", "app", "on", ">pw", "~*", "+@all", "-@scripting")
        backend = RedisCache(proxy.url.replace("redis://", "redis://app:pw@"))

        @instructor_cache(backend, lock="backend", cache_if=lambda _: False)
        @colour.function
        def extract(text: str) -> User:
            assert server.ask("KEYS", "lock:*")
            return User(name=text)

        proxy.mode = "slow"
        await colour.call(extract, "ada")
        assert server.ask("KEYS", "lock:*") == []
        backend.close()


async def test_a_lock_is_given_back_when_its_store_is_back(colour: Colour):
    """A store that fails just when calls end gets their locks back later, in the background, by
    one task or thread for all of them."""
    faulty, fault = FaultyBackend(_Shared()), ExitStack()

    def extract(text: str) -> User:
        if text == "last":
            fault.enter_context(faulty.failing(on="swap"))
            for n in range(5):  # that are never known to hold a lock
                faulty.inner.set(f"lock:{n}", b"token", None)
        return User(name=text)

    f: Any = instructor_cache(faulty, lock="backend", cache_if=lambda _: False)(
        colour.function(extract)
    )
    for text in ("first", "last"):
        await colour.call(f, text)
    leftovers = engine_of(f).lock.leftovers
    for n in range(5):
        await leftovers.remove(f"lock:{n}", b"token")
    assert len(faulty.inner) == 6
    assert sum(thread.name == "instructor_cache" for thread in threading.enumerate()) < 6
    fault.close()
    deadline = time.monotonic() + 5  # of the ten seconds of a lease
    while len(faulty.inner):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


class _InSteps(_Shared):
    """Renews a lock in two steps, of which the second one waits until it was given back."""

    def __init__(self) -> None:
        super().__init__()
        self.renewing, self.removed, self.put_back = (threading.Event() for _ in range(3))

    def swap(self, key: str, old: bytes | None, new: bytes | None, ttl: float | None, /) -> bool:
        if old is None or old != new:
            done = super().swap(key, old, new, ttl)
            if new is None:
                self.removed.set()
            return done
        self.renewing.set()
        self.removed.wait(5)
        self.removed.clear()
        self.set(key, new, None)
        self.put_back.set()
        return True


def test_a_lock_that_is_renewed_too_late_is_given_back_again():
    """A renewal that is under way when the call ends leaves nobody waiting."""
    backend = _InSteps()

    @instructor_cache(backend, lock="backend", lock_lease=0.1, timeout=5, cache_if=lambda _: False)
    def extract(text: str) -> User:
        assert backend.renewing.wait(5)
        return User(name=text)

    extract("ada")
    assert backend.put_back.wait(5)
    assert backend.removed.wait(5)
    assert len(backend) == 0


class _SentTwice(_Shared):
    """Behind a client that sends a command again, whose first reply was lost."""

    swaps = 0

    def swap(self, key: str, old: bytes | None, new: bytes | None, ttl: float | None, /) -> bool:
        self.swaps += 1
        super().swap(key, old, new, ttl)
        return super().swap(key, old, new, ttl)


def test_a_loop_that_ends_gives_its_locks_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """An event loop that is closed in mid-call leaves a lock that the next call gives back."""
    unraisable, has_begun = list[Any](), list[str]()
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)

    @instructor_cache(DiskCache(tmp_path), lock="backend", lock_lease=60)
    async def extract(text: str) -> User:
        if not has_begun:
            has_begun.append(text)
            asyncio.get_running_loop().stop()
            await asyncio.sleep(60)
        return User(name=text)

    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)  # "Task was destroyed but it is pending!"
    loop.create_task(extract("ada"))  # noqa: RUF006
    loop.run_forever()
    loop.close()
    del loop
    gc.collect()
    assert has_begun == ["ada"]
    assert asyncio.run(asyncio.wait_for(extract("ada"), 10)) == User(name="ada")
    assert unraisable == []


async def test_a_task_that_outlives_its_call_does_not_hold_its_lock(tmp_path: Path):
    """What was begun while a lock was held waits for it like all others, once it is given back."""
    goes_on, is_inside, tasks = asyncio.Event(), asyncio.Event(), list[asyncio.Task[Any]]()
    answers: list[str] = []

    def locked() -> Any:
        @instructor_cache(DiskCache(tmp_path), lock="backend")
        async def extract(text: str) -> User:
            if not tasks:
                tasks.append(asyncio.create_task(outlive()))
            elif not is_inside.is_set():
                is_inside.set()
                goes_on.set()
                await asyncio.sleep(0.2)
            answers.append(text)
            return User(name=text)

        return extract

    one, other = locked(), locked()

    async def outlive() -> None:
        await goes_on.wait()
        await one("ada")

    await one("ada")
    await one.cache_invalidate("ada")
    await other("ada")
    await tasks[0]
    assert answers == ["ada"] * 2  # the task found the other's


async def test_nobody_waits_for_his_own_lock(colour: Colour):
    """Who is told that somebody else holds the lock looks if that is himself."""
    backend = _SentTwice()

    def extract(text: str) -> User:
        return User(name=text)

    f: Any = instructor_cache(
        backend, lock="backend", flight_timeout=0.3, cache_if=lambda _: False
    )(colour.function(extract))
    await colour.call(f, "ada")
    assert backend.swaps == 2
    assert len(backend) == 0
