"""Invalidating tags in one backend, as `TieredCache` does in several."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from .._bridge import ASYNC, SYNC, drive

if TYPE_CHECKING:
    from ..protocols import AnyBackend


class Taggable:
    """What our backends have in common, for those who use one without a `TieredCache`."""

    def invalidate_tags(self, *tags: str) -> None:
        """Forget every answer that has one of *tags*, in one step, however many there are."""
        from .._control import invalidate_tags

        drive(invalidate_tags(cast("AnyBackend", self), tags, SYNC))

    async def ainvalidate_tags(self, *tags: str) -> None:
        """Do the same for coroutines."""
        from .._control import invalidate_tags

        await invalidate_tags(cast("AnyBackend", self), tags, ASYNC)
