"""One cached function's calls: from arguments to the engine, written once for both colours."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from ._engine import Engine
from ._flights import Changed
from ._maker import Produce
from ._memo import Args, Kwargs, Memo
from ._miss import MISS
from ._modes import mode as present_mode
from ._offline import Offline
from ._sketch import sketch
from ._stand_in import STAND_INS, StandIn, stand_in
from ._streams import Streams
from ._tagged import TaggedKey
from .cached import Explanation
from .errors import UnkeyableArgument, UnkeyableArgumentWarning
from .keys import Keys
from .returns import ReturnType
from .tags import Tags

Ask = Callable[[str, Produce], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Beneath:
    """What is passed on to the cache of a function further in, where decorators are stacked."""

    invalidate: Callable[..., Awaitable[None]]
    clear: Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Calls:
    """What can be asked about the calls of one function.

    Attributes:
        produce: Makes a call.
        beneath: The cache of a cached function that this one wraps.
        tags: Those of the answers; None if there are none.
        memo: Gives the key of a call.
        own: What answers calls.
        over: Gives the same over what stands in for the function's own backend.
    """

    produce: Callable[..., Awaitable[Any]]
    beneath: Beneath | None
    keys: Keys
    returns: ReturnType
    tags: Tags | None
    own: Streams
    over: Callable[[StandIn], Streams]
    memo: Memo

    @property
    def streams(self) -> Streams:
        one = stand_in()
        return self.own if one is None else one.made(self, self.over)

    @property
    def engine(self) -> Engine:
        return self.streams.engine

    def key(self, /, *args: Any, **kwargs: Any) -> str:
        return self.keys.make(self.returns.fingerprint, args, kwargs)

    def _key(self, args: Args, kwargs: Kwargs) -> str:
        """The key with the tags of the call."""
        if (one := stand_in()) is not None:
            return one.key(partial(self.memo.key, args, kwargs), self.engine.codec())
        key = self.memo.key(args, kwargs)
        tags = None if self.tags is None else self.tags.of(args, kwargs)
        return TaggedKey(key, tags) if tags else key

    def sketch(self, args: Args, kwargs: Kwargs) -> str:
        """Give the arguments of a call as they are kept; empty if they are not or can't be."""
        if not self.engine.policy.keep_arguments:
            return ""
        one = stand_in()
        write = sketch if one is None else one.sketch
        try:
            return write(self.keys.bound(args, kwargs))
        except Exception:  # it is only for show
            return ""

    async def call(self, /, *args: Any, **kwargs: Any) -> Any:
        if (mode := present_mode()) == "bypass":
            return await self.produce(*args, **kwargs)
        if mode == "offline":
            return await self._recorded(args, kwargs)
        try:
            key = self._key(args, kwargs)
        except UnkeyableArgument as error:
            self._uncached(error)
            return await self.produce(*args, **kwargs)
        except TypeError as error:  # not the function's arguments: let it say so itself
            if STAND_INS:
                raise
            answer = await self.produce(*args, **kwargs)
            self._uncached(UnkeyableArgument(f"{self.keys.function} hides its signature: {error}"))
            return answer
        ask = self.streams.renew if mode == "refresh" else self.streams.recall
        return await self._ask(ask, key, self._produce(key, args, kwargs))

    async def _ask(self, ask: Ask, key: str, produce: Produce) -> Any:
        """Have *ask* answer; what has become another call by then is made, and not kept."""
        try:
            return await ask(key, produce)
        except Changed as changed:
            self.engine.announce("unstorable", key, error=changed)
            return await produce.make()

    def _produce(self, key: str, args: Args, kwargs: Kwargs) -> Produce:
        make: Callable[[], Awaitable[Any]] = partial(self.produce, *args, **kwargs)
        write = partial(self.sketch, args, kwargs)
        if (one := stand_in()) is not None:  # what is played is what was given, call by call
            return Produce(partial(one.watch, key, make, self._unkept), write)
        return Produce(make, write, partial(self._check, key, args, kwargs))

    def _check(self, key: str, args: Args, kwargs: Kwargs) -> None:
        """Raise Changed if the caller has changed the arguments, such as a list of messages."""
        try:
            is_same = self.memo.key(args, kwargs) == key
        except Exception:  # it has no key any more
            is_same = False
        if not is_same:
            raise Changed(
                "found other arguments than a moment ago, when the call was made; its answer is "
                "given and not kept; change no list that was passed before the answer is there"
            )

    def _unkept(self, answer: Any) -> str:
        """Why an answer that was given is not kept."""
        if hasattr(answer, "__next__") or hasattr(answer, "__anext__"):
            return "was left before its end"
        codec, policy = self.engine.codec(), self.own.engine.policy
        try:
            codec.encode(codec.settle(answer))
        except Exception:
            return "gave what can't be stored"
        if policy.cache_if is None or policy.ttl == 0:
            return "has a ttl of 0"
        return "cache_if or a ttl of 0 said no" if callable(policy.ttl) else "cache_if said no"

    async def _recorded(self, args: Args, kwargs: Kwargs) -> Any:
        """The answer that is stored here or beneath; raises CacheMiss if there is none."""
        offline = Offline(self.engine, self.keys)
        try:
            key = self._key(args, kwargs)
        except UnkeyableArgument as error:
            if self.beneath is not None:  # where it may have one
                return await self.produce(*args, **kwargs)
            raise offline.unkeyable(error) from error
        answer, failure = await offline.look(key)
        if answer is MISS and self.beneath is not None:
            return await self.produce(*args, **kwargs)
        if answer is MISS:
            raise await offline.miss(key, self.sketch(args, kwargs)) from failure
        return answer

    async def get(self, /, *args: Any, **kwargs: Any) -> Any:
        return await self.engine.look(self._key(args, kwargs))

    async def set(self, value: Any, /, *args: Any, **kwargs: Any) -> None:
        if hasattr(value, "__aiter__"):
            value = [item async for item in value]
        await self.engine.put(self._key(args, kwargs), value, self.sketch(args, kwargs))

    async def contains(self, /, *args: Any, **kwargs: Any) -> bool:
        return await self.engine.stack.get(self._key(args, kwargs), fill=False) is not None

    async def invalidate(self, /, *args: Any, **kwargs: Any) -> None:
        await self._forget_beneath(args, kwargs)  # first, or it would refill this one
        await self.engine.invalidate(self._key(args, kwargs))

    async def refresh(self, /, *args: Any, **kwargs: Any) -> Any:
        if (mode := present_mode()) == "bypass":
            return await self.produce(*args, **kwargs)
        key = self._key(args, kwargs)
        if mode == "offline" and STAND_INS:
            return await self._recorded(args, kwargs)
        if mode == "offline":
            raise Offline(self.engine, self.keys).refused(key)
        await self._forget_beneath(args, kwargs)
        return await self._ask(self.streams.anew, key, self._produce(key, args, kwargs))

    async def clear(self) -> None:
        if self.beneath is not None:
            await self.beneath.clear()
        await self.engine.clear(self.keys.namespace)
        self.engine.announce.reset()

    async def explain(self, /, *args: Any, **kwargs: Any) -> Explanation:
        try:
            key = self._key(args, kwargs)
        except UnkeyableArgument as error:
            return Explanation("unkeyable", str(error))
        found = await self.engine.stack.get(key, fill=False)
        if found is None:
            return Explanation("miss", "no tier has a fresh answer under this key", key)
        now = self.engine.policy.clock()
        age, left = found.entry.age(now), found.entry.fresh_for(now)
        try:
            self.engine.codec().decode(found.entry.payload)
        except Exception as error:
            return Explanation("unreadable", f"{error}", key, found.tier, age, left)
        return Explanation("hit", f"stored {age:.0f} s ago", key, found.tier, age, left)

    async def _forget_beneath(self, args: Args, kwargs: Kwargs) -> None:
        if self.beneath is None:
            return
        try:
            await self.beneath.invalidate(*args, **kwargs)
        except TypeError as error:  # there the call has other arguments, or no key
            if not self.engine.policy.fail_open:
                raise
            self.engine.announce("failure", error=error)

    def _uncached(self, error: UnkeyableArgument) -> None:
        if STAND_INS or not self.engine.policy.fail_open:  # it could not be played again
            raise error
        announce = self.engine.announce
        announce("unkeyable", error=error)
        announce.warn_once(error.parameter, UnkeyableArgumentWarning, f"not cached: {error}")
