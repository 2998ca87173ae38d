"""The backend that fails on demand: does each fault when it is told to, and nothing otherwise."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from contextlib import suppress
from itertools import cycle
from typing import Any

import pytest
from conftest import Colour
from pydantic import BaseModel

from instructor_cache import (
    AsyncBackend,
    Backend,
    CorruptEntry,
    Entry,
    Event,
    MemoryCache,
    instructor_cache,
)
from instructor_cache.ports import open_port
from instructor_cache.testing import BackendContract, Fault, FaultyBackend


class User(BaseModel):
    name: str


class SyncOnly:
    """The three operations for blocking code, and nothing else."""

    def __init__(self) -> None:
        memory = MemoryCache()
        self.get, self.set, self.delete = memory.get, memory.set, memory.delete


class AsyncOnly:
    """The three operations for coroutines, and nothing else."""

    def __init__(self) -> None:
        memory = MemoryCache()
        self.aget, self.aset, self.adelete = memory.aget, memory.aset, memory.adelete


class Caller:
    """Calls the operations of a faulty backend in one colour."""

    def __init__(self, faulty: FaultyBackend, colour: Colour) -> None:
        self.faulty, self.is_async = faulty, colour.is_async

    async def __call__(self, name: str, *args: Any) -> Any:
        if self.is_async:
            return await getattr(self.faulty, f"a{name}")(*args)
        return getattr(self.faulty, name)(*args)


@pytest.fixture
def faulty() -> Iterator[FaultyBackend]:
    faulty = FaultyBackend(MemoryCache())
    yield faulty
    faulty.close()


@pytest.fixture
def do(faulty: FaultyBackend, colour: Colour) -> Caller:
    return Caller(faulty, colour)


# -- without faults --------------------------------------------------------------------------


class TestWithoutFaults(BackendContract):
    """A faulty backend without faults keeps the contract, swap and all."""

    def make_backend(self) -> FaultyBackend:
        return FaultyBackend(MemoryCache(maxsize=10_000))


class Swapless(MemoryCache):
    """Claims to swap, and does not look at what is there."""

    def swap(self, key: str, old: bytes | None, new: bytes | None, ttl: float | None, /) -> bool:
        if new is None:
            self.delete(key)
        else:
            self.set(key, new, ttl)
        return True


class Racy(MemoryCache):
    """Looks, and writes a moment later."""

    def swap(self, key: str, old: bytes | None, new: bytes | None, ttl: float | None, /) -> bool:
        if self.get(key) != old:
            return False
        time.sleep(0.001)
        return Swapless.swap(self, key, old, new, ttl)  # type: ignore[arg-type]


class Truthy(MemoryCache):
    """Takes an empty value for none."""

    def swap(self, key: str, old: bytes | None, new: bytes | None, ttl: float | None, /) -> bool:
        return super().swap(key, (self.get(key) or None) if old is None else old, new, ttl)


class Timeless(MemoryCache):
    """Forgets the ttl of what it swaps in."""

    def swap(self, key: str, old: bytes | None, new: bytes | None, ttl: float | None, /) -> bool:
        return super().swap(key, old, new, None)


class Unordered(MemoryCache):
    """Gives many values in the order in which they are kept, without the missing ones."""

    def get_many(self, keys: Sequence[str], /) -> list[bytes | None]:
        return [self.get(key) for key in self.scan("") if key in keys]


class Limited(MemoryCache):
    """Answers a thousand keys and no more."""

    def get_many(self, keys: Sequence[str], /) -> list[bytes | None]:
        return super().get_many(keys[:1000])


@pytest.mark.parametrize(
    ("wrong", "checks"),
    [
        (Swapless, ["stores_where_nothing_is", "replaces_what_is_expected_only"]),
        (Swapless, ["deletes_what_is_expected_only", "takes_an_expired_value_for_nothing"]),
        (Racy, ["loses_no_increment"]),
        (Truthy, ["stores_where_nothing_is"]),
        (Timeless, ["gives_the_new_ttl"]),
    ],
)
def test_the_contract_finds_a_wrong_swap(wrong: type[MemoryCache], checks: list[str]) -> None:
    """A swap that is not atomic, blind, or mistaken about nothing or the ttl does not pass."""
    contract = BackendContract()
    contract.make_backend = wrong  # type: ignore[method-assign]
    for check in checks:
        with pytest.raises(AssertionError):
            getattr(contract, f"test_swap_{check}")()
    if wrong is Racy:
        with pytest.raises(AssertionError):
            contract.test_one_of_many_swaps_wins()


@pytest.mark.parametrize(
    ("wrong", "check"),
    [
        (Unordered, "test_many_values_come_in_the_order_of_their_keys"),
        (Limited, "test_thousands_of_values_come_at_once"),
    ],
)
def test_the_contract_finds_a_wrong_get_many(wrong: type[MemoryCache], check: str) -> None:
    """A get_many that leaves out what is missing, or what is too much, does not pass."""
    contract = BackendContract()
    contract.make_backend = lambda: wrong(None)  # type: ignore[method-assign]
    with pytest.raises(AssertionError):
        getattr(contract, check)()


def test_it_offers_what_is_inside() -> None:
    """Either colour or both, and the optional operations only where the inner backend has them."""
    both, sync, coro = (FaultyBackend(inner) for inner in (MemoryCache(), SyncOnly(), AsyncOnly()))
    assert isinstance(both, Backend) and isinstance(both, AsyncBackend)
    assert isinstance(sync, Backend) and not isinstance(sync, AsyncBackend)
    assert isinstance(coro, AsyncBackend) and not isinstance(coro, Backend)
    for name in ("clear", "aclear", "scan", "swap", "aswap"):
        assert hasattr(both, name)
        assert not hasattr(sync, name) and not hasattr(coro, name)
    for is_async in (False, True):
        open_port(both, for_async=is_async)
    with pytest.raises(TypeError, match="async-only"):
        open_port(coro, for_async=False)
    with pytest.raises(TypeError, match="can't keep answers"):
        FaultyBackend(object())


async def test_it_counts_what_is_begun(faulty: FaultyBackend, do: Caller) -> None:
    """Each operation counts once under its name, of whichever colour it is, failed ones too."""
    await do("set", "k", b"1", None)
    for _ in range(3):
        await do("get", "k")
    with faulty.failing(), pytest.raises(ConnectionError):
        await do("get", "k")
    await do("delete", "k")
    await do("swap", "k", None, b"2", None)
    await do("clear", "")
    assert list(faulty.scan("")) == []
    expected = {"get": 4, "set": 1, "delete": 1, "swap": 1, "clear": 1, "scan": 1}
    assert faulty.calls == expected
    assert faulty.calls["never"] == 0


# -- each fault ------------------------------------------------------------------------------


async def test_failing_raises_and_does_nothing(faulty: FaultyBackend, do: Caller) -> None:
    """Every operation raises the error, and the store is as it was before."""
    await do("set", "k", b"1", None)
    operations = [
        *[("get", "k"), ("set", "k", b"2", None), ("delete", "k")],
        *[("swap", "k", b"1", b"2", None), ("clear", "")],
    ]
    error = OSError("no space left")
    with faulty.failing(error) as fault:
        for name, *args in operations:
            with pytest.raises(OSError, match="no space left") as caught:
                await do(name, *args)
            assert caught.value is error
        with pytest.raises(OSError):
            faulty.scan("")
    assert fault.struck == len(operations) + 1
    assert await do("get", "k") == b"1"


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, asyncio.CancelledError, OSError])
async def test_any_error_can_be_raised(
    faulty: FaultyBackend, do: Caller, error: type[BaseException]
) -> None:
    """A class is raised as a new object each time."""
    raised: list[BaseException] = []
    with faulty.failing(error):
        for _ in range(2):
            try:
                await do("get", "k")
            except BaseException as found:
                raised.append(found)
    assert [type(found) for found in raised] == [error, error]
    assert raised[0] is not raised[1]


async def test_losing_replies_does_it_and_raises(faulty: FaultyBackend, do: Caller) -> None:
    """A write whose reply was lost is there; so is a delete's effect, and a swap's."""
    with faulty.losing_replies(), pytest.raises(ConnectionError, match="reply"):
        await do("set", "k", b"1", None)
    assert await do("get", "k") == b"1"
    with faulty.losing_replies(TimeoutError, on=["delete", "swap"]):
        with pytest.raises(TimeoutError):
            await do("swap", "k", b"1", b"2", None)
        assert await do("get", "k") == b"2"
        with pytest.raises(TimeoutError):
            await do("delete", "k")
    assert await do("get", "k") is None


async def test_slow_answers_late(faulty: FaultyBackend, do: Caller) -> None:
    """The operation takes that much longer, and gives what it would have given."""
    await do("set", "k", b"1", None)
    start = time.monotonic()
    with faulty.slow(0.05):
        assert await do("get", "k") == b"1"
    assert 0.05 <= time.monotonic() - start < 5


async def test_healing_hurries_the_slow(faulty: FaultyBackend, do: Caller) -> None:
    """When the fault ends, those who wait go on at once."""
    faulty.slow(1000)
    threading.Timer(0.05, faulty.heal).start()
    start = time.monotonic()
    assert await do("get", "k") is None
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("ending", ["heal", "close", "end"])
async def test_silence_ends(faulty: FaultyBackend, do: Caller, ending: str) -> None:
    """Nobody is answered until it is healed, closed or ended; then all raise, and none acted."""
    silence = faulty.silent(on="set")
    end = {"heal": faulty.heal, "close": faulty.close, "end": silence.end}[ending]
    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(lambda: asyncio.run(do("set", "k", b"1", None))) for _ in range(8)]
        while silence.struck < 8:
            await asyncio.sleep(0.001)
        assert not any(each.done() for each in waiting)
        assert await do("get", "k") is None  # other operations are answered
        end()
        for each in waiting:
            with pytest.raises(TimeoutError, match="set was not answered"):
                each.result(5)
    if ending != "close":
        assert await do("get", "k") is None
        await do("set", "k", b"2", None)
        assert await do("get", "k") == b"2"


async def test_a_silent_operation_can_be_cancelled(faulty: FaultyBackend) -> None:
    """A task that gives up waiting leaves nothing behind in the fault."""
    silence = faulty.silent()
    for _ in range(3):
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(faulty.aget("k"), 0.01)
    assert silence.struck == 3
    assert not silence._held
    assert asyncio.all_tasks() == {asyncio.current_task()}


def test_a_closed_loop_does_not_disturb_healing(faulty: FaultyBackend) -> None:
    """Those whose loop was closed under them are forgotten; the others are let go."""
    silence = faulty.silent()
    loop = asyncio.new_event_loop()
    task = loop.create_task(faulty.aget("k"))
    loop.run_until_complete(asyncio.sleep(0))
    assert silence.struck == 1
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(faulty.get, "k")
        while silence.struck < 2:
            time.sleep(0.001)
        task.cancel()
        with suppress(asyncio.CancelledError):
            loop.run_until_complete(task)
        loop.close()
        faulty.heal()
        with pytest.raises(TimeoutError):
            waiting.result(5)


@pytest.mark.parametrize(
    ("damage", "is_damaged"),
    [
        ("flipped", lambda found, value: len(found) == len(value) and found != value),
        ("truncated", lambda found, value: len(found) < len(value) and value.startswith(found)),
        ("empty", lambda found, value: found == b""),
        ("foreign", lambda found, value: found == b"other"),
        ("text", lambda found, value: found == value.decode("latin-1")),
        (lambda value: value + b"!", lambda found, value: found == value + b"!"),
    ],
)
async def test_corrupt_damages_what_is_read(
    faulty: FaultyBackend, do: Caller, damage: Any, is_damaged: Callable[[Any, bytes], bool]
) -> None:
    """A get finds something else than is stored, each time; what is stored stays whole."""
    value = bytes(range(256))
    await do("set", "other", b"other", None)
    await do("set", "k", value, None)
    with faulty.corrupt(damage) as fault:
        for _ in range(20):
            assert is_damaged(await do("get", "k"), value)
        await do("set", "unharmed", value, None)
    assert fault.struck == 20
    assert await do("get", "k") == await do("get", "unharmed") == value


async def test_corrupt_can_damage_what_is_stored(faulty: FaultyBackend, do: Caller) -> None:
    """With on="set" it is the value on its way in, and it stays damaged."""
    with faulty.corrupt("flipped", on="set"):
        await do("set", "k", b"\0" * 100, None)
    found = await do("get", "k")
    assert len(found) == 100
    assert sum(bin(byte).count("1") for byte in found) == 1


async def test_corrupt_finds_nothing_where_nothing_is(faulty: FaultyBackend, do: Caller) -> None:
    """A missing key stays missing, except that a foreign reply may come to any question."""
    for damage in ("flipped", "truncated", "empty", "foreign", "text"):
        with faulty.corrupt(damage):  # type: ignore[arg-type]
            assert await do("get", "missing") is None
    await do("set", "k", b"1", None)
    with faulty.corrupt("foreign"):
        assert await do("get", "missing") == b"1"


async def test_many_values_meet_the_faults_of_one(faulty: FaultyBackend, do: Caller) -> None:
    """A fault on "get" strikes a get_many too, damages each value of it, and never a missing one;
    one on "get_many" leaves a get alone."""
    for key in ("a", "b"):
        await do("set", key, key.encode() * 100, None)
    keys = ["a", "none", "b"]
    with faulty.corrupt() as fault:
        a, none, b = await do("get_many", keys)
    assert none is None
    assert fault.struck == 1
    assert [len(a), len(b)] == [100, 100]
    assert a != b"a" * 100
    assert b != b"b" * 100
    with faulty.failing(on="get"), pytest.raises(ConnectionError):
        await do("get_many", keys)
    with faulty.failing(on="get_many"):
        assert await do("get", "a") == b"a" * 100
        with pytest.raises(ConnectionError):
            await do("get_many", keys)
    assert await do("get_many", keys) == [b"a" * 100, None, b"b" * 100]
    assert faulty.calls["get_many"] == 4


async def test_torn_stores_a_beginning(faulty: FaultyBackend, do: Caller) -> None:
    """Only a part is stored, with or without an error that tells."""
    value = bytes(range(256))
    with faulty.torn():
        await do("set", "k", value, None)
    found = await do("get", "k")
    assert len(found) < 256 and value.startswith(found)
    with faulty.torn(OSError("disk full")), pytest.raises(OSError, match="disk full"):
        await do("set", "k2", value, None)
    assert value.startswith(await do("get", "k2"))
    with faulty.torn():
        assert await do("swap", "k3", None, value, None)
        assert await do("swap", "k2", await do("get", "k2"), None, None)
    assert len(await do("get", "k3")) < 256
    assert await do("get", "k2") is None


# -- which operations, and when --------------------------------------------------------------


async def outcomes(do: Caller, name: str, count: int) -> str:
    """A letter for each of *count* operations: x failed, . did not."""
    letters = ""
    for _ in range(count):
        try:
            await do(name, "k")
            letters += "."
        except ConnectionError:
            letters += "x"
    return letters


async def test_on_names_the_operations(faulty: FaultyBackend, do: Caller) -> None:
    """Only the named operations are struck, or counted by the fault."""
    with faulty.failing(on=("get", "clear")) as fault:
        await do("set", "k", b"1", None)
        assert await outcomes(do, "get", 2) == "xx"
        assert await outcomes(do, "delete", 2) == ".."
    assert fault.struck == 2


async def test_times_counts_down(faulty: FaultyBackend, do: Caller) -> None:
    """A fault with times=3 is over after three operations, without being ended."""
    fault = faulty.failing(times=3)
    assert await outcomes(do, "get", 6) == "xxx..."
    assert fault.struck == 3
    assert not faulty._faults


async def test_when_is_a_schedule(faulty: FaultyBackend, do: Caller) -> None:
    """Each operation takes the next truth value; at the end of them the fault is over."""
    faulty.failing(when=[0, 1, 1, 0, 1])
    assert await outcomes(do, "get", 8) == ".xx.x..."
    faulty.failing(when=cycle([True, False]), times=3)
    assert await outcomes(do, "get", 8) == "x.x.x..."


async def test_faults_add_up(faulty: FaultyBackend, do: Caller) -> None:
    """Several are in force together; healing ends all, ending one leaves the others."""
    first, second = faulty.failing(on="get"), faulty.failing(on="delete")
    assert await outcomes(do, "get", 1) + await outcomes(do, "delete", 1) == "xx"
    first.end()
    first.end()
    assert await outcomes(do, "get", 1) + await outcomes(do, "delete", 1) == ".x"
    faulty.failing(on="get")
    faulty.heal()
    assert await outcomes(do, "get", 1) + await outcomes(do, "delete", 1) == ".."
    assert second.struck == 2
    start = time.monotonic()
    with faulty.slow(0.05), faulty.failing():
        assert await outcomes(do, "get", 1) == "x"
    assert time.monotonic() - start >= 0.05


def test_it_can_be_switched_while_in_use(faulty: FaultyBackend) -> None:
    """Threads that use it while faults come and go see errors or answers, and all are counted."""
    stop, totals = threading.Event(), []

    def use() -> None:
        count = 0
        while not stop.is_set():
            with suppress(ConnectionError, TimeoutError):
                assert faulty.get("k") in (None, b"1")
            count += 1
        totals.append(count)

    faulty.set("k", b"1", None)
    with ThreadPoolExecutor(8) as pool:
        for _ in range(8):
            pool.submit(use)
        for _ in range(50):
            with faulty.failing(), faulty.silent(times=3):
                time.sleep(0.001)
        stop.set()
    assert len(totals) == 8
    assert faulty.calls["get"] == sum(totals)
    assert not faulty._faults or all(fault.is_done for fault in faulty._faults)


@pytest.mark.parametrize(
    ("begin", "message"),
    [
        (lambda faulty: faulty.failing(on="aget"), "found on='aget'; wanted one or more of: get,"),
        (lambda faulty: faulty.failing(on=[]), "found on="),
        (
            lambda faulty: faulty.corrupt(on="delete"),
            "one or more of: get, get_many, set, swap",
        ),
        (lambda faulty: faulty.silent(times=0), "times is 0"),
    ],
)
def test_mistakes_are_told(
    faulty: FaultyBackend, begin: Callable[[FaultyBackend], Fault], message: str
) -> None:
    """A name that is no operation, or a count below one, is a ValueError and begins nothing."""
    with pytest.raises(ValueError, match=message):
        begin(faulty)
    assert not faulty._faults


# -- closing ---------------------------------------------------------------------------------


async def test_closing_reaches_the_inner_backend() -> None:
    """close and aclose are passed on where there is somebody to take them."""
    closed: list[str] = []

    class Closable(MemoryCache):
        def close(self) -> None:
            closed.append("close")

        async def aclose(self) -> None:
            closed.append("aclose")

        @property
        def closed(self) -> bool:
            return bool(closed)

    faulty = FaultyBackend(Closable())
    assert not faulty.closed
    await faulty.aclose()
    faulty.close()
    assert closed == ["aclose", "close"]
    assert faulty.closed
    for inner in (SyncOnly(), AsyncOnly()):
        plain = FaultyBackend(inner)
        plain.close()
        await plain.aclose()
        assert not plain.closed


# -- under a cached function -----------------------------------------------------------------


@pytest.mark.parametrize(
    "begin",
    [
        pytest.param(lambda faulty: faulty.failing(), id="failing"),
        pytest.param(lambda faulty: faulty.losing_replies(), id="losing replies"),
        pytest.param(lambda faulty: faulty.corrupt("flipped"), id="flipped"),
        pytest.param(lambda faulty: faulty.corrupt("truncated"), id="truncated"),
        pytest.param(lambda faulty: faulty.corrupt("empty"), id="empty"),
        pytest.param(lambda faulty: faulty.corrupt("foreign"), id="foreign"),
        pytest.param(lambda faulty: faulty.corrupt("text"), id="text"),
        pytest.param(
            lambda faulty: faulty.corrupt("flipped", on=["set", "swap"]), id="flipped writes"
        ),
        pytest.param(lambda faulty: faulty.torn(), id="torn"),
        pytest.param(lambda faulty: faulty.torn(OSError("disk full")), id="disk full"),
        pytest.param(lambda faulty: faulty.corrupt(lambda value: 17), id="a number"),
    ],
)
async def test_no_fault_breaks_a_cached_function(
    colour: Colour, begin: Callable[[FaultyBackend], Fault]
) -> None:
    """Whatever is wrong, a call answers what the function answers, and an event tells of it."""
    events: list[Event] = []
    faulty = FaultyBackend(MemoryCache())

    def extract(text: str) -> User:
        return User(name=text)

    cached = instructor_cache(faulty, observer=events.append)(colour.function(extract))
    for text in ("ada", "bob"):
        await colour.call(cached, text)
    with begin(faulty):
        for text in ("ada", "bob", "ada", "cy", "cy"):
            assert (await colour.call(cached, text)).name == text
    assert {event.kind for event in events} & {"failure", "corrupt"}
    for text in ("ada", "bob", "cy"):
        assert (await colour.call(cached, text)).name == text
    events.clear()
    await colour.call(cached, "ada")
    assert [event.kind for event in events] == ["hit"]


def test_no_flipped_bit_of_an_entry_is_overlooked() -> None:
    """Whichever single bit of a packed entry is wrong, the entry is found to be corrupt."""
    raw = Entry(b"payload", 1e9, 1e9 + 60, 1e9 + 120, 1.5).pack("k")
    for place in range(len(raw) * 8):
        damaged = bytearray(raw)
        damaged[place // 8] ^= 1 << place % 8
        with pytest.raises(CorruptEntry):
            Entry.unpack("k", bytes(damaged))


def test_it_can_be_held_in_a_daemon_thread() -> None:
    """A thread that is never let go does not matter to anybody else."""
    faulty: Any = FaultyBackend(MemoryCache())
    outcome: Future[Any] = Future()

    def wait() -> None:
        try:
            outcome.set_result(faulty.get("k"))
        except TimeoutError as error:
            outcome.set_exception(error)

    with faulty.silent(on="get") as silence:
        threading.Thread(target=wait, daemon=True).start()
        while not silence.struck:
            time.sleep(0.001)
        assert not wait_for({outcome}, 0.05).done
        faulty.set("k", b"1", None)
    with pytest.raises(TimeoutError, match="get was not answered"):
        outcome.result(5)
