"""From what a function answered to what is kept, and back."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from ._miss import MISS
from ._raws import without_stream
from ._stack import Found, Stack
from .codecs import Passed
from .conditions import Items, Unjudged
from .entry import Entry
from .errors import CorruptEntry, UnstorableResultWarning
from .events import Announcer
from .policy import Policy
from .protocols import Codec


class Elsewhere(NamedTuple):
    """In place of an answer: it turned out to be a stream, which all who ask listen to.

    An async iterator that a plain function gave is nobody's but the leader's.
    """

    live: Any
    leads: bool

    def __deepcopy__(self, memo: Any) -> Elsewhere:
        return Elsewhere(self.live, leads=False)  # a follower's


class Outcome(NamedTuple):
    """What one flight brings home: the leader's result, and what its followers get copies of.

    That is its payload, or where there is none a spare: the leader may change his own at once.
    """

    result: Any
    payload: bytes | None
    spare: Any = None
    is_kept: bool = False


@dataclass(frozen=True, slots=True)
class Keeper:
    """Decides whether an answer is stored and for how long, and never loses one that was paid."""

    codec: Callable[[], Codec]
    stack: Stack
    announce: Announcer
    policy: Policy

    def settled(self, key: str, answer: Any) -> Any:
        """Give *answer* as a hit will give it."""
        return self._survive(key, lambda: self.codec().settle(answer), answer)

    def outcome(self, result: Any, payload: bytes | None) -> Outcome:
        """Give the outcome of a call, before its leader has the result."""
        return Outcome(result, payload, None if payload is not None else _copied(result))

    def payload(self, key: str, result: Any, seconds: float) -> bytes | None:
        """Give the form in which *result* is stored, or None if it is not to be."""
        if isinstance(result, Elsewhere):
            return None
        if self.policy.cache_if is not None and not self._admits(key, result, seconds):
            return None
        return self.encode(key, without_stream(result))

    def _admits(self, key: str, result: Any, seconds: float) -> bool:
        """Whether all conditions hold; those of a stream are given the list of its items."""

        def ask() -> bool:
            judged = Items(result) if isinstance(result, Passed) else result
            try:
                return self.policy.admits(judged, seconds)
            except Unjudged as error:
                self._refuse(key, error)
                return False

        return bool(self._survive(key, ask, False))

    def encode(self, key: str, result: Any) -> bytes | None:
        """Give the stored form of *result*, or None if there is none that would restore it."""
        try:
            return result.encode() if isinstance(result, Passed) else self.codec().encode(result)
        except Exception as error:
            self._refuse(key, error)
            return None

    def _refuse(self, key: str, error: Exception) -> None:
        self.announce("unstorable", key, error=error)
        self.announce.warn_once("unstorable", UnstorableResultWarning, str(error))

    def entry(
        self,
        key: str,
        result: Any,
        payload: bytes | None,
        seconds: float,
        epochs: bytes,
        call: str,
    ) -> Entry | None:
        """Give the entry to store, or None if there is no payload, or its ttl is 0."""
        if payload is None:
            return None
        now = self.policy.clock()
        life = self._survive(key, lambda: self.policy.life(result, now), None)
        if life is None:
            return None
        fresh_until, kept_until = life
        return Entry(payload, now, fresh_until, kept_until, seconds, epochs=epochs, call=call)

    async def keep(
        self, key: str, entry: Entry | None, instead_of: Entry | None = None
    ) -> Entry | None:
        """Store an answer unless another came first; give its entry if it is the one kept."""
        if entry is None or await self.stack.keep(key, entry, instead_of) is not entry:
            return None
        self.announce("stored", key, seconds=entry.seconds)
        return entry

    async def put(self, key: str, entry: Entry | None) -> Entry | None:
        """Store an answer in place of any other; give its entry if a tier took it."""
        if entry is None or not await self.stack.set(key, entry):
            return None
        self.announce("stored", key, seconds=entry.seconds)
        return entry

    async def decode(self, key: str, found: Found) -> Any:
        """Give the answer of a stored entry; `MISS` if it is none, which is deleted then."""
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

    def copy_of(self, outcome: Outcome) -> Any:
        """Give an independent copy: results are mutable, and each caller owns one."""
        if outcome.payload is not None:
            return self.codec().decode(outcome.payload)
        return _copied(outcome.spare)

    def _survive(self, key: str, ask: Callable[[], Any], otherwise: Any) -> Any:
        """What the user's own callable says; if it raises, *otherwise*: the answer is paid for."""
        try:
            return ask()
        except Exception as error:
            if not self.policy.fail_open:
                raise
            self.announce("failure", key, error=error)
            return otherwise


def _copied(result: Any) -> Any:
    try:
        return copy.deepcopy(result)
    except Exception:  # as for a lock: it can only be shared
        return result
