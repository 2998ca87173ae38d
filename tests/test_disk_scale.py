"""The disk store with many entries, many writers, and another version of the library beside it."""

from __future__ import annotations

import itertools
import random
import sqlite3
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from conftest import timed
from test_disk import FILE, LAYOUT, modes, outcome, python, set_aside, sql

from instructor_cache import DiskCache
from instructor_cache.backends import _connection, _room, disk


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


def size_of(folder: Path) -> int:
    """Bytes of all files, whichever of them vanish meanwhile."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:
            continue
    return total


def outcomes(processes: list[subprocess.Popen[str]]) -> list[str]:
    """What all of *processes* printed, once all have ended, and that they ended well."""
    with ThreadPoolExecutor(len(processes)) as pool:
        ended = [pool.submit(outcome, process) for process in processes]
    return [future.result().strip() for future in ended]


def many(folder: Path, entries: int) -> DiskCache:
    """A store that holds *entries* of about 600 bytes, made at one go."""
    path = folder / FILE
    path.parent.mkdir(parents=True)
    draw, soon = random.Random(7), time.time() + 3600
    rows = (
        (n + 1, f"app.extract:{draw.getrandbits(128):032x}", bytes(600), soon if n % 2 else None)
        for n in range(entries)
    )
    assert _connection.create(path, time.monotonic() + 60, rows) == entries
    return DiskCache(folder, size_limit=2**40)


# -- nothing looks at all entries ------------------------------------------------------------------

STATEMENTS = {
    "get": (disk._GET, "USING INDEX sqlite_autoindex_entries_1 (key=?)"),
    "delete": (disk._DELETE, "USING INDEX sqlite_autoindex_entries_1 (key=?)"),
    "remove": (disk._REMOVE, "USING INDEX sqlite_autoindex_entries_1 (key=?)"),
    "change": (disk._CHANGE, "USING INDEX sqlite_autoindex_entries_1 (key=?)"),
    "scan": (disk._SCAN, "USING INDEX sqlite_autoindex_entries_1 (key>? AND key<?)"),
    "clear": (disk._CLEAR, "USING COVERING INDEX sqlite_autoindex_entries_1 (key>? AND key<?)"),
    "expired": (_room._EXPIRED, "USING COVERING INDEX entries_expires (expires<?)"),
    "oldest": (_room._OLDEST, "USING INTEGER PRIMARY KEY (rowid=?)"),
}


@pytest.mark.parametrize("name", STATEMENTS)
def test_no_statement_looks_at_all_entries(folder: Path, name: str) -> None:
    """SQLite finds the rows of each statement by an index, and sorts none of them."""
    statement, way = STATEMENTS[name]
    many(folder, 10).close()
    with closing(sqlite3.connect(folder / FILE)) as connection:
        arguments = (1,) * statement.count("?")
        found = connection.execute(f"EXPLAIN QUERY PLAN {statement}", arguments).fetchall()
    plan = [row[3] for row in found]
    assert any(way in step for step in plan), plan
    assert not any("TEMP B-TREE" in step for step in plan)
    walks = [step for step in plan if step.startswith("SCAN")]
    assert walks == (["SCAN entries"] if name == "oldest" else [])  # from the first row to a LIMIT


def test_the_oldest_are_found_where_the_file_begins(folder: Path) -> None:
    """To delete the oldest of many thousands takes a few hundred steps of SQLite's machine."""
    many(folder, 20_000).close()
    with closing(sqlite3.connect(folder / FILE, isolation_level=None)) as connection:
        steps = itertools.count(1)
        connection.set_progress_handler(lambda: next(steps) and None, 1)
        assert connection.execute(_room._OLDEST, (8,)).rowcount == 8
    assert next(steps) < 1000


def test_another_schema_needs_another_layout() -> None:
    """What is in v1 never changes: a file of another form must go into another folder."""
    assert (LAYOUT, _connection._SCHEMA) == (
        disk._LAYOUT,
        (
            """CREATE TABLE entries(
    id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, value BLOB NOT NULL, expires REAL)""",
            "CREATE INDEX entries_expires ON entries(expires) WHERE expires IS NOT NULL",
        ),
    )


# -- how large the files are -----------------------------------------------------------------------


