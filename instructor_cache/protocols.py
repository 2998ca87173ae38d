"""What a user may implement. Nothing here imports anything of ours."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Backend(Protocol):
    """Keeps bytes under a key, for blocking code. Every method may raise.

    A *ttl* is in seconds, greater than zero, or None for "until deleted". Keys are printable
    ASCII; values are opaque. Methods are called from many threads at once.

    Every operation is watched, in a thread of its own for sync callers, and given up after the
    tier's timeout. A class that says ``bounded = True`` in its own body promises that each ends or
    raises within ``self.timeout`` seconds, and is called directly.
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
class Multiple(Protocol):
    """Optional: reads several keys at once, which tagged entries need."""

    def get_many(self, keys: Sequence[str], /) -> list[bytes | None]:
        """Give the values in the order of *keys*, None where there is none."""
        ...


@runtime_checkable
class AsyncMultiple(Protocol):
    """Optional: ``get_many`` for coroutines."""

    async def aget_many(self, keys: Sequence[str], /) -> list[bytes | None]: ...


@runtime_checkable
class Scannable(Protocol):
    """Optional: lists the live keys that begin with *prefix*, in any order. For `transfer`."""

    def scan(self, prefix: str, /) -> Iterator[str]: ...


@runtime_checkable
class AsyncScannable(Protocol):
    """Optional: ``scan`` for coroutines."""

    def ascan(self, prefix: str, /) -> AsyncIterator[str]: ...


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
    """Optional: changes a key only if it holds what the caller believes.

    Makes ``lock="backend"`` possible, and lets the first of several answers win.
    """

    def swap(self, key: str, old: bytes | None, new: bytes | None, ttl: float | None, /) -> bool:
        """Store *new* (None: delete) if what is stored is *old* (None: nothing); tell if so.

        Atomically, for every thread, process and host that uses the store. An expired value
        counts as nothing.
        """
        ...


@runtime_checkable
class AsyncSwappable(Protocol):
    """Optional: ``swap`` for coroutines."""

    async def aswap(
        self, key: str, old: bytes | None, new: bytes | None, ttl: float | None, /
    ) -> bool: ...


class Listener(Protocol):
    """Is told what changes in a backend, by a thread that it must not keep waiting."""

    def changed(self, keys: list[str] | None, /) -> None:
        """Something happened to *keys*, or None: to all there are."""

    def live(self, prefix: str, /) -> None:
        """From now on every change under *prefix* is told, within 0.1 s."""

    def lost(self) -> None:
        """Changes may go untold, until a prefix is live again."""


@runtime_checkable
class Trackable(Protocol):
    """Optional: tells what changes, whoever changes it. Makes ``coherent=True`` possible."""

    def track(self, listener: Listener, /) -> Callable[[str], None]:
        """Give what has *listener*, held weakly, told of changes under a prefix it is called with.

        Neither waits for a server. Raises ValueError if this backend, as it was made, can't tell.
        """
        ...


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
