"""Backends in the order they are asked, nearest first, and what happens when one fails."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Union

from .backends import open_url
from .entry import Entry
from .errors import BackendError, CorruptEntry
from .events import Announcer
from .policy import Lifetime, Policy, seconds
from .ports import Port, adapt, open_port
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
        name: What events call it; by default the backend's class, as in "memory" or "redis".
    """

    __slots__ = ("backend", "name", "ttl")

    def __init__(
        self, backend: BackendLike, *, ttl: Lifetime = None, name: str | None = None
    ) -> None:
        self.backend = adapt(open_url(backend) if isinstance(backend, str) else backend)
        self.ttl = seconds(ttl)
        self.name = name or _default_name(self.backend)


class TieredCache:
    """Several backends as one, nearest and fastest first.

    A read asks them in order; what a farther one knows is copied to the nearer ones with the
    time it has left. A write goes to all, the farthest first. May be shared by many functions,
    and nested.
    """

    def __init__(self, *tiers: BackendLike) -> None:
        self.tiers = tuple(tier for given in tiers for tier in tiers_of(given))
        if not self.tiers:
            raise ValueError("found no backend; a TieredCache needs at least one")
        backends = [id(tier.backend) for tier in self.tiers]
        if len(set(backends)) < len(backends):
            raise ValueError("found the same backend twice; each tier needs a backend of its own")

    def close(self) -> None:
        """Close every tier that can be closed; the connections of async callers with `aclose`."""
        for tier in self.tiers:
            if (close := getattr(tier.backend, "close", None)) is not None:
                close()

    async def aclose(self) -> None:
        """Close every tier, this event loop's connections included."""
        for tier in self.tiers:
            if (aclose := getattr(tier.backend, "aclose", None)) is not None:
                await aclose()
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def tiers_of(given: BackendLike) -> tuple[Tier, ...]:
    """Give the tiers that *given* stands for: one, or all of a `TieredCache`."""
    if isinstance(given, TieredCache):
        return given.tiers
    return (given if isinstance(given, Tier) else Tier(given),)


class Found(NamedTuple):
    """An entry, the tier that had it, and whether it was copied to nearer ones."""

    entry: Entry
    tier: str
    copied: bool


@dataclass(frozen=True, slots=True)
class Stack:
    """What the engine talks to: all tiers in the function's colour, none of whose failures hurt.

    With *fail_open* a tier that fails counts as an empty one; without it, its error reaches the
    caller as BackendError.
    """

    tiers: tuple[tuple[Tier, Port], ...]
    announce: Announcer
    fail_open: bool
    clock: Callable[[], float]

    @classmethod
    def open(
        cls, tiers: tuple[Tier, ...], for_async: bool, announce: Announcer, policy: Policy
    ) -> Stack:
        """Open every tier in one colour."""
        ports = tuple((tier, open_port(tier.backend, for_async=for_async)) for tier in tiers)
        return cls(ports, announce, policy.fail_open, policy.clock)

    async def get(self, key: str, *, fill: bool = True) -> Found | None:
        """Give the fresh entry of the nearest tier that has one.

        It is copied to the nearer tiers for the time it has left, unless *fill* is False.
        """
        for depth, (tier, port) in enumerate(self.tiers):
            entry = await self._read(tier, port, key)
            if entry is not None:
                copied = fill and await self._write(self.tiers[:depth], key, entry)
                return Found(entry, tier.name, copied)
        return None

    async def set(self, key: str, entry: Entry) -> bool:
        """Write to every tier, the farthest first; tell whether any took it."""
        return await self._write(self.tiers, key, entry)

    async def delete(self, key: str) -> None:
        """Delete from every tier; the farthest first, or a reader could refill a near one."""
        for tier, port in reversed(self.tiers):
            await self._guard(tier, "delete", key, port.delete(key))

    async def clear(self, prefix: str) -> None:
        """Delete every key that begins with *prefix*, in every tier."""
        for tier, _ in [(t, p) for t, p in self.tiers if p.clear is None]:
            raise TypeError(
                f"{type(tier.backend).__name__} can't be cleared: it has no method clear(prefix)"
            )
        for tier, port in reversed(self.tiers):
            assert port.clear is not None
            await self._guard(tier, "clear", prefix, port.clear(prefix))

    async def _read(self, tier: Tier, port: Port, key: str) -> Entry | None:
        try:
            raw = await port.get(key)
            if raw is None:
                return None
            entry = Entry.unpack(key, raw)
        except CorruptEntry as error:
            self.announce("corrupt", key, tier.name, error=error)
            await self._guard(tier, "delete", key, port.delete(key))
            return None
        except Exception as error:
            self._survive(tier, "get", key, error)
            return None
        return entry if self.clock() < entry.fresh_until else None

    async def _write(self, tiers: tuple[tuple[Tier, Port], ...], key: str, entry: Entry) -> bool:
        if not tiers:
            return False
        raw, written = entry.pack(key), False
        for tier, port in reversed(tiers):
            left = _shorter(tier.ttl, entry.ttl(self.clock()))
            if left is None or left > 0:
                try:
                    await port.set(key, raw, left)
                    written = True
                except Exception as error:
                    self._survive(tier, "set", key, error)
        return written

    async def _guard(self, tier: Tier, operation: str, key: str, outcome: Awaitable[Any]) -> None:
        try:
            await outcome
        except Exception as error:
            self._survive(tier, operation, key, error)

    def _survive(self, tier: Tier, operation: str, key: str, error: Exception) -> None:
        """The one place where a backend's failure becomes an event, or the caller's error."""
        if not self.fail_open:
            raise BackendError(f"{tier.name} failed to {operation} {key}: {error}") from error
        self.announce("failure", key, tier.name, error=error)


def _shorter(one: float | None, other: float | None) -> float | None:
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)


def _default_name(backend: object) -> str:
    name = type(backend).__name__.lower()
    return name.removesuffix("cache").removesuffix("backend") or name
