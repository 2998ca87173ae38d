"""Shapes that are known to be troublesome, told before they cause trouble."""

from __future__ import annotations

import collections.abc
from collections.abc import Iterator
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, Secret, SecretBytes, SecretStr

from ._raw import is_sdk_class
from ._reach import named_classes

__all__ = ["lint"]

FUNCTION: Any = collections.abc.Callable
_UNENCRYPTED = (
    "is secret, and stored only when the entry is encrypted;"
    " no cache does that yet, so leave the field out of the result"
)
_TROUBLES: dict[Any, str] = {
    SecretStr: _UNENCRYPTED,
    SecretBytes: _UNENCRYPTED,
    Secret: _UNENCRYPTED,
    Any: "may hold anything, and only plain data and the annotation's classes can be stored;"
    " say what it holds, for example `str | int | SomeModel`",
    FUNCTION: "is a function, which can't be stored; leave it out of the result",
    **dict.fromkeys(
        (
            collections.abc.Iterable,
            collections.abc.Iterator,
            collections.abc.Generator,
            collections.abc.AsyncIterator,
            collections.abc.AsyncGenerator,
        ),
        "can be read only once, so it can't be stored; make it a list",
    ),
}
_TROUBLES[object] = _TROUBLES[Any]


def lint(annotation: Any) -> list[str]:
    """One sentence for each troublesome field in the annotation's classes, with what to do."""
    found: dict[str, None] = {}
    for cls in named_classes(annotation):
        if not is_sdk_class(cls):
            for name, field_type in _field_types(cls):
                for trouble in _troubles(field_type):
                    found[f"{cls.__qualname__}.{name} {trouble}"] = None
    return list(found)


def _field_types(cls: Any) -> Iterator[tuple[str, Any]]:
    if issubclass(cls, BaseModel) and cls is not BaseModel:
        for name, field in cls.__pydantic_fields__.items():
            yield name, field.annotation
    else:
        for member in getattr(cls, "__dataclass_fields__", {}).values():
            yield member.name, member.type


def _troubles(annotation: Any) -> Iterator[str]:
    origin = get_origin(annotation)
    parts: list[Any] = [annotation, origin, *_generic_origin(annotation)]
    yield from (text for kind, text in _TROUBLES.items() if any(part is kind for part in parts))
    if origin is not FUNCTION:
        for argument in _types_in(annotation):
            yield from _troubles(argument)


def _types_in(annotation: Any) -> tuple[Any, ...]:
    """Its arguments, less what `Annotated` adds to a type."""
    arguments = get_args(annotation)
    return arguments[:1] if get_origin(annotation) is Annotated else arguments


def _generic_origin(annotation: Any) -> Iterator[type]:
    """`Secret` of `Secret[int]`, which Pydantic makes a class of its own."""
    if isinstance(annotation, type) and issubclass(annotation, Secret):
        yield Secret
