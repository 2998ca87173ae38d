"""A disk that fails in every way it can, under cached functions of both colours: all answer."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import diskcache
import pytest
from conftest import Colour, timed
from pydantic import BaseModel
from test_disk import FILE, LAYOUT, LOCK, outcome, posix, python, set_aside, sql

from instructor_cache import BackendWarning, DiskCache, Event, SafeDisk, instructor_cache
from instructor_cache.backends.diskcache import DiskcacheBackend
from instructor_cache.errors import BackendClosed

TEXTS = [f"text {number} " + "x" * 300 for number in range(60)]


class User(BaseModel):
    name: str


class Case:
    """A cached function over a store, what it called, and what it told."""

    def __init__(self, colour: Colour, backend: Any, **options: Any) -> None:
        self.colour, self.backend = colour, backend
        self.calls: list[str] = []
        self.events: list[Event] = []

        def extract(text: str) -> User:
            self.calls.append(text)
            return User(name=text)

        observed = {"observer": self.events.append, **options}
        self.func = instructor_cache(backend, **observed)(colour.function(extract))

    async def ask(self, texts: list[str] = TEXTS) -> list[str]:
        """Which of *texts* the function was called for; every answer is checked."""
        self.calls.clear()
        for text in texts:
            assert await self.colour.call(self.func, text) == User(name=text)
        return list(self.calls)

    async def is_remembered(self, texts: list[str], deadline: float = 5.0) -> None:
        """Ask until *texts* are all answered by the store, which must be so within *deadline*."""
        end = time.monotonic() + deadline
        while await self.ask(texts):
            assert time.monotonic() < end, self.failures()
            time.sleep(0.02)

    def failures(self) -> list[str]:
        return [str(event.error) for event in self.events if event.kind == "failure"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


@contextmanager
def told(most: int = 1) -> Iterator[list[str]]:
    """What BackendWarnings say inside; there may be *most* of them, and no other warning."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found: list[str] = []
        yield found
    found += [str(warning.message) for warning in caught]
    assert {warning.category for warning in caught} <= {BackendWarning}, found
    assert len(found) <= most, found


# -- what is there is not what was there ---------------------------------------------------------


def change(path: Path, at: int, garbage: bytes) -> None:
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(garbage)


def header(folder: Path) -> None:
    change(folder / FILE, 0, b"garbage!" * 8)


