"""The raw answers that a client attached to a result, taken off before it is stored, and put back.

instructor sets `_raw_response` and `_total_usage` on models and on its list type, and hands out
`(model, completion)`. A raw answer is known by its path in the result, and stored once however
often it occurs.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from pydantic import BaseModel

from ._kinds import (
    class_of,
    is_dataclass_instance,
    is_dict,
    is_list,
    is_named_tuple,
    is_plain_list,
    is_tuple,
    items_of,
    rebuilt,
)
from ._raw import Raw, RawCompletion, dump_raw, is_sdk_model, load_raw
from ._state import ModelState, attributes, build, build_model, model_state

__all__ = ["Attached", "attach"]

_NAMES = ("_raw_response", "_total_usage")
_LISTS = (
    "instructor.v2.dsl.response_list:ListResponse",
    "instructor.dsl.response_list:ListResponse",
)

Path = tuple[int | str, ...]


class Attached:
    """Collects what is taken off a result."""

    def __init__(self, *, raw_response: bool) -> None:
        self._raw_response = raw_response
        self._raws: dict[int, tuple[Any, Raw]] = {}
        self._places: list[tuple[Path, str | None, int]] = []
        self._lists: list[tuple[Path, str]] = []

    def __bool__(self) -> bool:
        return bool(self._places or self._lists)

    def encode(self) -> bytes:
        """Lines of JSON that `attach` understands: what is where, then a line for each raw."""
        raws = [raw for _, raw in self._raws.values()]
        index = {"raw": [raw.head for raw in raws], "at": self._places, "lists": self._lists}
        head = json.dumps(index, separators=(",", ":")).encode()
        return b"\n".join([head, *(raw.body for raw in raws)])

    def take_off(self, value: Any, path: Path = ()) -> Any:
        """The value without what is attached to it; the value itself if nothing is."""
        if isinstance(value, BaseModel):
            return self._from_model(value, path)
        if is_list(value):
            return self._from_list(value, path)
        if is_tuple(value) or is_named_tuple(value):
            items = self._from_items(dict(enumerate(items_of(tuple)(value))), path)
            return value if items is None else rebuilt(value, items.values())
        if is_dict(value) and type(value) is dict:
            bare = self._from_items(dict(enumerate(value.values())), path)
            return value if bare is None else dict(zip(value, bare.values(), strict=True))
        if is_dataclass_instance(value):
            held = self._from_items(attributes(value), path)
            return value if held is None else build(class_of(value), held)
        return value

    def _from_items(self, items: dict[Any, Any], path: Path) -> dict[Any, Any] | None:
        """The items without what is attached to them, or None if nothing is."""
        bare = {step: self.take_off(item, (*path, step)) for step, item in items.items()}
        return bare if any(bare[step] is not items[step] for step in items) else None

    def _from_list(self, value: list[Any], path: Path) -> list[Any]:
        name = f"{type(value).__module__}:{type(value).__qualname__}"
        items = self._from_items(dict(enumerate(items_of(list)(value))), path)
        if name in _LISTS:
            self._lists.append((path, name))
            self._note_all(vars(value), path)
            return list(items_of(list)(value)) if items is None else list(items.values())
        return value if items is None or type(value) is not list else list(items.values())

    def _from_model(self, model: BaseModel, path: Path) -> BaseModel | None:
        if is_sdk_model(model) and self._dumped(model).is_exact:
            self._note(model, path, None)
            return None
        held, extra, fields_set, private = model_state(model)
        own = {name: item for name, item in (private or {}).items() if is_sdk_model(item)}
        taken = self._note_all(own, path)
        here = self._note_all(held, path) | taken
        kept = {name: item for name, item in held.items() if name not in here}
        hidden = {name: item for name, item in (private or {}).items() if name not in taken}
        bare, bare_hidden = self._from_items(kept, path), self._from_items(hidden, path)
        if bare is None and bare_hidden is None and not here:
            return model
        if private is not None:
            private = private | dict.fromkeys(taken) | (bare_hidden or {})
        return build_model(type(model), ModelState(bare or kept, extra, fields_set, private))

    def _note_all(self, held: dict[str, Any], path: Path) -> set[str]:
        names = {name for name in _NAMES if held.get(name) is not None}
        if self._raw_response:
            for name in sorted(names):
                self._note(held[name], path, name)
        return names

    def _note(self, raw: Any, path: Path, name: str | None) -> None:
        self._dumped(raw)
        self._places.append((path, name, list(self._raws).index(id(raw))))

    def _dumped(self, value: Any) -> Raw:
        if id(value) not in self._raws:
            self._raws[id(value)] = value, dump_raw(value)
        return self._raws[id(value)][1]


def attach(value: Any, lines: bytes) -> Any:
    """The value with everything put back. Any exception at all may come of damaged lines."""
    head, *bodies = lines.split(b"\n")
    index = json.loads(head)
    raws = [load_raw(Raw(*parts)) for parts in zip(index["raw"], bodies, strict=True)]
    for path, name in index["lists"]:
        value = _at(value, path, partial(_as_list, name))
    for path, name, place in index["at"]:
        value = _at(value, path, partial(_put, name, raws[_checked(place)]))
    return value


def _checked(place: int) -> int:
    if place < 0:
        raise IndexError("a place before the first")
    return place


def _at(value: Any, path: list[Any], change: Callable[[Any], Any]) -> Any:
    """The value with the part at that path replaced by what `change` makes of it."""
    if not path:
        return change(value)
    if isinstance(value, BaseModel):
        private = value.__pydantic_private__ or {}
        held = private if path[0] in private else vars(value)
        _change_item(held, path[0], path[1:], change)
    elif is_dataclass_instance(value):
        object.__setattr__(value, path[0], _at(attributes(value)[path[0]], path[1:], change))
    elif is_list(value):
        _change_item(value, path[0], path[1:], change)
    elif is_dict(value):
        _change_item(value, list(value)[path[0]], path[1:], change)
    else:
        items: list[Any] = list(value)
        _change_item(items, path[0], path[1:], change)
        return rebuilt(value, items)
    return value


def _change_item(container: Any, key: Any, path: list[Any], change: Callable[[Any], Any]) -> None:
    container[key] = _at(container[key], path, change)


def _as_list(name: str, items: list[Any]) -> list[Any]:
    module, _, qualname = name.partition(":")
    cls = getattr(sys.modules.get(module), qualname, None) if name in _LISTS else None
    return items if cls is None else cls(items)


def _put(name: str | None, raw: Any, owner: Any) -> Any:
    if name is None:
        if owner is not None or not isinstance(raw, (BaseModel, RawCompletion)):
            raise ValueError("only where an answer of an SDK was taken off is one put back")
        return raw
    if name not in _NAMES:
        raise ValueError(f"nothing is attached as {name!r}")
    private = owner.__pydantic_private__ if isinstance(owner, BaseModel) else None
    if private and name in private:
        private[name] = raw
    elif not is_plain_list(owner):  # it would be of instructor's class if that were loaded
        object.__setattr__(owner, name, raw)
    return owner
