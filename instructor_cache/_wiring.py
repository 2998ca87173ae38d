"""From a function and its options to the wrapper that users call."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from functools import partial, wraps
from typing import Any

from ._behind import Behind
from ._bridge import ASYNC, SYNC, Colour, drive, inline, threaded
from ._calls import Beneath, Calls
from ._engine import Engine
from ._faces import face_of, whole
from ._flights import Flights
from ._keeper import Keeper, Outcome
from ._lane import Lane
from ._lock import SharedLock
from ._maker import Maker
from ._many import map_in_tasks, map_in_threads
from ._marks import Marks
from ._memo import Memo
from ._modes import from_environment
from ._stack import Stack
from ._stand_in import StandIn
from ._streams import Streams
from .cached import CacheInfo
from .events import Announcer
from .keys import Keys
from .policy import Policy
from .protocols import Codec
from .returns import ReturnType
from .tags import Tags
from .tiers import Tier

# What a cached function carries beside its call, by the method of Calls behind it.
_ASKED = ("get", "set", "contains", "invalidate", "refresh", "clear", "explain")


def wire(
    func: Callable[..., Any],
    keys: Keys,
    returned: ReturnType,
    tiers: tuple[Tier, ...],
    policy: Policy,
    announce: Announcer,
    tags: Tags | None,
) -> Any:
    """A function like *func* in its own colour, with the methods of `Cached` on it."""
    from_environment()  # raises what is wrong with it now, not at the first call
    is_async = returned.is_async
    colour = ASYNC if is_async else SYNC
    build = partial(_streams, keys, returned, announce, colour)
    own, over = build(tiers, policy), partial(_over, build, policy)
    produce = func if inspect.iscoroutinefunction(func) else inline(func)
    memo = Memo(lambda *a, **k: keys.make(returned.fingerprint, a, k), is_pure=keys.are_pure)
    calls = Calls(produce, _beneath(func, is_async), keys, returned, tags, own, over, memo)
    lane = Lane(own.engine, memo, is_open=tags is None and policy.refresh_ahead is None)
    wrapper: Any = wraps(func)(face_of(func, calls, lane, is_async=is_async))
    face = _as_it_is if is_async else _driven
    for name in _ASKED:
        setattr(wrapper, f"cache_{name}", face(getattr(calls, name)))
    wrapper.__cached__ = wrapper  # a wrapper around it gets a copy: only here it is itself
    wrapper.cache_key = calls.key
    mapped = whole(wrapper, returned) if returned.is_stream else wrapper
    wrapper.cache_map = partial(map_in_tasks if is_async else map_in_threads, mapped)
    wrapper.cache_info = lambda: CacheInfo(announce.hits, announce.misses, *_size(tiers[0]))
    wrapper.cache_parameters = lambda: _parameters(keys, tiers, policy, tags)
    return wrapper


def _engine(
    keys: Keys,
    returned: ReturnType,
    tiers: tuple[Tier, ...],
    policy: Policy,
    announce: Announcer,
    colour: Colour,
) -> Engine:
    def codec() -> Codec:
        return returned.codec

    stack = Stack.open(tiers, colour, announce, policy)
    keeper = Keeper(codec, stack, announce, policy)
    marks = Marks(stack.shared(), keys.namespace, keys.prefix_namespace)
    behind = Behind(colour.spawn, policy.rest)
    flights, refreshes = (Flights[Outcome](colour.wait, policy.flight_timeout) for _ in range(2))
    for shelf in stack.shelves:
        shelf.guard.health.forgotten.flights.update((flights, refreshes))
    return Engine(
        codec=codec,
        stack=stack,
        keeper=keeper,
        maker=Maker(stack, keeper, marks, behind, announce, policy),
        flights=flights,
        refreshes=refreshes,
        behind=behind,
        lock=None if policy.lock is None else SharedLock.open(stack, colour, policy),
        marks=marks,
        announce=announce,
        policy=policy,
    )


def _streams(
    keys: Keys,
    returned: ReturnType,
    announce: Announcer,
    colour: Colour,
    tiers: tuple[Tier, ...],
    policy: Policy,
) -> Streams:
    return Streams(_engine(keys, returned, tiers, policy, announce, colour), returned, colour)


def _over(build: Callable[..., Streams], policy: Policy, one: StandIn) -> Streams:
    return build((Tier(one.backend, name=one.name),), policy.timeless())


def _beneath(func: Any, is_async: bool) -> Beneath | None:
    """The nearest cached function inside *func*, its methods in the colour of the outer one."""
    inner: Any = inspect.unwrap(func, stop=lambda f: getattr(f, "__cached__", None) is f)
    if not hasattr(inner, "__cached__") or inner.__cached__ is not inner:
        return None
    invalidate, clear = inner.cache_invalidate, inner.cache_clear
    if inspect.iscoroutinefunction(invalidate):
        return Beneath(invalidate, clear) if is_async else None
    face: Callable[..., Any] = threaded if is_async else inline
    return Beneath(face(invalidate), face(clear))


def _driven(method: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., Any]:
    @wraps(method)
    def ask(*args: Any, **kwargs: Any) -> Any:
        return drive(method(*args, **kwargs))

    return ask


def _as_it_is(method: Callable[..., Any]) -> Callable[..., Any]:
    return method


def _size(tier: Tier) -> tuple[int | None, int | None, int | None, int | None]:
    backend: Any = tier.backend
    maxsize, max_bytes = (getattr(backend, name, None) for name in ("maxsize", "max_bytes"))
    count = len(backend) if hasattr(backend, "maxsize") else None
    return maxsize, count, max_bytes, getattr(backend, "currbytes", None)


def _parameters(
    keys: Keys, tiers: tuple[Tier, ...], policy: Policy, tags: Tags | None
) -> dict[str, Any]:
    return {
        "ttl": policy.ttl,
        "stale_ttl": policy.stale_ttl,
        "refresh_ahead": policy.refresh_ahead,
        "jitter": policy.jitter,
        "prefix": keys.prefix,
        "version": keys.version,
        "ignore": keys.ignore,
        "tags": () if tags is None else tags.given,
        "keep_arguments": policy.keep_arguments,
        "fail_open": policy.fail_open,
        "timeout": policy.timeout,
        "lock": policy.lock,
        "tiers": tuple(tier.name for tier in tiers),
        "coherent": any(tier.coherences for tier in tiers),
    }
