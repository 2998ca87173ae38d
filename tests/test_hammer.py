"""Many processes at once, and the worst ends of them: nothing wrong is ever read.

``INSTRUCTOR_CACHE_HAMMER_SECONDS`` shortens the hammering, which takes 20 seconds for each store.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import NoReturn

import pytest
from test_disk import FILE, LAYOUT, LOCK, modes, posix, python, set_aside, sql

from instructor_cache import DiskCache

SECONDS = float(os.environ.get("INSTRUCTOR_CACHE_HAMMER_SECONDS", "20"))

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning"),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


# -- kill -9 ---------------------------------------------------------------------------------------

KEYS = 400
LIMIT = 400_000  # less than all keys need: whoever writes deletes as well


def value_of(key: str, number: int) -> bytes:
    return f"{key}:{number};".encode() * (50 + number % 100)


def check(key: str, value: bytes | None) -> None:
    if value is not None:
        assert value.startswith(f"{key}:".encode()), (key, value)
        first, _, _ = value.partition(b";")
        number = int(first.partition(b":")[2])
        assert value == value_of(key, number), (key, value)


def write_for_ever(folder: Path) -> None:
    with DiskCache(folder, size_limit=LIMIT, timeout=20) as cache:
        for number in count(random.randrange(10**6)):
            key = f"{number * 7 % KEYS}"
            cache.set(key, value_of(key, number), random.choice([None, 0.05, 100.0]))
            if number % 5 == 0:
                cache.swap("lock", None, b"lock:0;" * 50, 0.01)
                cache.swap("lock", b"lock:0;" * 50, None, None)


def read_for_ever(folder: Path) -> None:
    with DiskCache(folder, timeout=20) as cache:
        while True:
            key = f"{random.randrange(KEYS)}"
            check(key, cache.get(key))


def life(work: Callable[[Path], None], folder: Path) -> int:
    """Begin a process that does *work* until it is killed; give its id."""
    child = os.fork()
    if child:
        return child
    _live(work, folder)


def _live(work: Callable[[Path], None], folder: Path) -> NoReturn:
    try:
        random.seed()
        work(folder)
    except BaseException as error:
        os.write(2, f"{error!r}\n".encode())
    finally:
        os._exit(1)


def kill(child: int) -> None:
    """Kill it; it must have been alive until then."""
    os.kill(child, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def is_whole(folder: Path) -> bool:
    assert not set_aside(folder)
    with DiskCache(folder, timeout=20) as cache:
        for key in list(cache.scan("")):
            check(key, cache.get(key))
        cache.set("last", b"1", None)
        assert cache.get("last") == b"1"
        cache.delete("last")
    return bool(sql(folder, "PRAGMA integrity_check") == [("ok",)])


@posix
def test_two_hundred_kills_among_writers_break_nothing(folder: Path) -> None:
    """Writers are killed at any moment, others go on, and readers never find a wrong value."""
    readers = [life(read_for_ever, folder) for _ in range(2)]
    writers = [life(write_for_ever, folder) for _ in range(4)]
    for number in range(240):
        time.sleep(random.uniform(0.002, 0.08))
        victim = random.randrange(len(writers))
        kill(writers[victim])
        writers[victim] = life(write_for_ever, folder)
        if number % 40 == 39:  # all at once, as when a machine's memory is full
            for index, writer in enumerate(writers):
                kill(writer)
                writers[index] = life(write_for_ever, folder)
    for child in readers + writers:
        kill(child)
    assert is_whole(folder)


@posix
def test_kills_of_those_who_begin_a_store_break_nothing(folder: Path) -> None:
    """Whenever those who make a store are killed, the next one makes or finds it whole."""
    for _ in range(40):
        children = [life(write_for_ever, folder) for _ in range(3)]
        time.sleep(random.uniform(0, 0.02))
        for child in children:
            kill(child)
        assert is_whole(folder)
        assert set(modes(folder)) <= {
            *(".gitignore", LAYOUT, LOCK),
            *(FILE, f"{FILE}-wal", f"{FILE}-shm"),
        }
        shutil.rmtree(folder)


# -- hammering -------------------------------------------------------------------------------------

HAMMER = """
import threading
from pydantic import BaseModel
from instructor_cache import DiskCache, RedisCache, instructor_cache

place, prefix, start, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4])
TTL = 0.5
LATE = 0.3  # that a busy machine may need from an answer to its entry, which lives for TTL
backend = RedisCache(place) if place.startswith("redis") else DiskCache(place)
wrong, events = [], []

class Answer(BaseModel):
    text: str
    made_at: float
    rest: list[str]

def told(event):
    if event.kind not in ("hit", "miss", "stored", "shared"):
        events.append(f"{event.kind}: {event.error!r}")

@instructor_cache(backend, prefix=prefix, ttl=TTL, observer=told)
def extract(text: str) -> Answer:
    return Answer(text=text, made_at=time.time(), rest=[text] * 3)

def hammer(thread):
    done, number = 0, thread * 13
    while (now := time.time()) < start + seconds:
        text = f"text {number % 100}"
        number += 1
        answer = extract(text)
        age = now - answer.made_at
        if answer.text != text or answer.rest != [text] * 3 or age > TTL + LATE:
            wrong.append((text, answer, age))
        done += 1
    counts[thread] = done

counts = [0] * 8
threads = [threading.Thread(target=hammer, args=(thread,)) for thread in range(8)]
while time.time() < start:
    time.sleep(0.001)
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert not wrong, wrong[:3]
assert not events, (len(events), events[:3])
info = extract.cache_info()
print(sum(counts), info.hits, info.misses)
"""


def hammered(place: str, prefix: str) -> float:
    """Operations per second that four processes of eight threads did, all of them checked."""
    start = time.time() + 2.0
    running = [python(HAMMER, place, prefix, start, SECONDS) for _ in range(4)]
    counted: list[list[int]] = []
    for process in running:
        out, err = process.communicate(timeout=SECONDS + 60)
        assert process.returncode == 0, err
        counted.append([int(word) for word in out.split()])
    done, hits, misses = (sum(column) for column in zip(*counted, strict=True))
    kind = place.partition(":")[0] if "://" in place else "disk"
    print(f"\n{kind}: {done / SECONDS:,.0f} operations/s, {hits:,} hits, {misses:,} misses")
    assert misses >= 4 * SECONDS  # entries did expire
    assert hits > misses
    return done / SECONDS


def test_many_threads_of_many_processes_on_disk(folder: Path, prefix: str) -> None:
    """Every one of their answers is right and hardly older than its ttl, and nothing fails."""
    assert hammered(str(folder), prefix) > 0
    assert sql(folder, "PRAGMA integrity_check") == [("ok",)]
    assert not set_aside(folder)


def test_many_threads_of_many_processes_on_redis(redis_url: str, prefix: str) -> None:
    """Every one of their answers is right and hardly older than its ttl, and nothing fails."""
    assert hammered(redis_url, prefix) > 0
