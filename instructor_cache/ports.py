"""Backends of every kind, each seen in one colour."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from inspect import iscoroutinefunction
from typing import Any

from ._bridge import inline, threaded
from .protocols import AnyBackend, AsyncBackend, AsyncClearable, Backend, Clearable

_WANTED = "a backend has get(key), set(key, value, ttl) and delete(key), or aget, aset and adelete"


@dataclass(frozen=True, slots=True)
class Port:
    """A backend as the stack sees it: one colour, whatever lies behind.

    ``clear`` is None for a backend that can't.
    """

    get: Callable[[str], Awaitable[bytes | None]]
    set: Callable[[str, bytes, float | None], Awaitable[None]]
    delete: Callable[[str], Awaitable[None]]
    clear: Callable[[str], Awaitable[None]] | None


def open_port(backend: AnyBackend, *, for_async: bool) -> Port:
    """Choose how *backend* is reached: natively, inline, or in a worker thread.

    Raises TypeError for an async-only backend under a sync function.
    """
    if for_async and isinstance(backend, AsyncBackend):
        clear = backend.aclear if isinstance(backend, AsyncClearable) else None
        return Port(backend.aget, backend.aset, backend.adelete, clear)
    if isinstance(backend, Backend) and not getattr(backend, "async_only", False):
        face: Callable[..., Any] = threaded if for_async else inline
        clear = face(backend.clear) if isinstance(backend, Clearable) else None
        return Port(face(backend.get), face(backend.set), face(backend.delete), clear)
    raise TypeError(
        f"{type(backend).__name__} is async-only, so it can't cache a sync function; "
        f"make the function async, or use a backend that has get, set and delete"
    )


def adapt(backend: object) -> AnyBackend:
    """Give *backend*, or what makes a backend of it: a ready Redis or diskcache object.

    Raises TypeError for anything that is neither.
    """
    if isinstance(backend, type):
        raise TypeError(f"found the class {backend.__name__}; make one: {backend.__name__}(...)")
    if _comes_from(backend, "redis", "valkey"):
        from .backends.redis import RedisCache

        return RedisCache(backend)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    if _comes_from(backend, "diskcache"):
        from .backends.diskcache import DiskcacheBackend

        return DiskcacheBackend(backend)
    if iscoroutinefunction(getattr(backend, "get", None)):
        raise TypeError(f"{type(backend).__name__} has an async get; name it aget, aset, adelete")
    if isinstance(backend, (Backend, AsyncBackend)):
        return backend
    raise TypeError(f"found a {type(backend).__name__}, which can't keep answers: {_WANTED}")


def _comes_from(backend: object, *packages: str) -> bool:
    # By name, because importing redis only to ask costs 95 ms.
    roots = {cls.__module__.partition(".")[0] for cls in type(backend).__mro__}
    return not roots.isdisjoint(packages)
