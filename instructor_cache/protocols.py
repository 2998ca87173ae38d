"""What a user may implement. Nothing here imports anything of ours."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Backend(Protocol):
    """Keeps bytes under a key, for blocking code. Every method may raise.

    A *ttl* is in seconds, greater than zero, or None for "until deleted". Keys are printable
    ASCII; values are opaque. Methods are called from many threads at once.

    A backend may offer more; each method with a twin for coroutines whose name begins with "a":

    - ``get_many(keys)`` gives a list of values in the order of *keys*, None where there is none.
      Without it, tagged entries are read one key after the other.
    - ``clear(prefix)`` deletes every key that begins with *prefix*. For ``cache_clear``.
    - ``swap(key, old, new, ttl)`` stores *new* (None: deletes) if what is stored is *old* (None:
      nothing, or what has expired), and tells if so; atomically, for every thread, process and
      host that uses the store. For ``lock="backend"``, and to let the first of several answers win.
    - ``scan(prefix)`` gives the live keys that begin with *prefix*, in any order. For `transfer`,
      and for the nearest call in a `CacheMiss`; there ``count(prefix)`` makes the progress exact.
    - ``close()``, and ``closed``: whether it was called.

    And say more about itself:

    - ``bounded = True``, in the body of the class itself: each operation ends or raises within
      ``self.timeout`` seconds. It is called directly then; otherwise in a worker thread, where it
      is given up after the tier's timeout.
    - ``is_near = True``: it waits for no other machine. ``is_local = True``: only this process
      can reach it, so it is trusted, and is no place for locks.
    - ``place``: any hashable value; two backends with the same place keep the same entries.
    - ``lanes``: how many operations `transfer` may have under way at once; 1 if it is missing.
    - ``async_only``, ``sync_only``: this object can't be used in the other colour, its class can.
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
    """A backend that lists the live keys that begin with *prefix*."""

    def scan(self, prefix: str, /) -> Iterator[str]: ...


@runtime_checkable
class AsyncScannable(Protocol):
    """The same for coroutines."""

    def ascan(self, prefix: str, /) -> AsyncIterator[str]: ...


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