def test_a_clear_gives_the_space_back(folder: Path) -> None:
    """After a clear, of all or of nearly all, the files are small; what is left is still there."""
    with DiskCache(folder, timeout=10) as cache:
        for prefix in ("", "many:"):
            for number in range(3000):
                cache.set(f"many:{number}", bytes(1000), None)
            cache.set("other", b"1", None)
            assert size_of(folder) > 3_000_000
            cache.clear(prefix)
            assert size_of(folder) < 200_000
        assert list(cache.scan("")) == ["other"]
        assert cache.get("other") == b"1"
    assert sql(folder, "PRAGMA integrity_check") == [("ok",)]


def test_space_is_used_again(folder: Path) -> None:
    """What was deleted makes room for what is written next: the file does not grow."""
    with DiskCache(folder) as cache:
        sizes = []
        for turn in range(4):
            for number in range(500):
                cache.set(f"{turn}:{number}", bytes(1000), None)
            for number in range(500):
                cache.delete(f"{turn}:{number}")
            sizes.append((folder / FILE).stat().st_size)
    assert (folder / FILE).stat().st_size <= sizes[1] * 1.2


def test_the_journal_stays_within_its_share(folder: Path) -> None:
    """However much is written, deleted and cleared, the journal stays a fraction of the limit."""
    with DiskCache(folder, size_limit=2_000_000, timeout=10) as cache:
        for number in range(2500):
            cache.set(f"{number}", bytes(700), None if number % 2 else 0.01)
            cache.delete(f"{number - 50}")
            if number % 100 == 0:
                assert (folder / f"{FILE}-wal").stat().st_size < 0.25 * 2_000_000
        cache.clear()
        assert size_of(folder) < 1.1 * 2_000_000


