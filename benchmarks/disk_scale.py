"""Prints what the disk store costs among many entries and at its size limit, beside diskcache.

Both hold as many entries of 500 to 1,000 bytes, half of which expire. ``make bench`` takes
20,000; the table of the documentation comes from ``python benchmarks/disk_scale.py 1000000``,
which needs 5 GB and some minutes.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import itertools
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import diskcache
from pydantic import BaseModel
from rich.console import Console
from rich.table import Table
from speed import Row, compare, seconds_of

from instructor_cache import DiskCache
from instructor_cache.backends import disk
from instructor_cache.backends._connection import create

FEW, HOT = 1000, 1000
ROOM = 2**40  # bytes: no limit
WRITER = """
import contextlib, random, sys, threading, time
from instructor_cache import DiskCache
folder, limit, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
cache, end = DiskCache(folder, size_limit=limit), time.time() + seconds

def write(seed):
    draw = random.Random(f"{sys.argv[4]}:{seed}")
    while time.time() < end:
        key = f"function:{draw.getrandbits(128):032x}"
        value = draw.randbytes(draw.randrange(500, 1500))
        with contextlib.suppress(Exception):  # locked, when the disk takes long: that one is lost
            cache.set(key, value, draw.choice([None, 1, 60]))

threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


class User(BaseModel):
    name: str


def key(number: int) -> str:
    return f"instructor_cache:app.extract:1f2e:{hashlib.sha256(b'%d' % number).hexdigest()[:40]}"


def value(number: int) -> bytes:
    return b'{"name":"%s"}' % (b"x" * (500 + number * 7919 % 500))


def ours(folder: Path, entries: int) -> DiskCache:
    """A store of ours that holds *entries*, made at one go."""
    path = folder / disk._LAYOUT / disk._FILE
    path.parent.mkdir(parents=True)
    soon = time.time() + 86_400
    rows = ((n + 1, key(n), value(n), soon if n % 2 else None) for n in range(entries))
    create(path, time.monotonic() + 3600, rows)
    return DiskCache(folder, size_limit=ROOM)


def theirs(folder: Path, entries: int) -> diskcache.Cache:
    """A diskcache that holds the same."""
    cache = diskcache.Cache(folder, size_limit=ROOM)
    for start in range(0, entries, 5000):
        with cache.transact():
            for n in range(start, min(start + 5000, entries)):
                cache.set(key(n), value(n), expire=86_400 if n % 2 else None)
    return cache


def hot(entries: int) -> list[str]:
    """Keys of entries that are spread over all, in no order."""
    chosen = random.Random(7).sample(range(entries), min(HOT, entries))
    return [key(n) for n in chosen]


def getter(get: Callable[[str], Any], entries: int) -> Callable[[], User]:
    keys = itertools.cycle(hot(entries))
    return lambda: User.model_validate_json(get(next(keys)))


def hit_rows(folder: Path, entries: int, mine: DiskCache, other: diskcache.Cache) -> Iterator[Row]:
    few = ours(folder / "few", FEW)
    yield compare(
        f"hit among {entries:,}",
        "diskcache.get, both with validate",
        getter(mine.get, entries),
        getter(other.get, entries),
        2 * HOT,
        "<= 1.0 x",
    )
    yield compare(
        f"hit among {entries:,}",
        f"hit among {FEW:,}, of ours",
        getter(mine.get, entries),
        getter(few.get, FEW),
        2 * HOT,
        "<= 2 x",
    )
    few.close()


def store_row(path: str, numbers: Iterator[int], mine: DiskCache, other: diskcache.Cache) -> Row:
    seconds_of(lambda: mine.set(key(n := next(numbers)), value(n), 3600), 2000)
    seconds_of(lambda: other.set(key(n := next(numbers)), value(n), 3600), 2000)
    return compare(
        path,
        "diskcache.set",
        lambda: mine.set(key(n := next(numbers)), value(n), 3600),
        lambda: other.set(key(n := next(numbers)), value(n), 3600),
        500,
        "<= 0.5 x",
    )


def used(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def rows(folder: Path, entries: int) -> Iterator[Row]:
    mine, other = ours(folder / "ours", entries), theirs(folder / "theirs", entries)
    numbers = itertools.count(entries)
    yield from hit_rows(folder, entries, mine, other)
    yield store_row(f"store among {entries:,}", numbers, mine, other)
    mine.close()
    other.close()
    limits = (used(folder / "ours"), used(folder / "theirs"))
    with DiskCache(folder / "ours", size_limit=limits[0]) as mine:
        other = diskcache.Cache(folder / "theirs", size_limit=limits[1])
        yield store_row("the same, at the size limit", numbers, mine, other)
        other.close()


def crowd(folder: Path, limit: int, seconds: float) -> tuple[float, list[float]]:
    """The most that 4 processes of 4 writers let the files take, in limits; a reader's waits."""
    command = [sys.executable, "-c", WRITER, str(folder), str(limit), str(seconds)]
    writers = [subprocess.Popen([*command, str(n)]) for n in range(4)]
    most, waits, keys = 0, [], itertools.cycle([""])
    with DiskCache(folder, size_limit=limit) as cache:
        while any(writer.poll() is None for writer in writers):
            if len(waits) % 500 == 0:
                most = max(most, used_now(folder))
                keys = itertools.cycle(list(itertools.islice(cache.scan(""), 500)) or [""])
            waits.append(seconds_of(functools.partial(cache.get, next(keys)), 1))
    return most / limit, sorted(waits)


def used_now(folder: Path) -> int:
    try:
        return used(folder)
    except FileNotFoundError:  # the journal, when the last writer left
        return 0


def main() -> None:
    """Measure it all and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("entries", type=int, nargs="?", default=20_000)
    entries = parser.parse_args().entries
    table = Table("what", "beside", "ours, us", "theirs, us", "ratio", "aim", title="Disk")
    crowds = Table("size_limit", "most, of it", "read p50, us", "p99, us", "max, ms", title="4 x 4")
    with tempfile.TemporaryDirectory() as folder:
        for what, beside, mine, other, ratio, aim in rows(Path(folder), entries):
            table.add_row(what, beside, f"{mine:,.1f}", f"{other:,.1f}", f"{ratio:.2f} x", aim)
        for limit in (5_000_000, 50_000_000):
            most, waits = crowd(Path(folder, f"crowd{limit}"), limit, 6)
            p99 = waits[len(waits) * 99 // 100] * 1e6
            numbers = (f"{statistics.median(waits) * 1e6:,.1f}", f"{p99:,.0f}")
            crowds.add_row(f"{limit:,}", f"{most:.2f} x", *numbers, f"{waits[-1] * 1e3:.1f}")
    for shown in (table, crowds):
        Console(width=120).print(shown)


if __name__ == "__main__":
    main()
