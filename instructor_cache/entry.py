"""The unit that tiers keep: a payload, its times, and proof that it belongs to its key."""

from __future__ import annotations

import struct
from math import inf
from typing import NamedTuple
from zlib import crc32

from .errors import CorruptEntry

FORMAT = 1

# format, flags, checksum of key and payload, created at, fresh until, kept until, seconds.
# The flags byte is zero; it is there for entries that are compressed or encrypted.
_HEADER = struct.Struct(">BBIdddf")


class Entry(NamedTuple):
    """One stored answer.

    Attributes:
        payload: The encoded result.
        created_at: When the call ended, in seconds since the epoch.
        fresh_until: The moment after which it no longer answers; infinite for "always".
        kept_until: The moment at which backends drop it; infinite for "never".
        seconds: How long the original call took.
    """

    payload: bytes
    created_at: float
    fresh_until: float = inf
    kept_until: float = inf
    seconds: float = 0.0

    def ttl(self, now: float) -> float | None:
        """Seconds until backends may drop it, or None for an entry that is kept for ever."""
        return None if self.kept_until == inf else self.kept_until - now

    def pack(self, key: str) -> bytes:
        """Give the bytes to store under *key*, and under no other."""
        times = (self.created_at, self.fresh_until, self.kept_until, self.seconds)
        return _HEADER.pack(FORMAT, 0, _checksum(key, self.payload), *times) + self.payload

    @classmethod
    def unpack(cls, key: str, raw: bytes) -> Entry:
        """Give the entry that *raw* holds; raise CorruptEntry unless it was packed for *key*."""
        try:
            version, flags, checksum, created, fresh, kept, seconds = _HEADER.unpack_from(raw)
        except (struct.error, TypeError) as error:
            raise CorruptEntry(
                f"found {_shape(raw)}, wanted an entry of format {FORMAT}"
            ) from error
        if version != FORMAT or flags:
            raise CorruptEntry(f"found format {version} flags {flags}, wanted format {FORMAT}")
        payload = raw[_HEADER.size :]
        if checksum != _checksum(key, payload):
            raise CorruptEntry("found bytes that are damaged or were stored under another key")
        return cls(payload, created, fresh, kept, seconds)


def _checksum(key: str, payload: bytes) -> int:
    # Against accidents (a torn write, a reply that belongs to another request), not against
    # somebody who can write to the store.
    return crc32(payload, crc32(key.encode()))


def _shape(raw: object) -> str:
    return f"{len(raw)} bytes" if isinstance(raw, bytes) else f"a {type(raw).__name__}"
