"""The reply to an MGET, read in one go: redis-py's own parser takes six coroutines a value."""

from __future__ import annotations

from asyncio import StreamReader
from collections.abc import Callable

import redis
from redis.exceptions import InvalidResponse

_CHUNK = 2**18  # bytes; what asyncio takes from a socket at once
_END = b"\r\n"


async def read_values(
    reader: StreamReader, error_of: Callable[[str], Exception]
) -> list[bytes | None]:
    """Give the values in an array of RESP 2, None where there is none.

    Raises what *error_of* makes of an error's text, and ConnectionError when the stream ends.
    """
    try:
        head = await reader.readuntil(_END)
        if head[:1] == b"-":
            raise error_of(head[1:-2].decode(errors="replace"))
        return await _read_bulks(reader, _number(b"*", head[:-2]))
    except (EOFError, OSError) as error:
        raise redis.ConnectionError(f"Error while reading a reply: {error}") from error


async def _read_bulks(reader: StreamReader, count: int) -> list[bytes | None]:
    data, at, found = b"", 0, list[bytes | None]()
    while len(found) < count:
        if (end := data.find(_END, at)) < 0:
            data, at = data[at:] + await _read_some(reader), 0
        elif (size := _number(b"$", data[at:end])) < 0:
            found.append(None)
            at = end + 2
        else:
            begin, at = end + 2, end + size + 4
            if (missing := at - len(data)) > 0:
                data = data[begin:] + await reader.readexactly(missing)
                begin, at = 0, size + 2
            found.append(data[begin : at - 2])
    return found


async def _read_some(reader: StreamReader) -> bytes:
    if some := await reader.read(_CHUNK):
        return some
    raise EOFError("the server has closed the connection")


def _number(kind: bytes, line: bytes) -> int:
    try:
        if line[:1] == kind:
            return int(line[1:])
    except ValueError:
        pass
    raise InvalidResponse(f"Protocol Error: found {line[:20]!r}, wanted {kind!r} and a number")
