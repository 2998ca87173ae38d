"""What can still be read of a file that is damaged."""

from __future__ import annotations

import sqlite3
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import closing, suppress
from pathlib import Path

from ._connection import Connection, Row, look_into

_DOWN = "SELECT * FROM entries WHERE id < ? ORDER BY id DESC LIMIT ?"
_UP = "SELECT * FROM entries WHERE id > ? ORDER BY id LIMIT ?"


def salvage(path: Path, deadline: float) -> Iterator[Row]:
    """Give what can be read, until *deadline*, of the damaged file at *path*; the newest first.

    The rows may be wrong: an entry proves itself that it belongs to its key.
    """
    for query, edge in ((_DOWN, sys.maxsize), (_UP, -1)):  # from both ends, as far as the damage
        with (
            suppress(sqlite3.Error),
            closing(look_into(path, "mode=rw", deadline)) as connection,
            closing(_read(connection, query, edge)) as rows,
        ):
            for row in rows:
                if time.monotonic() > deadline:
                    return
                if type(row[1]) is str and type(row[2]) is bytes:
                    yield row
            return


def _read(connection: Connection, query: str, edge: int) -> Generator[Row]:
    try:
        for row in connection.execute(query, (edge, -1)):
            edge = row[0]
            yield row
    except sqlite3.DatabaseError:  # its driver reads a row ahead, and loses one when that fails
        yield from connection.execute(query, (edge, 1))
        raise
