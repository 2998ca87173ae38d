"""Every backend keeps the one contract, and agrees with a dict; what is particular to memory."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import threading
import traceback
import uuid
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import diskcache
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from instructor_cache import DiskCache, MemoryCache, RedisCache, SafeDisk, TieredCache
from instructor_cache.backends import DEFAULT_URL, open_url
from instructor_cache.backends.diskcache import DiskcacheBackend
from instructor_cache.errors import BackendClosed
from instructor_cache.testing import BackendContract


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class WithClock(BackendContract):
    """The contract for backends whose time can be moved."""

    clock: Clock

    @pytest.fixture(autouse=True)
    def _clock(self) -> None:
        self.clock = Clock()

    def pass_time(self, seconds: float) -> None:
        self.clock.now += seconds


class InFolder:
    """A folder for each test."""

    folder: Path

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path / "store"


class TestMemoryCache(WithClock):
    def make_backend(self) -> MemoryCache:
        return MemoryCache(10_000, clock=self.clock)


class TestDiskCache(InFolder, WithClock):
    shared = True

    def make_backend(self) -> DiskCache:
        return DiskCache(self.folder, clock=self.clock, timeout=10)


class TestRedisCache(BackendContract):
    shared = True
    url: str

    @pytest.fixture(autouse=True)
    def _url(self, redis_url: str) -> None:
        self.url = redis_url

    def make_backend(self) -> RedisCache:
        return RedisCache(self.url, timeout=10)


class TestTenLines(WithClock):
    """A backend that a user writes in ten lines, for blocking code."""

    def make_backend(self) -> Any:
        clock = self.clock

        class Mine:
            def __init__(self) -> None:
                self.entries: dict[str, tuple[bytes, float]] = {}

            def get(self, key: str) -> bytes | None:
                value, expires = self.entries.get(key, (None, 0.0))
                return value if clock() < expires else None

            def set(self, key: str, value: bytes, ttl: float | None) -> None:
                self.entries[key] = value, float("inf") if ttl is None else clock() + ttl

            def delete(self, key: str) -> None:
                self.entries.pop(key, None)

        return Mine()


class TestAsyncOnly(WithClock):
    """A backend that only coroutines can use."""

    def make_backend(self) -> Any:
        memory = MemoryCache(clock=self.clock)

        class Mine:
            aget, aset, adelete = memory.aget, memory.aset, memory.adelete

        return Mine()


class TestTheContractItself:
    def test_it_finds_what_is_wrong(self) -> None:
        """A backend that ignores ttl, or returns text, does not pass."""

        class Forgetful(MemoryCache):
            def set(self, key: str, value: bytes, ttl: float | None, /) -> None:
                super().set(key, value, None)

        class Textual(MemoryCache):
            def get(self, key: str, /) -> Any:
                found = super().get(key)
                return None if found is None else found.decode("latin-1")

        for wrong, check in (
            (Forgetful, "test_an_entry_expires_after_its_ttl"),
            (Textual, "test_a_value_comes_back_byte_for_byte"),
        ):
            contract = BackendContract()
            contract.make_backend = wrong
            with pytest.raises(AssertionError):
                getattr(contract, check)()

    def test_a_subclass_without_a_backend_is_told(self) -> None:
        """Who forgets make_backend learns what to write."""
        with pytest.raises(NotImplementedError, match="make_backend"):
            BackendContract().test_a_key_that_was_never_set_is_none()


# -- all agree with a dict -------------------------------------------------------------------

_KEYS = st.sampled_from(["a:1", "a:2", "a*:1", "b", "b[", "b\\", "a:", "%"])
_PREFIXES = st.sampled_from(["", "a", "a:", "a*", "b", "b[", "%", "zz"])


class Agreement(RuleBasedStateMachine):
    """Does the same to a backend and to a dict, and finds them equal."""

    moves = True  # whether the backend goes by our clock
    url: str

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.folder = tempfile.mkdtemp()
        self.namespace = f"agree-{uuid.uuid4().hex}:"
        self.backend = self.make()
        self.entries: dict[str, tuple[bytes, float]] = {}

    def make(self) -> Any:
        raise NotImplementedError

    def teardown(self) -> None:
        self.backend.clear(self.namespace)
        self.reopen()
        if hasattr(self.backend, "close"):
            self.backend.close()
        shutil.rmtree(self.folder)

    @rule(key=_KEYS, value=st.binary(max_size=200), ttl=st.sampled_from([None, 1.0, 5.5, 1e9]))
    def set(self, key: str, value: bytes, ttl: float | None) -> None:
        if ttl is not None and not self.moves:
            ttl = 1e6
        self.backend.set(self.namespace + key, value, ttl)
        self.entries[key] = value, float("inf") if ttl is None else self.clock.now + ttl

    @rule(key=_KEYS)
    def delete(self, key: str) -> None:
        self.backend.delete(self.namespace + key)
        self.entries.pop(key, None)

    @rule(key=_KEYS, is_right=st.booleans(), new=st.none() | st.binary(max_size=200))
    def swap(self, key: str, is_right: bool, new: bytes | None) -> None:
        if not hasattr(self.backend, "swap"):
            return
        old = self.live().get(key)
        believed = old if is_right else b"wrong" if old is None else None
        assert self.backend.swap(self.namespace + key, believed, new, None) is is_right
        if is_right and new is not None:
            self.entries[key] = new, float("inf")
        elif is_right:
            self.entries.pop(key, None)

    @rule(prefix=_PREFIXES)
    def clear(self, prefix: str) -> None:
        self.backend.clear(self.namespace + prefix)
        self.entries = {k: e for k, e in self.entries.items() if not k.startswith(prefix)}

    @rule(prefix=_PREFIXES)
    def scan(self, prefix: str) -> None:
        found = sorted(self.backend.scan(self.namespace + prefix))
        assert found == sorted(self.namespace + k for k in self.live() if k.startswith(prefix))

    @precondition(lambda self: self.moves)
    @rule(seconds=st.sampled_from([0.5, 1.0, 4.0]))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule()
    def reopen(self) -> None:
        if hasattr(self.backend, "close"):
            self.backend.close()
        if not isinstance(self.backend, MemoryCache):
            self.backend = self.make()
        elif self.backend.closed:
            self.backend, self.entries = self.make(), {}

    @invariant()
    def every_key_has_its_value(self) -> None:
        live = self.live()
        for key in ("a:1", "a:2", "b[", "%"):
            assert self.backend.get(self.namespace + key) == live.get(key)

    def live(self) -> dict[str, bytes]:
        return {key: v for key, (v, until) in self.entries.items() if self.clock.now < until}


class AgreesMemory(Agreement):
    def make(self) -> Any:
        return MemoryCache(None, max_bytes=None, clock=self.clock)


class AgreesDisk(Agreement):
    def make(self) -> Any:
        return DiskCache(self.folder, clock=self.clock, timeout=10)


class AgreesDiskcache(Agreement):
    moves = False

    def make(self) -> Any:
        return DiskcacheBackend(diskcache.Cache(self.folder, disk=SafeDisk))


class AgreesRedis(Agreement):
    moves = False

    def make(self) -> Any:
        return RedisCache(self.url, timeout=10)

    @rule()
    def reopen(self) -> None:
        self.backend.close()
        self.backend = self.make()


@pytest.mark.parametrize("machine", [AgreesMemory, AgreesDisk, AgreesDiskcache, AgreesRedis])
def test_every_backend_agrees_with_a_dict(machine: type[Agreement], redis_url: str) -> None:
    """Whatever is done to it in whatever order, a backend holds what a dict would hold."""
    machine.url = redis_url
    run_state_machine_as_test(
        machine, settings=settings(max_examples=25, stateful_step_count=25, deadline=None)
    )


# -- memory: what is kept when there is no room ----------------------------------------------

BESIDE = 320  # bytes that are counted for an entry beside its key and value


def test_memory_keeps_no_more_than_maxsize() -> None:
    """The count never exceeds maxsize, and the entry set last is always there."""
    cache = MemoryCache(3)
    for number in range(10):
        cache.set(f"{number}", b"", None)
        assert cache.get(f"{number}") == b""
        assert len(cache) == min(number + 1, 3)


def test_memory_keeps_no_more_than_max_bytes() -> None:
    """All entries together never exceed max_bytes, and the one set last is always there."""
    cache = MemoryCache(None, max_bytes=4000)
    for number in range(30):
        cache.set(f"{number:02}", b"x" * number * 100, None)
        assert cache.get(f"{number:02}") == b"x" * number * 100
        assert cache.currbytes <= 4000


def test_memory_does_not_keep_what_is_larger_than_all_its_room() -> None:
    """A value beyond max_bytes is not kept, costs no other entry, and removes its old value."""
    cache = MemoryCache(max_bytes=1000)
    cache.set("small", b"1", None)
    cache.set("big", b"1", None)
    cache.set("big", b"x" * 1000, None)
    assert cache.get("big") is None
    assert cache.get("small") == b"1"
    assert (len(cache), cache.currbytes) == (1, 6 + BESIDE)


def test_memory_counts_the_bytes_of_an_overwritten_entry_once() -> None:
    """Overwriting, deleting, clearing and expiring keep the sum of the sizes right."""
    clock = Clock()
    cache = MemoryCache(clock=clock)
    for size in (10, 1000, 0, 5):
        cache.set("k", b"x" * size, None)
        assert cache.currbytes == 1 + size + BESIDE
    cache.set("gone", b"x" * 50, 1)
    clock.now += 1
    assert cache.get("gone") is None
    assert cache.currbytes == 6 + BESIDE
    cache.clear()
    assert cache.currbytes == 0


def test_memory_keeps_what_is_read() -> None:
    """Entries that are read between the sets outlive a long run of entries that are not."""
    cache = MemoryCache(10)
    for number in range(1000):
        for hot in range(5):
            if cache.get(f"hot{hot}") is None:
                assert number == 0, "an entry in use was evicted"
                cache.set(f"hot{hot}", b"", None)
        cache.set(f"{number}", b"", None)


def test_memory_takes_a_new_entry_when_all_others_are_in_use() -> None:
    """The entry just set is never the victim, though every other one has been read."""
    cache = MemoryCache(3)
    for key in "abc":
        cache.set(key, b"", None)
    for key in "abc":
        cache.get(key)
    cache.set("new", b"", None)
    assert cache.get("new") == b""
    assert len(cache) == 3


def test_memory_evicts_the_expired_first_even_if_read() -> None:
    """An expired entry is no reason to evict another one that is in use."""
    clock = Clock()
    cache = MemoryCache(2, clock=clock)
    cache.set("dead", b"", 1)
    cache.set("live", b"", None)
    cache.get("dead"), cache.get("live")
    clock.now += 1
    cache.set("new", b"", None)
    assert cache.get("live") == b""


def test_memory_survives_many_threads() -> None:
    """After a hammering by threads, the count and the sum of sizes are exactly right."""
    cache = MemoryCache(50, max_bytes=20_000)

    def hammer(seed: int) -> None:
        random = Random(seed)
        for _ in range(2000):
            key = f"{random.randrange(100)}"
            match random.randrange(5):
                case 0:
                    cache.delete(key)
                case 1 | 2:
                    cache.set(key, bytes(random.randrange(200)), random.choice([None, 0.0001]))
                case 3:
                    cache.get(key)
                case _:
                    list(cache.scan("1"))

    threads = [threading.Thread(target=hammer, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kept = {key: cache._slots[key].value for key in cache._slots}
    assert cache.currbytes == sum(len(key) + len(v) + BESIDE for key, v in kept.items())
    assert len(cache) <= 50
    assert cache.currbytes <= 20_000


def test_a_reader_never_misses_an_entry_that_is_being_replaced() -> None:
    """While one thread sets a key again and again, no reader finds it missing."""
    cache = MemoryCache(2)
    cache.set("k", b"0", None)
    done = threading.Event()

    def replace() -> None:
        while not done.is_set():
            cache.set("k", b"1", None)

    writer = threading.Thread(target=replace)
    writer.start()
    try:
        assert all(cache.get("k") is not None for _ in range(50_000))
    finally:
        done.set()
        writer.join()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork is POSIX")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_memory_works_in_a_child_forked_while_its_lock_was_held() -> None:
    """A child whose parent was writing at the fork keeps the entries, and can write."""
    cache = MemoryCache()
    cache.set("k", b"1", None)
    with cache._lock:
        child = os.fork()
        if child == 0:
            cache.set("new", b"22", None)
            is_right = (cache.get("k"), cache.currbytes) == (b"1", 7 + 2 * BESIDE)
            os._exit(0 if is_right else 1)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize("bad", [0, -1, 1.5, True, "10", float("inf"), float("nan"), Decimal(5)])
@pytest.mark.parametrize("name", ["maxsize", "max_bytes", "max_entry_bytes"])
def test_memory_refuses_bounds_that_are_none(name: str, bad: Any) -> None:
    """A bound that is not a whole number above zero is refused at construction."""
    with pytest.raises(ValueError, match=f"{name} is {re.escape(repr(bad))}.*whole number"):
        MemoryCache(**{name: bad})


# -- URLs ------------------------------------------------------------------------------------


def test_a_closed_memory_says_so() -> None:
    """After close, which may be called twice, it holds nothing and every operation raises."""
    cache = MemoryCache()
    cache.set("k", b"1", None)
    assert not cache.closed
    cache.close()
    cache.close()
    assert cache.closed
    assert (len(cache), cache.currbytes) == (0, 0)
    for use in (
        *(lambda: cache.get("k"), lambda: cache.set("k", b"1", None), lambda: cache.delete("k")),
        *(lambda: list(cache.scan("")), cache.clear, lambda: cache.swap("k", None, b"1", None)),
    ):
        with pytest.raises(BackendClosed, match="found a MemoryCache closed"):
            use()


def test_one_of_many_threads_wins_a_swap_in_memory() -> None:
    """Of eight threads that swap nothing for their own value, exactly one does, each time."""
    cache = MemoryCache()
    with ThreadPoolExecutor(8) as pool:
        for number in range(200):
            swaps = [pool.submit(cache.swap, f"{number}", None, b"%d" % n, 30) for n in range(8)]
            winners = [n for n, swap in enumerate(swaps) if swap.result()]
            assert len(winners) == 1
            assert cache.get(f"{number}") == b"%d" % winners[0]


@pytest.mark.parametrize("kind", ["memory", "disk", "redis", "tiered"])
async def test_a_block_closes_its_backend(kind: str, tmp_path: Path, redis_url: str) -> None:
    """``with`` and ``async with`` close what they are given, whatever it is."""
    makes: dict[str, Any] = {
        "memory": MemoryCache,
        "disk": lambda: DiskCache(tmp_path),
        "redis": lambda: RedisCache(redis_url),
        "tiered": lambda: TieredCache(DiskCache(tmp_path)),
    }
    with makes[kind]() as cache:
        kept = cache.tiers[0].backend if kind == "tiered" else cache
        kept.get("key")
    async with makes[kind]() as cache:
        other = cache.tiers[0].backend if kind == "tiered" else cache
        other.get("key")
    for closed in (kept, other):
        with pytest.raises(BackendClosed):
            closed.get("key")


def test_a_memory_url_gives_a_memory_of_its_own() -> None:
    """memory:// takes its bounds as options, and is never shared."""
    cache = open_url("memory://?maxsize=5&max_bytes=100")
    assert isinstance(cache, MemoryCache)
    assert (cache.maxsize, cache.max_bytes) == (5, 100)
    assert open_url("memory://") is not open_url("memory://")


