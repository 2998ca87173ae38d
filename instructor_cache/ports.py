"""Backends of every kind, each seen in one colour."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from inspect import iscoroutinefunction
from typing import Any, TypeGuard

from ._bridge import drive, inline
from ._coherence import is_local
from ._deadlines import in_time, in_workers
from ._workers import Workers
from .protocols import AnyBackend, AsyncBackend, Backend

TIMEOUT = 0.5  # seconds that an operation may take where nobody says otherwise
_CLEARING = 20  # timeouts that it may take to clear, which is many operations
_WANTED = "a backend has get(key), set(key, value, ttl) and delete(key), or aget, aset and adelete"
_OPERATIONS = ("get", "get_many", "set", "delete", "clear", "swap")

Operation = Callable[..., Awaitable[Any]]
Step = tuple[Any, ...]  # the name of an operation, and its arguments


@dataclass(frozen=True, slots=True)
class Port:
    """A backend as the stack sees it: one colour, whatever lies behind, in bounded time.

    ``clear`` and ``swap`` are None for a backend that can't.

    Attributes:
        get_many: Gives the values of several keys in their order, together if the backend can.
        is_local: Whether only this process sees what it keeps.
        timeout: Seconds after which every operation but ``clear`` has ended or raised.
        look: Reads at once, in either colour, without waiting for anybody; None if it can't.
        fetch: Reads for coroutines, by the backend's own means, in time; None if it can't.
        begin: Starts operations in the background, each given by its name and arguments, one
            after the other until one fails; tells of each that is done, gives the future of the
            last.
    """

    get: Callable[[str], Awaitable[bytes | None]]
    get_many: Callable[..., Awaitable[list[bytes | None]]]
    set: Callable[[str, bytes, float | None], Awaitable[None]]
    delete: Callable[[str], Awaitable[None]]
    clear: Callable[[str], Awaitable[None]] | None
    swap: Callable[[str, bytes | None, bytes | None, float | None], Awaitable[bool]] | None
    is_local: bool
    timeout: float
    look: Callable[[str], bytes | None] | None
    fetch: Callable[[str], Awaitable[bytes | None]] | None
    begin: Callable[..., Any]


def open_port(backend: AnyBackend, *, for_async: bool, timeout: float | None = None) -> Port:
    """Choose how *backend* is reached: natively, inline, or in a worker thread.

    An operation may take *timeout* seconds; None leaves that to the backend, or is 0.5.
    Raises TypeError for an async-only backend under a sync function.
    """
    own = float(getattr(backend, "timeout", TIMEOUT)) if is_bounded(backend) else None
    limit = timeout if timeout is not None else TIMEOUT if own is None else own
    is_punctual = own is not None and own <= limit
    if for_async and is_native(backend):
        return _native(backend, limit, is_punctual)
    if is_blocking(backend):
        return _blocking(backend, limit, is_punctual and not for_async, for_async)
    raise TypeError(
        f"{type(backend).__name__} is async-only, so it can't cache a sync function; "
        f"make the function async, or use a backend that has get, set and delete"
    )


def is_native(backend: object) -> bool:
    """Whether async functions reach *backend* by its own coroutines, not from worker threads."""
    return isinstance(backend, AsyncBackend) and not getattr(backend, "sync_only", False)


def is_blocking(backend: object) -> TypeGuard[Backend]:
    """Whether *backend* can be called without an event loop."""
    return isinstance(backend, Backend) and not getattr(backend, "async_only", False)


def is_bounded(backend: object) -> bool:
    """Whether *backend* promises to keep its own timeout; a subclass must promise it again."""
    promise = getattr(backend, "__dict__", {}).get("bounded", vars(type(backend)).get("bounded"))
    return promise is True


def _native(backend: AnyBackend, timeout: float, is_punctual: bool) -> Port:
    def face(name: str) -> Operation | None:
        method = getattr(backend, f"a{name}", None)
        if method is None or is_punctual:
            return method
        return in_time(method, _CLEARING * timeout if name == "clear" else timeout)

    def begin(steps: Sequence[Step], did: Callable[..., None]) -> Any:
        import asyncio

        return asyncio.ensure_future(_in_turn(operations, steps, did))

    operations = _complete({name: face(name) for name in _OPERATIONS})
    never_waits = is_punctual and getattr(backend, "timeout", None) == 0
    quick: dict[str, Any] = {
        "look": getattr(backend, "get", None) if never_waits else None,
        "fetch": operations["get"] if is_punctual and not never_waits else None,
    }
    return Port(**operations, **quick, is_local=is_local(backend), timeout=timeout, begin=begin)


def _blocking(backend: AnyBackend, timeout: float, is_direct: bool, for_async: bool) -> Port:
    workers = Workers(type(backend).__name__)
    methods = {name: getattr(backend, name, None) for name in _OPERATIONS}

    def watched(name: str, method: Any) -> Operation:
        limit = _CLEARING * timeout if name == "clear" else timeout
        return in_workers(method, limit, workers, for_async=for_async)

    def begin(steps: Sequence[Step], did: Callable[..., None]) -> Any:
        return workers.submit(lambda: drive(_in_turn(direct, steps, did)))

    direct = _complete({name: method and inline(method) for name, method in methods.items()})
    operations = direct
    if not is_direct:
        operations = _complete({n: method and watched(n, method) for n, method in methods.items()})
    is_quick = is_direct and getattr(backend, "is_near", False)
    quick: dict[str, Any] = {"look": methods["get"] if is_quick else None, "fetch": None}
    return Port(**operations, **quick, is_local=is_local(backend), timeout=timeout, begin=begin)


def _complete(faces: dict[str, Operation | None]) -> dict[str, Any]:
    """Give *faces* with a way to get many values, one after the other if need be."""
    get: Any = faces["get"]
    together = faces["get_many"]

    async def get_many(*keys: str) -> list[bytes | None]:
        if together is None:
            return [await get(key) for key in keys]
        values: list[bytes | None] = await together(keys)
        if len(values) != len(keys):
            raise ValueError(f"found {len(values)} values for {len(keys)} keys from get_many")
        return values

    return {**faces, "get_many": get_many}


async def _in_turn(
    operations: dict[str, Any], steps: Sequence[Step], did: Callable[..., None]
) -> Any:
    answer = None
    for name, *args in steps:
        answer = await operations[name](*args)
        did(name, *args)
    return answer


def adapt(backend: object) -> AnyBackend:
    """Give *backend*, or what makes a backend of it: a ready Redis or diskcache object.

    Raises TypeError for anything that is neither.
    """
    if isinstance(backend, type):
        raise TypeError(f"found the class {backend.__name__}; make one: {backend.__name__}(...)")
    given: Any = backend
    clients: list[Any] = [*given] if isinstance(given, tuple) else [given]
    if clients and all(_comes_from(client, "redis", "valkey") for client in clients):
        from .backends.redis import RedisCache

        return RedisCache(backend)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    if _comes_from(backend, "diskcache"):
        from .backends.diskcache import DiskcacheBackend

        return DiskcacheBackend(backend)
    if iscoroutinefunction(getattr(backend, "get", None)):
        raise TypeError(f"{type(backend).__name__} has an async get; name it aget, aset, adelete")
    if isinstance(backend, (Backend, AsyncBackend)):
        return backend
    if isinstance(given, (list, tuple)):
        raise TypeError("found several backends in one; for tiers write TieredCache(near, far)")
    raise TypeError(f"found a {type(backend).__name__}, which can't keep answers: {_WANTED}")


def _comes_from(backend: object, *packages: str) -> bool:
    # By name, because importing redis only to ask costs 95 ms.
    roots = {cls.__module__.partition(".")[0] for cls in type(backend).__mro__}
    return not roots.isdisjoint(packages)
