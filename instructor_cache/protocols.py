"""What a user may implement. Nothing here imports anything of ours."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Backend(Protocol):
    """Keeps bytes under a key, for blocking code. Every method may raise.

    A *ttl* is in seconds, greater than zero, or None for "until deleted". Keys are printable
    ASCII; values are opaque. Methods are called from many threads at once.
    """

    def get(self, key: str, /) -> bytes | None: ...
    def set(self, key: str, value: bytes, ttl: float | None, /) -> None: ...
    def delete(self, key: str, /) -> None: ...


@runtime_checkable
class AsyncBackend(Protocol):
    """The same three operations for coroutines. One class may offer both colours."""

    async def aget(self, key: str, /) -> bytes | None: ...
    async def aset(self, key: str, value: bytes, ttl: float | None, /) -> None: ...
    async def adelete(self, key: str, /) -> None: ...


@runtime_checkable
class Scannable(Protocol):
    """Optional: lists the live keys that begin with *prefix*, in any order."""

    def scan(self, prefix: str, /) -> Iterator[str]: ...


@runtime_checkable
class Clearable(Protocol):
    """Optional: deletes every key that begins with *prefix*. Makes ``cache_clear`` possible."""

    def clear(self, prefix: str, /) -> None: ...


@runtime_checkable
class AsyncClearable(Protocol):
    """Optional: ``clear`` for coroutines."""

    async def aclear(self, prefix: str, /) -> None: ...


@runtime_checkable
class Swappable(Protocol):
    """Optional: changes a key only if it holds what is expected. Makes ``lock="backend"`` possible.

    Atomically, for all threads, processes and hosts that use the store: if what is stored under
    *key* is *old* (None: nothing live), store *new* with *ttl* (None: delete the key) and give
    True; otherwise change nothing and give False.
    """

    def swap(
        self, key: str, old: bytes | None, new: bytes | None, ttl: float | None, /
    ) -> bool: ...


@runtime_checkable
class AsyncSwappable(Protocol):
    """Optional: ``swap`` for coroutines."""

    async def aswap(
        self, key: str, old: bytes | None, new: bytes | None, ttl: float | None, /
    ) -> bool: ...


AnyBackend = Backend | AsyncBackend


class ReadyClient(Protocol):
    """A client of redis-py or valkey-py of either colour, accepted wherever a backend is."""

    def execute_command(self, *args: Any, **options: Any) -> Any: ...


class Codec(Protocol):
    """Turns a result into bytes and back, exactly."""

    def encode(self, result: Any, /) -> bytes:
        """Give the stored form, or raise Unstorable with the reason."""
        ...

    def decode(self, payload: bytes, /) -> Any:
        """Give the result, or raise ValueError on bytes that are no payload of this type."""
        ...

    def settle(self, result: Any, /) -> Any:
        """Give the result as the caller should see it on a miss, so that it equals the hit."""
        ...
