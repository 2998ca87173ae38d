"""The provider's own answers in a result, wherever they lie in it.

A result is a user's own, and may be of any shape: none of its code is run to look into it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import chain
from types import MemberDescriptorType
from typing import Any

_DEEPEST = 8  # things in one another that are looked into
_MOST = 10_000  # things in all

# What a result of theirs is, is the provider's answer; a user's own model may have a `status` too.
_SDKS = {
    *("openai", "anthropic", "google", "vertexai", "groq", "cerebras", "mistralai", "cohere"),
    *("litellm", "together", "writerai", "fireworks", "xai_sdk"),
}

_PLAIN = {type(None), bool, int, float, complex, str, bytes, bytearray}
_DICT: Any = dict  # whose methods are not those of a user's own kind of dict
_CONTAINERS: Any = (list, tuple, deque, set, frozenset)
_MODELS = ("__pydantic_fields__", "__dataclass_fields__", "__attrs_attrs__")


def raws_of(result: Any) -> Iterator[Any]:
    """The provider's answers: the result itself, what is attached to it, those of its parts."""
    level, opened, is_raw = [result], set[int](), _Raws()
    for _ in range(_DEEPEST + 1):
        inner: list[Any] = []
        for thing in level:
            if (attached := _attached(thing)) is not None:
                yield attached
            if is_raw[_class_of(thing)]:
                yield thing
            elif id(thing) not in opened and len(opened) < _MOST:
                parts = [part for part in _parts(thing) if type(part) not in _PLAIN]
                opened.update([id(thing)] if parts else [])
                inner += parts
        level = inner


class _Raws(dict[type, bool]):
    """Tells of a class whether it is a provider's; a stream has one class for all its items."""

    def __missing__(self, kind: type) -> bool:
        roots = {cls.__module__.partition(".")[0] for cls in kind.__mro__}
        self[kind] = not roots.isdisjoint(_SDKS) or kind.__name__ == "RawCompletion"
        return self[kind]


def _attached(thing: Any) -> Any:
    """What instructor attached; what a model declares as private lies in a dict of Pydantic's."""
    is_dict = issubclass(_class_of(thing), dict)
    return _DICT.get(thing if is_dict else _own(thing), "_raw_response")


def _parts(thing: Any) -> Iterable[Any]:
    """What a container holds, and what the fields of a model do."""
    kind = _class_of(thing)
    if issubclass(kind, dict):
        return chain(_DICT.values(thing))
    if any(name in vars(cls) for cls in kind.__mro__ for name in _MODELS):
        return chain(_own(thing).values(), _slots(thing))
    iterate: Any = next((base.__iter__ for base in _CONTAINERS if issubclass(kind, base)), None)
    return chain(iterate(thing)) if iterate else ()


def _class_of(value: Any) -> Any:
    return type(value)  # pyright: ignore[reportUnknownVariableType]


def _own(thing: Any) -> dict[str, Any]:
    try:
        own: dict[str, Any] = object.__getattribute__(thing, "__dict__")
    except AttributeError:
        return {}
    return own


def _slots(thing: Any) -> Iterator[Any]:
    """The values in a model's slots; Pydantic's private and extra ones lie in such."""
    classes: tuple[type, ...] = _class_of(thing).__mro__
    for cls in classes:
        for slot in vars(cls).values():
            if type(slot) is MemberDescriptorType:
                try:
                    yield slot.__get__(thing)
                except AttributeError:  # not set yet
                    continue
