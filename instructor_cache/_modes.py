"""What cached functions do for a while: call past the cache, make answers anew, or never call."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from functools import partial
from operator import contains
from threading import RLock
from typing import Any

from ._stand_in import Mode, stand_in

VARIABLE = "INSTRUCTOR_CACHE_MODE"
_MODES: dict[str, Mode] = {"bypass": "bypass", "refresh": "refresh", "offline": "offline"}

# The blocks that are open here, the innermost last.
_open: ContextVar[tuple[_Use, ...]] = ContextVar("modes", default=())
opened = _open.get


def bypass() -> AbstractContextManager[None]:
    """Give a block in which cached functions are called, and nothing is read or stored.

    As for the other modes, it counts for what is called in the block: in this thread or task, in
    those that `cache_map` makes of it, and in tasks begun there. A generator function is called, as
    Python has it, when its first item is asked for. Of nested blocks the innermost counts, unless
    one is offline. A generator that yields inside the block is left with it open: what calls it is
    in the block until it goes on, which is how a fixture or a context manager passes the mode on.
    What is given may be kept, and opened as often as is wanted, in many threads and tasks at once.
    """
    return _Block("bypass")


def refresh() -> AbstractContextManager[None]:
    """Give a block in which cached functions are called, and the answers replace what is stored."""
    return _Block("refresh")


def offline() -> AbstractContextManager[None]:
    """Give a block in which cached functions answer from what is stored, or raise `CacheMiss`.

    They are not called, whatever happens: not in a block of another mode inside this one, nor where
    ``INSTRUCTOR_CACHE_MODE`` is offline. An answer that has expired but is still kept is given.
    """
    return _Block("offline")


def mode() -> Mode | None:
    """Give the mode of the innermost block, else the one in ``INSTRUCTOR_CACHE_MODE``, else None.

    Offline counts wherever it is said: nothing inside undoes it. What stands in for all backends
    has a word in it. Raises ValueError if the environment names none.
    """
    modes: list[Mode | None] = [use.block.mode for use in opened() if not use.is_lost]
    modes.insert(0, from_environment())
    wanted = "offline" if "offline" in modes else modes[-1]
    one = stand_in()
    return wanted if one is None else one.mode(wanted)


def from_environment() -> Mode | None:
    """Give the mode that the environment names, if any; raise ValueError for what is none."""
    if not is_set():
        return None
    found = os.environ.get(VARIABLE, "").strip().lower()
    if found and found not in _MODES:
        raise ValueError(
            f"{VARIABLE} is {found!r}; it must be {', '.join(_MODES)}, or empty: "
            f"set one of them, or unset it"
        )
    return _MODES.get(found)


def _is_set_slowly() -> bool:
    return VARIABLE in os.environ


def _look() -> Callable[[], bool]:
    """Give what tells whether the variable is set, which every hit asks."""
    try:  # os.environ itself takes twenty times as long over what is not there
        environ: Any = os.environ
        return partial(contains, environ._data, environ.encodekey(VARIABLE))
    except AttributeError:
        return _is_set_slowly


is_set = _look()


@contextmanager
def as_of(uses: tuple[_Use, ...]) -> Generator[None]:
    """Have the blocks count that were *opened* at another moment."""
    token = _open.set(uses)
    try:
        yield
    finally:
        _open.reset(token)


class _Use:
    """A block that was opened; closed out of turn, maybe, or elsewhere, as in generators.

    Attributes:
        is_lost: Whether it ended where it could not be taken out of the context it was opened in.
    """

    __slots__ = ("_token", "block", "is_lost")

    def __init__(self, block: _Block) -> None:
        self.block, self.is_lost = block, False
        self._token = _open.set((*opened(), self))

    def ends(self, block: _Block) -> bool:
        """End it, if it is one of the *block* that was opened in this context."""
        if self.block is not block or self.is_lost:
            return False
        uses = opened()
        try:
            _open.reset(self._token)
        except (ValueError, RuntimeError):  # of another context, which may have ended it
            return False
        _open.set(tuple(use for use in uses if use is not self))  # others may end later
        return True


class _Block(AbstractContextManager[None]):
    """A mode for a while, as often as it is opened: within itself, or in many threads or tasks."""

    def __init__(self, mode: Mode) -> None:
        self.mode: Mode = mode
        self._lock = RLock()  # garbage that is collected meanwhile may end a use
        self._uses = set[_Use]()
        self._astray = 0  # uses that ended in another context: which of them, none can tell

    def __enter__(self) -> None:
        with self._lock:
            self._uses.add(_Use(self))

    def __exit__(self, *_: object) -> None:
        ended = next((use for use in reversed(opened()) if use.ends(self)), None)
        with self._lock:
            self._astray += ended is None
            self._uses.discard(ended)
            if len(self._uses) == self._astray:
                self._lose()

    def _lose(self) -> None:
        for use in self._uses:
            use.is_lost = True
        self._uses.clear()
        self._astray = 0
