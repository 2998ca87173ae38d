"""What an object holds, read and put back without running any of its class's code."""

from __future__ import annotations

from dataclasses import is_dataclass
from functools import cached_property, lru_cache
from types import MemberDescriptorType
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel

__all__ = [
    "ModelState",
    "attributes",
    "build",
    "build_model",
    "holds_only_attributes",
    "model_state",
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
    """What the object's `__dict__` and `__slots__` hold, less the values of cached properties."""
    cls: Any = type(value)
    cached, slots = _anatomy(cls)
    held: dict[str, Any] = getattr(value, "__dict__", _NOTHING)
    if not slots and not cached:
        return held
    found = {name: held[name] for name in held if name not in cached}
    for name, slot in slots.items():
        try:
            found[name] = slot.__get__(value)
        except AttributeError:
            continue
    return found


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


@lru_cache(maxsize=1024)
def _anatomy(cls: type) -> _Anatomy:
    members = [pair for base in reversed(cls.__mro__) for pair in vars(base).items()]
    return _Anatomy(
        cached=frozenset(name for name, member in members if isinstance(member, cached_property)),
        slots={
            name: member
            for name, member in members
            if isinstance(member, MemberDescriptorType) and not name.startswith("__pydantic_")
        },
    )


_NOTHING: dict[str, Any] = {}
