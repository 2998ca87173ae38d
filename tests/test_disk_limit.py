"""How large the files of a disk store get, whatever is written, read and cleared, and by whom."""

from __future__ import annotations

import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
from conftest import timed
from test_disk import FILE, python, sql
from test_disk_scale import outcomes, size_of

from instructor_cache import DiskCache


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


@contextmanager
def watched(folder: Path) -> Iterator[list[int]]:
    """The sizes of all files together, again and again while the block runs and after it."""
    sizes: list[int] = []
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.001):
            with suppress(FileNotFoundError):  # a folder that was there a moment ago
                sizes.append(size_of(folder))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield sizes
    finally:
        done.set()
        watcher.join()
        sizes.append(size_of(folder))


# -- large entries ---------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [2_400_000, 1_000_000])
def test_a_large_entry_drives_out_no_more_than_it_needs(folder: Path, size: int) -> None:
    """Of large entries the newest are all there, as many as fit, and the files keep the limit."""
    limit, sizes = 20_000_000, []
    with DiskCache(folder, size_limit=limit) as cache:
        for number in range(2 * limit // size):
            cache.set(f"{number}", bytes(size), None)
            sizes.append(size_of(folder))
            newest = range(max(0, number - 12_000_000 // size), number + 1)
            assert None not in cache.get_many([f"{n}" for n in newest])
    assert 0.7 * limit < max(sizes) <= 1.1 * limit


def test_a_large_entry_among_small_ones_finds_room(folder: Path) -> None:
    """An entry as large as thousands of others is kept, though they go in small steps."""
    limit, most = 2_000_000, 240_000
    with DiskCache(folder, size_limit=limit, timeout=5) as cache, watched(folder) as sizes:
        for number in range(8_000):
            cache.set(f"{number}", bytes(100), None)
        for number in range(3):
            cache.set(f"large {number}", bytes(most), None)
            assert cache.get(f"large {number}") == bytes(most)
        assert cache.count() > 2000
    assert max(sizes) <= 1.1 * limit


WRITER = """
import threading
from instructor_cache import DiskCache
folder, limit, size, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
end, value = time.time() + 3, os.urandom(size)
with DiskCache(folder, size_limit=limit, timeout=10) as cache:
    def write(n):
        number = 0
        while time.time() < end:
            cache.set(f"{os.getpid()}:{n}:{number}", value, None)
            number += 1
    together = [threading.Thread(target=write, args=(n,)) for n in range(threads)]
    [thread.start() for thread in together]
    [thread.join() for thread in together]
    time.sleep(0.5)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("limit", "size", "processes", "threads"),
    [
        (20_000_000, 200_000, 4, 1),
        (20_000_000, 2_400_000, 4, 1),
        (20_000_000, 2_400_000, 1, 4),
        (100_000_000, 12_000_000, 4, 1),
    ],
)
def test_many_writers_of_large_entries_keep_the_limit(
    folder: Path, limit: int, size: int, processes: int, threads: int
) -> None:
    """All files together stay within a tenth above the limit, while writing and afterwards."""
    with watched(folder) as sizes:
        writers: list[subprocess.Popen[str]] = [
            python(f"import os\n{WRITER}", folder, limit, size, threads) for _ in range(processes)
        ]
        assert outcomes(writers) == [""] * processes
    assert 0.7 * limit < max(sizes) <= 1.1 * limit
    assert sql(folder, "PRAGMA integrity_check") == [("ok",)]


# -- clear -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [2_000_000, 10_000_000])
def test_a_clear_of_half_of_the_entries_keeps_the_limit(folder: Path, limit: int) -> None:
    """What is left after a clear is not copied if the files would grow above the limit."""
    with DiskCache(folder, size_limit=limit, timeout=5) as cache:
        for number in range(limit // 2500):
            cache.set(f"{'kept' if number % 20 < 9 else 'gone'}:{number}", bytes(3000), None)
        with watched(folder) as sizes:
            cache.clear("gone:")
        assert cache.count("gone:") == 0
        assert cache.count() > limit // 20_000
    assert max(sizes) <= 1.1 * limit


ODD = ["", "a\0b", "\ud7ff", "\ud7ffx", "\ue000", "\U0010ffff", "\U0010ffffz", "a\U0010ffff"]


@pytest.mark.parametrize("prefix", ODD)
def test_any_text_is_a_prefix(folder: Path, prefix: str) -> None:
    """Scan, count and clear find the keys that begin with a text, as Python would."""
    keys = sorted({*ODD, *(f"{key}-more" for key in ODD), "b", "\uffff"})
    expected = [key for key in keys if key.startswith(prefix)]
    with DiskCache(folder) as cache:
        for key in keys:
            cache.set(key, b"1", None)
        assert list(cache.scan(prefix)) == expected
        assert cache.count(prefix) == len(expected)
        cache.clear(prefix)
        assert list(cache.scan("")) == [key for key in keys if key not in expected]


# -- a program that reads for long -----------------------------------------------------------------


@timed
def test_a_program_that_reads_for_long_stops_what_is_kept_in_the_end(folder: Path) -> None:
    """While the journal can't be emptied it grows up to the limit; sets are refused from then on.

    Whoever waits for nothing else goes on: gets, deletes; and all, once the reader has ended.
    """
    limit = 2_000_000
    with DiskCache(folder, size_limit=limit) as cache:
        cache.set("k", b"1", None)
        with closing(sqlite3.connect(folder / FILE, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM entries").fetchall()
            with suppress(sqlite3.OperationalError):
                for number in range(3000):
                    cache.set(f"{number}", bytes(2000), None)
            for size in (2000, 100_000):
                start = time.monotonic()
                with pytest.raises(sqlite3.OperationalError, match="full"):
                    cache.set("more", bytes(size), None)
                assert time.monotonic() - start < 0.2
            assert cache.get("0") == bytes(2000)
            cache.delete("0")
            assert cache.get("0") is None
            assert size_of(folder) < 2.2 * limit
        cache.set("k", bytes(100_000), None)
        assert cache.get("k") == bytes(100_000)
        assert size_of(folder) < 1.1 * limit


def test_a_store_far_above_its_limit_goes_on(tmp_path: Path) -> None:
    """Under a new, much lower limit every set is kept at once, in the room of what is deleted."""
    with DiskCache(tmp_path) as large:
        for n in range(3000):
            large.set(f"old{n}", b"x" * 3000, None)
    before = sum(path.stat().st_size for path in tmp_path.rglob("*.sqlite3"))
    with DiskCache(tmp_path, size_limit=2_000_000, timeout=0.05) as small:
        for n in range(300):
            small.set(f"new{n}", b"y" * 3000, None)
            assert small.get(f"new{n}") == b"y" * 3000
    assert sum(path.stat().st_size for path in tmp_path.rglob("*.sqlite3")) <= before
