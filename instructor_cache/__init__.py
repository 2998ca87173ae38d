"""Remember what functions around a language model answered: in memory, on disk, in Redis."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._miss import MISS, Miss
from ._modes import bypass, offline, refresh
from .backends.memory import MemoryCache
from .cached import AsyncCached, AsyncCachedStream, Cached, CacheInfo, Decorator, Explanation
from .codecs import RawCompletion
from .conditions import Condition, min_seconds, not_refused, not_truncated
from .decorator import instructor_cache, lru
from .entry import Entry
from .errors import (
    BackendBusy,
    BackendClosed,
    BackendError,
    BackendWarning,
    CacheMiss,
    CorruptEntry,
    InstructorCacheError,
    InstructorCacheWarning,
    NodeDown,
    StreamInterrupted,
    TransferInterrupted,
    UnkeyableArgument,
    UnkeyableArgumentWarning,
    Unstorable,
    UnstorableResultWarning,
)
from .events import Event, Observer
from .lifetimes import TTL, Lifetime
from .metrics import CacheMetrics
from .protocols import AsyncBackend, Backend
from .source import source_version
from .tags import Tag
from .tiers import BackendLike, Tier, TieredCache

if TYPE_CHECKING:
    from ._transfer import Transferred, atransfer, transfer
    from .backends.disk import DiskCache
    from .backends.diskcache import SafeDisk as SafeDisk
    from .backends.redis import RedisCache
    from .integrations.instructor import cache_client
    from .presets import (
        AsyncInstructorCache,
        calculate_cost_savings,
        instructor_cache_redis,
        smart_cache_key,
        warm_cache,
    )

__version__ = "0.1.0"

__all__ = [
    "MISS",
    "TTL",
    "AsyncBackend",
    "AsyncCached",
    "AsyncCachedStream",
    "AsyncInstructorCache",
    "Backend",
    "BackendBusy",
    "BackendClosed",
    "BackendError",
    "BackendLike",
    "BackendWarning",
    "CacheInfo",
    "CacheMetrics",
    "CacheMiss",
    "Cached",
    "Condition",
    "CorruptEntry",
    "Decorator",
    "DiskCache",
    "Entry",
    "Event",
    "Explanation",
    "InstructorCacheError",
    "InstructorCacheWarning",
    "Lifetime",
    "MemoryCache",
    "Miss",
    "NodeDown",
    "Observer",
    "RawCompletion",
    "RedisCache",
    "StreamInterrupted",
    "Tag",
    "Tier",
    "TieredCache",
    "TransferInterrupted",
    "Transferred",
    "UnkeyableArgument",
    "UnkeyableArgumentWarning",
    "Unstorable",
    "UnstorableResultWarning",
    "atransfer",
    "bypass",
    "cache_client",
    "calculate_cost_savings",
    "instructor_cache",
    "instructor_cache_redis",
    "lru",
    "min_seconds",
    "not_refused",
    "not_truncated",
    "offline",
    "refresh",
    "smart_cache_key",
    "source_version",
    "transfer",
    "warm_cache",
]

# Found at the first use: importing redis costs about as much as all the rest. SafeDisk wants
# diskcache, which may not be there: ``import *`` leaves it out.
_LATE = {
    "DiskCache": "backends.disk",
    "SafeDisk": "backends.diskcache",
    "RedisCache": "backends.redis",
    "AsyncInstructorCache": "presets",
    "cache_client": "integrations.instructor",
    "calculate_cost_savings": "presets",
    "instructor_cache_redis": "presets",
    "smart_cache_key": "presets",
    "warm_cache": "presets",
    "Transferred": "_transfer",
    "atransfer": "_transfer",
    "transfer": "_transfer",
}


def __getattr__(name: str) -> Any:
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_LATE[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
