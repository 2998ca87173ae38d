"""Invalidating tags in a backend of ours, or in several that are tiers."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from .._bridge import ASYNC, SYNC, drive

if TYPE_CHECKING:
    from ..protocols import AnyBackend


class Taggable:
    """What our backends and `TieredCache` have in common."""

    def invalidate_tags(self, *tags: str) -> None:
        """Forget every answer that has one of *tags*, in one step, however many there are.

        Tags belong to the store: functions of any prefix are meant.
        """
        from .._control import invalidate_tags

        drive(invalidate_tags(cast("AnyBackend", self), tags, SYNC))

    async def ainvalidate_tags(self, *tags: str) -> None:
        """Do the same for coroutines."""
        from .._control import invalidate_tags

        await invalidate_tags(cast("AnyBackend", self), tags, ASYNC)
