"""The work of a transfer: entries travel in batches, as they are, and only where none is newer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any

from ._discreet import discreet
from ._listing import Listing
from ._place import Item, Place, entry_of, time_left
from ._reserved import FORGOTTEN, LOCK, TAG
from ._tagged import parted
from .errors import TransferInterrupted
from .tiers import Tier

_LARGE = 4 * 2**20  # bytes that a batch has, about
_FIRST, _MOST = 32, 500  # keys in the first one, and in any
_ROUNDS = 3  # with what changes at the source meanwhile
_OTHERS = (LOCK, FORGOTTEN)  # mean nothing to those who use another store


@dataclass(frozen=True, slots=True)
class Transferred:
    """What a transfer has done.

    Attributes:
        copied: Entries that were written to the destination.
        present: Those that it had already, or newer ones.
        expired: Those that have no time left, or were gone when they were to be read; of Redis
            also what is no value but a list or the like.
        outdated: Those of which a tag has another epoch at the destination, where they would
            never answer.
        unreadable: Values that are no entries, damaged, or in another version's format.
        refused: Those that the destination did not keep, as they are larger than what it takes.
        tags: Epochs of tags that were written.
        bytes: The size of the entries that were written.
        seconds: How long it took.
    """

    copied: int = 0
    present: int = 0
    expired: int = 0
    outdated: int = 0
    unreadable: int = 0
    refused: int = 0
    tags: int = 0
    bytes: int = 0
    seconds: float = 0.0

    @property
    def seen(self) -> int:
        """All entries that were looked at."""
        skipped = self.present, self.expired, self.outdated, self.unreadable, self.refused
        return self.copied + sum(skipped)

    def __str__(self) -> str:
        outdated = f"outdated: {self.outdated:,}, " if self.outdated else ""
        refused = f", refused as too large: {self.refused:,}" if self.refused else ""
        return (
            f"copied {self.copied:,} entries ({self.bytes / 1e6:,.1f} MB) in {self.seconds:,.1f} s;"
            f" there already: {self.present:,}, expired: {self.expired:,}, "
            f"{outdated}unreadable: {self.unreadable:,}{refused}"
        )


class Mover:
    """Copies from one tier to others; all in bounded time, whatever fails, and bounded memory."""

    def __init__(
        self,
        source: Tier,
        tiers: Sequence[Tier],
        patience: float,
        clock: Callable[[], float],
        *,
        for_async: bool,
    ) -> None:
        self._backend, self._for_async, self._clock = source.backend, for_async, clock
        self._source, *self._places = (
            Place(tier, patience, clock, for_async=for_async) for tier in (source, *tiers)
        )
        self._counts: Counter[str] = Counter()
        self._start, self._patience = monotonic(), patience
        self._size = _FIRST
        self._ended = set[bytes]()  # epochs of tags that have another one at the destination

    async def run(self, prefix: str, tell: Callable[[Transferred], object]) -> Transferred:
        """Copy what begins with *prefix*, and tags; raise TransferInterrupted if a backend fails.

        The tags come first: who missed one would begin a new epoch, which no entry fits.
        """
        for family in (TAG, prefix):
            before, listing = self._counts.copy(), self._list(family)
            while keys := await self._surely(listing.page, self._size):
                if listing.is_anew():
                    self._look_again(before)
                await self._surely(self._copy, _of_family(keys, family))
                tell(self.done())
        return self.done()

    def done(self) -> Transferred:
        """Give what is done so far."""
        counts = {name: max(0, count) for name, count in self._counts.items()}
        return Transferred(**counts, seconds=monotonic() - self._start)

    def _list(self, family: str) -> Listing:
        how = self._source.timeout, self._patience
        return Listing(self._backend, family, *how, for_async=self._for_async)

    def _look_again(self, before: Counter[str]) -> None:
        """Count anew what is only looked at; what was copied will be there already."""
        for name in ("present", "expired", "outdated", "unreadable", "refused"):
            self._counts[name] = before[name]
        self._counts["present"] -= self._counts["copied"] - before["copied"]

    async def _surely(self, work: Callable[..., Awaitable[Any]], *args: Any) -> Any:
        try:
            return await work(*args)
        except Exception as error:
            done = self.done()
            raise TransferInterrupted(
                f"found {type(error).__name__} after {done.copied:,} entries were copied; wanted "
                f"both backends to answer: start the same transfer again, and it goes on",
                done,
            ) from discreet(error)

    async def _copy(self, keys: list[str]) -> None:
        """Copy the values of *keys*; take back what was gone from the source when it was written.

        So what is forgotten at the source, and then at the destination, does not come back.
        """
        values = await self._source.read(keys)
        self._size = _fitting([len(raw) for raw in values if raw is not None])
        for _ in range(_ROUNDS):
            taken = await self._write(keys, values)
            keys, values = await self._changed(taken)
            for place in reversed(self._places if keys else []):
                await place.take_back([taken[key] for key in keys])
            self._count([item for key, item in taken.items() if key not in keys])
            if not keys:
                return
        self._counts["expired"] += len(keys)

    async def _write(self, keys: list[str], values: list[bytes | None]) -> dict[str, Item]:
        """Write what is worth it where none is as new; give what was written."""
        items = there = [item for item in map(self._judge, keys, values) if item is not None]
        taken, refused = dict[str, Item](), set[str]()
        try:
            for place in reversed(self._places):  # the farthest first, as for all writes
                there = await place.fill(there, taken, refused)
        except BaseException:
            self._count(taken.values())
            raise
        for item in items:
            if item.key not in taken and not _is_tag(item.key):
                self._counts["refused" if item.key in refused else "present"] += 1
        agreed = {item.key for item in there}
        self._ended.update(i.raw for i in items if _is_tag(i.key) and i.key not in agreed)
        return taken

    async def _changed(self, taken: dict[str, Item]) -> tuple[list[str], list[bytes | None]]:
        """The keys under which the source holds something else by now, and what."""
        now = zip(taken, await self._source.read(list(taken)) if taken else (), strict=True)
        changed = {key: raw for key, raw in now if raw != taken[key].raw}
        return list(changed), list(changed.values())

    def _judge(self, key: str, raw: bytes | None) -> Item | None:
        """What there is to copy; None, and counted, for what is not worth it."""
        entry = None if raw is None else entry_of(key, raw)
        if raw is None or entry is None:
            if raw is not None and _is_tag(key):
                return Item(key, raw, None, None)
            self._counts["expired" if raw is None else "unreadable"] += not _is_tag(key)
            return None
        if not self._ended.isdisjoint(parted(entry.epochs)):
            self._counts["outdated"] += 1
            return None
        left = time_left(entry, self._clock())
        if left is None or left > 0:
            return Item(key, raw, entry.created_at, left)
        self._counts["expired"] += 1
        return None

    def _count(self, items: Iterable[Item]) -> None:
        for item in items:
            self._counts["tags" if _is_tag(item.key) else "copied"] += 1
            self._counts["bytes"] += 0 if _is_tag(item.key) else len(item.raw)


def _fitting(sizes: list[int]) -> int:
    """The number of keys with which the next batch will have a good size, if it is like this."""
    if not sizes:
        return _MOST
    return min(_MOST, max(1, _LARGE * len(sizes) // (sum(sizes) + 1)))


def _of_family(keys: list[str], family: str) -> list[str]:
    """Those of *keys*, each once, that belong to *family*; for "" all but the special ones."""
    special = () if family else (TAG, *_OTHERS)
    return [key for key in dict.fromkeys(keys) if not key.startswith(special)]


def _is_tag(key: str) -> bool:
    return key.startswith(TAG)
