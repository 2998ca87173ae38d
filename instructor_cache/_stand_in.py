"""What every cached function of this process uses in place of its own backend, while it is set.

For tests: a cassette stands in, so that nothing is asked of a model or of Redis.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from hashlib import sha256
from threading import Lock
from typing import Any, Literal, TypeVar

from .errors import CacheMiss, UnkeyableArgument
from .protocols import Backend, Codec

T = TypeVar("T")
Mode = Literal["bypass", "refresh", "offline"]
Asker = dict[str, bytes]  # digests of an account and a server

# Who asks, while a key is made that does not tell.
_asking: ContextVar[Asker | None] = ContextVar("asking", default=None)


@dataclass(eq=False)
class StandIn:
    """A backend that stands in for all others.

    Attributes:
        is_final: Whether functions must not be called, not even for what it doesn't hold.
        name: What events call it.
        why: What a `CacheMiss` says: "... is not called", and why.
        remedy: Gives what it says is to be done about a key; about calls in general for None.
        check: Called with the key of each call, and with the codec of its answer; may raise what is
            wrong with the one that is there.
        sketch: Gives what is kept of the arguments of a call.
        losses: By the keys of calls that were made, what tells why there may be no answer to keep.
    """

    backend: Backend
    name: str
    is_final: bool
    why: str
    remedy: Callable[[str | None], str]
    check: Callable[[str, Codec], None]
    sketch: Callable[[Mapping[str, Any]], str]
    losses: dict[str, Callable[[], str]]
    _made: dict[int, tuple[object, Any]] = field(default_factory=dict[int, "tuple[object, Any]"])
    _askers: dict[str, Asker] = field(default_factory=dict[str, "Asker"])
    _lock: Lock = field(default_factory=Lock)

    def made(self, owner: object, make: Callable[[StandIn], T]) -> T:
        """Give what *make* made of it for *owner*, the same for every call."""
        known = self._made.get(id(owner))
        if known is None:
            known = self._made.setdefault(id(owner), (owner, make(self)))
        made: T = known[1]
        return made

    def key(self, make: Callable[[], str], codec: Codec) -> str:
        """Give the key that *make* makes, if what is there under it may be given to who asks."""
        asker: Asker = {}
        token = _asking.set(asker)
        try:
            key = make()
        finally:
            _asking.reset(token)
        if not self.is_final:
            self._tell_apart(key, asker)
        self.check(key, codec)
        return key

    def _tell_apart(self, key: str, asker: Asker) -> None:
        """Raise an error if somebody else has asked for that key, which does not say who asks."""
        with self._lock:
            first = self._askers.setdefault(key, asker)
        if others := [kind for kind in asker if asker[kind] != first.get(kind)]:
            raise UnkeyableArgument(
                f"found a call that was made before with another {' and '.join(others)}, which are "
                f"not told apart {self.why}, so that others can play it; wanted names for them: "
                f'cache_client(..., namespace="...") gives each client one that counts',
                "namespace",
            )

    async def watch(
        self, key: str, make: Callable[[], Awaitable[T]], unkept: Callable[[T], str]
    ) -> T:
        """Make a call; note its error, or what *unkept* says of an answer that is not kept."""
        self.losses[key] = lambda: "was given up"
        try:
            answer = await make()
        except BaseException as error:
            self.failed(key, error)
            raise
        self.losses[key] = lambda: unkept(answer)
        return answer

    def failed(self, key: str, error: BaseException) -> None:
        """Note that there is no answer because of an error."""
        name = type(error).__name__
        self.losses[key] = lambda: f"raised {name}"

    def mode(self, wanted: Mode | None) -> Mode | None:
        """Give the mode in its place of the one that is *wanted* here.

        What is called past the cache is recorded all the same, or it could not be played.
        """
        if self.is_final or wanted == "offline":
            return "offline"
        return wanted and "refresh"


# The last one is in use. A list that is empty costs a call next to nothing to look at.
STAND_INS: list[StandIn] = []


def stand_in() -> StandIn | None:
    """Give what stands in for all backends just now, if anything does."""
    if not STAND_INS:
        return None
    try:
        return STAND_INS[-1]
    except IndexError:
        return None


def unnamed(kind: str, thing: bytes) -> bytes | None:
    """Give what stands in a key for an account or a server while anything stands in, else None.

    The one that records has credentials, and a server of his own perhaps, that the one that plays
    has not: it is the same for all. Who it was is remembered until the key is made.
    """
    if not STAND_INS:
        return None
    if (asker := _asking.get()) is not None:
        asker[kind] = sha256(thing).digest()
    return kind.encode()


def refuse_uncached(function: str, reason: str) -> None:
    """Raise CacheMiss if anything stands in: what can't be recorded could not be played."""
    if (one := stand_in()) is not None:
        raise CacheMiss(
            f"found a call of {function} that can't be recorded ({reason}), so it is not made "
            f"{one.why}; leave it to a function that returns what can be",
            function,
        )


@contextmanager
def standing_in(one: StandIn) -> Generator[StandIn]:
    """Have every cached function use *one*, in all threads, until the end of the block."""
    STAND_INS.append(one)
    try:
        yield one
    finally:
        STAND_INS.remove(one)
