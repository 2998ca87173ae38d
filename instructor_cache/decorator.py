"""`instructor_cache`: reads a function once, at decoration, and wires it to an engine."""

from __future__ import annotations

import inspect
import os
import time
from collections.abc import AsyncIterable, Callable, Collection, Coroutine, Iterable, Sequence
from functools import partial
from typing import Any, Literal, ParamSpec, TypeVar, cast, overload

from ._wiring import wire
from .annotations import callers_names
from .backends import DEFAULT_URL
from .backends.memory import MemoryCache
from .cached import AsyncCached, AsyncCachedStream, Cached, Decorator
from .conditions import Condition
from .events import Announcer, Observer
from .keys import Keys, Version
from .lifetimes import TTL, Lifetime
from .policy import Policy
from .returns import ReturnType
from .tags import Tag, Tags, listed
from .tiers import BackendLike, Tier, tiers_of

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S", bound=AsyncIterable[Any])
Call = tuple[tuple[Any, ...], dict[str, Any]]


@overload
def instructor_cache(  # type: ignore[overload-overlap]  # pyright: ignore[reportOverlappingOverload]
    func: Callable[P, Coroutine[Any, Any, R]], /
) -> AsyncCached[P, R]: ...
@overload
def instructor_cache(  # type: ignore[overload-overlap]  # pyright: ignore[reportOverlappingOverload]
    func: Callable[P, S], /
) -> AsyncCachedStream[P, S]: ...
@overload
def instructor_cache(func: Callable[P, R], /) -> Cached[P, R]: ...
@overload
def instructor_cache(
    backend: BackendLike | None = None,
    /,
    *,
    ttl: TTL = None,
    stale_ttl: Lifetime = None,
    refresh_ahead: float | None = None,
    jitter: float = 0.0,
    prefix: str = "instructor",
    key: Callable[..., Any] | None = None,
    cache_key_fn: Callable[[Call], Any] | None = None,
    ignore: Collection[str] = (),
    tags: Tag | Iterable[Tag] = (),
    version: Version = "",
    returns: Any = None,
    cache_if: Condition | Sequence[Condition] | None = None,
    raw_response: bool = True,
    keep_arguments: bool = True,
    fail_open: bool = True,
    timeout: float | None = None,
    flight_timeout: float = 60.0,
    lock: Literal["backend"] | None = None,
    lock_lease: float = 10.0,
    observer: Observer | None = None,
    clock: Callable[[], float] = time.time,
) -> Decorator: ...


def instructor_cache(
    backend: Any = None,
    /,
    *,
    ttl: TTL = None,
    stale_ttl: Lifetime = None,
    refresh_ahead: float | None = None,
    jitter: float = 0.0,
    prefix: str = "instructor",
    key: Callable[..., Any] | None = None,
    cache_key_fn: Callable[[Call], Any] | None = None,
    ignore: Collection[str] = (),
    tags: Tag | Iterable[Tag] = (),
    version: Version = "",
    returns: Any = None,
    cache_if: Condition | Sequence[Condition] | None = None,
    raw_response: bool = True,
    keep_arguments: bool = True,
    fail_open: bool = True,
    timeout: float | None = None,
    flight_timeout: float = 60.0,
    lock: Literal["backend"] | None = None,
    lock_lease: float = 10.0,
    observer: Observer | None = None,
    clock: Callable[[], float] = time.time,
) -> Any:
    """Remember what a function that returns Pydantic models answered.

    Works bare, called, and on methods, for sync and async functions. What yields or returns an
    iterator of models is a stream: its items pass as they come, and it is stored when it has ended.

    Args:
        backend: Where answers are kept: a backend, its URL, a ready Redis or diskcache client, or
            a `TieredCache`. None: the URL in ``INSTRUCTOR_CACHE_URL``, else the folder
            ``.instructor_cache``.
        ttl: How long an answer is fresh: seconds, a `timedelta`, text such as "1h30m", or a
            callable of the result. None is for ever, 0 does not store.
        stale_ttl: How much longer than *ttl* an answer is kept for the case that the function
            fails: then the old answer is given instead of the error. None is not at all.
        refresh_ahead: The part of its life, such as 0.8, after which a hit has the answer made
            anew in the background, and returns at once. None is never.
        jitter: The part of its life, such as 0.1, by which an answer expires early at random, so
            that answers of one moment do not all expire in one moment.
        prefix: First part of every key: a namespace in a backend that others use too.
        key: Called with the call's own arguments; what it returns stands for them in the key.
        cache_key_fn: The same with one argument, the pair ``(args, kwargs)``.
        ignore: Names of parameters that do not change the answer, such as a client.
        tags: By which answers are forgotten together (`TieredCache.invalidate_tags`): texts, or
            callables that make them of the call's arguments, which they name as the function does.
        version: Changed by hand when old answers should no longer be found; `source_version`
            changes it with the function's own code.
        returns: The type of the answers, instead of the return annotation; any type that
            Pydantic knows.
        cache_if: Tells whether a result may be stored; several have to agree. Ready ones are
            `not_truncated`, `not_refused` and ``min_seconds(0.05)``.
        raw_response: Keep the provider's own answer, which instructor attaches to a result.
        keep_arguments: Keep a shortened form of the arguments with the answer, from which offline
            mode tells what differs. Secrets are masked in it.
        fail_open: When a backend fails, or an argument has no key, call the function as if there
            were no cache; otherwise raise BackendError or UnkeyableArgument.
        timeout: Seconds that one operation of a backend may take. What a `Tier` says of itself
            counts before this. None leaves it to the backend, which says 0.5.
        flight_timeout: Seconds that a call waits for an equal one that is under way, before it
            calls the function itself.
        lock: "backend" also makes one call at a time across processes and hosts, by a lock in the
            farthest tier that offers one. It saves calls, and is no mutual exclusion.
        lock_lease: Seconds after which others go on when the process that calls has died.
        observer: Called with every `Event`.
        clock: Seconds since the epoch; for tests.

    Raises:
        ValueError: There is no Pydantic model in the return annotation, or an option is wrong.
        TypeError: The backend can't keep answers, or not for a function of this colour.
    """
    function, backend = (backend, None) if _is_function(backend) else (None, backend)
    tiers = tiers_of(_default_url() if backend is None else backend)
    if observer is not None and (not callable(observer) or inspect.iscoroutinefunction(observer)):
        raise TypeError(f"observer is {observer!r}; it must be a plain callable of an Event")
    policy = Policy(
        ttl=ttl,
        stale_ttl=stale_ttl,
        refresh_ahead=refresh_ahead,
        jitter=jitter,
        cache_if=cache_if,
        keep_arguments=keep_arguments,
        fail_open=fail_open,
        timeout=timeout,
        flight_timeout=flight_timeout,
        lock=lock,
        lock_lease=lock_lease,
        clock=clock,
    )
    given = listed(tags)
    keys_of = partial(
        Keys,
        prefix=prefix,
        version=version,
        ignore=ignore,
        key=_key_function(key, cache_key_fn),
    )

    def decorate(func: Any) -> Any:
        if _is_descriptor(func):
            return type(func)(decorate(func.__func__))
        _check_function(func)
        keys = keys_of(func)
        announce = Announcer(keys.function, observer)
        returned = ReturnType(func, returns, callers_names(func), raw_response=raw_response)
        _check_ttls(tiers, policy)
        tagged = Tags(func, given) if given else None
        return wire(func, keys, returned, tiers, policy, announce, tagged)

    return decorate if function is None else decorate(function)


