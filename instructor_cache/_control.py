"""What is done to a cache as a whole, and not for one function."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from typing import Any

from ._bridge import ASYNC, Colour
from ._forgotten import Forgotten
from ._marks import Marks
from ._stack import Stack
from .events import Announcer
from .policy import Policy
from .ports import is_blocking
from .tags import keys_of
from .tiers import BackendLike, Tier, tiers_of


async def clear(cache: BackendLike, prefix: str, colour: Colour) -> None:
    """Forget every answer whose key begins with *prefix*, and any that is being produced."""
    stack = _stack(cache, colour, "aclear")
    stack.check_clearable()
    with _forgetting(stack, prefix):
        await Marks(stack.shared(), prefix).set(prefix)
        await stack.clear(prefix)


async def invalidate_tags(cache: BackendLike, tags: tuple[str, ...], colour: Colour) -> None:
    """Forget every answer that has one of *tags*, and any that is being produced."""
    stack, keys = _stack(cache, colour, "ainvalidate_tags"), keys_of(tags)
    with ExitStack() as forgetting:
        for key in keys:
            forgetting.enter_context(_forgetting(stack, key))
        await stack.invalidate_tags(keys)


@contextmanager
def _forgetting(stack: Stack, prefix: str) -> Generator[None]:
    """Tell all functions over these tiers that what begins with *prefix* is being forgotten."""
    told = [shelf.guard.health.forgotten for shelf in stack.shelves]
    with ExitStack() as forgetting:
        for forgotten in told:
            _forget_flights(forgotten, prefix)
            forgetting.callback(_forget_flights, forgotten, prefix)  # those that begin meanwhile
            forgetting.enter_context(forgotten.forgetting(prefix))
        yield


def _forget_flights(forgotten: Forgotten, prefix: str) -> None:
    for flights in list(forgotten.flights):
        flights.forget(prefix)


def _stack(cache: Any, colour: Colour, twin: str) -> Stack:
    """The stack of *cache* in one colour, made once; *twin* is what coroutines call instead."""
    place = cache.__dict__.setdefault("_stacks", {})  # it goes with the cache
    stack: Stack | None = place.get(colour is ASYNC)
    if stack is None:
        tiers = tiers_of(cache)
        if colour is not ASYNC:
            _check_blocking(tiers, twin)
        stack = Stack.open(tiers, colour, Announcer(type(cache).__name__), Policy())
        place[colour is ASYNC] = stack
    return stack


def _check_blocking(tiers: tuple[Tier, ...], twin: str) -> None:
    for tier in tiers:
        if not is_blocking(tier.backend):
            raise TypeError(
                f"found a {type(tier.backend).__name__} that is for coroutines only; wanted one "
                f"for blocking code: await cache.{twin}(...) in a coroutine"
            )
