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

_heard: ContextVar[list[deque[Any]] | None] = ContextVar("heard", default=None)


@contextmanager
def hearing() -> Generator[None]:
    """Have what is said in the block `heard`, until its end."""
    token = _heard.set([])
    try:
        yield
    finally:
        with suppress(ValueError):  # a task destroyed with its loop has lost its context
            _heard.reset(token)


def new_ear() -> deque[Any] | None:
    """Give where to put down what one request is answered; None if nobody judges it."""
    if (ears := _heard.get()) is None:
        return None
    ears.append(deque(maxlen=_LAST))
    return ears[-1]


def heard() -> Iterator[Any]:
    """Give what was said to all requests of the call."""
    return chain.from_iterable(_heard.get() or ())
