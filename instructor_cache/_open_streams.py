"""The streams that are under way, for equal calls to join instead of being made."""

from __future__ import annotations

from collections.abc import Callable
from threading import RLock
from typing import Any
from weakref import WeakValueDictionary

from ._flights import Flights, is_outdated
from ._forgotten import Forgotten
from ._fork import renew_after_fork
from ._keeper import Elsewhere
from ._live import Live

Begin = Callable[[], Live]


class OpenStreams:
    """Those of one function, by the keys of their calls."""

    def __init__(self, flights: Flights[Any], forgotten: Forgotten) -> None:
        self._flights, self._forgotten = flights, forgotten
        self._open: WeakValueDictionary[str, Live] = WeakValueDictionary()
        self._renew()
        renew_after_fork(self, OpenStreams._renew)

    def _renew(self) -> None:
        self._lock = RLock()  # who leaves may be garbage that is collected while it is held
        self._open.clear()

    def __len__(self) -> int:
        return len(self._open)

    def add(self, key: str, live: Live) -> None:
        """Have who asks for *key* from now on join *live*."""
        with self._lock:
            self._open[key] = live

    def joinable(self, key: str) -> Live | None:
        """Give the stream that who asks for *key* now may join."""
        live = self._open.get(key)
        if live is None or live.has_ended:
            return None
        if not live.is_alive:
            self._bury(key, live)
            return None
        return None if self._forgotten.has_hit(key, live.since) else live

    async def join(self, key: str, begin: Begin, first: Elsewhere | None) -> tuple[Live, bool]:
        """Give the stream to listen to, *first* or one to join or a new one, and whether this
        listener had it begun."""
        if first is None:
            await self.let_go(key)
        with self._lock:
            if first is not None:
                live, leads = first
            elif (joinable := self.joinable(key)) is not None:
                live, leads = joinable, False
            else:
                live, leads = begin(), True
                self._open[key] = live
            live.listeners += not leads  # who had it begun is counted from the beginning
        return live, leads

    async def leave(self, key: str, live: Live) -> None:
        """Listen no more; who is the last to leave a stream before its end closes it."""
        with self._lock:
            live.listeners -= 1
            is_given_up = live.listeners == 0 and not live.has_ended
            if (is_given_up or live.has_ended) and self._open.get(key) is live:
                del self._open[key]
        if is_given_up:
            await live.close()

    async def let_go(self, key: str) -> None:
        """Have nobody join a stream that began before other processes forgot what it answers."""
        if (live := self._open.get(key)) is not None and await is_outdated(live.flight):
            self._bury(key, live)

    def _bury(self, key: str, live: Live) -> None:
        """Have nobody join *live* any more."""
        with self._lock:
            if self._open.get(key) is live:
                del self._open[key]
                self._flights.forget(key)