def one_page(folder: Path) -> None:
    size = (folder / FILE).stat().st_size
    change(folder / FILE, size // 2 // 4096 * 4096, b"\xa5" * 4096)


def many_pages(folder: Path) -> None:
    size = (folder / FILE).stat().st_size
    change(folder / FILE, 4096, b"\xa5" * (size - 4096))


def all_pages_zero(folder: Path) -> None:
    size = (folder / FILE).stat().st_size
    change(folder / FILE, 4096, bytes(size - 4096))


def truncated(folder: Path) -> None:
    os.truncate(folder / FILE, (folder / FILE).stat().st_size // 2 + 77)


def emptied(folder: Path) -> None:
    os.truncate(folder / FILE, 0)


def a_folder(folder: Path) -> None:
    (folder / FILE).unlink()
    (folder / FILE).mkdir()


def another_programs(folder: Path) -> None:
    (folder / FILE).unlink()
    sql(folder, "CREATE TABLE notes(text)", "INSERT INTO notes VALUES ('mine')")


def no_file(folder: Path) -> None:
    (folder / FILE).unlink()


def no_folder(folder: Path) -> None:
    shutil.rmtree(folder)


def no_journal(folder: Path) -> None:
    (folder / f"{FILE}-wal").unlink(missing_ok=True)


def no_index(folder: Path) -> None:
    (folder / f"{FILE}-shm").unlink(missing_ok=True)


def neither(folder: Path) -> None:
    no_journal(folder)
    no_index(folder)


def garbage_in_the_journal(folder: Path) -> None:
    if (path := folder / f"{FILE}-wal").exists():
        change(path, 2000, b"\xa5" * (path.stat().st_size - 2000))


def an_emptied_journal(folder: Path) -> None:
    if (path := folder / f"{FILE}-wal").exists():
        os.truncate(path, 0)


def garbage_in_the_index(folder: Path) -> None:
    if (path := folder / f"{FILE}-shm").exists():
        change(path, 0, b"\xa5" * path.stat().st_size)


CORRUPT = [
    *(header, one_page, many_pages, all_pages_zero, truncated, emptied),
    *(a_folder, another_programs),
]
GONE = [no_file, no_folder]
JOURNAL = [
    *(no_journal, no_index, neither),
    *(garbage_in_the_journal, an_emptied_journal, garbage_in_the_index),
]


def pass_a_second(cache: DiskCache) -> None:
    cache._database._looked_at -= 1.0  # it looks at the files every second


async def survives(case: Case, folder: Path, spoil: Callable[[Path], None]) -> list[str]:
    """Do it; check that all calls are answered, and soon from the store again; what was told."""
    assert await case.ask() == TEXTS
    assert await case.ask() == []
    with told() as said:
        spoil(folder)
        await case.ask()
        await case.ask([f"{text}!" for text in TEXTS])
        for _ in range(2):
            pass_a_second(case.backend)
            await case.is_remembered(TEXTS)
            with DiskCache(folder, timeout=10) as other:  # as another process finds it
                found = len(list(other.scan("")))
    assert found >= len(TEXTS)
    assert sql(folder, "PRAGMA integrity_check") == [("ok",)]
    assert len(set_aside(folder)) == sum("was unusable" in each for each in said)
    return said


def settle(folder: Path) -> None:
    """Move what is in the journal into the file, so that to damage the file does damage."""
    sql(folder, "PRAGMA wal_checkpoint(TRUNCATE)")


@pytest.mark.parametrize("spoil", CORRUPT)
async def test_a_store_that_breaks_while_open(
    spoil: Callable[[Path], None], colour: Colour, folder: Path
) -> None:
    """Every call is answered, what broke is set aside with at most one warning, and all is well."""

    def break_it(folder: Path) -> None:
        settle(folder)
        spoil(folder)

    with DiskCache(folder, timeout=10) as cache:
        said = await survives(Case(colour, cache), folder, break_it)
        assert spoil in (one_page, all_pages_zero, truncated, emptied, header) or said


@pytest.mark.parametrize("spoil", [*GONE, *JOURNAL])
async def test_a_store_that_vanishes_while_open(
    spoil: Callable[[Path], None], colour: Colour, folder: Path
) -> None:
    """The file, the folder, the journal or its index: without them every call is answered."""

    def later(folder: Path) -> None:
        spoil(folder)
        pass_a_second(cache)

    with DiskCache(folder, timeout=10) as cache:
        said = await survives(Case(colour, cache), folder, later)
        assert not (said and spoil in GONE)


@pytest.mark.parametrize("spoil", [*CORRUPT, *GONE, *JOURNAL])
async def test_a_store_that_broke_while_closed(
    spoil: Callable[[Path], None], colour: Colour, folder: Path
) -> None:
    """A program that starts on the remains answers every call, and begins anew where it must."""
    with DiskCache(folder, timeout=10) as before:
        for text in TEXTS:
            before.set(text, bytes(500), None)
        for suffix in ("", "-wal", "-shm"):  # as a killed process would leave them
            shutil.copy(folder / f"{FILE}{suffix}", folder / f"copy{suffix}")
    for suffix in ("", "-wal", "-shm"):
        (folder / f"copy{suffix}").rename(folder / f"{FILE}{suffix}")
    if spoil in CORRUPT:
        settle(folder)
    spoil(folder)
    with DiskCache(folder, timeout=10) as cache, told() as said:
        case = Case(colour, cache)
        assert await case.ask() == TEXTS
        for text in TEXTS:
            with suppress(sqlite3.Error):
                cache.get(text)
        await case.is_remembered(TEXTS)
    assert sql(folder, "PRAGMA integrity_check") == [("ok",)]
    assert len(said) == len(set_aside(folder))
    if spoil in CORRUPT:
        assert len(said) == 1
    if spoil in GONE:
        assert said == []


@pytest.mark.parametrize("is_open", [True, False])
async def test_what_can_be_read_is_not_lost(is_open: bool, colour: Colour, folder: Path) -> None:
    """When one page of many is damaged, all other answers are in the new store at once."""
    texts = [f"paid {number}" for number in range(500)]
    cache = DiskCache(folder, timeout=20)
    await Case(colour, cache).ask(texts)
    if not is_open:
        cache.close()
        cache = DiskCache(folder, timeout=20)
    settle(folder)
    leaf = "SELECT pageno FROM dbstat WHERE name = 'entries' AND pagetype = 'leaf'"
    try:
        pages = [page for (page,) in sql(folder, leaf)]
    except sqlite3.OperationalError:
        pytest.skip("this SQLite has no dbstat")
    change(folder / FILE, (pages[len(pages) // 2] - 1) * 4096, b"\xa5" * 4096)
    with told() as said:
        case = Case(colour, cache)
        assert 0 < len(await case.ask(texts)) < 30
        assert await case.ask(texts) == []
    assert len(said) == len(set_aside(folder)) == 1
    cache.close()
    assert sql(folder, "PRAGMA integrity_check") == [("ok",)]


async def test_a_damaged_index_loses_no_answer(colour: Colour, folder: Path) -> None:
    """When only the index is unreadable, every answer is in the new store."""
    with DiskCache(folder, timeout=20) as cache:
        await Case(colour, cache).ask()
    root = "SELECT rootpage FROM sqlite_master WHERE name = 'sqlite_autoindex_entries_1'"
    change(folder / FILE, (sql(folder, root)[0][0] - 1) * 4096, b"\xa5" * 4096)
    with DiskCache(folder, timeout=20) as cache, told() as said:
        assert await Case(colour, cache).ask() == []
    assert len(said) == 1
    assert "begun with the 60 entries" in said[0]


@posix
async def test_a_symbolic_link_is_not_followed(
    colour: Colour, folder: Path, tmp_path: Path
) -> None:
    """Calls go through, each failure is told, and what the link points to stays as it was."""
    (folder / LAYOUT).mkdir(parents=True)
    (tmp_path / "target").write_text("mine")
    (folder / FILE).symlink_to(tmp_path / "target")
    case = Case(colour, DiskCache(folder))
    assert await case.ask(TEXTS[:3]) == TEXTS[:3]
    assert "is a symbolic link" in case.failures()[0]
    assert (tmp_path / "target").read_text() == "mine"


async def test_rows_swapped_between_keys_are_a_miss(colour: Colour, folder: Path) -> None:
    """Values that were exchanged in the database answer for no other call."""
    with DiskCache(folder) as cache:
        case = Case(colour, cache)
        await case.ask()
        one, two = list(cache.scan(""))[:2]
        swap = "UPDATE entries SET value = (SELECT value FROM entries WHERE key = '%s') "
        sql(folder, (swap + "WHERE key = '%s'") % (one, two))
        assert len(await case.ask()) == 1
        assert [event.kind for event in case.events].count("corrupt") == 1
        assert await case.ask() == []


async def test_an_index_that_lies_is_a_miss(colour: Colour, folder: Path) -> None:
    """An index that leads to the rows of other keys gives wrong answers to nobody."""
    with DiskCache(folder) as cache:
        await Case(colour, cache).ask(TEXTS[:10])
    root = "SELECT rootpage FROM sqlite_master WHERE name = 'sqlite_autoindex_entries_1'"
    start = (sql(folder, root)[0][0] - 1) * 4096
    page = bytearray((folder / FILE).read_bytes()[start : start + 4096])
    keys = [key.encode() for (key,) in sql(folder, "SELECT key FROM entries WHERE id IN (5, 6)")]
    one, two = (page.index(key) + len(key) for key in keys)  # where the index keeps their rows
    page[one], page[two] = page[two], page[one]
    change(folder / FILE, start, bytes(page))
    with DiskCache(folder) as cache, told():
        case = Case(colour, cache)
        assert await case.ask(TEXTS[:10]) == TEXTS[4:6]
        assert [event.kind for event in case.events].count("corrupt") == 2
        await case.is_remembered(TEXTS[:10])


# -- no room, no files -------------------------------------------------------------------------


def fill_disk(folder: Path) -> None:
    descriptor = os.open(folder / "fill", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    for size in (65536, 4096, 1):
        with suppress(OSError):
            while True:
                os.write(descriptor, b"x" * size)
    os.close(descriptor)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 12 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=12m", "none", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("file systems can't be mounted here; RLIMIT_FSIZE stands in for a full disk")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.parametrize("is_open", [True, False])
async def test_a_full_disk(is_open: bool, colour: Colour, small_disk: Path) -> None:
    """What is held still answers, what is new goes through, and with room again it is kept."""
    cache = DiskCache(small_disk / "store")
    case = Case(colour, cache)
    await case.ask()
    if not is_open:
        cache.close()
    fill_disk(small_disk)
    if not is_open:
        cache = DiskCache(small_disk / "store")
        case = Case(colour, cache)
    assert await case.ask() == []
    large = ["y" * 9000 + str(number) for number in range(3)]
    assert await case.ask(large) == large
    assert any("full" in each or "disk I/O" in each for each in case.failures())
    assert await case.ask() == []
    (small_disk / "fill").unlink()
    await case.is_remembered([*large, *TEXTS])
    cache.close()
    assert sql(small_disk / "store", "PRAGMA integrity_check") == [("ok",)]


def test_a_full_disk_lets_entries_be_deleted(small_disk: Path) -> None:
    """What is held can be deleted and cleared, in the space that the journal had."""
    with DiskCache(small_disk / "store", size_limit=4_000_000, timeout=5) as cache:
        for number in range(2000):
            cache.set(f"{number * 7919 % 2000}", bytes(1500), None)
        sql(small_disk / "store", "PRAGMA wal_checkpoint(TRUNCATE)")
        for number in range(20):
            cache.delete(f"{number}")
        fill_disk(small_disk)
        for number in range(0, 2000, 2):
            cache.delete(f"{number}")
        cache.clear("1")
        assert all(int(key) % 2 and key[0] != "1" for key in cache.scan(""))
        assert cache.count() > 300


async def test_a_store_begun_on_a_full_disk(colour: Colour, small_disk: Path) -> None:
    """Calls go through, nothing half made is left, and with room again answers are kept."""
    fill_disk(small_disk)
    with DiskCache(small_disk / "store") as cache:
        case = Case(colour, cache)
        assert await case.ask(TEXTS[:4]) == TEXTS[:4]
        assert case.failures()
        assert not list((small_disk / "store").rglob("*new-*"))
        (small_disk / "fill").unlink()
        await case.is_remembered(TEXTS[:4])


LIMITED = """
import asyncio, logging, resource, signal, warnings
logging.disable()
warnings.simplefilter("error")
from pydantic import BaseModel
from instructor_cache import DiskCache, instructor_cache

class User(BaseModel):
    name: str

events, calls = [], []

def extract(text: str) -> User:
    calls.append(text)
    return User(name=text)

async def aextract(text: str) -> User:
    return extract(text)

cache = DiskCache(sys.argv[1])
is_async = sys.argv[2] == "async"
func = instructor_cache(cache, observer=events.append)(aextract if is_async else extract)

def ask(texts):
    calls.clear()
    for text in texts:
        answer = asyncio.run(func(text)) if is_async else func(text)
        assert answer.name == text
    return list(calls)

def remembered(texts):
    end = time.monotonic() + 5
    while ask(texts):
        assert time.monotonic() < end, events
        time.sleep(0.02)

held = [f"held {n}" for n in range(20)]
new = [f"new {n} " + "y" * 5000 for n in range(4)]
ask(held)
"""


@posix
@pytest.mark.parametrize("colour_name", ["sync", "async"])
def test_a_file_that_may_not_grow(folder: Path, colour_name: str) -> None:
    """At the limit of file sizes what is held answers, the rest goes through, and is told."""
    program = """
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
before = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
assert ask(held) == []
assert ask(new) == new
assert any(event.kind == "failure" for event in events), events
assert ask(held) == []
resource.setrlimit(resource.RLIMIT_FSIZE, before)
remembered(new + held)
"""
    assert outcome(python(LIMITED + program, folder, colour_name)) == ""
    assert sql(folder, "PRAGMA integrity_check") == [("ok",)]


@posix
@pytest.mark.parametrize("colour_name", ["sync", "async"])
@pytest.mark.parametrize("is_open", [True, False])
def test_no_more_files_may_be_opened(folder: Path, colour_name: str, is_open: bool) -> None:
    """Out of file descriptors calls go through, or are answered, and afterwards all is well."""
    program = """
if is_async:
    loop = asyncio.new_event_loop()
    asyncio.run = loop.run_until_complete
if sys.argv[3] == "False":
    cache.close()
    cache = DiskCache(sys.argv[1])
    func = instructor_cache(cache, observer=events.append)(aextract if is_async else extract)
taken = []
resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
try:
    while True:
        taken.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    pass
asked = ask(held)
assert asked == ([] if sys.argv[3] == "True" else held), asked
ask(new)
if sys.argv[3] == "False":
    assert any(event.kind == "failure" for event in events), events
for descriptor in taken:
    os.close(descriptor)
remembered(new + held)
cache.close()
if is_async:
    loop.close()
"""
    assert outcome(python(LIMITED + program, folder, colour_name, is_open)) == ""
    assert not set_aside(folder)
    assert sql(folder, "PRAGMA integrity_check") == [("ok",)]


# -- a store that may not be written -----------------------------------------------------------


@posix
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
async def test_a_read_only_store_answers(colour: Colour, folder: Path) -> None:
    """On a file system mounted read-only, calls that are held are answered, others go through."""
    with DiskCache(folder) as cache:
        await Case(colour, cache).ask()
    target = folder.parent / "read-only"
    target.mkdir()
    for command in (["--bind", folder, target], ["-o", "remount,bind,ro", target]):
        mount = ["mount", *map(str, command)]
        if subprocess.run(mount, capture_output=True).returncode:
            pytest.skip("file systems can't be mounted here")
    try:
        with told() as said, DiskCache(target) as cache:
            case = Case(colour, cache)
            assert await case.ask() == []
            assert await case.ask(["new"]) == await case.ask(["new"]) == ["new"]
            assert await case.ask() == []
            with pytest.raises(PermissionError, match="read-only.*go on without"):
                cache.swap("lock", None, b"token", 1)
        assert len(said) == 1
    finally:
        subprocess.run(["umount", "-l", str(target)], check=True)


# -- locked ---------------------------------------------------------------------------------------

HOLDER = """
import sqlite3
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
for statement in sys.argv[2].split(";"):
    connection.execute(statement).fetchall()
print("held", flush=True)
time.sleep(float(sys.argv[3]))
"""


@contextmanager
def locked(path: Path, statements: str = "BEGIN EXCLUSIVE") -> Iterator[None]:
    """Another process has begun to write there, and goes on for five seconds at most."""
    holder = python(HOLDER, path, statements, 5)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    try:
        yield
    finally:
        holder.kill()
        holder.communicate()


def took(work: Callable[[], object]) -> float:
    start = time.monotonic()
    work()
    return time.monotonic() - start


@timed
async def test_a_store_locked_by_another_process(colour: Colour, folder: Path) -> None:
    """What is held is answered at once; what is new waits about the timeout once, then not."""
    with DiskCache(folder, timeout=0.2) as cache:
        case = Case(colour, cache)
        await case.ask()
        with locked(folder / FILE):
            start = time.monotonic()
            assert await case.ask() == []
            assert time.monotonic() - start < 0.6
            start = time.monotonic()
            new = [f"new {number}" for number in range(100)]
            assert await case.ask(new) == new
            assert time.monotonic() - start < 1.2
            assert any("locked" in each for each in case.failures())
        await case.is_remembered(new)


@timed
def test_a_lock_is_waited_for_in_vain_only_once(folder: Path) -> None:
    """After one writer has waited, others fail at once, until the lock is free: then they write."""
    with DiskCache(folder, timeout=0.3) as cache:
        cache.set("k", b"1", None)
        with locked(folder / FILE):
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                cache.set("k", b"2", None)
            start = time.monotonic()
            for _ in range(50):
                with pytest.raises(sqlite3.OperationalError, match="locked"):
                    cache.set("k", b"2", None)
            assert time.monotonic() - start < 1.0  # of fifteen seconds
        cache.set("k", b"3", None)
        assert cache.get("k") == b"3"
        with locked(folder / FILE):  # and it is waited for again
            start = time.monotonic()
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                cache.set("k", b"4", None)
            assert time.monotonic() - start > 0.2


WRITES: list[Callable[[Any], object]] = [
    lambda cache: cache.set("k", b"2", None),
    lambda cache: cache.delete("k"),
    lambda cache: cache.swap("k", b"1", b"2", 1),
    lambda cache: cache.swap("new", None, b"2", 1),
    lambda cache: cache.clear(""),
]


@timed
@pytest.mark.slow
@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("kind", [diskcache.Cache, diskcache.FanoutCache, None])
@pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning")
def test_a_write_ends_within_its_timeout(
    kind: Any, write: Callable[[Any], object], folder: Path
) -> None:
    """While another process writes, every write raises within its timeout, and reads answer."""
    ready = None if kind is None else kind(folder, disk=SafeDisk)
    backend: Any = (
        DiskCache(folder, timeout=0.2) if kind is None else DiskcacheBackend(ready, timeout=0.2)
    )
    backend.set("k", b"1", None)
    paths = [folder / FILE] if kind is None else sorted(folder.rglob("cache.db"))
    with locked(paths[0]) if len(paths) == 1 else _all_locked(paths):
        start = time.monotonic()
        with pytest.raises((sqlite3.OperationalError, TimeoutError), match="locked"):
            write(backend)
        assert 0.1 < time.monotonic() - start < 0.7
        assert took(lambda: backend.get("k")) < 0.1
        assert backend.get("k") == b"1"
    write(backend)
    backend.close()
    if kind is not None:
        assert ready.timeout == (60 if kind is diskcache.Cache else 0.010)
        ready.close()


@contextmanager
def _all_locked(paths: list[Path]) -> Iterator[None]:
    connections = [sqlite3.connect(path, isolation_level=None) for path in paths]
    for connection in connections:
        connection.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        for connection in connections:
            connection.close()


@timed
def test_everything_ends_within_the_timeout_when_all_is_locked(folder: Path) -> None:
    """With a lock that shuts out readers too, each operation raises in time, opening included."""
    with DiskCache(folder) as cache:
        cache.set("k", b"1", None)
    cache = DiskCache(folder, timeout=0.2)
    with locked(folder / FILE, "PRAGMA locking_mode=EXCLUSIVE;BEGIN EXCLUSIVE"):
        for use in (lambda: cache.get("k"), lambda: cache.set("k", b"2", None)):
            start = time.monotonic()
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                use()
            assert time.monotonic() - start < 0.7
    assert cache.get("k") == b"1"
    cache.close()


@timed
@posix
def test_a_stuck_beginner_keeps_nobody_waiting_longer(folder: Path) -> None:
    """While another process holds the folder's lock file, each operation raises in time."""
    import fcntl

    (folder / LAYOUT).mkdir(parents=True)
    with open(folder / LOCK, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with DiskCache(folder, timeout=0.2) as cache:
            for use in (lambda: cache.get("k"), lambda: cache.set("k", b"2", None)):
                start = time.monotonic()
                with pytest.raises(sqlite3.OperationalError, match="locked by another"):
                    use()
                assert 0.1 < time.monotonic() - start < 0.7
            fcntl.flock(file, fcntl.LOCK_UN)
            cache.set("k", b"2", None)
            assert cache.get("k") == b"2"


def test_a_limit_that_was_lowered_is_reached_in_small_steps(folder: Path) -> None:
    """No single write deletes most of a large store; those who come after it go on."""
    with DiskCache(folder) as cache:
        for number in range(1000):
            cache.set(f"{number}", bytes(3000), None)
    with DiskCache(folder, size_limit=500_000, timeout=0.0) as cache:
        left = []
        for number in range(200):
            cache.set(f"new {number}", b"1", None)
            left.append(len(list(cache.scan(""))))
        assert left[0] > 980
        pages = "SELECT page_count - freelist_count FROM pragma_page_count, pragma_freelist_count"
        assert sql(folder, pages)[0][0] * 4096 <= 550_000
        assert len(list(cache.scan("new"))) > 150


def test_a_connection_that_finds_the_journal_cut_short_is_replaced(folder: Path) -> None:
    """An I/O error that all connections of the process would go on to have is met only once."""
    with DiskCache(folder) as cache:
        database = cache._database
        cache.set("k", b"1", None)
        database.run(lambda _: cache.get("k"))  # inside another: there are two connections now
        for number in range(200):
            cache.set(f"{number}", bytes(500), None)
        os.truncate(folder / f"{FILE}-wal", 0)
        database.pool._idle.rotate(1)
        assert cache.get("150") in (None, bytes(500))
        cache.set("new", b"1", None)
        assert cache.get("new") == b"1"
    assert sql(folder, "PRAGMA integrity_check") == [("ok",)]


def test_a_transaction_of_the_callers_own_is_no_obstacle(folder: Path) -> None:
    """Inside ``cache.transact()`` of the ready diskcache its thread reads and writes as usual."""
    with diskcache.Cache(folder, disk=SafeDisk) as ready:
        backend = DiskcacheBackend(ready, timeout=0.2)
        with ready.transact():
            backend.set("k", b"1", None)
            assert backend.get("k") == b"1"
            assert backend.swap("k", b"1", b"2", None)
        assert backend.get("k") == b"2"
        backend.close()


# -- closing ------------------------------------------------------------------------------------


def closing_backends(folder: Path) -> list[Any]:
    return [
        DiskCache(folder / "own"),
        DiskcacheBackend(diskcache.Cache(folder / "theirs", disk=SafeDisk)),
        DiskcacheBackend(diskcache.FanoutCache(folder / "fan", shards=2, disk=SafeDisk)),
    ]


def test_a_closed_backend_says_so(folder: Path) -> None:
    """After close, which may be called twice, every operation raises BackendClosed."""
    for backend in closing_backends(folder):
        backend.set("k", b"1", None)
        assert not backend.closed
        backend.close()
        backend.close()
        assert backend.closed
        for use in (
            lambda b=backend: b.get("k"),
            lambda b=backend: list(b.scan("")),
            *(lambda b=backend, w=write: w(b) for write in WRITES),
        ):
            with pytest.raises(BackendClosed, match="closed"):
                use()


async def test_use_after_close_calls_the_function(colour: Colour, folder: Path) -> None:
    """A function whose store was closed answers by calling."""
    cache = DiskCache(folder)
    case = Case(colour, cache)
    await case.ask()
    cache.close()
    assert await case.ask(TEXTS[:3]) == TEXTS[:3]


def open_files() -> int:
    import gc

    gc.collect()
    return len(os.listdir("/dev/fd"))


@posix
@pytest.mark.parametrize("times", [50, pytest.param(200, marks=pytest.mark.slow)])
async def test_opened_used_and_closed_many_times(colour: Colour, folder: Path, times: int) -> None:
    """Fifty, or two hundred, caches under functions leave no thread and no open file."""
    for number in range(times + 5):
        with DiskCache(folder) as cache:
            await Case(colour, cache).ask([f"{number % 3}"])
        if number == 5:
            files, threads = open_files(), threading.active_count()
    end = time.monotonic() + 5
    while threading.active_count() > threads and time.monotonic() < end:
        time.sleep(0.05)
    assert threading.active_count() <= threads
    assert open_files() <= files


@posix
@pytest.mark.parametrize("times", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_close_while_others_are_at_work(folder: Path, times: int) -> None:
    """Threads in the middle of their work end it, then find it closed, and no file stays open."""
    before = open_files()
    for _ in range(times):
        for backend in closing_backends(folder):
            start = threading.Barrier(5)

            def work(number: int, backend: Any = backend, start: Any = start) -> int:
                start.wait()
                with suppress(BackendClosed):
                    for count in range(10**6):
                        backend.set(f"{number}", b"%d" % count, None)
                        assert backend.get(f"{number}") == b"%d" % count
                return 1

            with ThreadPoolExecutor(4) as pool:
                workers = [pool.submit(work, number) for number in range(4)]
                start.wait()
                time.sleep(0.01)
                backend.close()
                assert sum(worker.result(timeout=10) for worker in workers) == 4
    del backend
    assert open_files() <= before  # fewer if what tests before have begun ends only now


@pytest.mark.parametrize(
    "ending", ["atexit.register(cache.close)", "threading.Thread(target=late).start()"]
)
def test_the_end_of_a_program_is_quiet(folder: Path, ending: str) -> None:
    """A close at exit, or a thread that outlives the main one, says nothing."""
    program = f"""
import atexit, threading, warnings; warnings.simplefilter("error")
from instructor_cache import DiskCache
cache = DiskCache(sys.argv[1])
cache.set("k", b"1", None)
def late():
    time.sleep(0.2)
    cache.set("k", b"2", None)
    cache.close()
{ending}
"""
    assert outcome(python(program, folder)) == ""


# -- the lock primitive --------------------------------------------------------------------------

COUNTER = """
from pathlib import Path
from instructor_cache import DiskCache
cache, counter = DiskCache(sys.argv[1], timeout=10), Path(sys.argv[2])
token = str(os.getpid()).encode()
for _ in range(int(sys.argv[3])):
    while not cache.swap("lock", None, token, 30):
        time.sleep(0.001)
    counter.write_text(str(int(counter.read_text()) + 1))
    assert cache.swap("lock", token, token, 30)
    assert cache.swap("lock", token, None, None)
cache.close()
"""


def count_together(folder: Path, processes: int, increments: int) -> int:
    """What *processes* counted in a file that they change one at a time."""
    counter = folder.parent / "counter"
    counter.write_text("0")
    running = [python(COUNTER, folder, counter, increments) for _ in range(processes)]
    assert [outcome(process) for process in running] == [""] * processes
    return int(counter.read_text())


def test_a_lock_between_processes_loses_no_update(folder: Path) -> None:
    """Four processes that change a file under a swapped lock lose none of their changes."""
    assert count_together(folder, 4, 25) == 100


@pytest.mark.slow
def test_a_lock_between_many_processes_loses_no_update(folder: Path) -> None:
    """Eight processes that change a file two hundred times each lose none of their changes."""
    assert count_together(folder, 8, 200) == 1600


@pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning")
def test_one_of_many_threads_wins_a_swap(folder: Path) -> None:
    """Of sixteen threads that swap nothing for their own value, exactly one does, each time."""
    for backend in closing_backends(folder):
        with ThreadPoolExecutor(16) as pool:
            for number in range(20):
                work = [
                    pool.submit(backend.swap, f"{number}", None, b"%d" % n, 30) for n in range(16)
                ]
                winners = [n for n, swapped in enumerate(work) if swapped.result()]
                assert len(winners) == 1
                assert backend.get(f"{number}") == b"%d" % winners[0]
        backend.close()


def test_an_expired_lock_is_free(folder: Path) -> None:
    """A lock whose lease has passed can be taken, and its former holder can't renew or release."""
    now = [1000.0]
    with DiskCache(folder, clock=lambda: now[0]) as cache:
        assert cache.swap("lock", None, b"one", 10)
        assert not cache.swap("lock", None, b"two", 10)
        now[0] += 9
        assert cache.swap("lock", b"one", b"one", 10)
        now[0] += 10
        assert not cache.swap("lock", b"one", b"one", 10)
        assert cache.swap("lock", None, b"two", 10)
        assert not cache.swap("lock", b"one", None, None)
        assert cache.get("lock") == b"two"
        assert cache.swap("lock", b"two", None, None)
        assert cache.swap("lock", None, None, None)


def test_a_swapped_entry_counts_as_new(folder: Path) -> None:
    """At the size limit an entry that was swapped in lately outlives older ones."""
    with DiskCache(folder, size_limit=400_000) as cache:
        cache.set("renewed", b"1", None)
        for number in range(2000):
            cache.set(f"{number}", bytes(500), None)
            if number % 50 == 0:
                assert cache.swap("renewed", b"1", b"1", None)
        assert cache.get("renewed") == b"1"
        assert cache.get("0") is None


def test_a_swap_to_what_is_too_large_deletes(folder: Path) -> None:
    """A value beyond size_limit replaces the right old one by nothing, as set does."""
    with DiskCache(folder, size_limit=100_000) as cache:
        cache.set("k", b"1", None)
        assert not cache.swap("k", b"wrong", bytes(200_000), None)
        assert cache.get("k") == b"1"
        assert cache.swap("k", b"1", bytes(200_000), None)
        assert cache.get("k") is None


def test_a_planted_row_is_no_lock(folder: Path) -> None:
    """A row that holds no bytes is nothing to a swap, as it is to a get."""
    with DiskCache(folder) as cache:
        cache.set("lock", b"1", None)
        sql(folder, "UPDATE entries SET value = 5")
        assert cache.swap("lock", None, b"token", 10)
        assert cache.get("lock") == b"token"


def test_what_a_killed_beginner_left_is_cleared_away(folder: Path) -> None:
    """The folder in which a store was half made is removed by the next one that begins."""
    draft = folder / LAYOUT / "entries.new-abc"
    draft.mkdir(parents=True)
    (draft / "entries.sqlite3").write_bytes(b"half")
    (folder / LAYOUT / "new-report").mkdir()
    with closing(DiskCache(folder)) as cache:
        cache.set("k", b"1", None)
    assert not draft.exists()
    assert (folder / LAYOUT / "new-report").exists()
