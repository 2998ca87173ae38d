"""Backends in the order they are asked, nearest first: what users write."""

from __future__ import annotations

from contextlib import AsyncExitStack, ExitStack
from copy import copy
from typing import TYPE_CHECKING, Union

from ._coherence import Coherence, is_local
from .backends import open_url
from .policy import Lifetime, patience, seconds
from .ports import adapt
from .protocols import AnyBackend, ReadyClient

if TYPE_CHECKING:
    from typing_extensions import Self

# A backend, its URL, a tier, several tiers, or a ready client of redis, valkey or diskcache.
BackendLike = Union[AnyBackend, str, "Tier", "TieredCache", ReadyClient]


class Tier:
    """A backend in a stack, with what is particular to it there.

    Args:
        backend: Any backend, its URL, or a ready client.
        ttl: The longest time that this tier keeps an entry, in any form that ``ttl`` takes;
            None for as long as the entry lives.
        timeout: Seconds that one operation may take; None leaves that to the decorated function,
            and it to the backend.
        name: What events call it; by default the backend's class, as in "memory" or "redis".
    """

    __slots__ = ("backend", "coherences", "name", "timeout", "ttl")

    def __init__(
        self,
        backend: BackendLike,
        *,
        ttl: Lifetime = None,
        timeout: float | None = None,
        name: str | None = None,
    ) -> None:
        self.backend = adapt(open_url(backend) if isinstance(backend, str) else backend)
        self.ttl = seconds(ttl)
        self.timeout = None if timeout is None else patience("timeout", timeout)
        self.name = name or _default_name(self.backend)
        self.coherences: tuple[Coherence, ...] = ()  # with farther tiers, in a TieredCache


class TieredCache:
    """Several backends as one, nearest and fastest first.

    A read asks them in order; what a farther one knows is copied to the nearer ones with the
    time it has left. A write goes to all, the farthest first. May be shared by many functions,
    and nested.

    Args:
        tiers: Backends, their URLs, tiers, or other tiered caches.
        coherent: Have the farthest tier that can do so, a `RedisCache`, tell this process what
            others change in it, and drop that from the nearer tiers at once. Without it, a near
            tier may give an answer that others have replaced or forgotten, until its ttl ends.

    Raises:
        ValueError: There is no backend, or one twice, or none for *coherent* to work with.
    """

    def __init__(self, *tiers: BackendLike, coherent: bool = False) -> None:
        self.tiers = tuple(tier for given in tiers for tier in tiers_of(given))
        if not self.tiers:
            raise ValueError("found no backend; a TieredCache needs at least one")
        backends = [id(tier.backend) for tier in self.tiers]
        if len(set(backends)) < len(backends):
            raise ValueError("found the same backend twice; each tier needs a backend of its own")
        if coherent:
            self.tiers = _coherent(self.tiers)

    def close(self) -> None:
        """Close every tier that can be closed; the connections of async callers with `aclose`."""
        with ExitStack() as closing:  # all of them, even if one raises
            for tier in reversed(self.tiers):
                if (close := getattr(tier.backend, "close", None)) is not None:
                    closing.callback(close)

    async def aclose(self) -> None:
        """Close every tier, this event loop's connections included."""
        async with AsyncExitStack() as closing:
            closing.callback(self.close)
            for tier in reversed(self.tiers):
                if (aclose := getattr(tier.backend, "aclose", None)) is not None:
                    closing.push_async_callback(aclose)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def tiers_of(given: BackendLike) -> tuple[Tier, ...]:
    """Give the tiers that *given* stands for: one, or all of a `TieredCache`."""
    if isinstance(given, TieredCache):
        return given.tiers
    return (given if isinstance(given, Tier) else Tier(given),)


def _coherent(tiers: tuple[Tier, ...]) -> tuple[Tier, ...]:
    """Give *tiers*, those nearer than the one that tells of changes bound to what it tells."""
    names = ", ".join(tier.name for tier in tiers)
    telling = [n for n, tier in enumerate(tiers) if hasattr(tier.backend, "track")]
    if not telling:
        raise ValueError(
            f"found coherent=True over {names}; wanted a tier that tells what others change in it: "
            f"add a RedisCache, or leave out coherent"
        )
    far, nearer = tiers[telling[-1]], tiers[: telling[-1]]
    if not any(map(_can_drop, nearer)):
        raise ValueError(
            f"found coherent=True over {names}; wanted a tier in this process's memory before "
            f"{far.name}: put a MemoryCache there, or leave out coherent"
        )
    coherence = Coherence(far.backend, [t.backend for t in nearer if hasattr(t.backend, "delete")])
    bound = [copy(tier) for tier in nearer]  # the user's own may be used elsewhere
    for tier in bound:
        tier.coherences = (*tier.coherences, coherence)
    return (*bound, *tiers[len(bound) :])


def _can_drop(tier: Tier) -> bool:
    backend = tier.backend
    return is_local(backend) and hasattr(backend, "delete") and hasattr(backend, "clear")


def _default_name(backend: object) -> str:
    name = type(backend).__name__.lower()
    return name.removesuffix("cache").removesuffix("backend") or name
