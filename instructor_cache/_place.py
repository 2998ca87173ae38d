"""A tier that entries are copied from or to, in batches, with patience."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from time import monotonic
from typing import Any, NamedTuple, TypeVar

from ._bridge import ASYNC, SYNC, Colour, drive
from ._listing import is_final
from ._workers import Workers
from .entry import Entry
from .errors import CorruptEntry
from .lifetimes import shorter
from .ports import is_native, open_port
from .tiers import Tier

T = TypeVar("T")

_ROUNDS = 3  # against others who write the same key: then we leave it to them
_SURE = 4096  # bytes that every backend of ours takes, unless it was told to take less
_SHORTEST, _LONGEST = 0.05, 1.0  # seconds between two attempts


class Item(NamedTuple):
    """A value on its way. *made_at* is None for the epoch of a tag, *ttl* for "for ever"."""

    key: str
    raw: bytes
    made_at: float | None
    ttl: float | None


class Place:
    """Reads and writes the batches of one tier, in the colour in which its backend does it best.

    Every operation ends in its own time; one that fails is tried again for *patience* seconds.
    Of a backend with several ``lanes``, as many operations are under way at once.

    Attributes:
        timeout: Seconds that one operation takes at most.
    """

    def __init__(
        self, tier: Tier, patience: float, clock: Callable[[], float], *, for_async: bool
    ) -> None:
        self._patience, self._clock, self._ttl = patience, clock, tier.ttl
        self._colour: Colour = ASYNC if for_async and is_native(tier.backend) else SYNC
        self._is_guest = for_async and self._colour is SYNC  # not to block the loop
        is_async = self._colour is ASYNC
        self._port = open_port(tier.backend, for_async=is_async, timeout=tier.timeout)
        self._lanes = max(1, int(getattr(tier.backend, "lanes", 1)))
        self._workers = Workers("transfer")
        self.timeout = self._port.timeout

    def read(self, keys: Sequence[str]) -> Awaitable[list[bytes | None]]:
        """Give the values of *keys*."""
        return self._at_home(self._read, keys)

    def fill(
        self, items: Sequence[Item], taken: dict[str, Item], refused: set[str]
    ) -> Awaitable[list[Item]]:
        """Write *items* where none is as new; give those now there.

        What was written is noted in *taken*; in *refused*, what is not there all the same.
        """
        return self._at_home(self._fill, items, taken, refused)

    def take_back(self, items: Sequence[Item]) -> Awaitable[None]:
        """Delete *items*, and nothing that has replaced them."""
        return self._at_home(self._in_lanes, self._take_back, items)

    async def _at_home(self, work: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> Any:
        if not self._is_guest:
            return await work(*args)
        import asyncio

        return await asyncio.wrap_future(self._workers.submit(partial(_drive, work, *args)))

    async def _read(self, keys: Sequence[str]) -> list[bytes | None]:
        try:
            return await self._port.get_many(*keys)
        except Exception:  # it may be too much at once
            values: dict[str, bytes | None] = {}

        async def get(part: Sequence[str]) -> None:
            for key in part:
                values[key] = await self._try(self._port.get, key)

        await self._in_lanes(get, keys)
        return [values[key] for key in keys]

    async def _fill(
        self, items: Sequence[Item], taken: dict[str, Item], refused: set[str]
    ) -> list[Item]:
        there = await self._read([item.key for item in items])
        agreed: list[Item] = []

        async def fill(part: Sequence[tuple[Item, bytes | None]]) -> None:
            for item, found in part:
                now_there, was_written = await self._put(item, found)
                if was_written:
                    taken[item.key] = item
                if now_there == item.raw:
                    agreed.append(item)
                elif now_there is None:
                    refused.add(item.key)

        await self._in_lanes(fill, list(zip(items, there, strict=True)))
        return agreed

    async def _put(self, item: Item, there: bytes | None) -> tuple[bytes | None, bool]:
        """Write *item* unless something as new is *there*; give what is, and if it was written."""
        for _ in range(_ROUNDS):
            if there is not None and self._is_as_new(there, item):
                break
            if await self._write(item, there):
                return (item.raw, True) if await self._was_kept(item) else (None, False)
            there = await self._try(self._port.get, item.key)
        return there, False

    async def _write(self, item: Item, there: bytes | None) -> bool:
        port = self._port
        ttl = None if item.made_at is None else shorter(self._ttl, item.ttl)
        if port.swap is not None:
            return bool(await self._try(port.swap, item.key, there, item.raw, ttl))
        await self._try(port.set, item.key, item.raw, ttl)
        return True

    async def _was_kept(self, item: Item) -> bool:
        """Whether the backend has *item*, which may be larger than it takes."""
        return len(item.raw) <= _SURE or await self._try(self._port.get, item.key) is not None

    async def _take_back(self, items: Sequence[Item]) -> None:
        port = self._port
        for item in items:
            if port.swap is not None:
                await self._try(port.swap, item.key, item.raw, None, None)
            elif await self._try(port.get, item.key) == item.raw:
                await self._try(port.delete, item.key)

    def _is_as_new(self, there: bytes, item: Item) -> bool:
        if item.made_at is None or there == item.raw:
            return True
        other = entry_of(item.key, there)
        if other is None or other.created_at < item.made_at:
            return False
        left = time_left(other, self._clock())
        return left is None or left > 0

    async def _try(self, operation: Callable[..., Awaitable[Any]], *args: Any) -> Any:
        """Do *operation*, again and again for as long as patience lasts."""
        until, pause = monotonic() + self._patience, _SHORTEST
        while True:
            try:
                return await operation(*args)
            except Exception as error:
                if is_final(error) or monotonic() + pause > until:
                    raise
            await self._colour.sleep(pause)
            pause = min(2 * pause, _LONGEST)

    async def _in_lanes(
        self, work: Callable[[Sequence[Any]], Coroutine[Any, Any, None]], items: Sequence[Any]
    ) -> None:
        """Do *work* on *items*, in as many parts at once as there are lanes."""
        parts = [part for n in range(self._lanes) if (part := items[n :: self._lanes])]
        if len(parts) <= 1:
            return await work(items)
        if self._colour is ASYNC:
            import asyncio

            done = await asyncio.gather(*map(work, parts), return_exceptions=True)
        else:
            jobs = [self._workers.submit(partial(_drive, work, part)) for part in parts]
            done = [job.exception() for job in jobs]
        for error in done:
            if error is not None:
                raise error


def _drive(work: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> T:
    return drive(work(*args))


def entry_of(key: str, raw: bytes) -> Entry | None:
    """Give the entry that *raw* is; None if it is none, or damaged, or of another format."""
    try:
        return Entry.unpack(key, raw)
    except CorruptEntry:
        return None


def time_left(entry: Entry, now: float) -> float | None:
    """Give the seconds that *entry* has left, or None; one from the future begins *now*."""
    return (entry.seen(now) if entry.is_unforeseen(now) else entry).ttl(now)
