"""The names of the published caching guide, each a thin face of the one decorator."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Awaitable, Iterable
from typing import Any, overload

from .backends.redis import RedisCache
from .cached import AsyncCached, Cached, Decorator
from .canonical import canonical
from .decorator import instructor_cache
from .events import logger
from .lifetimes import TTL
from .metrics import CacheMetrics
from .schema import fingerprint

__all__ = [
    "AsyncInstructorCache",
    "CacheMetrics",
    "calculate_cost_savings",
    "instructor_cache_redis",
    "smart_cache_key",
    "warm_cache",
]

_LOCALHOST = "redis://localhost:6379/0"


def instructor_cache_redis(
    ttl: TTL = 3600,
    prefix: str = "instructor",
    retry_on_failure: bool = True,
    *,
    url: str = _LOCALHOST,
    **options: Any,
) -> Decorator:
    """Cache in the Redis server at *url*.

    Args:
        ttl: How long an answer is fresh; one hour by default.
        prefix: First part of every key.
        retry_on_failure: Try a command once more when its connection had gone stale. Either way
            the function's own answer comes back when Redis fails.
        url: The server.
        options: Those of `instructor_cache`.
    """
    backend = RedisCache(url, retries=int(retry_on_failure))
    return instructor_cache(backend, ttl=ttl, prefix=prefix, **options)


class AsyncInstructorCache:
    """A Redis cache for coroutine functions::

    cache = AsyncInstructorCache("redis://localhost")

    @cache.cache(ttl=3600)
    async def extract_async(data: str) -> UserDetail: ...
    """

    def __init__(self, redis_url: str = _LOCALHOST) -> None:
        self.backend = RedisCache(redis_url)

    def cache(self, ttl: TTL = 3600, **options: Any) -> Decorator:
        """Give the decorator; *options* are those of `instructor_cache`."""
        return instructor_cache(self.backend, ttl=ttl, **options)

    async def aclose(self) -> None:
        """Close all connections, for good; the functions then go on without a cache."""
        await self.backend.aclose()


def smart_cache_key(
    func_name: str, args: tuple[Any, ...], kwargs: dict[str, Any], model_class: Any
) -> str:
    """Give ``function:schema:arguments``, which changes when the model's schema does.

    The same in every process; raises TypeError for an argument that has no stable form.
    """
    digest = hashlib.sha256(canonical((args, kwargs))).hexdigest()[:32]
    return f"{func_name}:{fingerprint(model_class)}:{digest}"


def calculate_cost_savings(
    total_calls: int, cache_hit_rate: float, cost_per_call: float = 0.002
) -> tuple[float, float]:
    """Give what the hits save, in the unit of *cost_per_call*, and as a percentage of all.

    *cache_hit_rate* is from 0 to 1.
    """
    if not 0 <= cache_hit_rate <= 1:
        raise ValueError(f"cache_hit_rate is {cache_hit_rate!r}; it must be from 0 to 1")
    if total_calls < 0 or cost_per_call < 0:
        raise ValueError(f"found {total_calls} calls at {cost_per_call}; neither can be negative")
    without = total_calls * cost_per_call
    savings = without * cache_hit_rate
    return savings, 100 * savings / without if without else 0.0


@overload
def warm_cache(
    function: AsyncCached[..., Any], common_queries: Iterable[Any], *, concurrency: int = 8
) -> Awaitable[int]: ...
@overload
def warm_cache(
    function: Cached[..., Any], common_queries: Iterable[Any], *, concurrency: int = 8
) -> int: ...


def warm_cache(
    function: Any, common_queries: Iterable[Any], *, concurrency: int = 8
) -> int | Awaitable[int]:
    """Call *function* for every query that has no answer yet; give how many calls did not fail.

    A query is what `cache_map` takes: a tuple of arguments, a dict of keyword arguments, or the
    one argument. Errors are logged, not raised. Await it for a coroutine function.
    """
    answers = function.cache_map(common_queries, concurrency=concurrency, return_exceptions=True)
    return _counted_later(answers) if inspect.isawaitable(answers) else _counted(answers)


async def _counted_later(answers: Awaitable[list[Any]]) -> int:
    return _counted(await answers)


def _counted(answers: list[Any]) -> int:
    errors = [answer for answer in answers if isinstance(answer, BaseException)]
    for error in errors:
        logger.warning("a query could not be warmed: %s", type(error).__name__)
        logger.debug("this is why", exc_info=error)  # the text may hold the prompt
    logger.info("warmed the cache with %d of %d queries", len(answers) - len(errors), len(answers))
    return len(answers) - len(errors)