@timed
def test_a_program_that_reads_for_long_stops_no_writer(folder: Path) -> None:
    """While a foreign connection keeps an old snapshot open, writes are done, and in time."""
    with DiskCache(folder, size_limit=10_000_000) as cache:
        cache.set("k", b"1", None)
        with closing(sqlite3.connect(folder / FILE, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM entries").fetchall()
            for number in range(300):
                start = time.monotonic()
                cache.set(f"{number}", bytes(1000), None)
                assert time.monotonic() - start < 1
                assert cache.get(f"{number}") is not None


def test_threads_that_write_at_once_all_have_their_turn(folder: Path) -> None:
    """Sixteen threads that write as fast as they can never find the store locked."""
    with DiskCache(folder) as cache, ThreadPoolExecutor(16) as pool:
        together = threading.Barrier(16)

        def write(who: int) -> None:
            together.wait()
            for number in range(60):
                cache.set(f"{who}:{number}", b"1", None)

        list(pool.map(write, range(16)))
        assert len(list(cache.scan(""))) == 16 * 60


# -- two versions of the library, one folder -------------------------------------------------------

VERSION = """
import warnings; warnings.simplefilter("error")
import random
from instructor_cache.backends import _connection, disk

folder, layout, seed, end = *sys.argv[1:4], float(sys.argv[4])
if layout != disk._LAYOUT:  # as a later version may be
    disk._LAYOUT = layout
    _connection._SCHEMA += ("CREATE TABLE more(of TEXT)",)
cache, draw, kept, rounds = disk.DiskCache(folder, timeout=20), random.Random(seed), {}, 0
while time.time() < end or rounds < 300:
    rounds += 1
    key = f"{seed if draw.random() < 0.5 else 'shared'}:{draw.randrange(30)}"
    value = f"{layout}:{key}:{rounds}".encode()
    cache.set(key, value, None)
    if not key.startswith("shared"):
        kept[key] = value
    found = cache.get(key)
    if found is None:  # as others of this version may have cleared it
        assert key.startswith("shared"), key
    else:
        assert found.startswith(f"{layout}:{key}:".encode()), found
    if draw.random() < 0.02:
        cache.clear("shared:")
    if draw.random() < 0.05:
        cache.close()
        cache = disk.DiskCache(folder, timeout=20)
assert {key: cache.get(key) for key in kept} == kept
cache.close()
"""


def test_two_versions_share_a_folder(folder: Path) -> None:
    """Processes whose files differ in form hammer one folder: each finds its own."""
    end = time.time() + 1
    processes = [
        python(VERSION, folder, layout, f"{layout}-{n}", end)
        for layout, n in itertools.product((LAYOUT, "v2"), range(2))
    ]
    assert outcomes(processes) == [""] * 4
    assert not set_aside(folder)
    found = {Path(name).name for name in modes(folder)}
    assert found == {".gitignore", LAYOUT, "v2", "entries.sqlite3", "entries.lock"}
    assert modes(folder)["v2"] == 0o700
    assert (folder / ".gitignore").read_text() == "*\n"
    with DiskCache(folder) as cache:
        assert {key.partition(":")[0] for key in cache.scan(f"{LAYOUT}-")} == {"v1-0", "v1-1"}
        assert list(cache.scan("v2")) == []


# -- at scale --------------------------------------------------------------------------------------

WRITER = """
import collections, random, threading
from instructor_cache import DiskCache
folder, limit, seconds, seed = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
cache, end, failed = DiskCache(folder, size_limit=limit, timeout=5), time.time() + seconds, []

def write(n):
    draw = random.Random(f"{seed}:{n}")
    while time.time() < end:
        key = f"app.extract:{draw.getrandbits(128):032x}"
        value = draw.randbytes(draw.randrange(200, 2000))
        try:
            cache.set(key, value, draw.choice([None, 0.5, 60]))
        except Exception as error:
            failed.append(repr(error))

threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(failed[:3] or "")
"""


def waits_while(cache: DiskCache, going: Callable[[], bool]) -> Iterator[float]:
    """Seconds of each of a reader's gets, of keys that are there and of others."""
    keys: Iterator[str] = iter(())
    while going():
        if (key := next(keys, None)) is None:
            keys = iter(list(itertools.islice(cache.scan("app."), 200)) or ["none"])
            continue
        start = time.perf_counter()
        cache.get(key)
        yield time.perf_counter() - start


@timed
@pytest.mark.slow
@pytest.mark.parametrize("limit", [5_000_000, 20_000_000])
def test_sixteen_writers_in_four_processes_keep_the_limit(folder: Path, limit: int) -> None:
    """All files together stay within a tenth above the limit, and no read fails or waits long."""
    writers: list[subprocess.Popen[str]] = [python(WRITER, folder, limit, 5, n) for n in range(4)]
    sizes: list[int] = []
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.005):
            sizes.append(size_of(folder))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with DiskCache(folder, size_limit=limit) as cache:
            waits = sorted(waits_while(cache, lambda: any(w.poll() is None for w in writers)))
    finally:
        done.set()
        watcher.join()
    assert outcomes(writers) == [""] * 4
    assert 0.85 * limit < max(sizes) <= 1.1 * limit
    assert waits[len(waits) * 99 // 100] < 0.02
    assert waits[-1] < 0.5
    assert sql(folder, "PRAGMA integrity_check") == [("ok",)]


@timed
@pytest.mark.slow
def test_a_hot_hit_among_many_costs_at_most_twice_as_much(tmp_path: Path) -> None:
    """A get among 200,000 entries costs at most twice what it costs among 1,000."""
    few, crowd = many(tmp_path / "few", 1000), many(tmp_path / "many", 200_000)

    def cost(cache: DiskCache, keys: list[str]) -> float:
        start = time.thread_time()
        for key in keys:
            cache.get(key)
        return time.thread_time() - start

    def spread(cache: DiskCache) -> list[str]:
        found = list(cache.scan(""))
        return random.Random(1).sample(found, 1000)

    some: Any = spread(few), spread(crowd)
    ratios = [cost(crowd, some[1]) / cost(few, some[0]) for _ in range(15)]
    assert statistics.median(ratios) <= 2
    few.close(), crowd.close()


@timed
@pytest.mark.slow
def test_one_functions_entries_are_cleared_among_many(folder: Path) -> None:
    """A clear of a thousand of 200,000 entries takes a small part of what all would take."""
    with many(folder, 200_000) as cache:
        for number in range(1000):
            cache.set(f"other:{number}", bytes(600), None)
        start = time.thread_time()
        cache.clear("other:")
        assert time.thread_time() - start < 0.5
        assert sql(folder, "SELECT count(*) FROM entries") == [(200_000,)]
