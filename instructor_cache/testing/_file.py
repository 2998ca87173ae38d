"""A cassette's file on disk, to which several may write."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from secrets import token_hex

from .._masks import masked
from ._leaks import without
from ._page import BrokenCassette, Page, read

if sys.platform != "win32":
    import fcntl

_LONGEST = 100  # characters of a file's name
_UNSAFE = re.compile(r"[^\w.\-\[\],=+@]", re.ASCII)


def path_beside(module: Path, test: str) -> Path:
    """Give the path of the cassette for a *test* in the file *module*.

    Two tests never share one, also where names are long, or case or signs are not told apart:
    then its name has a digest. Secrets in the parameters of a test are left out of it.
    """
    name = _UNSAFE.sub("-", masked(without(test)))
    if name != test.lower() or len(name) > _LONGEST:
        name = f"{name[:_LONGEST]}-{sha256(test.encode()).hexdigest()[:8]}"
    return module.parent / "cassettes" / module.stem / f"{name}.json"


class CassetteFile:
    """The file at *path*, and what others have made of it since it was read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen = _stamp(path)

    @property
    def near(self) -> Path:
        """The path as somebody in this folder would write it."""
        with suppress(ValueError, OSError):
            return self.path.absolute().relative_to(Path.cwd())
        return self.path

    def read(self) -> Page:
        """Give what it holds; raises BrokenCassette, or an OSError."""
        self._seen = _stamp(self.path)
        return read(self.path.read_bytes(), str(self.near))

    def write(self, make: Callable[[Page | None], Page]) -> None:
        """Write what *make* makes of what others have written since; delete it if that is empty."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with _alone(self.path.parent):
            page = make(self._news())
            if page.blocks:
                _write(self.path, page.text())
            else:
                self.path.unlink(missing_ok=True)
            self._seen = _stamp(self.path)

    def _news(self) -> Page | None:
        if _stamp(self.path) == self._seen:
            return None
        with suppress(BrokenCassette, OSError):  # by hand, while the test was running
            return self.read()
        return None


def _stamp(path: Path) -> tuple[int, int] | None:
    with suppress(OSError):
        state = path.stat()
        return state.st_ino, state.st_mtime_ns
    return None


@contextmanager
def _alone(folder: Path) -> Generator[None]:
    """Keep other writers out of the folder, where one can be locked: then no file stays behind."""
    if sys.platform == "win32":
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _write(path: Path, text: str) -> None:
    """Write the file in one step; if it is the same already, let it be seen all the same."""
    if path.is_file() and path.read_bytes() == text.encode():
        with suppress(OSError):
            os.utime(path)
        return
    beside = path.with_name(f".{token_hex(8)}.tmp")
    try:
        beside.write_bytes(text.encode())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
