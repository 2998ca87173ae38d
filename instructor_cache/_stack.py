"""All tiers of a function in its colour: where entries are looked for, and where they go."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import NamedTuple

from ._bridge import ASYNC, Colour
from ._coherence import Coherence
from ._forgotten import Forgotten
from ._guard import FAILED, Guard
from ._health import health_of
from .entry import Entry
from .errors import CorruptEntry
from .events import Announcer
from .policy import Policy
from .ports import open_port
from .tiers import Tier

_ROUNDS = 3  # against others who write the same key: then we leave it to them


class Found(NamedTuple):
    """An entry, the tier that had it, and to how many nearer ones it was copied."""

    entry: Entry
    tier: str
    copied: int = 0


class Shelf(NamedTuple):
    """A tier's guard, the longest time in seconds that it keeps an entry or None, who minds it."""

    guard: Guard
    ttl: float | None
    coherences: tuple[Coherence, ...] = ()

    def left(self, key: str, life: float | None) -> float | None:
        """Give the seconds to keep an entry that lives for *life*; None for ever."""
        left = _shorter(self.ttl, life)
        for coherence in self.coherences:
            left = _shorter(left, coherence.limit(_prefix(key)))
        return left


@dataclass(frozen=True, slots=True)
class Stack:
    """What the engine talks to: every tier, nearest first; a failing one counts as empty.

    Attributes:
        forgotten: What was lately forgotten here, by any function over the farthest tier.
        coherences: What keeps nearer tiers free of what was changed in farther ones elsewhere.
    """

    shelves: tuple[Shelf, ...]
    forgotten: Forgotten
    coherences: tuple[Coherence, ...]
    announce: Announcer
    clock: Callable[[], float]

    @classmethod
    def open(
        cls, tiers: tuple[Tier, ...], colour: Colour, announce: Announcer, policy: Policy
    ) -> Stack:
        """Open every tier in one colour."""

        def shelf(tier: Tier) -> Shelf:
            timeout = policy.timeout if tier.timeout is None else tier.timeout
            port = open_port(tier.backend, for_async=colour is ASYNC, timeout=timeout)
            health, fail_open = health_of(tier.backend), policy.fail_open
            guard = Guard(tier.name, port, health, colour.wait, announce, fail_open)
            return Shelf(guard, tier.ttl, tier.coherences)

        shelves = tuple(map(shelf, tiers))
        coherences = tuple({each: None for tier in tiers for each in tier.coherences})
        forgotten = shelves[-1].guard.health.forgotten
        return cls(shelves, forgotten, coherences, announce, policy.clock)

    def shared(self) -> Guard | None:
        """Give the farthest tier that other processes see and in which locks can be kept."""
        for guard, *_ in reversed(self.shelves):
            if guard.port.swap is not None and not guard.port.is_local:
                return guard
        return None

    async def get(self, key: str, *, fill: bool = True) -> Found | None:
        """Give the fresh entry of the nearest tier that has one.

        It is copied to the nearer tiers for the time it has left, unless *fill* is False.
        """
        since = self._watch(key)
        for depth, shelf in enumerate(self.shelves):
            guard = shelf.guard
            raw = await guard.ask("get", key)
            if raw is None or raw is FAILED:
                continue
            try:
                entry = Entry.unpack(key, raw)
            except CorruptEntry as error:
                await self._discard(guard, key, error)
                continue
            if (now := self.clock()) < entry.created_at:
                entry = await self._see(shelf, key, entry, now)
            if entry.is_fresh(now):
                copied = depth > 0 and fill and await self._put(self.shelves[:depth], key, entry)
                if copied and await self._settle(key, since):
                    copied = False
                return Found(entry, guard.name, depth if copied else 0)
        return None

    async def get_kept(self, key: str) -> Found | None:
        """Give the entry that would answer if the function failed: the freshest that is kept."""
        found: list[Found] = []
        for shelf in self.shelves:
            entry, now = await self._read(shelf.guard, key), self.clock()
            if entry is not None and now < entry.created_at:
                entry = await self._see(shelf, key, entry, now)
            if entry is not None and entry.is_kept(now):
                found.append(Found(entry, shelf.guard.name))
        return max(found, key=lambda each: each.entry.fresh_until, default=None)

    async def set(self, key: str, entry: Entry) -> bool:
        """Write to every tier, the farthest first; tell whether any took it.

        A tier that did not may hold an older answer: that one is not to be believed.
        """
        since = self._watch(key)
        has_written = await self._put(self.shelves, key, entry, in_doubt=True)
        await self._settle(key, since)
        return has_written

    async def keep(self, key: str, entry: Entry, instead_of: Entry | None = None) -> Entry | None:
        """Write *entry* unless another answer came first; give the one that is kept, if any.

        The farthest tier that can compare and swap decides: a fresh entry there, other than
        *instead_of*, stays, and is what the nearer tiers get.
        """
        since, others = self._watch(key), self.shelves
        for shelf in reversed(self.shelves):
            if shelf.guard.port.swap is None:
                continue
            others = tuple(other for other in others if other is not shelf)
            kept = await self._contend(shelf, key, entry, instead_of)
            if kept is not None:
                await self._put(others, key, kept)
                await self._settle(key, since)
                return kept
        has_written = await self._put(others, key, entry)
        await self._settle(key, since)
        return entry if has_written else None

    async def replace(self, key: str, old: Entry, new: Entry) -> bool:
        """Write *new* to the tiers that hold *old*, the farthest first; tell if there were any."""
        since, has_written = self._watch(key), False
        for shelf in reversed(self.shelves):
            left = shelf.left(key, new.ttl(self.clock()))
            if left is None or left > 0:
                has_written |= await self._swap(shelf.guard, key, old, new, left)
        await self._settle(key, since)
        return has_written

    async def take_back(self, key: str, entry: Entry, tiers: int | None = None) -> None:
        """Delete *entry*, and nothing that has replaced it, from the nearest *tiers*, or all."""
        for guard, *_ in self.shelves[:tiers]:
            await self._swap(guard, key, entry, None, None)

    async def delete(self, key: str) -> None:
        """Delete from every tier; the farthest first, or a reader could refill a near one."""
        for guard, *_ in reversed(self.shelves):
            await guard.ask("delete", key)

    def check_clearable(self) -> None:
        """Raise TypeError if a tier has no way to delete what begins with a prefix."""
        for guard, *_ in self.shelves:
            if guard.port.clear is None:
                raise TypeError(f"{guard.name} can't be cleared: it has no method clear(prefix)")

    async def clear(self, prefix: str) -> None:
        """Delete every key that begins with *prefix*, in every tier."""
        for guard, *_ in reversed(self.shelves):
            await guard.ask("clear", prefix)

    async def _read(self, guard: Guard, key: str) -> Entry | None:
        raw = await guard.ask("get", key)
        if raw is None or raw is FAILED:
            return None
        try:
            return Entry.unpack(key, raw)
        except CorruptEntry as error:
            await self._discard(guard, key, error)
            return None

    async def _discard(self, guard: Guard, key: str, error: CorruptEntry) -> None:
        self.announce("corrupt", key, guard.name, error=error)
        await guard.ask("delete", key)

    def _watch(self, key: str) -> tuple[int, ...]:
        """Give what `_settle` has to know of the moment before anything is read or written."""
        return tuple([each.watch(_prefix(key)) for each in self.coherences])

    async def _settle(self, key: str, since: tuple[int, ...]) -> bool:
        """Drop the copies of *key* if it has been changed elsewhere meanwhile; tell if so."""
        watched = zip(self.coherences, since, strict=True)
        if not any(each.has_changed(key, then) for each, then in watched):
            return False
        for shelf in self.shelves:
            if shelf.coherences:
                await shelf.guard.ask("delete", key)
        return True

    async def _see(self, shelf: Shelf, key: str, entry: Entry, now: float) -> Entry:
        """An entry from the future, which gets its time to live from the first look at it."""
        if not entry.is_unforeseen(now):
            return entry
        left = None if entry.kept_until == inf else entry.kept_until - now  # once it is corrected
        await self._swap(shelf.guard, key, entry, entry.seen(now), shelf.left(key, left))
        return entry.seen(now)

    async def _swap(
        self, guard: Guard, key: str, old: Entry, new: Entry | None, ttl: float | None
    ) -> bool:
        """Write *new*, or delete, if the tier still holds *old*: it may have been forgotten."""
        was, becomes = old.pack(key), None if new is None else new.pack(key)
        if guard.port.swap is not None:
            return bool(await guard.ask("swap", key, was, becomes, ttl))
        if await guard.ask("get", key) != was:
            return False
        if becomes is None:
            return await guard.ask("delete", key) is not FAILED
        return await guard.ask("set", key, becomes, ttl) is not FAILED

    async def _put(
        self, shelves: tuple[Shelf, ...], key: str, entry: Entry, *, in_doubt: bool = False
    ) -> bool:
        if not shelves:
            return False
        raw, has_written = entry.pack(key), False
        for shelf in reversed(shelves):
            guard, left = shelf.guard, shelf.left(key, entry.ttl(self.clock()))
            if left is None or left > 0:
                is_written = await guard.ask("set", key, raw, left) is not FAILED
                has_written |= is_written
                if in_doubt and not is_written:
                    guard.doubt(key)
        return has_written

    async def _contend(
        self, shelf: Shelf, key: str, entry: Entry, instead_of: Entry | None
    ) -> Entry | None:
        """Write *entry* where others may do the same; give whichever was first, or None."""
        raw, left = entry.pack(key), shelf.left(key, entry.ttl(self.clock()))
        there: bytes | None = None
        for _ in range(_ROUNDS if left is None or left > 0 else 0):
            has_swapped = await shelf.guard.ask("swap", key, there, raw, left)
            if has_swapped or has_swapped is FAILED:
                return entry if has_swapped else None
            other = await self._read(shelf.guard, key)
            if other is not None and other != instead_of and other.is_fresh(self.clock()):
                return other
            there = None if other is None else other.pack(key)
        return None


def _prefix(key: str) -> str:
    return key[: key.find(":") + 1]


def _shorter(one: float | None, other: float | None) -> float | None:
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)
