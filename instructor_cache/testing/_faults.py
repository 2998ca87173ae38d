"""What can go wrong with one operation of a backend, written once for both colours."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from math import inf
from random import Random
from threading import Lock
from types import TracebackType
from typing import Any, Literal

from typing_extensions import Self

Error = BaseException | type[BaseException]
Damage = Literal["flipped", "truncated", "empty", "foreign", "text"] | Callable[[bytes], Any]


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation on its way to the backend.

    Attributes:
        proceed: Carries it out, past the faults that come after this one.
        wait: Waits for a future for some seconds, in the operation's colour.
        foreign: Gives the value of another key than the given one, or None.
    """

    name: str
    proceed: Callable[..., Awaitable[Any]]
    wait: Callable[[Future[Any], float], Awaitable[bool]]
    foreign: Callable[[str], bytes | None]


class Fault:
    """A fault that is in force until it is ended; as a context manager it ends with its block.

    Attributes:
        struck: How many operations it has met.
    """

    def __init__(
        self, on: frozenset[str], times: int | None, when: Iterable[object] | None
    ) -> None:
        self.struck = 0
        self._on, self._times = on, times
        self._when = None if when is None else iter(when)
        self._lock = Lock()
        self._is_over = False
        self._held: dict[Future[None], None] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.end()

    def end(self) -> None:
        """Strike no more, and let go of the operations that it holds."""
        with self._lock:
            self._is_over = True
            held = list(self._held)
        for future in held:
            future.set_result(None)

    @property
    def is_done(self) -> bool:
        """Whether it can neither strike nor let go of anything any more."""
        return self._is_over and not self._held

    def meets(self, name: str) -> bool:
        """Whether it strikes an operation of this *name*, which then counts."""
        if name not in self._on:
            return False
        with self._lock:
            if self._is_over or not self._is_due():
                return False
            self.struck += 1
            self._is_over = self.struck == self._times
            return True

    def _is_due(self) -> bool:
        if self._when is None:
            return True
        try:
            return bool(next(self._when))
        except StopIteration:
            self._is_over = True
            return False

    async def hold(self, operation: Operation, seconds: float) -> None:
        """Keep *operation* waiting for *seconds*, or until the fault is ended."""
        future: Future[None] = Future()
        with self._lock:
            self._held[future] = None
        try:
            await operation.wait(future, seconds)
        finally:
            with self._lock:
                del self._held[future]

    async def strike(self, operation: Operation, *args: Any) -> Any:
        """Do what this fault does in the place of *operation*."""
        raise NotImplementedError


class Failing(Fault):
    """Raises; *first* carries the operation out before that."""

    def __init__(self, error: Error, first: bool, *schedule: Any) -> None:
        super().__init__(*schedule)
        self._error, self._first = error, first

    async def strike(self, operation: Operation, *args: Any) -> Any:
        if self._first:
            await operation.proceed(*args)
        raise fresh(self._error)


class Slow(Fault):
    """Lets time pass first."""

    def __init__(self, seconds: float, *schedule: Any) -> None:
        super().__init__(*schedule)
        self._seconds = seconds

    async def strike(self, operation: Operation, *args: Any) -> Any:
        await self.hold(operation, self._seconds)
        return await operation.proceed(*args)


class Silent(Fault):
    """Neither answers nor does anything."""

    async def strike(self, operation: Operation, *args: Any) -> Any:
        await self.hold(operation, inf)
        raise TimeoutError(f"{operation.name} was not answered")


class Damaging(Fault):
    """Changes the value that a get finds, or that a set or swap is given."""

    def __init__(self, damage: Damage, error: Error | None, *schedule: Any) -> None:
        super().__init__(*schedule)
        self._damage, self._error, self._random = damage, error, Random(0)

    async def strike(self, operation: Operation, *args: Any) -> Any:
        key, *rest = args
        if operation.name == "get":
            found = self._damaged(operation, key, await operation.proceed(key))
        elif operation.name == "get_many":
            values = zip(key, await operation.proceed(key), strict=True)
            found = [self._damaged(operation, one, value) for one, value in values]
        else:  # the value comes before the ttl
            rest[-2] = self._damaged(operation, key, rest[-2])
            found = await operation.proceed(key, *rest)
        if self._error is not None:
            raise fresh(self._error)
        return found

    def _damaged(self, operation: Operation, key: str, value: Any) -> Any:
        if self._damage == "foreign" and (value is not None or "get" in operation.name):
            other = operation.foreign(key)
            return value if other is None else other
        if not isinstance(value, bytes):  # nothing, or damaged already
            return value
        if callable(self._damage):
            return self._damage(value)
        if self._damage == "text":
            return value.decode("latin-1")
        if self._damage == "empty" or not value:
            return b""
        place = self._random.randrange(len(value))
        if self._damage == "truncated":
            return value[:place]
        return value[:place] + bytes([value[place] ^ 1 << place % 8]) + value[place + 1 :]


def fresh(error: Error) -> BaseException:
    """The error to raise, without the traceback of the last time."""
    return error() if isinstance(error, type) else error.with_traceback(None)
