"""What a decorated function becomes, as type checkers see it, and the values it tells."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any, Concatenate, Literal, NamedTuple, ParamSpec, Protocol, TypeVar, overload

from typing_extensions import Self

from ._miss import Miss

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
R_any = TypeVar("R_any")
S = TypeVar("S", bound=AsyncIterable[Any])
S_any = TypeVar("S_any", bound=AsyncIterable[Any])


class CacheInfo(NamedTuple):
    """The fields of functools' `cache_info`, and the same in bytes.

    All but ``hits`` and ``misses`` are those of the nearest tier, shared by all the functions that
    use it, in entries and in bytes; None where it does not tell. What has expired counts for as
    long as its room isn't needed.
    """

    hits: int
    misses: int
    maxsize: int | None
    currsize: int | None
    max_bytes: int | None = None
    currbytes: int | None = None


@dataclass(frozen=True, slots=True)
class Explanation:
    """What the cache would do with a call, and why.

    Attributes:
        outcome: *hit*; *miss*: nothing is stored under this key; *unreadable*: what is stored
            can't be read; *unkeyable*: the call has no key.
        reason: The same in a sentence.
        key: The full key; None if there is none.
        tier: The nearest tier that has the answer.
        age: Seconds since it was stored.
        expires_in: Seconds until it no longer answers; None for never.
    """

    outcome: Literal["hit", "miss", "unreadable", "unkeyable"]
    reason: str
    key: str | None = None
    tier: str | None = None
    age: float | None = None
    expires_in: float | None = None


class Cached(Protocol[P, R]):
    """A cached function: called like the original, plus what caching adds.

    On a method these are reached through the class, the instance being the first argument:
    ``Extractor.extract.cache_invalidate(extractor, text)``.
    """

    @property
    def __wrapped__(self) -> Callable[P, R]: ...
    @property
    def __name__(self) -> str: ...

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R: ...

    def cache_info(self) -> CacheInfo:
        """Count this function's hits and misses since the start or the last `cache_clear`."""
        ...

    def cache_clear(self) -> None:
        """Forget every answer of this function under its prefix, whatever its schema was."""
        ...

    def cache_parameters(self) -> dict[str, Any]:
        """Give the options that decide how long and where its answers are kept."""
        ...

    def cache_key(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """Give the key of a call; raise UnkeyableArgument if it has none."""
        ...

    def cache_get(self, *args: P.args, **kwargs: P.kwargs) -> R | Miss:
        """Give the cached answer, or `MISS`; never calls the function.

        A stream comes as what can be iterated over; so it does from the methods below.
        """
        ...

    def cache_set(self, value: R, *args: P.args, **kwargs: P.kwargs) -> None:
        """Store *value* as the answer to a call; raise Unstorable if it can't be kept exactly.

        For a stream, *value* is whatever gives the items.
        """
        ...

    def cache_contains(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Tell whether there is an entry for a call; `cache_explain` tells if it can be read."""
        ...

    def cache_invalidate(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """Forget the answer to a call, in every tier, also one that is being produced."""
        ...

    def cache_refresh(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function whatever is cached, store the answer, and give it.

        Who comes while an equal refresh is under way shares its answer, though that call may have
        begun a moment before; unless the answer was invalidated meanwhile.
        """
        ...

    def cache_map(
        self, calls: Iterable[Any], *, concurrency: int = 8, return_exceptions: bool = False
    ) -> list[R]:
        """Answer many calls at once, *concurrency* at a time, in their order.

        Each call is a tuple of positional arguments, a dict of keyword arguments, or the one
        argument itself. When all have ended the first error is raised, or, with
        *return_exceptions*, errors stand in the place of answers.
        """
        ...

    def cache_explain(self, *args: P.args, **kwargs: P.kwargs) -> Explanation:
        """Tell what the cache would do with a call, and why; never calls the function."""
        ...

    @overload
    def __get__(self, instance: None, owner: type, /) -> Self: ...
    @overload
    def __get__(
        self: Cached[Concatenate[Any, Q], R_any], instance: object, owner: type, /
    ) -> Callable[Q, R_any]: ...


class AsyncCached(Protocol[P, R]):
    """The same for a coroutine function: what does I/O is a coroutine."""

    @property
    def __wrapped__(self) -> Callable[P, Coroutine[Any, Any, R]]: ...
    @property
    def __name__(self) -> str: ...

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R: ...
    def cache_info(self) -> CacheInfo: ...
    async def cache_clear(self) -> None: ...
    def cache_parameters(self) -> dict[str, Any]: ...
    def cache_key(self, *args: P.args, **kwargs: P.kwargs) -> str: ...
    async def cache_get(self, *args: P.args, **kwargs: P.kwargs) -> R | Miss: ...
    async def cache_set(self, value: R, *args: P.args, **kwargs: P.kwargs) -> None: ...
    async def cache_contains(self, *args: P.args, **kwargs: P.kwargs) -> bool: ...
    async def cache_invalidate(self, *args: P.args, **kwargs: P.kwargs) -> None: ...
    async def cache_refresh(self, *args: P.args, **kwargs: P.kwargs) -> R: ...
    async def cache_map(
        self, calls: Iterable[Any], *, concurrency: int = 8, return_exceptions: bool = False
    ) -> list[R]: ...
    async def cache_explain(self, *args: P.args, **kwargs: P.kwargs) -> Explanation: ...

    @overload
    def __get__(self, instance: None, owner: type, /) -> Self: ...
    @overload
    def __get__(
        self: AsyncCached[Concatenate[Any, Q], R_any], instance: object, owner: type, /
    ) -> Callable[Q, Coroutine[Any, Any, R_any]]: ...


class AsyncCachedStream(Protocol[P, S]):
    """The same for a function that gives an async iterator: what does I/O is a coroutine."""

    @property
    def __wrapped__(self) -> Callable[P, S]: ...
    @property
    def __name__(self) -> str: ...

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> S: ...
    def cache_info(self) -> CacheInfo: ...
    async def cache_clear(self) -> None: ...
    def cache_parameters(self) -> dict[str, Any]: ...
    def cache_key(self, *args: P.args, **kwargs: P.kwargs) -> str: ...
    async def cache_get(self, *args: P.args, **kwargs: P.kwargs) -> S | Miss: ...
    async def cache_set(
        self, value: Iterable[Any] | AsyncIterable[Any], *args: P.args, **kwargs: P.kwargs
    ) -> None: ...
    async def cache_contains(self, *args: P.args, **kwargs: P.kwargs) -> bool: ...
    async def cache_invalidate(self, *args: P.args, **kwargs: P.kwargs) -> None: ...
    async def cache_refresh(self, *args: P.args, **kwargs: P.kwargs) -> S: ...
    async def cache_map(
        self, calls: Iterable[Any], *, concurrency: int = 8, return_exceptions: bool = False
    ) -> list[S]: ...
    async def cache_explain(self, *args: P.args, **kwargs: P.kwargs) -> Explanation: ...

    @overload
    def __get__(self, instance: None, owner: type, /) -> Self: ...
    @overload
    def __get__(
        self: AsyncCachedStream[Concatenate[Any, Q], S_any], instance: object, owner: type, /
    ) -> Callable[Q, S_any]: ...


class Decorator(Protocol):
    """What ``instructor_cache(...)`` gives: takes a function, gives the cached one."""

    @overload
    def __call__(  # type: ignore[overload-overlap]  # pyright: ignore[reportOverlappingOverload]
        self, func: Callable[P, Coroutine[Any, Any, R]], /
    ) -> AsyncCached[P, R]: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]  # pyright: ignore[reportOverlappingOverload]
        self, func: Callable[P, S], /
    ) -> AsyncCachedStream[P, S]: ...
    @overload
    def __call__(self, func: Callable[P, R], /) -> Cached[P, R]: ...
