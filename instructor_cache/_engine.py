"""The whole policy: from a key and a way to produce the answer, to the answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import Any

from ._behind import Behind
from ._flights import Changed, Flights, is_outdated
from ._keeper import Keeper, Outcome
from ._lock import SharedLock
from ._maker import Made, Maker, Produce
from ._marks import Marks
from ._miss import MISS
from ._stack import Found, Stack
from ._waits import Flight
from .codecs import holds_one_shot
from .entry import Entry
from .events import Announcer
from .policy import Policy
from .protocols import Codec


@dataclass(frozen=True, slots=True)
class Engine:
    """Answers from the stack, else from a flight, else by calling.

    Attributes:
        refreshes: The flights of those who want a new answer, whatever is there.
        lock: What keeps other processes from making the same call; None for nothing.
    """

    codec: Callable[[], Codec]
    stack: Stack
    keeper: Keeper
    maker: Maker
    flights: Flights[Outcome]
    refreshes: Flights[Outcome]
    behind: Behind
    lock: SharedLock | None
    marks: Marks
    announce: Announcer
    policy: Policy

    async def fetch(self, key: str, produce: Produce, *, landed: int, is_told: bool = False) -> Any:
        """Call *produce*, unless somebody is at it, and keep what it answers.

        Before the look in vain that led here, *landed* flights had ended. A miss that was told
        before is not told again.
        """

        async def lead(flight: Flight[Outcome]) -> Outcome:
            # Another flight may have landed between our look and our take-off.
            if (outcome := await self._landed(key, landed)) is not None:
                return outcome
            return await self._answer(key, produce, flight, is_told=is_told)

        alone = partial(self._alone, key, produce, landed)
        outcome, led = await self.flights.share(key, lead, alone)
        return outcome.result if led else await self._followed(key, outcome, alone)

    async def _followed(
        self, key: str, outcome: Outcome, alone: Callable[[], Awaitable[Outcome]]
    ) -> Any:
        """A copy of what another caller's call gave; where only one can read that, one's own."""
        if outcome.payload is None and holds_one_shot(outcome.spare):
            return (await alone()).result
        self.announce("shared", key)
        return self.keeper.copy_of(outcome)

    async def look(self, key: str) -> Any:
        """Give the cached answer, or `MISS`; counts as neither hit nor miss."""
        found = await self._find(key)
        return MISS if found is None else await self.keeper.decode(key, found)

    async def recorded(self, key: str) -> Any:
        """Give the answer that is stored, be it expired, or `MISS`; for who is not to call."""
        answer, entry = await self._hit(key)
        if entry is not None:
            return answer
        if (found := await self.stack.get_kept(key)) is None:
            return MISS
        if (answer := await self.keeper.decode(key, found)) is not MISS:
            self.announce("stale", key, found.tier, seconds=found.entry.seconds)
        return answer

    async def refresh(self, key: str, produce: Produce) -> Any:
        """Call *produce* whatever is cached, and keep what it answers.

        Who comes while this is under way shares it.
        """

        async def lead(shared: Flight[Outcome]) -> Outcome:
            return await self.replace(key, produce, shared)

        alone = partial(self.replace, key, produce)
        outcome, led = await self.refreshes.share(key, lead, alone)
        return outcome.result if led else await self._followed(key, outcome, alone)

    async def replace(
        self, key: str, produce: Produce, shared: Flight[Outcome] | None = None
    ) -> Outcome:
        """Do the same, for those who join *shared*; by default nobody does."""
        self.flights.forget(key)  # what is under way began before this, and must not overwrite it
        flight = self.flights.aside(key)
        if shared is not None:
            shared.is_outdated = partial(is_outdated, flight)
        land = partial(self.flights.land, key, flight)
        try:
            self.announce("miss", key)
            made = await self.maker.call(key, produce, flight)
        except BaseException:
            land()
            raise
        if shared is not None:
            shared.brought = made.outcome
        await self.stack.colour.insist(partial(self._take_over, key, made, flight), land)
        return made.outcome

    async def _take_over(self, key: str, made: Made, flight: Flight[Outcome]) -> None:
        """Have what was made answer from now on, unless it was forgotten meanwhile."""
        if not flight.obsolete:  # else later words have seen to the old answer
            await self._put_in_place(key, made, flight)
        if not flight.obsolete:  # else they see to the others, too
            self.flights.forget(key)  # who began meanwhile may have found the old answer

    async def _put_in_place(self, key: str, made: Made, flight: Flight[Outcome]) -> None:
        entry = None
        with self.stack.forgotten.forgetting(key):
            if not await self.marks.has_hit(key, made.began[1]):
                entry = await self.keeper.put(key, self.maker.entry(key, made))
            if entry is None:
                await self.stack.delete(key)  # the old answer is outdated
        if flight.obsolete or await self.marks.has_hit(key, made.began[1]):
            await self.stack.delete(key)  # so is this one
        elif entry is None or await self.stack.is_valid(key, entry.epochs):
            return
        if entry is not None:
            await self.stack.take_back(key, entry)

    async def put(self, key: str, result: Any, call: str = "") -> None:
        """Store *result* as the answer for *key*; raise Unstorable if its type can't keep it."""
        payload = self.codec().encode(self.codec().settle(result))
        epochs = await self.stack.epochs(key)
        with self._forgetting(key):
            entry = self.keeper.entry(key, result, payload, 0.0, epochs, call)
            await self.keeper.put(key, entry)

    async def invalidate(self, key: str) -> None:
        """Forget the answer for *key*, and any that is being produced."""
        with self._forgetting(key):
            await self.marks.set(key)
            await self.stack.delete(key)

    async def clear(self, namespace: str) -> None:
        """Forget every answer whose key begins with *namespace*."""
        self.stack.check_clearable()
        with self._forgetting(namespace):
            await self.marks.set(namespace)
            await self.stack.clear(namespace)

    @contextmanager
    def _forgetting(self, prefix: str) -> Generator[None]:
        """Have no call joined or kept that begins before the end of this block, or before it."""
        self._forget_flights(prefix)
        try:
            with self.stack.forgotten.forgetting(prefix):
                yield
        finally:
            self._forget_flights(prefix)

    def _forget_flights(self, prefix: str) -> None:
        self.flights.forget(prefix)
        self.refreshes.forget(prefix)

    # -- answers that are there ----------------------------------------------------------

    async def hit(self, key: str, behind: Callable[[], Produce]) -> Any:
        """Give the cached answer, or `MISS`; *behind* gives what makes an ageing one anew."""
        answer, entry = await self._hit(key)
        if entry is not None and self.policy.refresh_ahead is not None:
            self._refresh_if_due(key, behind(), entry)
        return answer

    async def _hit(self, key: str) -> tuple[Any, Entry | None]:
        if (found := await self._find(key)) is None:
            return MISS, None
        if (answer := await self.keeper.decode(key, found)) is MISS:
            return MISS, None
        self._announce_hit(key, found)
        return answer, found.entry

    def _announce_hit(self, key: str, found: Found) -> None:
        entry = found.entry
        if entry.is_stale:
            self.announce("stale", key, found.tier, seconds=entry.seconds)
        else:
            self.announce.hit(key, found.tier, entry.seconds)

    async def _found(self, key: str) -> Outcome | None:
        """The answer that another one has brought home in the meantime."""
        answer, entry = await self._hit(key)
        return None if entry is None else Outcome(answer, entry.payload)

    async def _find(self, key: str, *, beyond: float = -inf) -> Found | None:
        since = self.stack.forgotten.count
        found = await self.stack.get(key, beyond=beyond)
        if found is None or not found.copied or not self.stack.forgotten.has_hit(key, since):
            return found
        await self.stack.take_back(key, found.entry, found.copied)
        return await self.stack.get(key, fill=False)  # what it was replaced by, if anything

    async def _landed(self, key: str, landed: int) -> Outcome | None:
        """The answer that a flight has brought home since only so many had landed."""
        return None if landed == self.flights.landed else await self._found(key)

    # -- answers that are made -----------------------------------------------------------

    async def _answer(
        self, key: str, produce: Produce, flight: Flight[Outcome], *, is_told: bool
    ) -> Outcome:
        if key in self.behind.failed and (outcome := await self.maker.fall_back(key)) is not None:
            return outcome
        if self.lock is None:
            return await self._miss(key, produce, flight, is_told=is_told)
        async with self.lock.hold(key):
            if (outcome := await self._found(key)) is not None:  # by another process
                return outcome
            return await self._miss(key, produce, flight, is_told=is_told)

    async def _alone(self, key: str, produce: Produce, landed: int) -> Outcome:
        """Call for one caller only, for whom nobody waits, and keep nothing."""
        if (outcome := await self._landed(key, landed)) is not None:
            return outcome
        self.announce("miss", key)
        try:
            return Outcome(self.keeper.settled(key, await produce()), None)
        except Exception as error:
            if (outcome := await self.maker.fall_back(key, error)) is None:
                raise
            return outcome

    async def _miss(
        self, key: str, produce: Produce, flight: Flight[Outcome], *, is_told: bool
    ) -> Outcome:
        if not is_told:
            self.announce("miss", key)
        return await self.maker.make(key, produce, flight)

    # -- answers that are made ahead of time ---------------------------------------------

    def _refresh_if_due(self, key: str, produce: Produce, entry: Entry) -> None:
        """Have an ageing answer made anew in the background; it serves until then."""
        part, life = self.policy.refresh_ahead or 1.0, entry.fresh_until - entry.created_at
        if not entry.is_stale and entry.age(self.policy.clock()) >= part * life:
            self.behind.start(key, lambda: self._refresh_behind(key, produce, entry))

    async def _refresh_behind(self, key: str, produce: Produce, entry: Entry) -> bool:
        """Call in place of whoever would be next to; tell whether there is a new answer."""

        async def lead(flight: Flight[Outcome]) -> Outcome:
            return await self.maker.make(key, produce, flight, instead_of=entry)

        lock = nullcontext(True) if self.lock is None else self.lock.hold(key, waiting=False)
        try:
            async with lock as is_ours:
                if not is_ours or await self._is_outdated(key, entry):
                    return True
                outcome = await self.flights.lead(key, lead)
        except Changed:  # whoever made it has gone on, and left us no such call to make
            return True
        except (Exception, SystemExit) as error:  # nobody is there to exit for
            self.announce("failure", key, error=error)
            self.behind.failed.add(key)
            return False
        if outcome is not None and outcome.is_kept:
            self.announce("refreshed", key)
        return outcome is None or outcome.is_kept

    async def _is_outdated(self, key: str, entry: Entry) -> bool:
        """Whether another one was faster to make *entry* anew; the new answer is here then, too."""
        return await self._find(key, beyond=entry.fresh_until) is not None
