"""From a call that has to be made to an answer: the function's, or the one kept for its failure."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any, NamedTuple

from ._behind import Behind
from ._heard import hearing
from ._keeper import Keeper, Outcome
from ._marks import Marks, Seen
from ._miss import MISS
from ._stack import Stack
from ._waits import Flight
from .codecs import Passed
from .entry import Entry
from .events import Announcer
from .policy import Policy


def _nothing() -> None: ...


class Produce(NamedTuple):
    """One call of the function, which has not been made yet.

    Attributes:
        make: Makes it.
        sketch: Gives its arguments as they are kept with the answer; empty for not.
        check: Raises Changed if its arguments are not those any more that its key was made of.
    """

    make: Callable[[], Awaitable[Any]]
    sketch: Callable[[], str]
    check: Callable[[], None] = _nothing

    def __call__(self) -> Awaitable[Any]:
        self.check()
        return self.make()

    def by(self, make: Callable[[], Awaitable[Any]]) -> Produce:
        """Give the same call, made in another way."""
        return Produce(make, self.sketch)


class Made(NamedTuple):
    """What a call gave, and when it began, as `Forgotten` and `Marks` count and its tags tell.

    Its payload is the form to store it in, if it is to be stored; the call is what its arguments
    looked like.
    """

    outcome: Outcome
    seconds: float
    epochs: bytes
    call: str
    began: tuple[int, Seen]


@dataclass(frozen=True, slots=True)
class Maker:
    """Makes calls, and stores what they give unless it was forgotten meanwhile."""

    stack: Stack
    keeper: Keeper
    marks: Marks
    behind: Behind
    announce: Announcer
    policy: Policy

    async def make(
        self,
        key: str,
        produce: Produce,
        flight: Flight[Outcome],
        instead_of: Entry | None = None,
    ) -> Outcome:
        """Give what *produce* answers, stored; or, if it fails, what is kept for that."""
        try:
            made = await self.call(key, produce, flight)
        except Exception as error:
            outcome = None if flight.obsolete else await self.fall_back(key, error)
            if outcome is None or flight.obsolete:  # what we fell back on was forgotten, too
                raise
            return outcome
        flight.brought = made.outcome
        if made.outcome.payload is None:
            return made.outcome
        store = partial(self._store, key, made, flight, instead_of)
        return made.outcome._replace(is_kept=await self.stack.colour.insist(store))

    async def _store(
        self, key: str, made: Made, flight: Flight[Outcome], instead_of: Entry | None
    ) -> bool:
        """Store what was made, unless it was forgotten meanwhile; tell if it was kept."""
        if await self._is_forgotten(key, made, flight):
            return False
        entry = await self.keeper.keep(key, self.entry(key, made), instead_of)
        if entry is not None and await self._is_forgotten(key, made, flight):
            with self.stack.forgotten.forgetting(key):  # by those who are copying it, too
                await self.stack.take_back(key, entry)
        return entry is not None

    async def call(self, key: str, produce: Produce, flight: Flight[Outcome]) -> Made:
        """Give what *produce* answers, not stored yet."""
        began = self.stack.forgotten.count, await self.marks.seen(key)
        epochs = await self.stack.epochs(key)
        call = produce.sketch()  # now, for the function may change its arguments
        flight.is_outdated = partial(self._is_outdated, key, began[1], epochs)
        with nullcontext() if self.policy.cache_if is None else hearing():
            start = perf_counter()
            answer = await produce()
            seconds = perf_counter() - start
            if isinstance(answer, Passed):  # the pauses of who reads are no part of the call
                seconds -= answer.waited
            result = self.keeper.settled(key, answer)
            payload = None if flight.obsolete else self.keeper.payload(key, result, seconds)
        return Made(self.keeper.outcome(result, payload), seconds, epochs, call, began)

    def entry(self, key: str, made: Made) -> Entry | None:
        """Give the entry to store, if there is one."""
        result, payload, *_ = made.outcome
        return self.keeper.entry(key, result, payload, made.seconds, made.epochs, made.call)

    async def _is_forgotten(self, key: str, made: Made, flight: Flight[Outcome]) -> bool:
        """Tell whether *key* was forgotten, here or elsewhere, since the call began."""
        here, anywhere = made.began
        is_forgotten_here = flight.obsolete or self.stack.forgotten.has_hit(key, here)
        return is_forgotten_here or await self._is_outdated(key, anywhere, made.epochs)

    async def _is_outdated(self, key: str, seen: Seen, epochs: bytes) -> bool:
        """Tell whether others forgot *key* since these marks and epochs were read."""
        return await self.marks.has_hit(key, seen) or not await self.stack.is_valid(key, epochs)

    async def fall_back(self, key: str, error: Exception | None = None) -> Outcome | None:
        """Give the expired answer, to serve for a while from now on: the provider needs a rest."""
        if self.policy.stale_ttl is None:
            return None
        if (found := await self.stack.get_kept(key)) is None:
            return None
        if (answer := await self.keeper.decode(key, found)) is MISS:
            return None
        entry, now = found.entry, self.policy.clock()
        if entry.is_fresh(now):
            self.announce("failure", key, error=error)
            self.behind.failed.add(key)
        else:
            self.announce("stale", key, found.tier, error=error, seconds=entry.seconds)
            if not await self.stack.replace(key, entry, entry.again(now, self.policy.rest)):
                self.behind.failed.add(key)  # nobody took it down that the provider needs a rest
        return Outcome(answer, entry.payload)
