"""What lies in a result, at any depth.

A result is a user's own, and may be of any shape: none of its code is run to look into it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from types import MemberDescriptorType
from typing import Any

_DEEPEST = 8  # things in one another that are looked into
_MOST = 10_000  # things in all

_PLAIN = {type(None), bool, int, float, complex, str, bytes, bytearray}
_DICT: Any = dict  # whose methods are not those of a user's own kind of dict
_CONTAINERS: Any = (list, tuple, deque, set, frozenset)
_MODELS = ("__pydantic_fields__", "__dataclass_fields__", "__attrs_attrs__")


def _none(_: type) -> bool:
    return False


def things_in(result: Any, is_closed: Callable[[type], bool] = _none) -> Iterator[Any]:
    """The result, its parts, and theirs; what is of a closed class is not looked into."""
    level, opened = [result], set[int]()
    for _ in range(_DEEPEST + 1):
        inner: list[Any] = []
        for thing in level:
            yield thing
            is_new = id(thing) not in opened and len(opened) < _MOST
            if is_new and not is_closed(class_of(thing)):
                parts = [part for part in _parts(thing) if type(part) not in _PLAIN]
                opened.update([id(thing)] if parts else [])
                inner += parts
        level = inner


def class_of(thing: Any) -> Any:
    """Its true class, whatever it says of itself."""
    return type(thing)  # pyright: ignore[reportUnknownVariableType]


def own(thing: Any) -> dict[str, Any]:
    """Its attributes; empty if it has none."""
    try:
        held: dict[str, Any] = object.__getattribute__(thing, "__dict__")
    except AttributeError:
        return {}
    return held


def _parts(thing: Any) -> Iterable[Any]:
    """What a container holds, and what the fields of a model do."""
    kind = class_of(thing)
    if issubclass(kind, dict):
        return chain(_DICT.values(thing))
    if any(name in vars(cls) for cls in kind.__mro__ for name in _MODELS):
        return chain(own(thing).values(), _slots(thing))
    iterate: Any = next((base.__iter__ for base in _CONTAINERS if issubclass(kind, base)), None)
    return chain(iterate(thing)) if iterate else ()


def _slots(thing: Any) -> Iterator[Any]:
    """The values in a model's slots; Pydantic's private and extra ones lie in such."""
    classes: tuple[type, ...] = class_of(thing).__mro__
    for cls in classes:
        for slot in vars(cls).values():
            if type(slot) is MemberDescriptorType:
                try:
                    yield slot.__get__(thing)
                except AttributeError:  # not set yet
                    continue
