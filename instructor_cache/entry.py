"""The unit that tiers keep: a payload, its times, and proof that it belongs to its key."""

from __future__ import annotations

import struct
from math import inf
from typing import NamedTuple, cast
from zlib import crc32

from ._tagged import EPOCH
from .errors import CorruptEntry

FORMAT = 4

_HEAD = struct.Struct(">BBI")  # format, flags, checksum of them, the key, and the rest
_TIMES = struct.Struct(">ddddfH")  # created at, fresh until, kept until, seen at, seconds, length
_ALL = struct.Struct(">BBIddddfH")  # of the call's text, which lies before the payload
_unpack, _SIZE = _ALL.unpack_from, _ALL.size
_STALE, _TAGGED = 1, 2
_LONGEST = 0xFFFF  # bytes of the call's text


class Entry(NamedTuple):
    """One stored answer. Its times are in seconds since the epoch.

    Attributes:
        payload: The encoded result.
        created_at: When the call ended, by the clock of the process that made it.
        fresh_until: The moment after which it answers only if the function fails; infinite for
            "always fresh".
        kept_until: The moment after which it does not answer at all; infinite for "never".
        seconds: How long the original call took.
        seen_at: When a clock that was behind `created_at` first saw it; 0 for "never".
        is_stale: Whether it was fresh once, and answers again because the function failed.
        epochs: Those that its tags had before the call, one after the other.
        call: The arguments of the call in a readable, shortened form, as `_sketch` writes them;
            empty if they are not kept.
    """

    payload: bytes
    created_at: float
    fresh_until: float = inf
    kept_until: float = inf
    seconds: float = 0.0
    seen_at: float = 0.0
    is_stale: bool = False
    epochs: bytes = b""
    call: str = ""

    def age(self, now: float) -> float:
        """Seconds since it was made; for an entry from the future, since it was first seen."""
        return now - (self.created_at if now >= self.created_at else self.seen_at)

    def is_unforeseen(self, now: float) -> bool:
        """Whether it is from the future, and wasn't seen before: a clock was put back.

        It gets its time to live from *now* on, once that is written into it (`seen`).
        """
        return now < self.created_at and not (self.seen_at and self.seen_at <= now)

    def seen(self, now: float) -> Entry:
        """The same entry, which remembers that it was seen *now*."""
        return self._replace(seen_at=now)

    def is_fresh(self, now: float) -> bool:
        """Whether it answers."""
        if now >= self.created_at:
            return now < self.fresh_until
        return self.age(now) < self.fresh_until - self.created_at

    def is_kept(self, now: float) -> bool:
        """Whether it answers if the function fails."""
        return self.age(now) < self.kept_until - self.created_at

    def again(self, now: float, seconds: float) -> Entry:
        """The same entry, answering for some more *seconds* though it is stale."""
        until = self.created_at + self.age(now) + seconds
        return self._replace(fresh_until=min(until, self.kept_until), is_stale=True)

    def fresh_for(self, now: float) -> float | None:
        """Seconds for which it goes on to answer, or None for ever."""
        life = self.fresh_until - self.created_at
        return None if life == inf else life - self.age(now)

    def ttl(self, now: float) -> float | None:
        """Seconds until backends may drop it, or None for an entry that is kept for ever."""
        return None if self.kept_until == inf else self.kept_until - self.created_at - self.age(now)

    def pack(self, key: str) -> bytes:
        """Give the bytes to store under *key*, and under no other."""
        times = (self.created_at, self.fresh_until, self.kept_until, self.seen_at, self.seconds)
        call = self.call.encode("utf-8", "backslashreplace")
        call = call if len(call) <= _LONGEST else b""
        flags, epochs = _STALE if self.is_stale else 0, b""
        if self.epochs:
            flags |= _TAGGED
            epochs = bytes([len(self.epochs) // EPOCH]) + self.epochs
        body = _TIMES.pack(*times, len(call)) + epochs + call + self.payload
        return _HEAD.pack(FORMAT, flags, _checksum(flags, key, body)) + body

    @classmethod
    def unpack(cls, key: str, raw: bytes) -> Entry:
        """Give the entry that *raw* holds; raise CorruptEntry unless it was packed for *key*."""
        if raw.__class__ is not bytes:
            raw = _as_bytes(raw)
        try:
            version, flags, checksum, *times, length = _ALL.unpack_from(raw)
            created, fresh, kept, seen, seconds = times
        except struct.error as error:
            raise CorruptEntry(
                f"found {_shape(raw)}, wanted an entry of format {FORMAT}"
            ) from error
        if version != FORMAT or flags > _STALE | _TAGGED:
            raise CorruptEntry(f"found format {version} flags {flags}, wanted format {FORMAT}")
        if checksum != _checksum(flags, key, raw[_HEAD.size :]):
            raise CorruptEntry("found bytes that are damaged or were stored under another key")
        start, epochs = _ALL.size, b""
        if flags & _TAGGED:
            start += 1 + raw[start] * EPOCH
            epochs = raw[_ALL.size + 1 : start]
        call, payload = raw[start : start + length], raw[start + length :]
        stale, text = bool(flags & _STALE), call.decode("utf-8", "replace")
        return cls(payload, created, fresh, kept, seconds, seen, stale, epochs, text)


def fresh_payload(key: str, raw: bytes, now: float, *, is_exposed: bool) -> tuple[bytes, float]:
    """Give the payload of a plainly fresh entry and the seconds of its call, in the fewest steps.

    Raises CorruptEntry for anything else, which `Entry.unpack` has to judge. Bytes that were not
    *is_exposed* to anybody else are what they were.
    """
    version, flags, checksum, created, fresh, _, _, seconds, length = _unpack(raw)
    if version != FORMAT or flags or not created <= now < fresh:
        raise CorruptEntry("found no plainly fresh entry")
    if is_exposed and checksum != crc32(raw[_HEAD.size :], crc32(key.encode())):
        raise CorruptEntry("found bytes that are damaged or were stored under another key")
    return raw[_SIZE + length :], seconds


def _checksum(flags: int, key: str, body: bytes) -> int:
    # Against accidents (a torn write, a reply that belongs to another request), not against
    # somebody who can write to the store.
    return crc32(body, crc32(key.encode(), flags))


def _as_bytes(raw: object) -> bytes:
    """The same in one type, as drivers have their own: a memoryview for a BYTEA, for instance."""
    if isinstance(raw, (bytes, bytearray, memoryview)):
        return bytes(cast("bytes", raw))
    raise CorruptEntry(f"found {_shape(raw)}, wanted an entry of format {FORMAT}")


def _shape(raw: object) -> str:
    return f"{len(raw)} bytes" if isinstance(raw, bytes) else f"a {type(raw).__name__}"
