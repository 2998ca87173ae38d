"""What cached functions do for a while: call past the cache, make answers anew, or never call."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import Literal

Mode = Literal["bypass", "refresh", "offline"]

VARIABLE = "INSTRUCTOR_CACHE_MODE"
_MODES: dict[str, Mode] = {"bypass": "bypass", "refresh": "refresh", "offline": "offline"}

# The blocks that are open here, the innermost last.
_open: ContextVar[tuple[_Block, ...]] = ContextVar("modes", default=())
opened = _open.get


def bypass() -> AbstractContextManager[None]:
    """Give a block in which cached functions are called, and nothing is read or stored.

    As for the other modes, it counts for what is called in the block: in this thread or task, in
    those that `cache_map` makes of it, and in tasks begun there. Of nested blocks the innermost
    counts. A generator that yields inside the block is left with it open: what calls it is in the
    block until it goes on, which is how a fixture or a context manager passes the mode on.
    """
    return _Block("bypass")


def refresh() -> AbstractContextManager[None]:
    """Give a block in which cached functions are called, and the answers replace what is stored."""
    return _Block("refresh")


def offline() -> AbstractContextManager[None]:
    """Give a block in which cached functions answer from what is stored, or raise `CacheMiss`.

    They are not called, whatever happens. An answer that has expired but is still kept is given.
    """
    return _Block("offline")


def mode() -> Mode | None:
    """Give the mode of the innermost block, else the one in ``INSTRUCTOR_CACHE_MODE``, else None.

    Raises ValueError if that is none.
    """
    for block in reversed(opened()):
        if not block.is_lost:
            return block.mode
    return from_environment()


def from_environment() -> Mode | None:
    """Give the mode that the environment names, if any; raise ValueError for what is none."""
    found = os.environ.get(VARIABLE, "").strip().lower()
    if found and found not in _MODES:
        raise ValueError(
            f"{VARIABLE} is {found!r}; it must be {', '.join(_MODES)}, or empty: "
            f"set one of them, or unset it"
        )
    return _MODES.get(found)


class _Block(AbstractContextManager[None]):
    """An open block. It may be closed out of turn, or in another context, as in generators.

    Attributes:
        is_lost: Whether it ended where it could not be taken out of the context it was opened in.
    """

    __slots__ = ("is_lost", "mode")

    def __init__(self, mode: Mode) -> None:
        self.mode: Mode = mode
        self.is_lost = False

    def __enter__(self) -> None:
        if self.is_lost or self in opened():
            raise RuntimeError(f"found a block that was used before; write `with {self.mode}():`")
        _open.set((*opened(), self))

    def __exit__(self, *_: object) -> None:
        blocks = opened()
        self.is_lost = self not in blocks
        if not self.is_lost:
            _open.set(tuple(block for block in blocks if block is not self))
