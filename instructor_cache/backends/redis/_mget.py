"""An MGET of many keys, for which redis-py's packer and parser take most of the time."""

from __future__ import annotations

from asyncio import StreamReader
from collections.abc import Callable, Sequence

import redis
from redis.exceptions import InvalidResponse

_CHUNK = 2**18  # bytes; what asyncio takes from a socket at once
_END = b"\r\n"
_ERROR, _ARRAY, _BULK = b"-*$"  # what a line of RESP 2 begins with


def packed(keys: Sequence[str]) -> bytes:
    """Give the command as it is sent."""
    bulks = [b"$%d\r\n%b\r\n" % (len(key), key) for key in map(str.encode, keys)]
    return b"*%d\r\n$4\r\nMGET\r\n%b" % (1 + len(keys), b"".join(bulks))


async def read_values(
    reader: StreamReader, error_of: Callable[[str], Exception], begin: Callable[[], None]
) -> list[bytes | None]:
    """Give the values in a reply of RESP 2, None where there is none; call *begin* when it comes.

    Raises what *error_of* makes of an error's text, and ConnectionError when the stream ends.
    """
    try:
        head = await reader.readuntil(_END)
        begin()
        if head[0] == _ERROR:
            raise error_of(head[1:-2].decode(errors="replace"))
        if head[0] != _ARRAY:
            raise ValueError
        return await _read_bulks(reader, int(head[1:]))
    except (EOFError, OSError) as error:
        raise redis.ConnectionError(f"Error while reading a reply: {error}") from error
    except ValueError:  # its text may be a part of a value
        raise InvalidResponse("Protocol Error: found what is no list of values") from None


async def _read_bulks(reader: StreamReader, count: int) -> list[bytes | None]:
    data, at, found = b"", 0, list[bytes | None]()
    while len(found) < count:
        if (end := data.find(_END, at)) < 0:
            data, at = data[at:] + await _read_some(reader), 0
            continue
        if data[at] != _BULK:
            raise ValueError
        begin, size = end + 2, int(data[at + 1 : end])
        if size < 0:
            found.append(None)
            at = begin
            continue
        at = begin + size + 2
        if at > len(data):
            data = data[begin:] + await reader.readexactly(at - len(data))
            begin, at = 0, size + 2
        found.append(data[begin : at - 2])
    return found


async def _read_some(reader: StreamReader) -> bytes:
    if some := await reader.read(_CHUNK):
        return some
    raise EOFError("the server has closed the connection")
