"""The whole policy: from a key and a way to produce the answer, to the answer."""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from math import inf
from time import perf_counter
from typing import Any

from ._flights import Flight, Flights
from .entry import Entry
from .errors import CorruptEntry, UnstorableResultWarning
from .events import Announcer
from .policy import Policy
from .protocols import Codec
from .tiers import Found, Stack

Produce = Callable[[], Awaitable[Any]]


class Miss:
    """The type of `MISS`, which stands for "nothing cached" where None would be an answer."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "MISS"

    def __bool__(self) -> bool:
        return False

    def __reduce__(self) -> str:
        return "MISS"


MISS = Miss()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one flight brings home: the leader's result, and its payload for the followers."""

    result: Any
    payload: bytes | None
    is_kept: bool = False


@dataclass(frozen=True, slots=True)
class Engine:
    """Answers from the stack, else from a flight, else by calling."""

    codec: Callable[[], Codec]
    stack: Stack
    flights: Flights[Outcome]
    announce: Announcer
    policy: Policy

    async def recall(self, key: str, produce: Produce) -> Any:
        """Give the cached answer for *key*, or call *produce* and keep what it answers."""
        landed = self.flights.landed
        if (answer := await self._hit(key)) is not MISS:
            return answer

        async def lead(flight: Flight[Outcome]) -> Outcome:
            # Another flight may have landed between our look and our take-off.
            if landed != self.flights.landed and (answer := await self._hit(key)) is not MISS:
                return Outcome(answer, self._encode(key, answer))
            return await self._call_and_keep(key, produce, flight)

        async def alone() -> Outcome:
            self.announce("miss", key)
            return Outcome(self._settled(key, await produce()), None)

        outcome, led = await self.flights.share(key, lead, alone)
        if led:
            return outcome.result
        self.announce("shared", key)
        return self._copy_of(outcome)

    async def look(self, key: str) -> Any:
        """Give the cached answer, or `MISS`; counts as neither hit nor miss."""
        found = await self._find(key)
        return MISS if found is None else await self._decode(key, found)

    async def _find(self, key: str) -> Found | None:
        forgotten = self.flights.forgotten
        found = await self.stack.get(key)
        if found is None or not found.copied or forgotten == self.flights.forgotten:
            return found
        await self.stack.delete(key)  # it may be this that was forgotten while we copied it
        return None

    async def _hit(self, key: str) -> Any:
        found = await self._find(key)
        if found is None:
            return MISS
        answer = await self._decode(key, found)
        if answer is not MISS:
            self.announce("hit", key, found.tier, seconds=found.entry.seconds)
        return answer

    async def _decode(self, key: str, found: Found) -> Any:
        try:
            return self.codec().decode(found.entry.payload)
        except RecursionError:  # the caller is deep in its own calls: no fault of the entry's
            return MISS
        except Exception as cause:
            error = CorruptEntry(f"found a payload that is no answer ({type(cause).__name__})")
            error.__cause__ = cause
            self.announce("corrupt", key, found.tier, error=error)
            await self.stack.delete(key)
            return MISS

    async def refresh(self, key: str, produce: Produce) -> Any:
        """Call *produce* whatever is cached, and keep what it answers."""
        self.flights.forget(key)  # what is under way began before this, and must not overwrite it
        with self.flights.aside(key) as flight:
            outcome = await self._call_and_keep(key, produce, flight)
            if not outcome.is_kept:  # and the old answer is outdated
                await self.stack.delete(key)
        return outcome.result

    async def put(self, key: str, result: Any) -> None:
        """Store *result* as the answer for *key*; raise Unstorable if its type can't keep it."""
        payload = self.codec().encode(self.codec().settle(result))
        self.flights.forget(key)  # as above
        await self._store(key, result, payload, 0.0)

    async def invalidate(self, key: str) -> None:
        """Forget the answer for *key*, and any that is being produced."""
        self.flights.forget(key)
        await self.stack.delete(key)

    async def clear(self, namespace: str) -> None:
        """Forget every answer whose key begins with *namespace*."""
        self.flights.forget(namespace)
        await self.stack.clear(namespace)

    async def _call_and_keep(self, key: str, produce: Produce, flight: Flight[Outcome]) -> Outcome:
        self.announce("miss", key)
        start = perf_counter()
        answer = await produce()
        seconds = perf_counter() - start
        result = self._settled(key, answer)
        if flight.obsolete or not self._wanted(key, result):
            return Outcome(result, None)
        payload = self._encode(key, result)
        is_kept = payload is not None and await self._store(key, result, payload, seconds)
        if flight.obsolete:  # invalidated while we wrote
            await self.stack.delete(key)
        return Outcome(result, payload, is_kept)

    async def _store(self, key: str, result: Any, payload: bytes, seconds: float) -> bool:
        """Write the answer to the tiers; tell whether any of them has it."""
        lifetime = self._survive(key, lambda: self.policy.lifetime(result), 0.0)
        if lifetime == 0:
            return False
        now = self.policy.clock()
        until = inf if lifetime is None else now + lifetime
        is_kept = await self.stack.set(key, Entry(payload, now, until, until, seconds))
        if is_kept:
            self.announce("stored", key, seconds=seconds)
        return is_kept

    def _wanted(self, key: str, result: Any) -> bool:
        cache_if = self.policy.cache_if
        return cache_if is None or self._survive(key, lambda: bool(cache_if(result)), False)

    def _settled(self, key: str, answer: Any) -> Any:
        return self._survive(key, lambda: self.codec().settle(answer), answer)

    def _survive(self, key: str, ask: Callable[[], Any], otherwise: Any) -> Any:
        """What the user's own callable says; if it raises, *otherwise*: the answer is paid for."""
        try:
            return ask()
        except Exception as error:
            if not self.policy.fail_open:
                raise
            self.announce("failure", key, error=error)
            return otherwise

    def _encode(self, key: str, result: Any) -> bytes | None:
        try:
            return self.codec().encode(result)
        except Exception as error:
            self.announce("unstorable", key, error=error)
            self.announce.warn_once("unstorable", UnstorableResultWarning, str(error))
            return None

    def _copy_of(self, outcome: Outcome) -> Any:
        """An independent copy: results are mutable, and each caller owns one."""
        if outcome.payload is not None:
            return self.codec().decode(outcome.payload)
        try:
            return copy.deepcopy(outcome.result)
        except Exception:
            return outcome.result