@overload
def lru(  # type: ignore[overload-overlap]  # pyright: ignore[reportOverlappingOverload]
    func: Callable[P, Coroutine[Any, Any, R]], /
) -> AsyncCached[P, R]: ...
@overload
def lru(  # type: ignore[overload-overlap]  # pyright: ignore[reportOverlappingOverload]
    func: Callable[P, S], /
) -> AsyncCachedStream[P, S]: ...
@overload
def lru(func: Callable[P, R], /) -> Cached[P, R]: ...
@overload
def lru(maxsize: int | None = 128, ttl: TTL = None, **options: Any) -> Decorator: ...


def lru(maxsize: Any = 128, ttl: TTL = None, **options: Any) -> Any:
    """Remember the *maxsize* answers used last, in this process's memory; None for all of them.

    Like `functools.lru_cache`, for functions that return Pydantic models: every caller gets a
    copy of its own. Stacks on top of `instructor_cache`, and takes its *options*.
    """
    if _is_function(maxsize):
        return lru()(cast("Callable[..., Any]", maxsize))
    return instructor_cache(MemoryCache(maxsize), ttl=ttl, **options)


def _default_url() -> str:
    return os.environ.get("INSTRUCTOR_CACHE_URL") or DEFAULT_URL


def _is_function(thing: Any) -> bool:
    return inspect.isroutine(thing) or isinstance(thing, partial) or _is_descriptor(thing)


def _is_descriptor(thing: Any) -> bool:
    return isinstance(thing, (classmethod, staticmethod))


def _check_function(func: Any) -> None:
    if not (callable(func) and hasattr(func, "__qualname__")) or isinstance(func, type):
        raise TypeError(
            f"found {func!r}; instructor_cache decorates functions and methods: "
            f"wrap what you call in a `def` with a return annotation"
        )


def _check_ttls(tiers: tuple[Tier, ...], policy: Policy) -> None:
    longest = policy.longest
    for tier in tiers:
        if longest is not None and tier.ttl is not None and tier.ttl > longest:
            raise ValueError(
                f"found ttl={tier.ttl:g} s for the tier {tier.name!r}, above the {longest:g} s for "
                f"which an answer is kept; lower it, or leave it out: no tier keeps more than that"
            )


def _key_function(
    key: Callable[..., Any] | None, cache_key_fn: Callable[[Call], Any] | None
) -> Callable[..., Any] | None:
    if key is not None and cache_key_fn is not None:
        raise ValueError("found both key= and cache_key_fn=, which mean the same; give one")
    for chosen in (key, cache_key_fn):
        if chosen is not None and (not callable(chosen) or inspect.iscoroutinefunction(chosen)):
            raise TypeError(f"found the key function {chosen!r}; it must be a plain callable")
    if cache_key_fn is None:
        return key
    return lambda *args, **kwargs: cache_key_fn((args, kwargs))
