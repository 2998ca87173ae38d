"""A file that one process at a time can lock, for as long as it lives."""

from __future__ import annotations

import errno
import os
import sqlite3
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

if sys.platform != "win32":
    import fcntl

_TAKEN = (errno.EWOULDBLOCK, errno.EACCES, errno.EINTR)


@contextmanager
def alone(path: Path, deadline: float) -> Generator[bool]:
    """Hold the lock of the file at *path*; gives False where there are no such locks.

    Raises OperationalError if others hold it until *deadline*, a time of the monotonic clock.
    """
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | getattr(os, "O_NOFOLLOW", 0), 0o600)
    try:
        while (is_ours := _try_lock(descriptor)) is None:
            if time.monotonic() > deadline:
                raise sqlite3.OperationalError(f"{path} is locked by another process")
            time.sleep(0.002)
        yield is_ours
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool | None:
    """Whether it is locked now; None if another one holds it."""
    if sys.platform == "win32":  # there a file that is open can't be replaced anyway
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return None if error.errno in _TAKEN else False
    return True
