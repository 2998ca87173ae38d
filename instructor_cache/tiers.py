"""Backends in the order they are asked, nearest first: what users write."""

from __future__ import annotations

from contextlib import AsyncExitStack, ExitStack
from copy import copy
from types import NoneType
from typing import Union, cast

from ._bridge import ASYNC, SYNC, drive
from ._coherence import Coherence, is_local
from ._missed import Missed
from .backends import open_url
from .backends._taggable import Taggable
from .keys import namespace
from .lifetimes import Lifetime, patience, seconds
from .ports import adapt
from .protocols import AnyBackend, ReadyClient

# A backend, its URL, a tier, several tiers, or a ready client of redis, valkey or diskcache; or a
# pair of ready clients, one sync and one async.
BackendLike = Union[
    AnyBackend, str, "Tier", "TieredCache", ReadyClient, tuple[ReadyClient, ReadyClient]
]


class Tier:
    """A backend in a stack, with what is particular to it there.

    Args:
        backend: Any backend, its URL, or a ready client.
        ttl: The longest time that this tier keeps an entry, in any form that ``ttl`` takes;
            None for as long as the entry lives.
        timeout: Seconds that one operation may take; None leaves that to the decorated function,
            and it to the backend.
        read: Whether it is asked for answers. One that is not may be filled before it is used.
        write: Whether anything in it is changed. One that is not answers with what others put
            there; what is invalidated does not answer any more in this process.
        name: What events call it; by default the backend's class, as in "memory" or "redis".
    """

    __slots__ = ("backend", "coherences", "name", "read", "timeout", "ttl", "void", "write")

    def __init__(
        self,
        backend: BackendLike,
        *,
        ttl: Lifetime = None,
        timeout: float | None = None,
        read: bool = True,
        write: bool = True,
        name: str | None = None,
    ) -> None:
        if isinstance(backend, (Tier, TieredCache)):
            raise TypeError(
                f"found a {type(backend).__name__} in a Tier; give it to TieredCache as it is"
            )
        self.backend = adapt(open_url(backend) if isinstance(backend, str) else backend)
        self.ttl = seconds(ttl, "a tier's ttl")
        self.timeout = None if timeout is None else patience("timeout", timeout)
        for option, value in (("read", read), ("write", write)):
            if not isinstance(cast("object", value), bool):
                raise TypeError(f"{option} is {value!r}; it must be True or False")
        if not isinstance(cast("object", name), (str, NoneType)):
            raise TypeError(f"name is {name!r}; it must be text, or None for the backend's own")
        if not (read or write):
            raise ValueError(f"{self.backend!r} is neither read nor written; leave the tier out")
        self.read, self.write = read, write
        self.void = Missed()
        self.name = name or _default_name(self.backend)
        self.coherences: tuple[Coherence, ...] = ()  # with farther tiers, in a TieredCache

    def bound_by(self, coherence: Coherence) -> Tier:
        """Give a tier like this one, which drops what *coherence* hears of."""
        bound = copy(self)  # this one may be used elsewhere as well
        bound.coherences = (*self.coherences, coherence)
        return bound


class TieredCache(Taggable):
    """Several backends as one, nearest and fastest first.

    A read asks them in order; what a farther one knows is copied to the nearer ones with the
    time it has left. A write goes to all, the farthest first. May be shared by many functions,
    and nested.

    Args:
        tiers: Backends, their URLs, tiers, or other tiered caches.
        coherent: Have the farthest tier that can do so, a `RedisCache`, tell this process what
            others change in it, and drop that from the nearer tiers at once. While it can't be
            heard, memory is emptied and keeps nothing for longer than a second; a disk in between
            is emptied whenever that begins anew. Nor do they keep for longer than a second what
            that tier did not take: because it is full, say, or has ``write=False``. Without
            *coherent*, a near tier may give an answer that others have replaced or forgotten,
            until its ttl ends.

    Raises:
        ValueError: There is no backend, or one twice, or none for *coherent* to work with.
    """

    def __init__(self, *tiers: BackendLike, coherent: bool = False) -> None:
        self.tiers = tuple(tier for given in tiers for tier in tiers_of(given))
        if not self.tiers:
            raise ValueError("found no backend; a TieredCache needs at least one")
        places = [getattr(tier.backend, "place", id(tier.backend)) for tier in self.tiers]
        if len(set(places)) < len(places):
            raise ValueError("found the same backend twice; each tier needs a backend of its own")
        if not any(tier.read for tier in self.tiers):
            raise ValueError("found no tier with read=True; wanted one at least that answers")
        if not isinstance(cast("object", coherent), bool):
            raise TypeError(f"coherent is {coherent!r}; it must be True or False")
        if coherent:
            self.tiers = _coherent(self.tiers)

    def clear(self, prefix: str = "instructor") -> None:
        """Forget every answer of the functions decorated with *prefix*, in every tier."""
        from ._control import clear

        drive(clear(self, namespace(prefix), SYNC))

    async def aclear(self, prefix: str = "instructor") -> None:
        """Do the same for coroutines."""
        from ._control import clear

        await clear(self, namespace(prefix), ASYNC)

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


def tiers_of(given: BackendLike) -> tuple[Tier, ...]:
    """Give the tiers that *given* stands for: one, or all of a `TieredCache`."""
    if isinstance(given, TieredCache):
        return given.tiers
    return (given if isinstance(given, Tier) else Tier(given),)


def _coherent(tiers: tuple[Tier, ...]) -> tuple[Tier, ...]:
    """Give *tiers*, with those nearer than one that tells of changes bound to what it tells."""
    names = ", ".join(tier.name for tier in tiers)
    telling = [n for n, tier in enumerate(tiers) if tier.read and hasattr(tier.backend, "track")]
    if not telling:
        raise ValueError(
            f"found coherent=True over {names}; wanted a tier that is read and tells what others "
            f"change in it: add a RedisCache, without read=False, or leave out coherent"
        )
    far = tiers[telling[-1]]
    nearer = [tier for tier in tiers[: telling[-1]] if tier.write and _can_drop(tier)]
    if not any(is_local(tier.backend) and tier.read for tier in nearer):
        raise ValueError(
            f"found coherent=True over {names}; wanted a tier in this process's memory before "
            f"{far.name}: put a MemoryCache there, or leave out coherent"
        )
    coherence = Coherence(far.backend, [tier.backend for tier in nearer])
    return tuple(tier.bound_by(coherence) if tier in nearer else tier for tier in tiers)


def _can_drop(tier: Tier) -> bool:
    return hasattr(tier.backend, "delete") and hasattr(tier.backend, "clear")


def _default_name(backend: object) -> str:
    name = type(backend).__name__.lower()
    return name.removesuffix("cache").removesuffix("backend") or name
