"""The disk store, on real files and real processes: private, bounded, and never in the way."""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from conftest import timed
from pydantic import BaseModel

from instructor_cache import BackendWarning, DiskCache, instructor_cache

LAYOUT = "v1"
FILE = f"{LAYOUT}/entries.sqlite3"
LOCK = f"{LAYOUT}/entries.lock"
posix = pytest.mark.skipif(not hasattr(os, "fork"), reason="POSIX only")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def cache(folder: Path) -> Iterator[DiskCache]:
    with DiskCache(folder, timeout=10) as cache:
        yield cache


def python(program: str, *arguments: object) -> subprocess.Popen[str]:
    """Start *program* in a process of its own; its arguments are in ``sys.argv[1:]``."""
    return subprocess.Popen(
        [sys.executable, "-c", f"import sys, time, os\n{program}", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def outcome(process: subprocess.Popen[str]) -> str:
    """What *process* printed, once it has ended well."""
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return out + err


def sql(folder: Path, *statements: str) -> list[Any]:
    """Do *statements* with a plain connection, as another program would."""
    with closing(sqlite3.connect(folder / FILE, isolation_level=None)) as connection:
        return [connection.execute(statement).fetchall() for statement in statements][-1]


def modes(folder: Path) -> dict[str, int]:
    paths = {str(path.relative_to(folder)): path for path in folder.rglob("*")}
    return {name: stat.S_IMODE(path.stat().st_mode) for name, path in paths.items()}


# -- where it is, and who may read it ----------------------------------------------------------


@posix
def test_only_this_user_can_read_it(folder: Path) -> None:
    """Under the laxest umask the folder is 0700, and every file that holds anything is 0600."""
    before = os.umask(0)
    try:
        with DiskCache(folder) as cache:
            cache.set("k", b"private", None)
            found = modes(folder)
    finally:
        os.umask(before)
    assert stat.S_IMODE(folder.stat().st_mode) == found.pop(LAYOUT) == 0o700
    assert found.keys() == {FILE, f"{FILE}-wal", f"{FILE}-shm", LOCK, ".gitignore"}
    assert {mode for name, mode in found.items() if name != ".gitignore"} == {0o600}


def test_git_ignores_it(folder: Path, cache: DiskCache) -> None:
    """A folder that the cache has made has a .gitignore of its own, for everything in it."""
    cache.set("k", b"", None)
    assert (folder / ".gitignore").read_text() == "*\n"


def test_a_folder_with_other_files_is_not_ignored(folder: Path, cache: DiskCache) -> None:
    """A cache in a folder that holds something else does not hide that from git."""
    folder.mkdir()
    (folder / "main.py").touch()
    cache.set("k", b"", None)
    assert not (folder / ".gitignore").exists()


def test_nothing_is_made_before_the_first_use(folder: Path, cache: DiskCache) -> None:
    """To construct a cache touches no file."""
    assert not folder.exists()
    assert cache.get("k") is None
    assert folder.exists()


def test_a_relative_folder_stays_where_it_was_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder is absolute at construction; a later chdir moves nothing."""
    (tmp_path / "later").mkdir()
    monkeypatch.chdir(tmp_path)
    with DiskCache("store") as cache:
        monkeypatch.chdir(tmp_path / "later")
        cache.set("k", b"1", None)
    assert (tmp_path / "store" / FILE).exists()
    assert not list((tmp_path / "later").iterdir())


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """~ means what a shell means by it."""
    monkeypatch.setenv("HOME", str(tmp_path))
    assert DiskCache("~/cache").directory == tmp_path / "cache"


def test_a_file_where_the_folder_should_be_is_refused(tmp_path: Path) -> None:
    """A path that is a file is a NotADirectoryError at construction; later, at the use."""
    cache = DiskCache(tmp_path / "later")
    for name in ("now", "later"):
        (tmp_path / name).write_text("mine")
    with pytest.raises(NotADirectoryError, match="found a file at .*now"):
        DiskCache(tmp_path / "now")
    for use in (lambda: cache.get("k"), lambda: cache.set("k", b"", None)):
        with pytest.raises(OSError, match="later"):
            use()
    assert (tmp_path / "later").read_text() == "mine"


@pytest.mark.parametrize("size_limit", [0, -1, 1e9, True, float("nan"), "1000", None])
def test_a_size_limit_of_nothing_is_refused(folder: Path, size_limit: Any) -> None:
    """A size_limit that is no whole number of bytes above 0 is a ValueError."""
    with pytest.raises(ValueError, match=f"size_limit is {size_limit!r}"):
        DiskCache(folder, size_limit=size_limit)


@posix
def test_a_symbolic_link_is_refused(tmp_path: Path, folder: Path, cache: DiskCache) -> None:
    """A link where the file should be is an error, and what it points to stays as it is."""
    (folder / LAYOUT).mkdir(parents=True)
    (tmp_path / "target").write_text("mine")
    (folder / FILE).symlink_to(tmp_path / "target")
    for use in (lambda: cache.get("k"), lambda: cache.set("k", b"", None)):
        with pytest.raises(OSError, match="is a symbolic link"):
            use()
    assert (tmp_path / "target").read_text() == "mine"


# -- read-only -----------------------------------------------------------------------------------


def as_nobody(work: Callable[[], bool]) -> bool:
    """Whether *work* comes true in a process without root's rights."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.getuid() == 0:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            os.write(writing, b"1" if work() else b"0")
        except BaseException as error:
            os.write(writing, repr(error).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    assert said in (b"0", b"1"), said
    return said == b"1"


@pytest.fixture
def filled(folder: Path) -> Iterator[Path]:
    """A store that holds k, in a folder whose rights tests change as they like."""
    with DiskCache(folder, timeout=10) as cache:
        cache.set("k", b"held", None)
    for above in folder.parents:
        if above.is_relative_to(tempfile.gettempdir()) and above != Path(tempfile.gettempdir()):
            above.chmod(0o755)
    yield folder
    forbid(folder, 0o700)


def forbid(folder: Path, mode: int) -> None:
    for path in (folder, folder / LAYOUT):
        path.chmod(mode)


def serves_and_tells_once(folder: Path) -> bool:
    """Whether a new cache there answers, keeps nothing more, and gives one warning in all."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        cache = DiskCache(folder)
        for change in (
            lambda: cache.set("new", b"lost", None),
            lambda: cache.set("k", b"lost", None),
            lambda: cache.swap("k", b"held", b"lost", None),
            lambda: cache.delete("k"),
            cache.clear,
        ):
            with pytest.raises(PermissionError, match="read-only"):
                change()
        cache.delete("new")  # which is not there
        found = [cache.get("k"), cache.get("new"), *cache.scan("")]
    told = [str(warning.message) for warning in caught if warning.category is BackendWarning]
    return found == [b"held", None, "k"] and len(told) == 1 and "can't be written" in told[0]


@posix
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
@pytest.mark.parametrize(
    ("folder_mode", "file_mode"), [(0o555, 0o644), (0o555, 0o444), (0o777, 0o444)]
)
def test_a_read_only_store_serves_what_it_holds(
    filled: Path, folder_mode: int, file_mode: int
) -> None:
    """Whatever forbids writing, the folder or the file: reads answer, writes raise."""
    (filled / FILE).chmod(file_mode)
    forbid(filled, folder_mode)
    assert as_nobody(lambda: serves_and_tells_once(filled))
    with DiskCache(filled) as cache:
        assert list(cache.scan("")) == ["k"]


class Said(BaseModel):
    text: str


def saying(cache: DiskCache, kinds: list[str]) -> Any:
    @instructor_cache(cache, tags=lambda n: (f"n{n}",), observer=lambda e: kinds.append(e.kind))
    def say(n: int) -> Said:
        return Said(text="new")

    return say


def forgets(folder: Path, change: Callable[[Any, DiskCache], object]) -> bool:
    """Whether only what *change* is about is not served any more, and nothing told as stored."""
    kinds, cache = list[str](), DiskCache(folder)
    say = saying(cache, kinds)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BackendWarning)
        before = [say(n).text for n in (1, 2)]
        change(say, cache)
        after = [say(n).text for n in (1, 2, 1, 2)]
    return (
        "stored" not in kinds and before == ["old", "old"] and after == ["new", "old", "new", "old"]
    )


@posix
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
@pytest.mark.parametrize(
    "change",
    [
        lambda say, _: say.cache_invalidate(1),
        lambda say, _: say.cache_refresh(1),
        lambda say, _: say.cache_set(Said(text="set"), 1),
        lambda _, cache: cache.invalidate_tags("n1"),
        lambda say, _: [say.cache_invalidate(n) for n in (1, *range(3, 1200))],
    ],
    ids=["invalidate", "refresh", "set", "tags", "many"],
)
def test_what_a_read_only_store_can_not_forget_is_not_served(
    filled: Path, change: Callable[[Any, DiskCache], object]
) -> None:
    """It goes on holding the old answer, and serves all others."""
    with DiskCache(filled) as cache:
        for n in (1, 2):
            saying(cache, []).cache_set(Said(text="old"), n)
    (filled / FILE).chmod(0o444)
    forbid(filled, 0o555)
    assert as_nobody(lambda: forgets(filled, change))


@posix
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_read_only_store_in_use_by_its_owner_serves_too(filled: Path) -> None:
    """While the owner writes, a reader without rights finds what is already there."""
    with DiskCache(filled) as owner:
        owner.set("later", b"1", None)
        for path in (filled / LAYOUT).iterdir():
            path.chmod(0o644)
        forbid(filled, 0o755)

        def reads() -> bool:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", BackendWarning)
                return DiskCache(filled).get("later") == b"1"

        assert as_nobody(reads)


@posix
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_folder_that_cannot_be_made_is_an_error(filled: Path) -> None:
    """Where nothing can be read or written, each use is an error, and quick."""

    def fails() -> bool:
        for cache in (DiskCache(filled.parent / "new"), DiskCache(filled)):
            for use in (lambda c=cache: c.get("k"), lambda c=cache: c.set("k", b"", None)):
                with pytest.raises((OSError, sqlite3.OperationalError)):
                    use()
        return True

    filled.parent.chmod(0o555)
    filled.chmod(0o700)
    assert as_nobody(fails)


# -- how large it gets ---------------------------------------------------------------------------

LIMIT = 2_000_000


def used(folder: Path) -> int:
    pages = "(page_count - freelist_count) * page_size"
    tables = "pragma_page_count, pragma_freelist_count, pragma_page_size"
    return int(sql(folder, f"SELECT {pages} FROM {tables}")[0][0])


def test_it_stays_within_its_limit(folder: Path) -> None:
    """The entries never take more than a tenth above size_limit, nor does the file."""
    with DiskCache(folder, size_limit=LIMIT) as cache:
        for number in range(6000):
            cache.set(f"key:{number}", bytes(number % 1500), None)
            if number % 500 == 0:
                assert used(folder) <= 1.1 * LIMIT
        assert 0.8 * LIMIT <= used(folder) <= 1.1 * LIMIT
    assert (folder / FILE).stat().st_size <= 1.1 * LIMIT


@pytest.mark.slow
def test_four_processes_stay_within_the_limit(folder: Path) -> None:
    """Four writers at once, none of whom knows of the others, keep the same limit."""
    program = f"""
from instructor_cache import DiskCache
with DiskCache(sys.argv[1], size_limit={LIMIT}, timeout=30) as cache:
    for number in range(1500):
        cache.set(f"{{sys.argv[2]}}:{{number}}", bytes(1000), None)
"""
    writers = [python(program, folder, number) for number in range(4)]
    assert [outcome(writer) for writer in writers] == [""] * 4
    assert 0.8 * LIMIT <= used(folder) <= 1.1 * LIMIT
    assert (folder / FILE).stat().st_size <= 1.1 * LIMIT


def test_the_expired_go_first_then_the_oldest(folder: Path) -> None:
    """At the limit what has expired makes room before anything alive, then what was set first."""
    now = [0.0]
    with DiskCache(folder, size_limit=LIMIT, clock=lambda: now[0]) as cache:
        for number in range(640):
            cache.set(f"old:{number:04}", bytes(1000), None)
        for number in range(640):
            cache.set(f"dead:{number:04}", bytes(1000), 1)
        now[0] = 2
        for number in range(560):
            cache.set(f"new:{number:04}", bytes(1000), None)
        assert len(list(cache.scan("old:"))) == 640
        assert sql(folder, "SELECT count(*) FROM entries WHERE key LIKE 'dead:%'")[0][0] < 400
        for number in range(320):
            cache.set(f"newest:{number:04}", bytes(1000), None)
        left = list(cache.scan("old:"))
        assert 0 < len(left) < 640
        assert left == [f"old:{number:04}" for number in range(640 - len(left), 640)]
        assert len(list(cache.scan("new"))) == 880


def test_what_is_larger_than_the_limit_is_not_kept(folder: Path) -> None:
    """A value beyond size_limit costs no other entry, and removes its old value."""
    with DiskCache(folder, size_limit=LIMIT) as cache:
        cache.set("small", b"1", None)
        cache.set("big", b"1", None)
        cache.set("big", bytes(LIMIT), None)
        assert (cache.get("small"), cache.get("big")) == (b"1", None)


# -- many processes and threads ------------------------------------------------------------------


def test_sixteen_processes_begin_one_store(folder: Path) -> None:
    """Processes that make the same store at once all write to the same file."""
    program = """
from instructor_cache import DiskCache
cache = DiskCache(sys.argv[1], timeout=30)
time.sleep(max(0, float(sys.argv[3]) - time.time()))
cache.set(sys.argv[2], b"1", None)
cache.close()
"""
    start = time.time() + 1.5
    for process in [python(program, folder, number, start) for number in range(16)]:
        assert outcome(process) == ""
    with DiskCache(folder) as cache:
        assert sorted(map(int, cache.scan(""))) == list(range(16))
    assert sorted(modes(folder)) == [".gitignore", LAYOUT, LOCK, FILE]


@posix
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_child_opens_its_own_connections(folder: Path, cache: DiskCache) -> None:
    """Child and parent both go on after a fork, see each other, and share no connection."""
    cache.set("before", b"1", None)
    child = os.fork()
    if child == 0:
        inherited = len(cache._database.pool)
        for number in range(50):
            cache.set(f"child:{number}", b"2", None)
        os._exit(0 if cache.get("before") == b"1" and inherited == 0 else 1)
    for number in range(50):
        cache.set(f"parent:{number}", b"3", None)
    assert os.waitpid(child, 0)[1] == 0
    assert len(list(cache.scan(""))) == 101
    assert sql(folder, "PRAGMA integrity_check") == [("ok",)]


@posix
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_child_holds_locks_of_its_own(folder: Path) -> None:
    """What a child writes after its parent has closed the store is there for everybody."""
    cache = DiskCache(folder, timeout=10)
    cache.set("before", b"1", None)
    (told, tell), (heard, hear) = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        cache.set("child:1", b"1", None)
        os.write(tell, b".")
        os.read(heard, 1)
        cache.set("child:2", b"2", None)
        os._exit(0)
    os.read(told, 1)
    cache.close()
    os.write(hear, b".")
    assert os.waitpid(child, 0)[1] == 0
    with DiskCache(folder) as later:
        assert list(later.scan("")) == ["before", "child:1", "child:2"]


@posix
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_fork_among_working_threads_harms_nothing(folder: Path, cache: DiskCache) -> None:
    """Children forked while other threads write find a store that they can write to at once."""
    done = threading.Event()

    def write(number: int) -> None:
        count = 0
        while not done.is_set():
            cache.set(f"{number}:{(count := count + 1) % 50}", b"1", None)

    with ThreadPoolExecutor(3) as pool:
        writers = [pool.submit(write, number) for number in range(3)]
        for number in range(15):
            child = os.fork()
            if child == 0:
                with suppress(BaseException):
                    cache.set(f"child:{number}", b"2", None)
                    os._exit(0 if cache.get(f"child:{number}") == b"2" else 1)
                os._exit(2)
            assert os.waitpid(child, 0)[1] == 0
        done.set()
        for writer in writers:
            writer.result()
    assert len(list(cache.scan("child:"))) == 15
    assert sql(folder, "PRAGMA integrity_check") == [("ok",)]


@posix
def test_a_child_that_ends_politely_harms_nothing(folder: Path) -> None:
    """A forked child that runs its exit handlers leaves the parent's store whole."""
    program = """
from instructor_cache import DiskCache
cache = DiskCache(sys.argv[1])
cache.set("before", b"1", None)
if os.fork() == 0:
    cache.set("child", b"2", None)
    sys.exit()
os.wait()
cache.set("after", b"3", None)
assert list(cache.scan("")) == ["after", "before", "child"]
"""
    assert outcome(python(program, folder)) == ""
    assert sql(folder, "PRAGMA integrity_check") == [("ok",)]


@timed
def test_a_lock_of_another_process_costs_about_the_timeout(folder: Path) -> None:
    """While another process holds the write lock, reads answer, writes fail after the timeout."""
    with DiskCache(folder, timeout=0.3) as cache:
        cache.set("k", b"1", None)
        with closing(sqlite3.connect(folder / FILE, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            start = time.monotonic()
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                cache.set("k", b"2", None)
            assert 0.2 < time.monotonic() - start < 0.9
            assert cache.get("k") == b"1"
            other.execute("ROLLBACK")
        cache.set("k", b"2", None)
        assert cache.get("k") == b"2"


@posix
def test_a_second_cache_in_the_process_releases_no_lock(folder: Path, cache: DiskCache) -> None:
    """To open the same store again leaves the locks of the first connection in force."""
    cache.set("k", b"1", None)
    with DiskCache(folder) as second:
        assert second.get("k") == b"1"
    program = """
import sqlite3
try:  # nobody can change the journal while another connection is open
    other = sqlite3.connect(sys.argv[1], timeout=0)
    print(other.execute("PRAGMA journal_mode = DELETE").fetchone())
except sqlite3.OperationalError as error:
    print(error)
"""
    assert outcome(python(program, folder / FILE)) == "database is locked\n"


def descriptors() -> int:
    gc.collect()
    return len(os.listdir("/dev/fd"))


@posix
@pytest.mark.parametrize("times", [50, pytest.param(200, marks=pytest.mark.slow)])
def test_opening_and_closing_leaks_nothing(folder: Path, times: int) -> None:
    """Fifty, or two hundred, caches, opened, used, and closed or forgotten, leave no open file."""
    before = descriptors()
    for number in range(times):
        cache = DiskCache(folder)
        cache.set("k", b"1", None)
        assert cache.get("k") == b"1"
        if number % 2:
            cache.close()
    del cache
    assert descriptors() == before


@posix
def test_threads_that_end_leak_nothing(folder: Path, cache: DiskCache) -> None:
    """Two hundred threads leave no more connections than worked at once; close leaves none."""
    before = descriptors()
    for _ in range(10):
        threads = [
            threading.Thread(target=cache.set, args=(f"{number}", b"1", None))
            for number in range(20)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(cache._database.pool._idle) <= 20
    cache.close()
    assert descriptors() == before


@posix
def test_a_crowd_of_threads_does_not_keep_a_crowd_of_connections(cache: DiskCache) -> None:
    """After eighty threads at once, only a few idle connections are kept."""
    together = threading.Barrier(80)

    def use(number: int) -> None:
        together.wait()
        cache.set(f"{number}", b"1", None)

    with ThreadPoolExecutor(80) as pool:
        list(pool.map(use, range(80)))
    assert len(cache._database.pool._idle) <= 32
    assert len(list(cache.scan(""))) == 80


def test_it_works_from_asyncios_threads(cache: DiskCache) -> None:
    """Two hundred tasks that use it through worker threads find their own values."""

    async def use(number: int) -> bytes | None:
        await asyncio.to_thread(cache.set, f"{number}", b"%d" % number, None)
        return await asyncio.to_thread(cache.get, f"{number}")

    async def all_of_them() -> list[bytes | None]:
        return await asyncio.gather(*(use(number) for number in range(200)))

    assert asyncio.run(all_of_them()) == [b"%d" % number for number in range(200)]


@pytest.mark.parametrize("ending", ["cache.close()", "del cache", "pass"])
def test_a_program_that_ends_says_nothing(folder: Path, ending: str) -> None:
    """With every warning an error, a program that closes, forgets or keeps a cache is silent."""
    program = f"""
import warnings; warnings.simplefilter("error")
from instructor_cache import DiskCache
cache = DiskCache(sys.argv[1])
cache.set("k", b"1", None)
assert cache.get("k") == b"1"
{ending}
"""
    assert outcome(python(program, folder)) == ""


# -- gone, broken, somebody else's ---------------------------------------------------------------


def remove_folder(folder: Path) -> None:
    shutil.rmtree(folder)


def remove_file(folder: Path) -> None:
    (folder / FILE).unlink()


def remove_files(folder: Path) -> None:
    for path in folder.glob(f"{FILE}*"):
        path.unlink()


def replace(folder: Path) -> None:
    remove_files(folder)
    with DiskCache(folder) as other:
        other.set("k", b"other", None)


@posix
@pytest.mark.parametrize("remove", [remove_folder, remove_file, remove_files, replace])
def test_a_store_deleted_while_open_begins_anew(
    folder: Path, cache: DiskCache, remove: Callable[[Path], None]
) -> None:
    """After rm of the folder or the file, what is written next is kept where others find it."""
    cache.set("k", b"1", None)
    remove(folder)
    cache.set("new", b"2", None)
    assert cache.get("k") == (b"other" if remove is replace else None)
    with DiskCache(folder) as other:
        assert other.get("new") == b"2"
    assert sql(folder, "PRAGMA integrity_check") == [("ok",)]


@posix
def test_a_reader_notices_a_deleted_store(
    folder: Path, cache: DiskCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that only reads stops serving a deleted store within a second."""
    cache.set("k", b"1", None)
    remove_folder(folder)
    later = time.monotonic() + 1.1
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert cache.get("k") is None


@posix
def test_threads_go_on_while_the_file_is_deleted_again_and_again(folder: Path) -> None:
    """Writers under whose feet the file vanishes end up in one whole file, nothing set aside."""
    done = threading.Event()
    cache = DiskCache(folder, timeout=10)

    def write(number: int) -> None:
        while not done.is_set():
            with suppress(sqlite3.OperationalError, FileNotFoundError):
                cache.set(f"{number}", b"1", None)
                cache.get(f"{number}")

    with ThreadPoolExecutor(4) as pool:
        writers = [pool.submit(write, number) for number in range(4)]
        for _ in range(20):
            time.sleep(0.01)
            (folder / FILE).unlink(missing_ok=True)
        done.set()
        for writer in writers:
            writer.result()
    cache.set("last", b"1", None)
    cache.close()
    assert sql(folder, "SELECT count(*) FROM entries WHERE key = 'last'") == [(1,)]
    assert sql(folder, "PRAGMA integrity_check") == [("ok",)]
    assert not set_aside(folder)


def header(folder: Path) -> None:
    with open(folder / FILE, "r+b") as file:
        file.write(b"garbage!" * 8)


def middle(folder: Path) -> None:
    size = (folder / FILE).stat().st_size
    with open(folder / FILE, "r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * (size - 4096))


def truncated(folder: Path) -> None:
    os.truncate(folder / FILE, 5000)


def emptied(folder: Path) -> None:
    os.truncate(folder / FILE, 0)


def all_garbage(folder: Path) -> None:
    (folder / FILE).write_bytes(b"\xa5" * 100_000)


def a_folder(folder: Path) -> None:
    (folder / FILE).unlink()
    (folder / FILE).mkdir()
    (folder / FILE / "something").touch()


def another_programs(folder: Path) -> None:
    (folder / FILE).unlink()
    sql(folder, "CREATE TABLE notes(text)")


def foreign_trigger(folder: Path) -> None:
    sql(
        folder,
        "CREATE TRIGGER entries AFTER INSERT ON entries BEGIN DELETE FROM entries; END",
    )


def foreign_view(folder: Path) -> None:
    sql(folder, "DROP TABLE entries", "CREATE VIEW entries AS SELECT 'k' key, 'v' value, 9 expires")


def future_format(folder: Path) -> None:
    with open(folder / FILE, "r+b") as file:
        file.seek(44)
        file.write(b"\0\0\0\x09")


BROKEN = [
    *(header, middle, truncated, emptied, all_garbage, a_folder),
    *(another_programs, foreign_trigger, foreign_view, future_format),
]


def fill(folder: Path) -> None:
    with DiskCache(folder, timeout=10) as cache:
        for number in range(300):
            cache.set(f"key:{number}", bytes(200), None)


def set_aside(folder: Path) -> list[Path]:
    return [
        path for path in folder.rglob("*.corrupt-*") if not path.name.endswith(("-wal", "-shm"))
    ]


@pytest.mark.parametrize("spoil", BROKEN)
def test_a_broken_store_is_set_aside(folder: Path, spoil: Callable[[Path], None]) -> None:
    """What can't be used is kept beside under another name, told once, and a new file begun."""
    fill(folder)
    spoil(folder)
    with DiskCache(folder, timeout=10) as cache:
        with pytest.warns(BackendWarning, match="was unusable") as caught:
            for number in range(300):
                cache.get(f"key:{number}")
                cache.set(f"key:{number}", b"new", None)
        assert [cache.get(f"key:{number}") for number in range(300)] == [b"new"] * 300
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert len(set_aside(folder)) == 1
    assert sql(folder, "PRAGMA integrity_check") == [("ok",)]


@pytest.mark.parametrize("spoil", [header, middle, emptied])
def test_threads_set_a_broken_store_aside_once(folder: Path, spoil: Callable[[Path], None]) -> None:
    """Threads that find the damage together do not set the new file aside as well."""
    fill(folder)
    spoil(folder)
    cache = DiskCache(folder, timeout=10)
    together = threading.Barrier(8)

    def use(number: int) -> None:
        together.wait()
        for n in range(300):
            cache.get(f"key:{n}")
            cache.set(f"{number}:{n % 5}", b"new", None)

    with pytest.warns(BackendWarning) as caught, ThreadPoolExecutor(8) as pool:
        list(pool.map(use, range(8)))
    assert len(caught) == len(set_aside(folder)) == 1
    assert len(list(cache.scan(""))) == 40
    cache.close()


def test_processes_set_a_broken_store_aside_once(folder: Path) -> None:
    """Six processes that find the damage together tell it once, and lose no new entry."""
    fill(folder)
    header(folder)
    program = """
from instructor_cache import DiskCache
cache = DiskCache(sys.argv[1], timeout=30)
while time.time() < float(sys.argv[3]):
    pass
cache.set(sys.argv[2], b"1", None)
cache.close()
"""
    start = time.time() + 1
    said = [outcome(p) for p in [python(program, folder, n, start) for n in range(6)]]
    assert "".join(said).count("was unusable") == 1
    assert len(set_aside(folder)) == 1
    with DiskCache(folder) as cache:
        assert sorted(cache.scan("")) == list("012345")


def test_what_a_broken_file_left_behind_does_not_reach_the_new_one(folder: Path) -> None:
    """A journal without its file, which SQLite would replay into a new one, is removed."""
    fill(folder)
    with DiskCache(folder) as cache:
        cache.set("secret", b"old", None)
        journal = (folder / f"{FILE}-wal").read_bytes()
    remove_files(folder)
    (folder / f"{FILE}-wal").write_bytes(journal)
    with DiskCache(folder) as cache:
        assert list(cache.scan("")) == []
        cache.set("k", b"1", None)
    assert sql(folder, "PRAGMA integrity_check") == [("ok",)]


def test_a_row_that_holds_no_bytes_is_missing(folder: Path, cache: DiskCache) -> None:
    """A planted text or number is not given out as a value."""
    cache.set("k", b"1", None)
    for planted in ("'text'", "5", "2.5"):
        sql(folder, f"UPDATE entries SET value = {planted}")
        assert cache.get("k") is None


MAINTENANCE = [
    "ANALYZE",
    "CREATE INDEX mine ON entries(expires)",
    "CREATE TABLE _litestream_seq(id INTEGER PRIMARY KEY, seq INTEGER)",
]


@pytest.mark.parametrize("statement", MAINTENANCE)
def test_what_maintenance_leaves_is_accepted(folder: Path, statement: str) -> None:
    """Tables and indexes that another tool adds do no harm: the store is used as it is."""
    fill(folder)
    sql(folder, statement)
    with DiskCache(folder) as cache:
        assert [cache.get(f"key:{number}") for number in range(300)] == [bytes(200)] * 300
        cache.set("key:0", b"new", None)
        assert cache.get("key:0") == b"new"
    assert set_aside(folder) == []


def test_a_store_with_a_trigger_is_set_aside_without_a_loss(folder: Path) -> None:
    """A trigger would act when we write, so the file is not used; but all of it can be read."""
    fill(folder)
    foreign_trigger(folder)
    with DiskCache(folder, timeout=10) as cache, pytest.warns(BackendWarning, match="300 entries"):
        assert [cache.get(f"key:{number}") for number in range(300)] == [bytes(200)] * 300
    assert len(set_aside(folder)) == 1