def test_a_disk_url_names_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """disk:// takes relative and absolute folders, escapes and options; each is opened once."""
    monkeypatch.chdir(tmp_path)
    relative = open_url("disk://some/folder?size_limit=1000000")
    assert isinstance(relative, DiskCache)
    assert (relative.directory, relative.size_limit) == (tmp_path / "some/folder", 1_000_000)
    absolute = open_url(f"disk://{tmp_path}/a%20b")
    assert isinstance(absolute, DiskCache)
    assert absolute.directory == tmp_path / "a b"
    assert open_url("disk://some/folder?size_limit=1000000") is relative
    monkeypatch.chdir("/")
    assert open_url("disk://some/folder?size_limit=1000000") is not relative


def test_a_disk_url_is_opened_anew_after_close(tmp_path: Path) -> None:
    """A URL whose store was closed gives one that works."""
    url = f"disk://{tmp_path}/store"
    first = open_url(url)
    assert isinstance(first, DiskCache)
    first.set("k", b"1", None)
    first.close()
    second = open_url(url)
    assert isinstance(second, DiskCache)
    assert second is open_url(url)
    assert second.get("k") == b"1"
    second.close()


def test_a_redis_url_gives_one_client_for_all(redis_url: str) -> None:
    """redis:// names a server, which is opened once."""
    cache = open_url(redis_url)
    assert isinstance(cache, RedisCache)
    assert open_url(redis_url) is cache
    cache.close()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ftp://host", "'ftp'.*wanted one of: memory://, disk://, redis://"),
        ("", "''.*wanted one of"),
        ("redis:localhost", "wanted one of"),
        ("/tmp/cache", "for a folder write disk://"),
        (
            "memory://100",
            "wanted memory://, which has no name or number: limits are options",
        ),
        ("memory:///5", "wanted memory://, which has no name or number"),
        ("disk://a#b", "found a # in the cache URL .*write # as %23"),
        ("redis://h?db=-1", "found a database below 0, or port 0"),
        ("redis://h:0/0", "found a database below 0, or port 0"),
        ("redis://h?credential_provider=x", "wanted an object: give RedisCache a ready client"),
        (
            "memory://?size=5",
            "size='5'.*takes whole numbers for: maxsize, max_bytes, max_entry_bytes",
        ),
        ("memory://?maxsize=many", "maxsize='many'"),
        ("memory://?maxsize=-1", "maxsize='-1'"),
        ("memory://?maxsize=0", "whole number above 0"),
        ("disk://?size_limit=5", "without a folder"),
        ("disk://folder?ttl=5", "ttl='5'.*size_limit"),
        ("redis://localhost?colour=blue", "unknown option.*colour"),
        ("redis://localhost?socket_timeout=soon", "can't be read; wanted redis://"),
    ],
)
def test_a_url_that_names_nothing_is_refused(url: str, message: str) -> None:
    """An unknown scheme or option, or a folder left out, is a ValueError that says what works."""
    with pytest.raises(ValueError, match=message):
        open_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://user:hunter2@host",
        "hunter2",
        "user:hunter2@host",
        "redis://:hunter2@host?colour=blue",
        "redis://:hunter2/@host",
        "redis://:hunter2@host:hunter2",
        "redis://host?password=hunter2&db=x",
    ],
)
def test_no_error_shows_a_password(url: str) -> None:
    """Whatever is wrong with a URL, no part of its password is in the error or its causes."""
    with pytest.raises(ValueError, match=r"wanted|unknown") as caught:
        open_url(url)
    text = "".join(traceback.format_exception(caught.value))
    assert "hunter2" not in text.replace(url, "")
    assert "hunter2" not in str(caught.value)


@pytest.mark.skipif(os.name == "nt", reason="a folder in use can't be deleted there")
def test_a_deleted_working_directory_matters_to_relative_urls_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A URL from the root works there; for any other the message says what to write."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    absolute: Any = open_url(f"disk://{tmp_path}/a")
    assert absolute.directory == tmp_path / "a"
    with pytest.raises(FileNotFoundError, match=r"working directory was deleted.*disk:///"):
        open_url(DEFAULT_URL)
