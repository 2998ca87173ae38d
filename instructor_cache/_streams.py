"""Answers that come item by item: shared live on a miss, given again at once on a hit."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from functools import partial
from threading import RLock
from time import perf_counter
from typing import Any
from weakref import WeakValueDictionary

from ._bridge import ASYNC, Colour
from ._engine import Engine
from ._flights import Changed, is_outdated, led_by
from ._fork import renew_after_fork
from ._heard import ears, take_over
from ._keeper import Elsewhere
from ._live import Alone, Gone, Live, SyncLive
from ._maker import Produce
from ._miss import MISS
from ._sources import Source, driven
from ._stand_in import stand_in
from .codecs import Item, Passed, Spent
from .errors import InstructorCacheWarning, StreamInterrupted
from .returns import ReturnType

Begin = Callable[[], Live]


class Streams:
    """The streams of one function, and its answers that may turn out to be streams.

    Attributes:
        engine: What keeps them.
    """

    def __init__(self, engine: Engine, returned: ReturnType, colour: Colour) -> None:
        self.engine, self._returned, self._colour = engine, returned, colour
        self._open: WeakValueDictionary[str, Live] = WeakValueDictionary()
        self._renew()
        renew_after_fork(self, Streams._renew)

    def _renew(self) -> None:
        self._lock = RLock()  # who leaves may be garbage that is collected while it is held
        self._open.clear()

    async def recall(self, key: str, produce: Produce) -> Any:
        """Give the answer for *key*: the function's value, or what to iterate over."""
        landed, first = self.engine.flights.landed, None
        if (answer := await self.engine.hit(key, partial(self.whole, produce))) is not MISS:
            return answer
        await self._let_go(key)
        if (live := self._joinable(key)) is None and not self._returned.is_lazy:
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
        if (live := self._joinable(key)) is not None:
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
        with self._lock:
            self._open[key] = live
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
            live, leads = await self._join(key, begin, first)
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
                await self._leave(key, live)

    def _apart(self, key: str, produce: Produce) -> Elsewhere:
        """A stream that has not begun, for one listener only."""
        self.engine.announce("miss", key)
        unchecked = produce.by(produce.make)
        live = self._live(lambda live: self._pass_on(key, live, unchecked))
        return Elsewhere(live, leads=True)

    def _joinable(self, key: str) -> Live | None:
        live = self._open.get(key)
        if live is None or live.has_ended:
            return None
        if not live.is_alive:
            self._bury(key, live)
            return None
        return None if self.engine.stack.forgotten.has_hit(key, live.since) else live

    async def _is_forgotten(self, key: str, live: Live) -> bool:
        """Whether *key* was forgotten, here or elsewhere, since the call of *live* began."""
        ask, forgotten = live.flight.is_outdated, self.engine.stack.forgotten
        return forgotten.has_hit(key, live.since) or (ask is not None and await ask())

    async def _let_go(self, key: str) -> None:
        """Have nobody join a stream that began before other processes forgot what it answers."""
        if (live := self._open.get(key)) is not None and await is_outdated(live.flight):
            self._bury(key, live)

    def _bury(self, key: str, live: Live) -> None:
        """Have nobody join *live* any more."""
        with self._lock:
            if self._open.get(key) is live:
                del self._open[key]
                self.engine.flights.forget(key)

    async def _join(self, key: str, begin: Begin, first: Elsewhere | None) -> tuple[Live, bool]:
        """The stream to listen to, and whether this listener had it begun."""
        if first is None:
            await self._let_go(key)
        with self._lock:
            if first is not None:
                live, leads = first
            elif (joinable := self._joinable(key)) is not None:
                live, leads = joinable, False
            else:
                live, leads = begin(), True
                self._open[key] = live
            live.listeners += not leads  # who had it begun is counted from the beginning
        return live, leads

    async def _leave(self, key: str, live: Live) -> None:
        with self._lock:
            live.listeners -= 1
            is_given_up = live.listeners == 0 and not live.has_ended
            if (is_given_up or live.has_ended) and self._open.get(key) is live:
                del self._open[key]
        if is_given_up:
            await live.close()

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
