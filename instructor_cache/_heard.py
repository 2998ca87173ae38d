"""What providers said during a call, of which its answer need not keep anything.

instructor reads the chunks of a stream and gives models: how the stream ended, no model tells.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from itertools import chain
from typing import Any

# The last chunks tell how a stream ended, and of a refusal, which goes on to the end; to look into
# all of them would hold up an event loop.
_LAST = 8

Ear = deque[Any]

# The ears of the calls under way, each call inside the one before.
_heard: ContextVar[tuple[list[Ear], ...]] = ContextVar("heard", default=())


@contextmanager
def hearing() -> Generator[None]:
    """Have what is said in the block `heard`, until its end, and in the blocks around it."""
    token = _heard.set((*_heard.get(), []))
    try:
        yield
    finally:
        with suppress(ValueError):  # a task destroyed with its loop has lost its context
            _heard.reset(token)


def be_unheard() -> None:
    """Have nothing `heard` any more of what is said in this context."""
    _heard.set(())


def new_ear() -> Ear | None:
    """Give where to put down what one request is answered; None if nobody judges it."""
    ear = Ear(maxlen=_LAST)
    for ears in (blocks := _heard.get()):
        ears.append(ear)
    return ear if blocks else None


def ears() -> list[Ear]:
    """Give those of the call, for who takes it over."""
    blocks = _heard.get()
    return [*blocks[-1]] if blocks else []


def take_over(given: list[Ear]) -> None:
    """Have heard what *given* hear."""
    if blocks := _heard.get():
        blocks[-1].extend(given)


def heard() -> Iterator[Any]:
    """Give what was said to all requests of the call."""
    return chain.from_iterable(ears())
