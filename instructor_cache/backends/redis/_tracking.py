"""Who wants to hear what changes in a Redis, by whomever, and what they were told."""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise
from threading import Lock
from weakref import WeakKeyDictionary, ref

from ..._fork import renew_after_fork
from ...protocols import Listener
from ._ear import Ear
from ._links import closed_error
from ._masters import Masters


class Tracker:
    """Tells listeners what changes, from when they ask for it until they are gone."""

    def __init__(self, masters: Masters) -> None:
        self._masters = masters
        self._closed = False
        self._ear: Ear | None = None
        self._begin_anew()
        renew_after_fork(self, Tracker._leave_to_parent)

    def listen(self, listener: ref[Listener], prefix: str) -> None:
        """Have *listener* told what changes under *prefix*, from a moment that it is told, too.

        Never waits for a server.
        """
        with self._lock:
            if self._closed:
                raise closed_error()
            if (who := listener()) is None:
                return
            self._wanted.setdefault(who, {}).setdefault(prefix, False)
            if self._ear is None:
                self._ear = Ear(self, self._masters)
            self._ear.wake()

    def close(self) -> None:
        """Hear nothing any more; listeners are told that, too."""
        with self._lock:
            self._closed = True
            if self._ear is not None:
                self._ear.wake()

    # -- for the ear ---------------------------------------------------------------------

    def is_wanted(self) -> bool:
        """Whether anybody listens; if not, the ear is let go."""
        with self._lock:
            if not self._closed and len(self._wanted):
                return True
            self._ear = None
        self.tell_lost()
        return False

    def give_up(self) -> None:
        """Let the ear go, which is broken; whoever asks next gets a new one."""
        self.tell_lost()
        with self._lock:
            self._ear = None

    def prefixes(self) -> frozenset[str]:
        """Give what is to be heard: a server refuses prefixes of which one begins another."""
        with self._lock:
            wanted = sorted({prefix for each in self._wanted.values() for prefix in each})
        overlap = any(longer.startswith(one) for one, longer in pairwise(wanted))
        return frozenset([""] if overlap else wanted)

    def tell(self, keys: list[str] | None) -> None:
        """Tell everybody what has changed; None for everything."""
        for listener in self._listeners():
            listener.changed(keys)

    def tell_live(self, heard: frozenset[str]) -> None:
        """Tell those who wait for it that their prefixes are heard."""
        for listener in self._listeners():
            prefixes = self._wanted[listener]
            for prefix in [each for each, is_told in list(prefixes.items()) if not is_told]:
                if prefix in heard or "" in heard:
                    prefixes[prefix] = True
                    listener.live(prefix)

    def tell_lost(self) -> None:
        """Tell everybody that something may have gone unheard."""
        for listener in self._listeners():
            prefixes = self._wanted[listener]
            if any(prefixes.values()):
                prefixes.update(dict.fromkeys(list(prefixes), False))
                listener.lost()

    def _listeners(self) -> list[Listener]:
        with self._lock:
            return list(self._wanted)

    # -- fork ----------------------------------------------------------------------------

    def _begin_anew(self) -> None:
        self._lock = Lock()
        self._ear = None
        # Which prefixes each wants, and whether it was told that they are heard.
        self._wanted: WeakKeyDictionary[Listener, dict[str, bool]] = WeakKeyDictionary()

    def _leave_to_parent(self) -> None:
        if self._ear is not None:
            with suppress(Exception):
                self._ear.abandon()
        self._begin_anew()
