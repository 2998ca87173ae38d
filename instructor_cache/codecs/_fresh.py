"""Answers of classes that a library made when it was called get the class that someone wrote.

instructor's `create()` derives `class UserDetail(UserDetail, ResponseSchema)` each time, so that
two equal answers never have one class, and neither can be pickled; `create_partial()` did the same
up to instructor 1.10 or so, and still gives snapshots that violate their model. What the SDKs'
`parse` answers is a `ParsedChatCompletion[UserDetail]`, or one of a TypeVar, which another process
does not have before it has asked by itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from pydantic import BaseModel

from ._kinds import (
    class_of,
    is_dataclass_instance,
    is_dict,
    is_list,
    is_named_tuple,
    is_tuple,
    items_of,
    rebuilt,
)
from ._reach import Reach, is_fresh, own_class
from ._state import attributes, build_model, model_state

__all__ = ["settle"]


def settle(value: Any, reach: Reach) -> Any:
    """The value with every instance of a fresh class turned into one of the user's class.

    Lists, dictionaries, models and dataclasses are changed in place; what is fresh itself is built
    anew, with all that it holds, and stays one object where it occurs twice.
    """
    return _Settling(reach).settle(value)


# Through these, nothing that a subclass redefined runs.
_DICT, _LIST = cast("tuple[Any, Any]", (dict, list))


class _Settling:
    def __init__(self, reach: Reach) -> None:
        self._reach = reach
        self._met: dict[int, tuple[Any, Any]] = {}  # the first keeps its id from being reused

    def settle(self, value: Any) -> Any:
        if id(value) in self._met:
            return self._met[id(value)][1]
        self._met[id(value)] = value, value
        settled = self._settle(value)
        self._met[id(value)] = value, settled
        return settled

    def _settle(self, value: Any) -> Any:
        if isinstance(value, BaseModel):
            return self._settle_model(value)
        if is_tuple(value) or is_named_tuple(value):
            return self._settle_tuple(value)
        if is_dict(value):
            self._settle_items(value, _DICT.__setitem__, items_of(dict)(value))
        elif is_list(value):
            self._settle_items(value, _LIST.__setitem__, enumerate(items_of(list)(value)))
        elif is_dataclass_instance(value):
            self._settle_items(value, object.__setattr__, attributes(value).items())
        return value

    def _settle_items(self, owner: Any, put: Any, items: Iterable[tuple[Any, Any]]) -> None:
        for key, item in list(items):
            settled = self.settle(item)
            if settled is not item:
                put(owner, key, settled)

    def _settle_tuple(self, value: Any) -> Any:
        items = tuple(items_of(tuple)(value))
        settled = tuple(map(self.settle, items))
        if all(new is old for new, old in zip(settled, items, strict=True)):
            return value
        return rebuilt(value, settled)

    def _settle_model(self, model: BaseModel) -> BaseModel:
        held, extra, _, private = model_state(model)
        for part in (held, extra, private):
            self._settle_items(part, _DICT.__setitem__, (part or {}).items())
        cls = class_of(model)
        if cls in self._reach or not is_fresh(cls) or not self._reach.leads_to(own_class(cls)):
            return model
        return cast("BaseModel", build_model(own_class(cls), model_state(model)))
