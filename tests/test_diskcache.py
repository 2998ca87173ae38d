"""diskcache objects as backends: they keep the contract, and a planted row runs no code."""

from __future__ import annotations

import gc
import pickle
import sqlite3
import warnings
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import diskcache
import pytest
from diskcache.core import MODE_BINARY, MODE_PICKLE, MODE_RAW, MODE_TEXT
from pydantic import BaseModel

from instructor_cache import BackendWarning, SafeDisk, instructor_cache
from instructor_cache.backends.diskcache import DiskcacheBackend
from instructor_cache.testing import BackendContract

# diskcache leaves the connection of a thread that has ended to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning")


@pytest.fixture(autouse=True)
def _collected() -> Iterator[None]:
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


class InFolder:
    """A folder for each test."""

    folder: Path

    @pytest.fixture(autouse=True)
    def _folder(self, folder: Path) -> None:
        self.folder = folder


class TestCache(InFolder, BackendContract):
    shared = True

    def make_backend(self) -> diskcache.Cache:
        return diskcache.Cache(self.folder, disk=SafeDisk)


@pytest.mark.slow
class TestFanoutCache(InFolder, BackendContract):
    shared = True

    def make_backend(self) -> diskcache.FanoutCache:
        return diskcache.FanoutCache(self.folder, shards=2, timeout=10, disk=SafeDisk)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::instructor_cache.BackendWarning")
class TestPlainCache(InFolder, BackendContract):
    shared = True

    def make_backend(self) -> diskcache.Cache:
        return diskcache.Cache(self.folder)


# -- rows that somebody else wrote -----------------------------------------------------------

canary: list[str] = []


def sing() -> None:
    canary.append("sang")


class Canary:
    """Sings when it is unpickled."""

    def __reduce__(self) -> Any:
        return sing, ()


@pytest.fixture
def sung() -> list[str]:
    canary.clear()
    return canary


def plant(folder: Path, key: Any, raw: int, mode: int, name: str | None, value: Any) -> None:
    """Change the row of *key*, or add one, as somebody who can write to the folder could."""
    with closing(sqlite3.connect(folder / "cache.db")) as connection, connection:
        connection.execute("DELETE FROM Cache WHERE key = ? AND raw = ?", (key, raw))
        connection.execute(
            "INSERT INTO Cache(key, raw, store_time, access_time, mode, filename, value) "
            "VALUES (?, ?, 0, 0, ?, ?, ?)",
            (key, raw, mode, name, value),
        )


def song_in_a_row(folder: Path) -> None:
    plant(folder, "k", 1, MODE_PICKLE, None, pickle.dumps(Canary()))


def song_in_a_file(folder: Path) -> None:
    (folder / "planted.val").write_bytes(pickle.dumps(Canary()))
    plant(folder, "k", 1, MODE_PICKLE, "planted.val", None)


def somebodys_file(folder: Path) -> None:
    (folder.parent / "secret").write_bytes(b"private")
    plant(folder, "k", 1, MODE_BINARY, "../secret", None)


def somebodys_text(folder: Path) -> None:
    (folder.parent / "secret").write_text("private")
    plant(folder, "k", 1, MODE_TEXT, "../secret", None)


def raw_number(folder: Path) -> None:
    plant(folder, "k", 1, MODE_RAW, None, 5)


PLANTED = [song_in_a_row, song_in_a_file, somebodys_file, somebodys_text, raw_number]


@pytest.mark.parametrize("planted", PLANTED)
def test_safe_disk_refuses_a_planted_row(planted: Any, folder: Path, sung: list[str]) -> None:
    """A row that names a pickle, a file or a number is a ValueError: nothing is run or read."""
    with diskcache.Cache(folder, disk=SafeDisk) as cache:
        backend = DiskcacheBackend(cache)
        backend.set("k", b"honest", None)
        planted(folder)
        with pytest.raises(ValueError, match="not plain bytes"):
            backend.get("k")
        backend.set("k", b"healed", None)
        assert backend.get("k") == b"healed"
    assert sung == []


def test_the_canary_sings_in_a_plain_diskcache(folder: Path, sung: list[str]) -> None:
    """The planted pickle is a real one: diskcache's own Disk runs it."""
    with diskcache.Cache(folder) as cache:
        song_in_a_row(folder)
        cache.get("k")
    assert sung == ["sang"]


def test_safe_disk_refuses_pickled_keys(folder: Path, sung: list[str]) -> None:
    """A planted key that would be unpickled by a scan is refused instead."""
    with diskcache.Cache(folder, disk=SafeDisk) as cache:
        plant(folder, pickle.dumps(Canary()), 0, MODE_RAW, None, b"")
        backend = DiskcacheBackend(cache)
        with pytest.raises(ValueError, match="pickled key"):
            list(backend.scan(""))
        with pytest.raises(ValueError, match="pickled key"):
            backend.clear("")
    assert sung == []


def test_deleting_a_planted_row_removes_no_file(folder: Path) -> None:
    """A row that names somebody's file can't have it deleted."""
    with diskcache.Cache(folder, disk=SafeDisk) as cache:
        somebodys_file(folder)
        DiskcacheBackend(cache).delete("k")
        assert cache.get("k") is None
    assert (folder.parent / "secret").read_bytes() == b"private"


@pytest.mark.parametrize("bad", ["text", 5, None, {"a": 1}])
def test_safe_disk_stores_bytes_and_nothing_else(bad: Any, folder: Path) -> None:
    """A value or a key that only pickle could store is a TypeError."""
    with diskcache.Cache(folder, disk=SafeDisk) as cache:
        with pytest.raises(TypeError, match="takes bytes"):
            cache.set("k", bad)
        if type(bad) is not str:
            with pytest.raises(TypeError, match="takes text"):
                cache.set(bad, b"value")


# -- ready objects -------------------------------------------------------------------------


class User(BaseModel):
    name: str


@pytest.mark.parametrize("kind", [diskcache.Cache, diskcache.FanoutCache])
def test_a_plain_disk_draws_one_warning(kind: Any, folder: Path) -> None:
    """A cache whose Disk could unpickle is accepted, with one warning that names the remedy."""
    with kind(folder) as cache:
        with pytest.warns(BackendWarning, match="disk=SafeDisk") as caught:

            @instructor_cache(cache)
            def extract(text: str) -> User:
                return User(name=text)

        assert [extract("a"), extract("a")] == [User(name="a")] * 2
        assert extract.cache_info().hits == 1
    assert len(caught) == 1
    assert caught[0].filename == __file__


async def test_a_fanout_cache_serves_both_colours(folder: Path) -> None:
    """One FanoutCache remembers for a sync and for an async function."""
    with diskcache.FanoutCache(folder, shards=2, disk=SafeDisk) as cache:

        @instructor_cache(cache)
        def extract(text: str) -> User:
            return User(name=text)

        @instructor_cache(cache)
        async def aextract(text: str) -> User:
            return User(name=text)

        for _ in range(2):
            assert extract("a") == await aextract("a") == User(name="a")
        assert (extract.cache_info().hits, aextract.cache_info().hits) == (1, 1)


@pytest.mark.parametrize("kind", [diskcache.Index, diskcache.Deque])
def test_other_diskcache_objects_are_refused(kind: Any, folder: Path) -> None:
    """An Index or a Deque is a TypeError that says what is accepted."""
    with pytest.raises(TypeError, match=f"{kind.__name__}.*Cache or a FanoutCache"):
        instructor_cache(kind(directory=str(folder)))
