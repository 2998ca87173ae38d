"""Copies of what a call was given: what is keyed is what is sent, whatever changes meanwhile."""

from __future__ import annotations

import copy
import dataclasses
from collections import deque
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel

from ._sdk import kind_of

__all__ = ["Ordered", "frozen", "ordered"]

_PARTS = (list, tuple, set, frozenset)


class Ordered(dict[Any, Any]):
    """A dict whose order counts in a key: a template may loop over it, a body may be a schema."""

    def __cache_key__(self) -> list[Any]:
        return list(self.items())

    def __cache_shown__(self) -> dict[Any, Any]:
        return dict(self)


def frozen(value: Any) -> Any:
    """Give a copy of a container, with copies of those in it; anything else as it is."""
    kind = kind_of(value)
    if kind is dict:
        return {name: frozen(each) for name, each in value.items()}
    if kind in _PARTS:
        return _of(kind, map(frozen, value))
    return _copied(value) if _may_change(value) else value


def _may_change(value: Any) -> bool:
    is_data = dataclasses.is_dataclass(value) and not isinstance(value, type)
    return is_data or isinstance(value, (dict, *_PARTS, deque, bytearray, BaseModel))


def _copied(value: Any) -> Any:
    try:
        return copy.deepcopy(value)
    except Exception:  # what can't be copied has no key as a rule, and is sent as it is
        return value


def ordered(value: Any) -> Any:
    """Give *value* with `Ordered` dicts in place of plain ones."""
    kind = kind_of(value)
    if kind is dict:
        return Ordered((name, ordered(each)) for name, each in value.items())
    if kind in (list, tuple):
        return _of(kind, map(ordered, value))
    return value


def _of(kind: Any, parts: Iterable[Any]) -> Any:
    return kind(parts)
