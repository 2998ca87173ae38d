"""Questions about values of any type, put so that a type checker understands the answers."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from dataclasses import is_dataclass
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from pathlib import PosixPath, PurePosixPath, PureWindowsPath, WindowsPath
from typing import Any, TypeGuard, cast

__all__ = [
    "WRITTEN_AS_TEXT",
    "class_of",
    "is_class",
    "is_dataclass_instance",
    "is_dict",
    "is_list",
    "is_named_tuple",
    "is_plain_list",
    "is_tuple",
    "items_of",
    "rebuilt",
]

# Their text tells all of them, and what else they hold are shortcuts to it.
WRITTEN_AS_TEXT: tuple[type[Any], ...] = (
    *(PosixPath, PurePosixPath, PureWindowsPath, WindowsPath),
    *(IPv4Address, IPv4Interface, IPv4Network),
    *(IPv6Address, IPv6Interface, IPv6Network),
)


def class_of(value: object) -> Any:
    """The class of any value."""
    return type(value)


def is_list(value: Any) -> TypeGuard[list[Any]]:
    """Whether it is a list, or of a subclass."""
    return isinstance(value, list)


def is_plain_list(value: Any) -> TypeGuard[list[Any]]:
    """Whether it is a list itself, not of a subclass."""
    return type(value) is list


def is_tuple(value: Any) -> TypeGuard[tuple[Any, ...]]:
    """Whether it is a tuple itself, not a named one."""
    return type(value) is tuple


def is_named_tuple(value: Any) -> bool:
    """Whether it is a named tuple, or another that has nothing but its items."""
    return class_of(value).__bases__ == (tuple,) and not hasattr(value, "__dict__")


def rebuilt(value: Any, items: Iterable[Any]) -> Any:
    """A tuple of the same class with other items; no code of the class runs."""
    return _TUPLE.__new__(class_of(value), items)


def is_dataclass_instance(value: Any) -> bool:
    """Whether it is an instance of a dataclass, rather than the class."""
    return is_dataclass(value) and not is_class(value)


def is_dict(value: Any) -> TypeGuard[dict[Any, Any]]:
    """Whether it is a dictionary, or of a subclass."""
    return isinstance(value, dict)


def is_class(value: Any) -> TypeGuard[type[Any]]:
    """Whether it is a class."""
    return isinstance(value, type)


def items_of(base: Any) -> Callable[[Any], Iterable[Any]]:
    """What gives the items of a container as its builtin base has them, pairs if it is a mapping.

    A subclass may have an `__iter__` or `items` of its own, which tells another story.
    """
    return _ITEMS[base]


_TUPLE = cast(Any, tuple)
_ITERABLES: tuple[Any, ...] = (list, tuple, set, frozenset, deque)
_MAPPINGS: tuple[Any, ...] = (dict, OrderedDict)
_ITEMS: dict[Any, Callable[[Any], Iterable[Any]]] = {
    **{base: base.__iter__ for base in _ITERABLES},
    **{base: base.items for base in _MAPPINGS},
}
