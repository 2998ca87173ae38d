"""Our backends as the cache that instructor itself looks into: an `instructor.cache.BaseCache`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from typing import Any
from urllib.parse import quote

from pydantic_core import from_json

from .._bridge import SYNC, drive
from .._keeper import Keeper
from .._miss import MISS
from .._modes import from_environment
from .._modes import mode as present_mode
from .._stack import Stack
from .._stand_in import refuse_uncached, stand_in
from ..errors import CacheMiss, Unstorable
from ..events import Announcer, Observer
from ..keys import namespace as begin_of
from ..lifetimes import Lifetime, seconds
from ..policy import Policy
from ..tiers import BackendLike, tiers_of

__all__ = ["native_cache"]

_NAME = "instructor.cache"
_UNPLAYED = "is kept by instructor's own cache, not by cache_client, whose answers can be played"


class NativeCache:
    """Answers of instructor's own cache, in any of our backends; what fails in it never raises.

    What is no answer of instructor's is not stored, and a miss if it is found. A `ttl` that
    instructor passes on, from ``cache_ttl=``, counts instead of the cache's own; one that makes no
    sense stores nothing. In offline mode a miss raises `CacheMiss`, and so does every call that a
    cassette should play; one that a cassette should record goes past this cache, and is told.
    """

    def __init__(
        self,
        backend: BackendLike,
        *,
        namespace: str | None,
        ttl: Lifetime,
        prefix: str,
        timeout: float | None,
        observer: Observer | None,
        clock: Callable[[], float],
    ) -> None:
        from_environment()  # raises what is wrong with it now, not at the first call
        shared = "" if namespace is None else f"@{quote(namespace, safe='')}"
        self._begin = f"{begin_of(prefix)}{_NAME}{shared}:"
        self._announce = Announcer(_NAME, observer)
        self._policy = Policy(timeout=timeout, clock=clock)
        self._stack = Stack.open(tiers_of(backend), SYNC, self._announce, self._policy)
        self._keeper = self._keeper_for(ttl)

    def get(self, key: str) -> str | None:
        """Give what is stored for *key*; None if that is nothing, or nothing that can be used."""
        mode, own_key = present_mode(), self._key(key)
        if (one := stand_in()) is not None:
            if mode == "offline":
                refuse_uncached(_NAME, f"it {_UNPLAYED}")
            one.losses[own_key] = lambda: _UNPLAYED
            return None
        if mode in ("bypass", "refresh"):
            return None
        answer = self._look(own_key)
        if answer is None and mode == "offline":
            raise _missed(own_key)
        return answer

    def _look(self, key: str) -> str | None:
        try:
            return drive(self._get(key))
        except Exception as error:
            self._announce("failure", error=error)
            return None

    def set(self, key: str, value: Any, ttl: Lifetime = None) -> None:
        """Store *value* for *ttl*, by default the cache's own."""
        if stand_in() is not None or present_mode() == "bypass":
            return
        try:
            keeper = self._keeper if ttl is None else self._keeper_for(ttl)
            drive(self._set(keeper, self._key(key), value))
        except Exception as error:
            self._announce("failure", error=error)

    async def _get(self, key: str) -> str | None:
        found = await self._stack.get(key)
        answer = MISS if found is None else await self._keeper.decode(key, found)
        if found is None or answer is MISS:
            self._announce("miss", key)
            return None
        self._announce.hit(key, found.tier, found.entry.seconds)
        return str(answer)

    async def _set(self, keeper: Keeper, key: str, value: Any) -> None:
        payload = keeper.encode(key, value)
        await keeper.put(key, keeper.entry(key, value, payload, 0.0, b"", ""))

    def _keeper_for(self, ttl: Lifetime) -> Keeper:
        life = seconds(ttl, "instructor.cache's ttl")
        return Keeper(_codec, self._stack, self._announce, replace(self._policy, ttl=life))

    def _key(self, key: str) -> str:
        return f"{self._begin}native:{hashlib.sha256(key.encode()).hexdigest()[:32]}"


def _missed(key: str) -> CacheMiss:
    return CacheMiss(
        f"found no answer to this call in instructor's own cache, so it is not made in offline "
        f"mode\n  key: {key}\n  to record it, call once without offline mode",
        _NAME,
        key,
    )


class _Codec:
    """The text that instructor stores: a JSON object of a model's JSON, and its completion's."""

    def encode(self, result: Any, /) -> bytes:
        if not isinstance(result, str) or not _is_usable(result):
            raise Unstorable(
                f"found a {type(result).__name__} that is no answer of instructor's; wanted the "
                f"JSON text that instructor stores; leave this cache to instructor"
            )
        return result.encode()

    def decode(self, payload: bytes, /) -> str:
        text = payload.decode()
        if not _is_usable(text):
            raise ValueError("no answer of instructor's")
        return text

    def settle(self, result: Any, /) -> Any:
        return result


def _is_usable(text: str) -> bool:
    """Whether instructor can make a model of it, if it is one of the right type."""
    try:
        held = json.loads(text)
        if not isinstance(held["model"], str) or not isinstance(held.get("raw"), (str, type(None))):
            return False
        from_json(held["model"])
        return _is_readable(held.get("raw") or "null")
    except Exception:
        return False


def _is_readable(raw: str) -> bool:
    with suppress(json.JSONDecodeError):  # which instructor gives as text
        json.loads(raw)
    return True


def _codec() -> _Codec:
    return _the_codec


_the_codec = _Codec()


@lru_cache(maxsize=1)
def _native_class() -> Any:
    try:
        from instructor.cache import BaseCache
    except ImportError as error:
        raise ImportError(
            "found an instructor without instructor.cache, a cache of its own; upgrade it, or use "
            "cache_client(client, backend), which works with every version from 1.9 on"
        ) from error
    return type("InstructorCache", (NativeCache, BaseCache), {"__doc__": NativeCache.__doc__})


def native_cache(backend: BackendLike, **options: Any) -> Any:
    """Give *backend* as an `instructor.cache.BaseCache`."""
    return _native_class()(backend, **options)
