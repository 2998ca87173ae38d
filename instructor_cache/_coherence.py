"""Near tiers that drop what is changed elsewhere, because a farther tier tells of it.

Three races decide the order of things. What was read or written before a change is told may be
copied to a near tier after it: every change goes into a log before it is acted upon, and whoever
copies looks into the log afterwards. What changes while nobody tells of it stays unseen: then near
tiers keep everything for a moment only. And what was copied before telling began may have changed
already: it is dropped when telling begins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from threading import RLock
from typing import Any

from ._forgotten import Forgotten
from ._fork import renew_after_fork
from ._health import health_of
from ._reserved import TAG
from ._sweeper import Sweeper
from .errors import BackendClosed
from .events import logger

# Seconds that near tiers keep an entry while nobody tells of changes. One stale second is what a
# reader may not even notice; and each process asks the farther tier for a key once in it, not at
# every call.
BOUND = 1.0


class Coherence:
    """Keeps the tiers that are *nearer* than *far*, a `Trackable`, free of what was changed there.

    Raises ValueError if *far* can't tell. It never tells of what it does not hold.
    """

    def __init__(self, far: Any, nearer: Iterable[Any]) -> None:
        self.far = far
        given = list(nearer)
        self._local = [backend for backend in given if is_local(backend)]
        self._sweepers = [Sweeper(backend) for backend in given if not is_local(backend)]
        self._heard = Forgotten()
        self._listen: Callable[[str], None] = far.track(self)
        self._lock = RLock()
        self._watched: frozenset[str] = frozenset()
        self._live: frozenset[str] = frozenset()
        self._is_copy = False  # in a forked child, of what the parent heard of
        renew_after_fork(self, Coherence._begin_as_copy)

    def watch(self, key: str) -> int:
        """Have changes of *key*'s namespace told; give what `has_changed` must know of now."""
        if (prefix := _prefix(key)) not in self._watched:
            self._watch(prefix)
        return self._heard.count

    def has_changed(self, key: str, since: int) -> bool:
        """Whether *key* may have changed after `watch` gave *since*."""
        return self._heard.has_hit(key, since)

    def limit(self, key: str) -> float | None:
        """Give the longest time in seconds that nearer tiers may keep *key*; None for any."""
        return None if _prefix(key) in self._live and TAG in self._live else BOUND

    def trusted(self, look: Callable[[str], bytes | None]) -> Callable[[str], bytes | None]:
        """Give a *look* at a nearer tier that finds nothing before anybody watches it."""
        return lambda key: look(key) if self._watched else None

    def _watch(self, prefix: str) -> None:
        with self._lock:
            if self._is_copy:
                self._is_copy = False
                self._clear("")
        try:
            self._listen(prefix)
            self._listen(TAG)
        except Exception as error:  # it was closed, or no thread is to be had
            logger.debug("nobody tells what changes: %s", error)
            return
        with self._lock:
            self._watched |= {prefix, TAG}

    def _begin_as_copy(self) -> None:
        self._lock = RLock()
        self._watched = self._live = frozenset()
        self._is_copy = True

    # -- what the far tier tells, in a thread of its own ---------------------------------

    def changed(self, keys: list[str] | None, /) -> None:
        """Drop *keys*; None is for all."""
        if keys is None:
            self._clear("")
            return
        with self._heard.forgetting(*keys):
            for backend in self._local:
                for key in keys:
                    _delete(backend, key)
            for sweeper in self._sweepers:
                sweeper.delete(keys)

    def live(self, prefix: str, /) -> None:
        """Drop what may have changed before it was told, and trust what is read from now on."""
        self._clear(prefix, frozenset([prefix]))

    def lost(self) -> None:
        """Drop everything, and keep nothing for long."""
        self._live = frozenset()
        self._clear("")

    def _clear(self, prefix: str, live: frozenset[str] = frozenset()) -> None:
        with self._heard.forgetting(prefix):
            for backend in self._local:
                _clear(backend, prefix)
            for sweeper in self._sweepers:  # who asks next sees to it, and gets nothing before
                for each in [prefix] if prefix else self._watched:
                    _leave_clearing(sweeper.backend, each)
            self._live |= live


def _prefix(key: str) -> str:
    return key[: key.find(":") + 1]


def is_local(backend: object) -> bool:
    """Whether only this process sees what *backend* keeps."""
    return getattr(backend, "is_local", False) is True


def _delete(backend: Any, key: str) -> None:
    try:
        backend.delete(key)
    except BackendClosed:
        pass
    except Exception:
        health_of(backend).missed.add("delete", key, can_clear=hasattr(backend, "clear"))


def _clear(backend: Any, prefix: str) -> None:
    try:
        backend.clear(prefix)
    except BackendClosed:
        pass
    except Exception:
        _leave_clearing(backend, prefix)


def _leave_clearing(backend: Any, prefix: str) -> None:
    health_of(backend).missed.add("clear", prefix, can_clear=True)
