"""One tier as the stack uses it: entries instead of bytes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

from ._coherence import BOUND, Coherence
from ._guard import FAILED, Guard
from ._missed import Missed
from ._tagged import LIFE, joined, new_epoch, parted, tags_of
from .entry import Entry
from .errors import CorruptEntry
from .events import Announcer
from .lifetimes import shorter

_ROUNDS = 3  # against others who write the same key: then we leave it to them

Told = Sequence[Coherence]  # those by which one hears of changes of an entry


@dataclass(frozen=True, slots=True)
class Shelf:
    """A tier that answers and keeps entries; a failing one counts as empty.

    Attributes:
        ttl: The longest time in seconds that the tier keeps an entry; None for any time.
        reads, writes: Whether it is asked for answers, and whether anything in it is changed.
        void: What was forgotten but not deleted here, because nothing is written.
        coherences: What drops from it what others change in farther tiers.
        tells: What it tells of changes in it.
    """

    guard: Guard
    ttl: float | None
    reads: bool
    writes: bool
    void: Missed
    coherences: tuple[Coherence, ...]
    tells: tuple[Coherence, ...]
    announce: Announcer
    clock: Callable[[], float]

    @property
    def look(self) -> Callable[[str], bytes | None] | None:
        """Reads at once, if nothing but a failure can be in the way; else None."""
        look = self.guard.port.look if self.reads and self.writes else None
        for coherence in self.coherences:
            look = look and coherence.trusted(look)
        return look

    @property
    def fetch(self) -> Callable[[str], Awaitable[bytes | None]] | None:
        """Reads, if that ends in time by itself and nothing but a failure can be in the way."""
        is_free = self.reads and self.writes and not self.coherences
        return self.guard.port.fetch if is_free else None

    @property
    def can_swap(self) -> bool:
        """Whether it can decide which of several answers came first."""
        return self.reads and self.writes and self.guard.port.swap is not None

    def _is_told(self, key: str) -> bool:
        return all(coherence.limit(key) is None for coherence in self.coherences)

    # -- reading ---------------------------------------------------------------------------

    async def read(self, key: str) -> Entry | None:
        """Give the entry under *key*, unless one of its tags was invalidated."""
        if not self.reads or (self.void and self.void.of(key, *tags_of(key))):
            return None
        if self.coherences and not self.guard.port.is_local and not self._is_told(key):
            return None  # it may hold what was changed before this process began to listen
        epochs: bytes | None = b""
        if key.__class__ is str:
            raw = await self.guard.ask("get", key)
        else:
            raw, epochs = await self._get_tagged(key)
        if raw is None or raw is FAILED:
            return None
        entry = await self.judge(key, raw)
        if entry is None or entry.epochs != epochs:
            return None
        if (now := self.clock()) < entry.created_at:
            return await self._see(key, entry, now)
        return entry

    async def _get_tagged(self, key: str) -> tuple[Any, bytes | None]:
        """What is under *key*, and the epochs that it has to hold, in one step."""
        found = await self.guard.ask("get_many", key, *tags_of(key))
        return (FAILED, None) if found is FAILED else (found[0], joined(found[1:]))

    async def judge(self, key: str, raw: bytes) -> Entry | None:
        """Give the entry that *raw* is; if it is none, that is told and it is deleted."""
        try:
            return Entry.unpack(key, raw)
        except CorruptEntry as error:
            self.announce("corrupt", key, self.guard.name, error=error)
            if self.writes:
                await self.guard.ask("delete", key)
            return None

    async def _see(self, key: str, entry: Entry, now: float) -> Entry:
        """An entry from the future, which gets its time to live from the first look at it."""
        if not entry.is_unforeseen(now):
            return entry
        left = None if entry.kept_until == inf else entry.kept_until - now  # once it is corrected
        await self.swap(key, entry, entry.seen(now), self._longest(key, left))
        return entry.seen(now)

    # -- writing ---------------------------------------------------------------------------

    def _room_for(self, key: str, entry: Entry, told: Told = ()) -> tuple[bool, float | None]:
        """Whether *entry* is to be written here, and for how many seconds."""
        left = self._longest(key, entry.ttl(self.clock()), told)
        return self.writes and (left is None or left > 0), left

    def _longest(self, key: str, life: float | None, told: Told = ()) -> float | None:
        """The seconds that what lives for *life* is kept here."""
        longest = shorter(self.ttl, life)
        for coherence in self.coherences:
            longest = shorter(longest, coherence.limit(key) if coherence in told else BOUND)
        return longest

    async def write(self, key: str, entry: Entry, told: Told = ()) -> bool:
        """Write *entry*, whose changes are *told*; tell whether the tier took it."""
        has_room, left = self._room_for(key, entry, told)
        return has_room and await self.guard.ask("set", key, entry.pack(key), left) is not FAILED

    async def contend(self, key: str, entry: Entry, instead_of: Entry | None) -> Entry | None:
        """Write *entry* where others may do the same; give whichever was first, or None."""
        has_room, left = self._room_for(key, entry)
        raw, there = entry.pack(key), None
        for _ in range(_ROUNDS if has_room else 0):
            has_swapped = await self.guard.ask("swap", key, there, raw, left)
            if has_swapped or has_swapped is FAILED:
                return entry if has_swapped else None
            other = await self._read_any(key)
            if other is not None and other != instead_of and self._is_first(other, entry):
                return other
            there = None if other is None else other.pack(key)
        return None

    async def _read_any(self, key: str) -> Entry | None:
        raw = await self.guard.ask("get", key)
        return None if raw is None or raw is FAILED else await self.judge(key, raw)

    def _is_first(self, other: Entry, entry: Entry) -> bool:
        return other.epochs == entry.epochs and other.is_fresh(self.clock())

    async def swap(self, key: str, old: Entry, new: Entry | None, ttl: float | None) -> bool:
        """Write *new*, or delete, if the tier still holds *old*: it may have been forgotten."""
        becomes = None if new is None else new.pack(key)
        return self.writes and await self._swap(key, old.pack(key), becomes, ttl)

    async def _swap(
        self, key: str, old: bytes | None, new: bytes | None, ttl: float | None
    ) -> bool:
        if self.guard.port.swap is not None:
            return bool(await self.guard.ask("swap", key, old, new, ttl))
        if await self.guard.ask("get", key) != old:
            return False
        if new is None:
            return await self.guard.ask("delete", key) is not FAILED
        return await self.guard.ask("set", key, new, ttl) is not FAILED

    async def replace(self, key: str, old: Entry, new: Entry, told: Told) -> bool:
        """Write *new*, whose changes are *told*, if the tier still holds *old*; tell if so."""
        has_room, left = self._room_for(key, new, told)
        return has_room and await self.swap(key, old, new, left)

    def doubt(self, key: str) -> None:
        """Take note that what the tier holds under *key*, if anything, is outdated."""
        if self.writes:
            self.guard.doubt(key)
        else:
            self.void.add("delete", key, can_clear=True)

    async def delete(self, key: str) -> None:
        """Have nothing under *key* answer any more."""
        if self.writes:
            await self.guard.ask("delete", key)
        else:
            self.doubt(key)

    async def clear(self, prefix: str) -> None:
        """Have nothing answer any more whose key begins with *prefix*."""
        if self.writes:
            await self.guard.ask("clear", prefix)
        else:
            self.void.add("clear", prefix, can_clear=True)

    # -- epochs of tags ----------------------------------------------------------------------

    async def epochs(self, tags: tuple[str, ...]) -> list[bytes | None] | None:
        """Give the epochs of *tags*, None for one that is missing; None if they can't be read."""
        if self.void and self.void.of(*tags):
            return [None for _ in tags]
        found = await self.guard.ask("get_many", *tags)
        return None if found is FAILED else found

    async def begin(self, tag: str, there: bytes | None, life: float | None) -> bytes | None:
        """Give a new epoch of *tag* in place of what is *there*; another's, if that was faster."""
        new = new_epoch()
        if await self._swap(tag, there, new, life):
            return new
        return await self.guard.ask("get", tag) or None

    async def end(self, tag: str, *, for_good: bool) -> None:
        """End the epoch of *tag*; unless *for_good*, nobody takes the old one over again."""
        is_replaced = False
        if self.writes and not for_good:
            is_replaced = await self.guard.ask("set", tag, new_epoch(), LIFE) is not FAILED
        if not is_replaced:
            await self.delete(tag)

    async def take_over(
        self, key: str, entry: Entry, are_valid: Callable[[], Awaitable[bool]]
    ) -> bool:
        """Give the tags of *key* the epochs of *entry*, as a farther tier has them; tell if so.

        Where another epoch is there, or none any more, it may be older or newer: *are_valid*
        tells, and an invalidation after that has changed what is there.
        """
        tags = tags_of(key)
        if not self.writes or (present := await self.epochs(tags)) is None:
            return False
        for tag, epoch, there in zip(tags, parted(entry.epochs), present, strict=False):
            if there == epoch:
                continue
            if not await are_valid() or not await self._swap(tag, there, epoch, LIFE):
                return False
        return True

    async def renew(self, key: str, epochs: bytes, life: float | None) -> None:
        """Keep *epochs* of the tags of *key* for another *life*."""
        for tag, epoch in zip(tags_of(key), parted(epochs), strict=False):
            await self._swap(tag, epoch, epoch, life)

    async def take_back(self, key: str, entry: Entry, *, with_epochs: bool) -> None:
        """Delete *entry*, and nothing that has replaced it."""
        await self.swap(key, entry, None, None)
        if with_epochs and self.writes:
            for tag, epoch in zip(tags_of(key), parted(entry.epochs), strict=False):
                await self._swap(tag, epoch, new_epoch(), LIFE)
