"""instructor answers with an instance of a class made for that one call; here it gets its own.

`create()` derives `class UserDetail(UserDetail, ResponseSchema)` each time, so that two equal
answers never have one class, and neither can be pickled.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from ._kinds import is_dict, is_list, is_tuple
from ._reach import Reach
from ._state import build_model, model_state

__all__ = ["settle"]


def settle(value: Any, reach: Reach) -> Any:
    """The value with every instance of a fresh class turned into one of the user's class.

    Lists, dictionaries and models are changed in place; what is fresh itself is built anew,
    with all that it holds.
    """
    return _settle(value, reach, set())


def _settle(value: Any, reach: Reach, seen: set[int]) -> Any:
    if id(value) in seen:
        return value
    seen.add(id(value))
    if isinstance(value, BaseModel):
        _settle_items(value.__dict__, value.__dict__.items(), reach, seen)
        return _of_own_class(value, reach)
    if is_tuple(value):
        return _settle_tuple(value, reach, seen)
    if is_dict(value):
        _settle_items(value, value.items(), reach, seen)
    elif is_list(value):
        _settle_items(value, enumerate(value), reach, seen)
    return value


def _settle_items(container: Any, items: Any, reach: Reach, seen: set[int]) -> None:
    for key, item in list(items):
        settled = _settle(item, reach, seen)
        if settled is not item:
            container[key] = settled


def _settle_tuple(value: tuple[Any, ...], reach: Reach, seen: set[int]) -> tuple[Any, ...]:
    settled = tuple(_settle(item, reach, seen) for item in value)
    changed = any(new is not old for new, old in zip(settled, value, strict=True))
    return settled if changed else value


def _of_own_class(model: BaseModel, reach: Reach) -> BaseModel:
    cls = type(model)
    own: type[Any] = cls.__bases__[0]
    if cls in reach or own not in reach or not _is_fresh(cls):
        return model
    settled: BaseModel = build_model(own, model_state(model))
    return settled


def _is_fresh(cls: type) -> bool:
    return any(base.__module__.partition(".")[0] == "instructor" for base in cls.__bases__[1:])
