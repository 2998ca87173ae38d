"""Copies what is cached from one backend to another, as often as it takes."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from inspect import iscoroutinefunction
from pathlib import Path
from typing import Any

from ._bridge import drive
from ._frames import callers_frame
from ._listing import count_keys
from ._mover import Mover, Transferred
from ._progress import Bar
from .errors import InstructorCacheWarning
from .keys import namespace
from .lifetimes import patience as checked_patience
from .ports import is_blocking
from .tiers import BackendLike, Tier, TieredCache, tiers_of

__all__ = ["Transferred", "atransfer", "transfer"]

Progress = bool | Callable[[Transferred], object]


def transfer(
    source: BackendLike,
    destination: BackendLike,
    *,
    prefix: str | None = None,
    progress: Progress = True,
    patience: float = 5.0,
    clock: Callable[[], float] = time.time,
) -> Transferred:
    """Copy the entries of *source* to *destination*, and give how many were copied and skipped.

    Each keeps the time that it has left. What is at the destination already stays, if it is as
    new; nothing is deleted at the source. So a transfer that was interrupted, or killed, goes on
    where it was when it is started again, and both stores may be in use meanwhile. What is to be
    forgotten meanwhile has to be invalidated at the source first, then at the destination. A
    destination that is bounded evicts as ever, and refuses what is larger than it takes.

    Args:
        source: A backend, its URL, a ready client, or a `TieredCache`, of which the farthest tier
            that is read is copied. It has to have ``scan(prefix)``.
        destination: The same; entries go to all tiers of a `TieredCache`, each for its *ttl* at
            most, but not to those that ``coherent=True`` keeps, which fill when they are read.
            Where a backend has no ``swap``, what others write in that very moment to the same key
            may be replaced.
        prefix: The *prefix* of the functions whose answers are copied, with a warning if there are
            none; None for those of all. The epochs of tags, which functions share, are copied
            always, where the destination has none. Tagged answers whose tags have another epoch at
            the destination are not copied.
        progress: True to draw a bar if standard error is a terminal, False not to; or what is
            called now and then with what is done so far.
        patience: Seconds for which an operation that fails is tried again; listing, too.
        clock: Seconds since the epoch; for tests.

    Raises:
        TransferInterrupted: A backend failed for longer than that; it tells what is done so far.
        TypeError: The source can't list its keys; or a backend is for coroutines only, as a ready
            async client is: `atransfer` takes those.
        ValueError: Source and destination are the same backend, or keep the same store.
        FileNotFoundError: The source is a folder that does not exist.
    """
    with ExitStack() as opened:
        tiers = _tiers(source, destination, opened)
        checked = (*tiers, *_checked(prefix, progress, patience, clock))
        for tier in (tiers[0], *tiers[1]):
            _check_sync(tier.backend)
        return drive(_move(*checked, for_async=False))


async def atransfer(
    source: BackendLike,
    destination: BackendLike,
    *,
    prefix: str | None = None,
    progress: Progress = True,
    patience: float = 5.0,
    clock: Callable[[], float] = time.time,
) -> Transferred:
    """Do what `transfer` does without blocking the event loop, for backends of every kind."""
    with ExitStack() as opened:
        tiers = _tiers(source, destination, opened)
        checked = (*tiers, *_checked(prefix, progress, patience, clock))
        return await _move(*checked, for_async=True)


async def _move(
    source: Tier,
    tiers: tuple[Tier, ...],
    prefix: str,
    shown: Progress,
    patience: float,
    clock: Callable[[], float],
    *,
    for_async: bool,
) -> Transferred:
    mover = Mover(source, tiers, patience, clock, for_async=for_async)
    bar = Bar() if shown is True else None
    if bar is None or not bar.is_seen:
        done = await mover.run(prefix, shown if callable(shown) else lambda _: None)
    else:
        total = await count_keys(source.backend, prefix, for_async=for_async)
        with bar:
            done = await mover.run(prefix, lambda done: bar.show(done.seen, total))
            bar.say(str(done))
    if prefix and not done.seen:
        _warn_of(prefix)
    return done


def _warn_of(prefix: str) -> None:
    message = (
        f"found no entries below {prefix!r} to copy; wanted a prefix that a decorator has: "
        f"check it, and add neither ':' nor '*'"
    )
    warnings.warn(message, InstructorCacheWarning, stacklevel=callers_frame()[1])


def _tiers(
    source: BackendLike, destination: BackendLike, opened: ExitStack
) -> tuple[Tier, tuple[Tier, ...]]:
    """The tier to copy from, and those to copy to."""
    if source is destination:
        raise _same(source)
    readable = [tier for tier in _open(source, opened) if tier.read]
    writable = tuple(
        tier for tier in _open(destination, opened) if tier.write and not tier.coherences
    )
    if not readable or not writable:
        raise ValueError(
            f"found no tier to {'write to' if readable else 'read from'}; wanted one at least: "
            f"leave out read=False or write=False"
        )
    if any(_is_one_store(tier.backend, readable[-1].backend) for tier in writable):
        raise _same(readable[-1].backend)
    _check_there(readable[-1].backend)
    return readable[-1], writable


def _is_one_store(one: Any, other: Any) -> bool:
    place = getattr(one, "place", None)
    return one is other or (place is not None and place == getattr(other, "place", None))


def _check_there(source: Any) -> None:
    kind, *where = getattr(source, "place", None) or ("", "")
    if kind == "disk" and not Path(where[0]).is_dir():
        raise FileNotFoundError(
            f"found no folder at {where[0]}; wanted the one of a DiskCache to copy from: "
            f"check its name"
        )


def _open(given: BackendLike, opened: ExitStack) -> tuple[Tier, ...]:
    tiers = tiers_of(given)
    is_ours = not isinstance(given, (str, Tier, TieredCache)) and tiers[0].backend is not given
    if is_ours and (close := getattr(tiers[0].backend, "close", None)) is not None:
        opened.callback(close)  # what was made of a ready client, which itself stays open
    return tiers


def _same(backend: Any) -> ValueError:
    return ValueError(
        f"found the same {type(backend).__name__} as source and destination; "
        f"wanted two: name another one to copy to"
    )


def _check_sync(backend: Any) -> None:
    if not is_blocking(backend):
        raise TypeError(
            f"found a {type(backend).__name__} that is for coroutines only; wanted backends for "
            f"blocking code: await atransfer(...), or asyncio.run(atransfer(...)) in a script"
        )


def _checked(
    prefix: str | None, progress: Progress, patience: float, clock: Callable[[], float]
) -> tuple[str, Progress, float, Callable[[], float]]:
    if not callable(clock):
        raise TypeError(f"clock is {clock!r}; it must be callable, as time.time is")
    seconds = checked_patience("patience", patience, least=0)
    return _spaced(prefix), _shown(progress), seconds, clock


def _spaced(prefix: str | None) -> str:
    if prefix is not None and not isinstance(prefix, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"prefix is {prefix!r}; it must be the text that a decorator has, or None")
    return namespace(prefix) if prefix else ""


def _shown(progress: Progress) -> Progress:
    if not isinstance(progress, bool) and not callable(progress):
        raise TypeError(f"progress is {progress!r}; it must be True, False or a callable")
    if iscoroutinefunction(progress) or iscoroutinefunction(type(progress).__call__):
        raise TypeError(f"progress is {progress!r}, which is async; it must be a plain callable")
    return progress
