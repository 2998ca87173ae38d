"""Answers in Redis or Valkey: a server, sentinels or a cluster, by URL or by ready clients."""

from ._cache import RedisCache

__all__ = ["RedisCache"]
