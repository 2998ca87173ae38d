"""What is looked at in a value: its fields, and of many items the first and the last."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from ._names import is_secret
from ._parts import class_of

_FIRST, _LAST = 40, 10  # items of a container that are looked at


class _Gap:
    """Stands for the items that are not looked at."""


GAP: Any = _Gap()


def some(values: Any) -> Iterator[Any]:
    """The first and the last of *values*, or all if they are not many."""
    if len(values) <= _FIRST + _LAST + 1:
        return iter(values)
    first, last = islice(values, _FIRST), islice(reversed(values), _LAST)
    return chain(first, (GAP,), reversed(list(last)))


def as_shown(value: Any) -> Any:
    """Give what stands for *value*, if it is of a class of ours that others need not know."""
    show = getattr(class_of(value), "__cache_shown__", None)
    return value if show is None else show(value)


def fields_of(value: Any) -> list[tuple[str, Any, bool]] | None:
    """The fields of an object with their values, and whether they may be shown; None if opaque."""
    kind = class_of(value)
    held: Any = getattr(value, "__dict__", {})
    if issubclass(kind, BaseModel):
        own = kind.model_fields
        shown = [(n, held[n], _is_shown(field)) for n, field in own.items() if n in held]
        extra: dict[str, Any] = value.__pydantic_extra__ or {}
        return shown + [(n, v, True) for n, v in extra.items()]
    if hasattr(kind, "__dataclass_fields__"):
        names = {n: bool(field.repr) for n, field in kind.__dataclass_fields__.items()}
    elif hasattr(kind, "__attrs_attrs__"):
        names = {a.name: bool(a.repr) for a in kind.__attrs_attrs__}
    else:
        return None
    return [(n, getattr(value, n), shown) for n, shown in names.items() if hasattr(value, n)]


def _is_shown(field: FieldInfo) -> bool:
    """Whether neither its author nor another name of it says that it is secret."""
    aliases: Any = field.alias, field.serialization_alias, field.validation_alias
    names = (*aliases, *getattr(field.validation_alias, "choices", ()))
    return bool(field.repr) and not any(isinstance(n, str) and is_secret(n) for n in names)
