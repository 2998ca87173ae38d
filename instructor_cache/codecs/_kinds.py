"""Questions about values of any type, put so that a type checker understands the answers."""

from __future__ import annotations

from typing import Any, TypeGuard

__all__ = ["class_of", "is_class", "is_dict", "is_list", "is_plain_list", "is_tuple"]


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


def is_dict(value: Any) -> TypeGuard[dict[Any, Any]]:
    """Whether it is a dictionary, or of a subclass."""
    return isinstance(value, dict)


def is_class(value: Any) -> TypeGuard[type[Any]]:
    """Whether it is a class."""
    return isinstance(value, type)
