"""A backend that fails on demand, to see what a program does when its cache fails."""

from __future__ import annotations

from collections import Counter
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Iterator,
    Sequence,
)
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar

from .._bridge import drive, inline, wait_async, wait_blocking
from .._fork import renew_after_fork
from ..ports import adapt
from ._faults import Damage, Damaging, Error, Failing, Fault, Operation, Silent, Slow

F = TypeVar("F", bound=Fault)

_OPERATIONS = ("get", "get_many", "set", "delete", "clear", "scan", "swap")
_VALUED = ("get", "get_many", "set", "swap")
_WRITES = ("set", "swap")
_LOST = ConnectionError("the connection was lost before the reply came")
_DOWN = ConnectionError("the backend is down")


class FaultyBackend:
    """Passes everything on to *inner*, until it is told to fail.

    It offers what *inner* offers: either colour or both, ``get_many``, ``clear``, ``scan``,
    ``swap``. A fault begins with the call that names it and ends with its ``with`` block, with
    ``end()``, or when everything is healed; several may be in force, the one that began first
    strikes first.
    All of this may be done from any thread while others use the backend::

        faulty = FaultyBackend(MemoryCache())

        @instructor_cache(faulty)
        def extract(text: str) -> User: ...

        with faulty.failing(ConnectionError("down")):
            extract("ada")                          # the function's own answer
        with faulty.silent(on="get", times=1) as silence:
            extract("ada")                          # after the timeout
        assert silence.struck == 1
        faulty.slow(0.2, when=itertools.cycle([True, False]))  # every other operation
        ...
        faulty.heal()
        assert faulty.calls["get"] == 3

    Every fault takes the same options: *on*, the name of the operation or several names ("get",
    "get_many", "set", "delete", "clear", "scan", "swap", each for both colours; by default all of
    them); *times*, after how many operations it is over; *when*, a truth value for each operation
    that it could strike, from first to last, after which it is over. Answers are stored by "swap"
    in a backend that has it, and by "set" in others; a fault on "get" strikes "get_many" as well.

    Attributes:
        inner: The backend behind it.
        calls: How often each operation was begun, whatever became of it.
    """

    if TYPE_CHECKING:  # in truth an instance has those that *inner* has

        def get(self, key: str, /) -> bytes | None: ...
        def get_many(self, keys: Sequence[str], /) -> list[bytes | None]: ...
        def set(self, key: str, value: bytes, ttl: float | None, /) -> None: ...
        def delete(self, key: str, /) -> None: ...
        def clear(self, prefix: str, /) -> None: ...
        def scan(self, prefix: str, /) -> Iterator[str]: ...
        def swap(
            self, key: str, old: bytes | None, new: bytes | None, ttl: float | None, /
        ) -> bool: ...
        async def aget(self, key: str, /) -> bytes | None: ...
        async def aget_many(self, keys: Sequence[str], /) -> list[bytes | None]: ...
        async def aset(self, key: str, value: bytes, ttl: float | None, /) -> None: ...
        async def adelete(self, key: str, /) -> None: ...
        async def aclear(self, prefix: str, /) -> None: ...
        def ascan(self, prefix: str, /) -> AsyncIterator[str]: ...
        async def aswap(
            self, key: str, old: bytes | None, new: bytes | None, ttl: float | None, /
        ) -> bool: ...

    def __init__(self, inner: object) -> None:
        self.inner: Any = adapt(inner)
        self.calls: Counter[str] = Counter()
        self._faults: list[Fault] = []
        self._values: dict[str, bytes] = {}  # of the two keys last seen, to mix them up
        self._renew()
        renew_after_fork(self, FaultyBackend._renew)
        if hasattr(self.inner, "track"):
            self.track = self.inner.track
        for name in _OPERATIONS:
            if hasattr(self.inner, name) and not getattr(self.inner, "async_only", False):
                setattr(self, name, self._blocking(name, getattr(self.inner, name)))
            if hasattr(self.inner, f"a{name}") and not getattr(self.inner, "sync_only", False):
                make = self._async_scan if name == "scan" else partial(self._async, name)
                setattr(self, f"a{name}", make(getattr(self.inner, f"a{name}")))

    # -- faults --------------------------------------------------------------------------

    def failing(
        self,
        error: Error = _DOWN,
        /,
        *,
        on: str | Collection[str] = _OPERATIONS,
        times: int | None = None,
        when: Iterable[object] | None = None,
    ) -> Fault:
        """Raise *error* instead of doing anything."""
        return self._begin(Failing(error, False, _names(on), _count(times), when))

    def losing_replies(
        self,
        error: Error = _LOST,
        /,
        *,
        on: str | Collection[str] = _OPERATIONS,
        times: int | None = None,
        when: Iterable[object] | None = None,
    ) -> Fault:
        """Do what was asked, then raise *error*: the caller can't know that it was done."""
        return self._begin(Failing(error, True, _names(on), _count(times), when))

    def slow(
        self,
        seconds: float,
        /,
        *,
        on: str | Collection[str] = _OPERATIONS,
        times: int | None = None,
        when: Iterable[object] | None = None,
    ) -> Fault:
        """Do what was asked, *seconds* later, or at once when the fault ends."""
        return self._begin(Slow(seconds, _names(on), _count(times), when))

    def silent(
        self,
        *,
        on: str | Collection[str] = _OPERATIONS,
        times: int | None = None,
        when: Iterable[object] | None = None,
    ) -> Fault:
        """Do nothing and don't answer; who still waits when the fault ends gets TimeoutError."""
        return self._begin(Silent(_names(on), _count(times), when))

    def corrupt(
        self,
        damage: Damage = "flipped",
        /,
        *,
        on: str | Collection[str] = "get",
        times: int | None = None,
        when: Iterable[object] | None = None,
    ) -> Fault:
        """Damage what a get finds; or, with ``on=("set", "swap")``, what is stored.

        *damage* is "flipped" (one bit, somewhere), "truncated", "empty", "foreign" (the value of
        the key that was used before this one), "text" (a str of it), or a callable of the value.
        """
        return self._begin(Damaging(damage, None, _names(on, _VALUED), _count(times), when))

    def torn(
        self,
        error: Error | None = None,
        /,
        *,
        times: int | None = None,
        when: Iterable[object] | None = None,
    ) -> Fault:
        """Store only the beginning of a value; then raise *error*, if given."""
        return self._begin(Damaging("truncated", error, _names(_WRITES), _count(times), when))

    def heal(self) -> None:
        """End every fault, and let go of all who wait."""
        with self._lock:
            faults, self._faults = self._faults, []
        for fault in faults:
            fault.end()

    # -- the rest of a backend -----------------------------------------------------------

    @property
    def is_local(self) -> bool:
        """Whether only this process sees what *inner* keeps."""
        return bool(getattr(self.inner, "is_local", False))

    @property
    def closed(self) -> bool:
        """Whether *inner* was closed."""
        return bool(getattr(self.inner, "closed", False))

    def close(self) -> Any:
        """Heal, and close *inner* if it can be closed."""
        self.heal()
        close = getattr(self.inner, "close", None)
        return None if close is None else close()

    async def aclose(self) -> None:
        """Heal, and close *inner* for good, if it can be closed by coroutines."""
        self.heal()
        aclose = getattr(self.inner, "aclose", None)
        if aclose is not None:
            await aclose()

    # -- operations ----------------------------------------------------------------------

    def _begin(self, fault: F) -> F:
        with self._lock:
            self._faults.append(fault)
        return fault

    def _blocking(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def operation(*args: Any) -> Any:
            return drive(self._perform(name, inline(method), wait_blocking, args))

        return operation

    def _async(self, name: str, method: Callable[..., Awaitable[Any]]) -> Callable[..., Any]:
        async def operation(*args: Any) -> Any:
            return await self._perform(name, method, wait_async, args)

        return operation

    def _async_scan(self, method: Callable[[str], AsyncIterator[str]]) -> Any:
        async def keys(prefix: str) -> list[str]:
            return [key async for key in method(prefix)]

        perform = self._async("scan", keys)

        async def operation(prefix: str, /) -> AsyncIterator[str]:
            for key in await perform(prefix):
                yield key

        return operation

    async def _perform(
        self, name: str, method: Callable[..., Awaitable[Any]], wait: Any, args: tuple[Any, ...]
    ) -> Any:
        async def do(*args: Any) -> Any:
            found = await method(*args)
            if name in ("get", "get_many", "set"):
                self._remember(*_seen(name, args, found))
            return found

        proceed: Callable[..., Awaitable[Any]] = do
        for fault in reversed(self._met(name)):  # the last one is the nearest to the backend
            proceed = partial(fault.strike, Operation(name, proceed, wait, self._foreign))
        return await proceed(*args)

    def _met(self, name: str) -> list[Fault]:
        with self._lock:
            self.calls[name] += 1
            self._faults = [fault for fault in self._faults if not fault.is_done]
            return [fault for fault in self._faults if fault.meets(name)]

    def _remember(self, *seen: tuple[str, bytes | None]) -> None:
        with self._lock:
            for key, value in seen:
                if value is not None:
                    self._values.pop(key, None)
                    self._values[key] = value
            for old in list(self._values)[:-2]:
                del self._values[old]

    def _foreign(self, key: str) -> bytes | None:
        with self._lock:
            return next((value for k, value in self._values.items() if k != key), None)

    def _renew(self) -> None:
        self._lock = Lock()


def _seen(name: str, args: tuple[Any, ...], found: Any) -> Iterable[tuple[str, bytes | None]]:
    """The keys and values that went by in an operation."""
    if name == "get_many":
        return zip(args[0], found, strict=True)
    return [(args[0], found if name == "get" else args[1])]


def _names(on: str | Collection[str], known: tuple[str, ...] = _OPERATIONS) -> frozenset[str]:
    names = frozenset([on] if isinstance(on, str) else on)
    if not names or not names <= frozenset(known):
        raise ValueError(f"found on={on!r}; wanted one or more of: {', '.join(known)}")
    return names | {"get_many"} if "get" in names else names


def _count(times: int | None) -> int | None:
    if times is not None and times < 1:
        raise ValueError(f"times is {times!r}; it must be a number above 0, or None for ever")
    return times
