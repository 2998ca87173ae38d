"""Answers that come item by item: shared live on a miss, given again at once on a hit."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from functools import partial
from time import perf_counter
from typing import Any

from ._bridge import ASYNC, Colour
from ._engine import Engine
from ._flights import Changed, led_by
from ._heard import ears, take_over
from ._keeper import Elsewhere
from ._live import Alone, Gone, Live, SyncLive
from ._maker import Produce
from ._miss import MISS
from ._open_streams import Begin, OpenStreams
from ._sources import Source, driven
from ._stand_in import stand_in
from .codecs import Item, Passed, Spent
from .errors import InstructorCacheWarning, StreamInterrupted
from .returns import ReturnType


class Streams:
    """The streams of one function, and its answers that may turn out to be streams.

    Attributes:
        engine: What keeps them.
    """

    def __init__(self, engine: Engine, returned: ReturnType, colour: Colour) -> None:
        self.engine, self._returned, self._colour = engine, returned, colour
        self._open = OpenStreams(engine.flights, engine.stack.forgotten)

    async def recall(self, key: str, produce: Produce) -> Any:
        """Give the answer for *key*: the function's value, or what to iterate over."""
        landed, first = self.engine.flights.landed, None
        if (answer := await self.engine.hit(key, partial(self.whole, produce))) is not MISS:
            return answer
        await self._open.let_go(key)
        if (live := self._open.joinable(key)) is None and not self._returned.is_lazy:
            watched = produce.by(partial(self._watch, key, produce))
            answer = await self.engine.fetch(key, watched, landed=landed)
            if not isinstance(answer, Elsewhere):
                return self.given(answer)
            if not isinstance(answer.live, Live):  # but an async iterator, which is not followed
                return answer.live if answer.leads else await produce()
            first, live = answer, answer.live
        begin = partial(self._new, key, produce, landed=landed)
        items = self._follow(key, produce, begin, first)
        if live is not None and live.is_whole:
            return self._returned.replay([item async for item in items])
        return self._face(items)

    async def renew(self, key: str, produce: Produce) -> Any:
        """Call, whatever is stored, and have what comes stored in place of that."""
        if not self._returned.is_lazy:
            return await self.anew(key, produce)
        begin = partial(self._replacing, key, produce)
        return self._face(self._follow(key, produce, begin, Elsewhere(begin(), leads=True)))

    async def anew(self, key: str, produce: Produce) -> Any:
        """Do the same, and give the answer when all of it is there."""
        return self.given(await self.engine.refresh(key, self.whole(produce)))

    def whole(self, produce: Produce) -> Produce:
        """Give what answers as *produce* does, a stream when all of it has passed."""

        async def collect() -> Any:
            answer = await produce()
            if not self._is_stream(answer):
                return answer
            items = [Item(value, self._returned.items) async for value in Source(answer)]
            return self._returned.passed(items)

        return produce.by(collect)

    def given(self, result: Any) -> Any:
        """Give what `whole` answered in the form for a caller."""
        return self._returned.replay(result) if isinstance(result, Passed) else result

    # -- from a call to a stream -----------------------------------------------------------

    def _new(self, key: str, produce: Produce, **options: Any) -> Live:
        """A stream that has not begun."""

        def run(live: Live) -> Any:
            return self.engine.fetch(key, self._passing(key, live, produce), **options)

        return self._live(run)

    def _replacing(self, key: str, produce: Produce) -> Live:
        """A stream that has not begun, whatever is stored."""

        async def run(live: Live) -> Any:
            return (await self.engine.replace(key, self._passing(key, live, produce))).result

        return self._live(run)

    def _passing(self, key: str, live: Live, produce: Produce) -> Produce:
        return produce.by(partial(self._pass_on, key, live, produce))

    def _live(self, run: Callable[[Live], Any]) -> Live:
        since, timeout = self.engine.stack.forgotten.count, self.engine.policy.flight_timeout
        if self._colour is ASYNC:
            from ._live_async import AsyncLive  # and asyncio, which sync functions do without

            return AsyncLive(self._colour.wait, run, since, timeout)
        return SyncLive(run, since, timeout)

    async def _watch(self, key: str, produce: Produce) -> Any:
        """Call; an answer that is a stream, though none was promised, goes on elsewhere."""
        if (live := self._open.joinable(key)) is not None:
            return Elsewhere(live, leads=False)
        since, start = self.engine.stack.forgotten.count, perf_counter()
        answer = await produce()
        seconds = perf_counter() - start
        if self._is_foreign(answer):
            self._tell_remedy(answer)
            return Elsewhere(answer, leads=True)
        if not self._is_stream(answer):
            return answer
        self._tell_remedy(answer)
        live = self._begun(key, produce, answer, since)
        live.waited -= seconds  # which count with those of its items
        self._open.add(key, live)
        return Elsewhere(live, leads=True)

    def _begun(self, key: str, produce: Produce, answer: Any, since: int) -> Live:
        """A stream whose call was made after *since* was what had been forgotten."""
        said, led = ears(), led_by()

        async def begun() -> Any:
            take_over(said)
            if await self._is_forgotten(key, live):
                led_by()[-1].obsolete = True
            return answer

        live = self._new(key, produce.by(begun), landed=self.engine.flights.landed, is_told=True)
        live.since, live.flight.is_outdated = since, led[-1].is_outdated if led else None
        live.is_whole = self._colour is ASYNC and not _is_async(answer)
        return live

    async def _is_forgotten(self, key: str, live: Live) -> bool:
        """Whether *key* was forgotten, here or elsewhere, since the call of *live* began."""
        ask, forgotten = live.flight.is_outdated, self.engine.stack.forgotten
        return forgotten.has_hit(key, live.since) or (ask is not None and await ask())

    def _is_stream(self, answer: Any) -> bool:
        kind: Any = answer.__class__
        if hasattr(kind, "__next__") or _is_async(answer):
            return not self._is_foreign(answer)
        # instructor may have read a stream to its end: a list that knows its raw response
        is_buffered = issubclass(kind, list) and hasattr(answer, "_raw_response")
        return self._returned.is_stream or (is_buffered and not self._returned.fits(answer))

    def _is_foreign(self, answer: Any) -> bool:
        """Whether it is a stream that only coroutines can read, of a function that is none."""
        return _is_async(answer) and self._colour is not ASYNC

    def _tell_remedy(self, answer: Any) -> None:
        if self._returned.keeps_all and not self._is_foreign(answer):
            return
        name, items = self._returned.name, self._returned.name_of_items
        has_last = name == items and not self._is_foreign(answer)
        kept = "a hit gives its last item only" if has_last else "it can't be kept as that"
        stream = f"{'Async' * _is_async(answer)}Iterator[{items}]"
        self.engine.announce.warn_once(
            "stream",
            InstructorCacheWarning,
            f"{self.engine.announce.function} is annotated `-> {name}` and gave a stream; {kept}: "
            f"annotate it `-> {stream}` to be given all of it again",
        )

    async def _pass_on(self, key: str, live: Live, produce: Produce) -> Passed:
        """Call, and have all items pass."""
        if live.flight.is_outdated is None:  # else the call is under way already
            live.flight.is_outdated = led_by()[-1].is_outdated
        answer = await produce()
        try:
            async with Source(answer) as source:
                async for value in source:
                    await live.give(Item(value, self._returned.items))
            live.check_uncut()
        except Exception as error:
            live.failure = error
            if (one := stand_in()) is not None:
                one.failed(key, error)
            raise
        return self._returned.passed(live.items, live.waited)

    # -- from a stream to its listeners ----------------------------------------------------

    async def _follow(
        self, key: str, produce: Produce, begin: Begin, first: Elsewhere | None
    ) -> AsyncGenerator[Any]:
        """Give all items; where a call was cut off, go on with those of another one."""
        given: list[Item] = []
        while True:
            live, leads = await self._open.join(key, begin, first)
            n = 0
            try:
                with live.listened_to():
                    if not (leads or first):
                        self.engine.announce("shared", key)
                    while await live.reach(n, leads=leads):
                        item = live.items[n]
                        if _is_new(item, n + 1, given):
                            yield item.given(leads=leads)
                        n += 1
                async for value in Source(live.answer or ()):
                    n += 1
                    if not given or _is_new(Item(value, self._returned.items), n, given):
                        yield value
                return
            except (Gone, Alone, Changed, Spent) as cut:
                first = None if isinstance(cut, Gone) else self._apart(key, produce)
            finally:
                given = max(given, live.items[:n], key=len)
                await self._open.leave(key, live)

    def _apart(self, key: str, produce: Produce) -> Elsewhere:
        """A stream that has not begun, for one listener only."""
        self.engine.announce("miss", key)
        unchecked = produce.by(produce.make)
        live = self._live(lambda live: self._pass_on(key, live, unchecked))
        return Elsewhere(live, leads=True)

    def _face(self, items: AsyncGenerator[Any]) -> Any:
        return items if self._colour is ASYNC else driven(items)


def _is_new(item: Item, n: int, given: list[Item]) -> bool:
    """Tell whether there are less than *n* items *given*; raise if the *n*th was another one."""
    if n > len(given):
        return True
    before = given[n - 1].payload
    if before is None or before != item.payload:
        raise StreamInterrupted(
            "the call that gave the first items was cut off, and another one gives others; "
            "call once more for a whole answer"
        )
    return False


def _is_async(answer: Any) -> bool:
    return hasattr(answer.__class__, "__anext__")
