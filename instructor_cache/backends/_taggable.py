"""What a backend of ours, or several that are tiers, can do as a whole."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, cast

from typing_extensions import Self

from .._bridge import ASYNC, SYNC, drive

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..events import Observer
    from ..lifetimes import Lifetime
    from ..protocols import AnyBackend


class ForInstructor:
    """What all backends of ours, and `TieredCache`, have for instructor itself."""

    def for_instructor(
        self,
        *,
        namespace: str | None = None,
        ttl: Lifetime = None,
        prefix: str = "instructor",
        timeout: float | None = None,
        observer: Observer | None = None,
        clock: Callable[[], float] = time.time,
    ) -> dict[str, Any]:
        """Give what makes this instructor's own cache: ``from_provider(model, **these)``.

        See `instructor_cache.integrations.instructor.for_instructor`, also for its limits.
        """
        from ..integrations.instructor import for_instructor

        return for_instructor(
            cast("AnyBackend", self),
            namespace=namespace,
            ttl=ttl,
            prefix=prefix,
            timeout=timeout,
            observer=observer,
            clock=clock,
        )


class Taggable(ForInstructor):
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

    def close(self) -> None:
        """Give back what it holds; every later use raises BackendClosed."""

    async def aclose(self) -> None:
        """Do the same for coroutines."""
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
