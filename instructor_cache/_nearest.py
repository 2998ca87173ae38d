"""The calls of a function that are stored, and which of them is most like another one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from time import monotonic
from typing import NamedTuple

from ._difference import common
from ._discreet import told
from ._listing import PAGE, list_keys
from ._masks import masked
from ._place import Place, entry_of
from ._sketch import Part, read
from .tiers import Tier

_MOST = 1_000  # stored calls that are looked at
_SECONDS = 2.0  # for which they are looked for, in all tiers together
_FIRST, _LARGEST = 8, 200  # keys of the first page, and of any
_LARGE = 4 * 2**20  # bytes of a page, about
_LONG = 2_000  # characters of two texts that would take too long
_CLOSER = 10  # that are compared at length


class Stored(NamedTuple):
    """A stored call; without parts if its arguments were not kept."""

    key: str
    parts: dict[str, Part]


@dataclass(slots=True)
class Search:
    """Looks for the stored calls of a function, in bounded time, whatever fails.

    Attributes:
        found: Those that were found, by key.
        troubles: Why a tier could not be looked through, a sentence for each.
        own: Of the key itself, why what is stored under it is no answer.
    """

    tiers: Sequence[Tier]
    clock: Callable[[], float]
    for_async: bool
    found: dict[str, Stored] = field(default_factory=dict[str, Stored])
    troubles: list[str] = field(default_factory=list[str])
    own: list[str] = field(default_factory=list[str])
    _until: float = 0.0

    async def run(self, key: str, namespace: str) -> None:
        """Look for *key*, and for what begins with *namespace*, the nearest tier first."""
        self._until = monotonic() + _SECONDS
        for tier in self.tiers:
            if not tier.read:
                continue
            place = Place(tier, 0.0, self.clock, for_async=self.for_async)
            try:
                await self._look_at(key, tier.name, place)
            except Exception as error:
                self.troubles.append(f"the tier {tier.name!r} failed: {masked(told(error))}")
                continue
            try:
                await self._list(namespace, tier, place)
            except Exception as error:
                why = masked(told(error))
                self.troubles.append(f"the tier {tier.name!r} can't be searched: {why}")
        self.found.pop(key, None)

    async def _look_at(self, key: str, name: str, place: Place) -> None:
        (raw,) = await place.read([str(key)])
        if raw is None:
            return
        entry = entry_of(key, raw)
        if entry is None:
            why = "can't be read"
        elif not entry.is_kept(self.clock()):
            why = "has expired"
        else:
            why = "does not count any more: it was invalidated, by a tag of it for instance"
        self.own.append(f"what the tier {name!r} has under this key {why}")

    async def _list(self, namespace: str, tier: Tier, place: Place) -> None:
        left = self._until - monotonic()
        how = {"for_async": self.for_async, "is_urgent": True}
        pages = list_keys(tier.backend, namespace, max(left, 0.1) / PAGE, **how)
        size = _FIRST
        while len(self.found) < _MOST and monotonic() < self._until:
            if not (keys := await pages(min(size, _MOST - len(self.found)))):
                return
            values = await place.read(keys)
            for key, raw in zip(keys, values, strict=True):
                entry = None if raw is None else entry_of(key, raw)
                self.found[key] = Stored(key, {} if entry is None else read(entry.call))
            is_large = sum(len(raw or b"") for raw in values) > _LARGE
            size = max(1, size // 4) if is_large else min(2 * size, _LARGEST)

    def nearest(self, key: str, parts: dict[str, Part]) -> Stored | None:
        """Give the one that is most like the call with that key and those *parts*."""
        ranked = sorted(self.found.values(), key=lambda each: _rank(key, parts, each), reverse=True)
        closer = ranked[:_CLOSER]
        return max(closer, key=lambda each: _rank(key, parts, each, _ratio), default=None)


def _affinity(one: str, other: str) -> float:
    """How much two texts have in common, at a glance: their beginnings and their ends."""
    head = common(one, other)
    tail = common(one[head:][::-1], other[head:][::-1])
    return (head + tail) / max(len(one), len(other), 1)


def _ratio(one: str, other: str) -> float:
    if len(one) + len(other) > _LONG:
        return _affinity(one, other)
    return SequenceMatcher(None, one, other, autojunk=False).ratio()


def _rank(
    key: str,
    parts: dict[str, Part],
    other: Stored,
    alike: Callable[[str, str], float] = _affinity,
) -> tuple[bool, int, float, bool]:
    mine, theirs = key.rpartition(":"), other.key.rpartition(":")
    same = [name for name, part in parts.items() if other.parts.get(name) == part]
    others = [n for n in parts if n in other.parts and n not in same]
    likeness = sum(alike(parts[name][0], other.parts[name][0]) for name in others)
    missing = len(parts.keys() ^ other.parts.keys())
    return mine[2] == theirs[2], len(same), likeness - missing, mine[0] == theirs[0]
