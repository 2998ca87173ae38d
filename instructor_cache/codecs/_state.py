"""What an object holds, read and put back without running any of its class's code."""

from __future__ import annotations

from dataclasses import is_dataclass
from functools import cached_property, lru_cache
from types import (
    MemberDescriptorType,
)
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel

__all__ = [
    "ModelState",
    "attributes",
    "build",
    "build_model",
    "cached_names",
    "holds_only_attributes",
    "model_state",
    "place_of",
    "restore",
]

# Set as slots: RootModel hides two of them behind class attributes.
_EXTRA, _FIELDS_SET, _PRIVATE = (
    vars(BaseModel)[f"__pydantic_{name}__"] for name in ("extra", "fields_set", "private")
)

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)


class ModelState(NamedTuple):
    """Everything that a model instance is made of."""

    attributes: dict[str, Any]
    extra: dict[str, Any] | None
    fields_set: set[str]
    private: dict[str, Any] | None


def model_state(model: BaseModel) -> ModelState:
    """The state of a model; its dictionaries are the model's own, not copies."""
    return ModelState(
        attributes(model),
        model.__pydantic_extra__,
        model.__pydantic_fields_set__,
        model.__pydantic_private__,
    )


def build_model(cls: type[M], state: ModelState) -> M:
    """A model of that class and state. No validator, default or `__init__` runs."""
    model = build(cls, state.attributes)
    _EXTRA.__set__(model, state.extra)
    _FIELDS_SET.__set__(model, state.fields_set)
    _PRIVATE.__set__(model, state.private)
    return model


def attributes(value: object) -> dict[str, Any]:
    """What the object's `__dict__` and `__slots__` hold; not a copy if it has no slots."""
    cls: Any = type(value)
    slots = _anatomy(cls).slots
    held: dict[str, Any] = getattr(value, "__dict__", _NOTHING)
    if not slots:
        return held
    found = dict(held)
    for name, slot in slots.items():
        try:
            found[name] = slot.__get__(value)
        except AttributeError:
            continue
    return found


def cached_names(cls: type) -> frozenset[str]:
    """The attributes in which cached properties keep their values, which are made on demand."""
    return _anatomy(cls).cached


def place_of(cls: type, held: dict[str, Any], name: str) -> str:
    """The attribute as a step of a path: by name if the class tells of it, else by number.

    A name that came with the value is data, and data stays out of messages.
    """
    if name in _anatomy(cls).declared:
        return f".{name}"
    return f"[attribute {list(held).index(name)}]" if name in held else "[an attribute]"


def build(cls: type[T], held: dict[str, Any]) -> T:
    """An object of that class that holds those attributes."""
    value = object.__new__(cls)
    restore(value, held)
    return value


def restore(value: object, held: dict[str, Any]) -> None:
    """Put the attributes into the object."""
    cls: Any = type(value)
    slots = _anatomy(cls).slots
    for name in slots.keys() & held.keys():
        slots[name].__set__(value, held[name])
    rest = {name: held[name] for name in held if name not in slots}
    if rest or hasattr(value, "__dict__"):
        object.__setattr__(value, "__dict__", rest)


def holds_only_attributes(value: object) -> bool:
    """Whether its attributes are all there is to the object."""
    cls = type(value)
    if is_dataclass(cls) or hasattr(cls, "__attrs_attrs__"):
        return True
    if hasattr(cls, "__setstate__") or cls.__reduce_ex__ is not object.__reduce_ex__:
        return False
    if cls.__reduce__ is not object.__reduce__:
        return False
    if getattr(cls, "__getstate__", None) is not getattr(object, "__getstate__", None):
        return False
    return _is_reduced_to_attributes(value)


def _is_reduced_to_attributes(value: object) -> bool:
    try:
        parts: Any = object.__reduce_ex__(value, 2)
    except TypeError:
        return False
    _, arguments, _, items, pairs = parts
    return bool(arguments == (type(value),) and items is None and pairs is None)


class _Anatomy(NamedTuple):
    cached: frozenset[str]
    slots: dict[str, MemberDescriptorType]
    declared: frozenset[str]


@lru_cache(maxsize=1024)
def _anatomy(cls: type) -> _Anatomy:
    members: dict[str, Any] = {}
    slots: dict[str, MemberDescriptorType] = {}
    for base in reversed(cls.__mro__):
        members |= vars(base)
        if "__slots__" in vars(base):
            slots |= _slots(base)
    fields = _field_names(cls)
    cached = {name for name, member in members.items() if isinstance(member, cached_property)}
    return _Anatomy(frozenset(cached - fields), slots, frozenset(members.keys() | fields))


def _slots(base: type) -> dict[str, MemberDescriptorType]:
    return {
        name: member
        for name, member in vars(base).items()
        if isinstance(member, MemberDescriptorType) and not name.startswith("__pydantic_")
    }


def _field_names(cls: Any) -> set[str]:
    """What is a field stays one, even where a base has a property of that name."""
    names: set[str] = set()
    for base in cls.__mro__:
        for fields in _FIELDS:
            names.update(base.__dict__.get(fields) or ())
    return names


_FIELDS = (
    *("__pydantic_fields__", "__private_attributes__"),
    *("__dataclass_fields__", "__annotations__"),
)
_NOTHING: dict[str, Any] = {}
