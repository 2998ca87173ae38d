"""Streams: what passed, stored item by item, and given again.

A payload is a mark and the payloads of the items, an empty line between two of them; a payload of
an item has none. Where the annotation promises no stream, only the final item is stored.
"""

from __future__ import annotations

from collections.abc import (
    AsyncGenerator,
    Callable,
    Generator,
    Iterable,
    Iterator,
    Sequence,
)
from contextlib import suppress
from copy import deepcopy
from typing import Any, cast

from typing_extensions import override

from ..protocols import Codec
from ._inside import holds_one_shot

__all__ = [
    "FINAL",
    "MARKS",
    "STREAM",
    "AsyncReplay",
    "Item",
    "Passed",
    "Replay",
    "Spent",
    "StreamCodec",
]

STREAM = b"*"
FINAL = b"."
MARKS = (STREAM, FINAL)
_BETWEEN = b"\n\n"


class Item:
    """One item that passed: its stored form, or why it has none.

    Who had the stream begun gets the item itself, every other one a copy as it was when it passed.
    """

    __slots__ = ("_codec", "_copy", "_raw", "_value", "error", "payload")

    def __init__(self, value: Any, codec: Codec) -> None:
        self._codec = codec
        self._value = [codec.settle(value)]
        self._copy: Any = None  # of an item that has no stored form
        self._raw = _raw_of(self._value[0])
        self.payload: bytes | None = None
        self.error: Exception | None = None
        try:
            self.payload = codec.encode(self._value[0])
        except Exception as error:
            self.error, self._copy = error, _copy_of(self._value[0])

    def given(self, *, leads: bool) -> Any:
        """Give the item itself to who had the stream begun, and to others a copy.

        Raises Spent where they could not read one.
        """
        if leads:
            with suppress(IndexError):  # one had it in another stream of this call
                return self._value.pop()
        if self.payload is None and holds_one_shot(self._copy):
            raise Spent
        return self.copy()

    def copy(self) -> Any:
        """Give a copy."""
        return _copy_of(self._copy) if self.payload is None else self._codec.decode(self.payload)

    def judged(self) -> Any:
        """Give a copy to who judges it, with the raw response, be that stored or not."""
        copy = self.copy()
        if self._raw is not None and _raw_of(copy) is None:
            with suppress(Exception):
                object.__setattr__(copy, "_raw_response", self._raw)
        return copy


class Spent(Exception):
    """An item holds an iterator, which is another reader's."""


def _copy_of(value: Any) -> Any:
    try:
        return deepcopy(value)
    except Exception:  # as for a lock: it can only be shared
        return value


def _raw_of(value: Any) -> Any:
    held: dict[str, Any] = getattr(value, "__dict__", {})
    return held.get("_raw_response")


class Passed(Sequence[Any]):
    """All items of a stream that ended, as they were when they passed.

    Attributes:
        items: They themselves; who takes them by their number gets copies.
        waited: Seconds in which nobody asked for the next item.
    """

    def __init__(self, items: list[Item], mark: bytes, waited: float = 0.0) -> None:
        self.items, self._mark, self.waited = items, mark, waited

    def __deepcopy__(self, memo: Any) -> Passed:
        return self  # what it gives is copied already

    @override
    def __getitem__(self, n: Any) -> Any:
        chosen = cast("Item | list[Item]", self.items[n])
        if isinstance(chosen, Item):
            return chosen.judged()
        return [item.judged() for item in chosen]

    @override
    def __len__(self) -> int:
        return len(self.items)

    def encode(self) -> bytes | None:
        """Give the form to store; None if there is nothing to. Raises what an item's form did."""
        kept = self.items[-1:] if self._mark == FINAL else self.items
        for item in kept:
            if item.error is not None:
                raise item.error
        if self._mark == FINAL and not kept:
            return None
        return self._mark + _BETWEEN.join([item.payload or b"" for item in kept])


class StreamCodec:
    """Stores the items of a stream by the codec of one item.

    Args:
        items: Turns an item into bytes and back.
        replay: Makes what a caller iterates over of the items.
    """

    def __init__(self, items: Codec, replay: Callable[[list[Any]], Any]) -> None:
        self._items, self._replay = items, replay

    def encode(self, result: Iterable[Any], /) -> bytes:
        """The items as bytes; raises Unstorable if one of them can't be stored exactly."""
        settled = map(self._items.settle, result)
        return STREAM + _BETWEEN.join(map(self._items.encode, settled))

    def decode(self, payload: bytes, /) -> Any:
        """The items once more, to be iterated over."""
        mark, body = payload[:1], payload[1:]
        if mark not in MARKS:
            raise ValueError("not a payload of a stream; delete it and call the function again")
        parts = body.split(_BETWEEN) if body else []
        return self._replay([self._items.decode(part) for part in parts])

    def settle(self, result: Any, /) -> Any:
        """The result as it is: its items are settled one by one."""
        return result


class Replay(Generator[Any, Any, None]):
    """Gives the items of a stream that was stored, like the generator that gave them first."""

    def __init__(self, items: Iterable[Any]) -> None:
        self._items: Iterator[Any] = iter(items)

    @override
    def send(self, value: Any, /) -> Any:
        return next(self._items)

    @override
    def throw(self, typ: Any, val: Any = None, tb: Any = None, /) -> Any:
        self._items = iter(())
        raise typ if val is None else val


class AsyncReplay(AsyncGenerator[Any, Any], Replay):
    """The same for coroutines, which may have given what is iterated over without waiting."""

    @override
    async def asend(self, value: Any, /) -> Any:
        for item in self._items:
            return item
        raise StopAsyncIteration

    @override
    async def athrow(self, typ: Any, val: Any = None, tb: Any = None, /) -> Any:
        self._items = iter(())
        raise typ if val is None else val
