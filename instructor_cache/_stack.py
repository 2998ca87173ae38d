"""All tiers of a function in its colour: where entries are looked for, and where they go."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import NamedTuple

from ._bridge import ASYNC, Colour
from ._coherence import Coherence
from ._forgotten import Forgotten
from ._guard import Guard
from ._health import health_of
from ._shelf import Shelf, Told
from ._tagged import LIFE, is_epoch, joined, new_epoch, tags_of
from .entry import Entry
from .errors import BackendError
from .events import Announcer
from .policy import Policy
from .ports import open_port
from .tiers import Tier

_RENEWED = 0.01  # of the stores renew the epochs of their tags: each renewal is heard by replicas


class Found(NamedTuple):
    """An entry, the tier that had it, and to how many nearer ones it was copied."""

    entry: Entry
    tier: str
    copied: int = 0


@dataclass(frozen=True, slots=True)
class Stack:
    """What the engine talks to: every tier, nearest first; a failing one counts as empty.

    Attributes:
        tiers, colour: What it was opened with.
        forgotten: What was lately forgotten here, by any function over the farthest tier.
        coherences: What drops from nearer tiers what others change in farther ones.
        epoch_life: Seconds that the epoch of a tag is kept; None for ever.
    """

    shelves: tuple[Shelf, ...]
    forgotten: Forgotten
    coherences: tuple[Coherence, ...]
    clock: Callable[[], float]
    epoch_life: float | None
    tiers: tuple[Tier, ...]
    colour: Colour

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
            use = tier.read, tier.write, tier.void
            tells = tuple(each for each in coherences if each.far is tier.backend)
            return Shelf(guard, tier.ttl, *use, tier.coherences, tells, announce, policy.clock)

        coherences = tuple({each: None for tier in tiers for each in tier.coherences})
        shelves = tuple(map(shelf, tiers))
        forgotten = shelves[-1].guard.health.forgotten
        life = _epoch_life(policy)
        return cls(shelves, forgotten, coherences, policy.clock, life, tiers, colour)

    def shared(self) -> Guard | None:
        """Give the farthest tier that other processes see and in which locks can be kept."""
        for shelf in reversed(self.shelves):
            if shelf.can_swap and not shelf.guard.port.is_local:
                return shelf.guard
        return None

    # -- reading ---------------------------------------------------------------------------

    async def get(self, key: str, *, fill: bool = True, beyond: float = -inf) -> Found | None:
        """Give the fresh entry of the nearest tier that has one, which lasts *beyond* that time.

        It is copied to the nearer tiers for the time it has left, unless *fill* is False.
        """
        since = self._watch(key)
        for depth, shelf in enumerate(self.shelves):
            entry = await shelf.read(key)
            if entry and entry.is_fresh(self.clock()) and entry.fresh_until > beyond:
                copied = depth > 0 and fill and await self._copy(depth, key, entry, since)
                return Found(entry, shelf.guard.name, depth if copied else 0)
        return None

    async def _copy(self, depth: int, key: str, entry: Entry, since: tuple[int, ...]) -> bool:
        """Copy *entry* to the nearer tiers; tell whether it is there."""
        try:
            told = self.shelves[depth].tells
            has_written = await self._put(self.shelves[:depth], key, entry, told)
        finally:
            has_changed = await self._settle(key, since)
        return has_written and not has_changed

    async def get_kept(self, key: str) -> Found | None:
        """Give the entry that would answer if the function failed: the freshest that is kept."""
        found: list[Found] = []
        for shelf in self.shelves:
            entry = await shelf.read(key)
            if entry is not None and entry.is_kept(self.clock()):
                found.append(Found(entry, shelf.guard.name))
        return max(found, key=lambda each: each.entry.fresh_until, default=None)

    # -- writing ---------------------------------------------------------------------------

    async def set(self, key: str, entry: Entry) -> bool:
        """Write to every tier, the farthest first; tell whether any took it.

        A tier that did not may hold an older answer: that one is not to be believed.
        """
        since = self._watch(key)
        try:
            return await self._put(self.shelves, key, entry, in_doubt=True)
        finally:
            await self._settle(key, since)

    async def keep(self, key: str, entry: Entry, instead_of: Entry | None = None) -> Entry | None:
        """Write *entry* unless another answer came first; give the one that is kept, if any.

        The farthest tier that can compare and swap decides: a fresh entry there, other than
        *instead_of*, stays, and is what the nearer tiers get.
        """
        since = self._watch(key)
        try:
            return await self._keep(key, entry, instead_of)
        finally:
            await self._settle(key, since)

    async def _keep(self, key: str, entry: Entry, instead_of: Entry | None) -> Entry | None:
        others = self.shelves
        for shelf in reversed(self.shelves):
            if not shelf.can_swap:
                continue
            others = tuple(other for other in others if other is not shelf)
            kept = await shelf.contend(key, entry, instead_of)
            if kept is not None:
                await self._copy_epochs(shelf, key, kept)
                await self._put(others, key, kept, shelf.tells)
                return kept
        return entry if await self._put(others, key, entry) else None

    async def _put(
        self,
        shelves: tuple[Shelf, ...],
        key: str,
        entry: Entry,
        told: Told = (),
        *,
        in_doubt: bool = False,
    ) -> bool:
        """Write *entry*, of which changes are *told*; tell whether any of *shelves* took it."""
        has_written = False
        for shelf in reversed(shelves):
            can_answer = await self._copy_epochs(shelf, key, entry)
            if can_answer and await shelf.write(key, entry, told):
                has_written, told = True, (*told, *shelf.tells)
            elif in_doubt:
                shelf.doubt(key)
        return has_written

    async def replace(self, key: str, old: Entry, new: Entry) -> bool:
        """Write *new* to the tiers that hold *old*; tell if there were any.

        The farthest comes first, and none that is nearer than one without it: what is no longer
        there may have been forgotten, and does not live longer for being replaced.
        """
        since, told = self._watch(key), list[Coherence]()
        try:
            for shelf in reversed(self.shelves):
                if not await shelf.replace(key, old, new, told):
                    return shelf is not self.shelves[-1]
                told += shelf.tells
            return True
        finally:
            await self._settle(key, since)

    async def take_back(self, key: str, entry: Entry, tiers: int | None = None) -> None:
        """Delete *entry*, and nothing that has replaced it, from the nearest *tiers*, or all."""
        for shelf in reversed(self.shelves[:tiers]):
            await shelf.take_back(key, entry, with_epochs=not self._is_last(shelf))

    async def delete(self, key: str) -> None:
        """Delete from every tier; the farthest first, or a reader could refill a near one."""
        await self._everywhere(lambda shelf: shelf.delete(key))

    def check_clearable(self) -> None:
        """Raise TypeError if a tier has no way to delete what begins with a prefix."""
        for shelf in self.shelves:
            if shelf.writes and shelf.guard.port.clear is None:
                name = shelf.guard.name
                raise TypeError(f"{name} can't be cleared: it has no method clear(prefix)")

    async def clear(self, prefix: str) -> None:
        """Delete every key that begins with *prefix*, in every tier."""
        await self._everywhere(lambda shelf: shelf.clear(prefix))

    # -- what others change ------------------------------------------------------------------

    def _watch(self, key: str) -> tuple[int, ...]:
        """Give what `_settle` has to know of the moment before anything is read or written."""
        return tuple([each.watch(key) for each in self.coherences])

    async def _settle(self, key: str, since: tuple[int, ...]) -> bool:
        """Drop what nearer tiers have of *key* if others have changed it since; tell if so."""
        watched = zip(self.coherences, since, strict=True)
        if not any(each.has_changed(key, then) for each, then in watched):
            return False
        for shelf in self.shelves:
            for name in (key, *tags_of(key)) if shelf.coherences else ():
                await shelf.delete(name)
        return True

    # -- tags --------------------------------------------------------------------------------

    async def epochs(self, key: str) -> bytes:
        """Give the present epochs of the tags of *key*, to be held by an entry made from now on.

        The farthest tier that has them, or can begin them, says which they are.
        """
        if not (tags := tags_of(key)):
            return b""
        for shelf in reversed(self.shelves):
            if (epochs := await self._epochs_in(shelf, tags)) is not None:
                return epochs
        return b"".join(new_epoch() for _ in tags)  # which is nowhere: nothing will fit it

    async def _epochs_in(self, shelf: Shelf, tags: tuple[str, ...]) -> bytes | None:
        if (present := await shelf.epochs(tags)) is None:
            return None
        if shelf.writes:
            for n, tag in enumerate(tags):
                if not is_epoch(present[n]):
                    present[n] = await shelf.begin(tag, present[n], self.epoch_life)
        return joined(present)

    async def is_valid(self, key: str, epochs: bytes, *, if_unknown: bool = True) -> bool:
        """Whether *epochs* of the tags of *key* have not ended; *if_unknown* if nobody can tell."""
        if not epochs:
            return True
        for shelf in reversed(self.shelves):
            present = await shelf.epochs(tags_of(key))
            if present is None:
                return if_unknown
            if shelf.writes or joined(present) is not None:
                if shelf.writes and random.random() < _RENEWED:
                    await shelf.renew(key, epochs, self.epoch_life)
                return joined(present) == epochs
        return if_unknown

    async def invalidate_tags(self, tags: tuple[str, ...]) -> None:
        """End the epochs of *tags* in every tier."""

        async def end_all(shelf: Shelf) -> None:
            for tag in tags:
                await shelf.end(tag, for_good=self._is_last(shelf))

        await self._everywhere(end_all)

    async def _copy_epochs(self, shelf: Shelf, key: str, entry: Entry) -> bool:
        """Have *shelf* the epochs of *entry*, so that it answers there; tell if so."""
        if not entry.epochs or self._is_last(shelf):
            return True
        ask = partial(self.is_valid, key, entry.epochs, if_unknown=False)
        return await shelf.take_over(key, entry, ask)

    def _is_last(self, shelf: Shelf) -> bool:
        """Whether it is the farthest tier, which says which epochs are the present ones."""
        return shelf is self.shelves[-1]

    async def _everywhere(self, change: Callable[[Shelf], Awaitable[None]]) -> None:
        """Change every tier, the farthest first; where one may raise, all the others as well."""
        errors: list[BackendError] = []
        for shelf in reversed(self.shelves):
            try:
                await change(shelf)
            except BackendError as error:
                errors.append(error)
        if errors:
            raise errors[0]


def _epoch_life(policy: Policy) -> float | None:
    """How long epochs are kept: for longer than any entry that holds them."""
    longest = policy.longest
    return None if longest is None else max(LIFE, 2 * longest)
