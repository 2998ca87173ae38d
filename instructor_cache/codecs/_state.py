"""What an object holds, read and put back without running any of its class's code."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import cached_property, lru_cache
from itertools import chain
from types import (
    BuiltinFunctionType,
    FunctionType,
    MemberDescriptorType,
    MethodType,
    ModuleType,
    NoneType,
)
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

from pydantic import BaseModel, Secret, SecretBytes, SecretStr

__all__ = [
    "SECRETS",
    "ModelState",
    "attributes",
    "build",
    "build_model",
    "cached_names",
    "holds_one_shot",
    "holds_only_attributes",
    "holds_secret",
    "is_fit_for_json",
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


# --- what is inside ---

SECRETS = (SecretStr, SecretBytes, Secret)


def is_fit_for_json(value: Any) -> bool:
    """Whether a serializer would miss nothing of the value, and use up nothing of it."""
    return not _holds(value, _is_unfit)


def holds_one_shot(value: Any) -> bool:
    """Whether something in the value is used up by being read: a generator, a file, a `zip`."""
    return _holds(value, _is_one_shot)


def holds_secret(value: Any) -> bool:
    """Whether there is a secret of Pydantic's anywhere in the value."""
    return _holds(value, _is_secret)


class _Traits(NamedTuple):
    is_one_shot: bool
    cached: frozenset[str]
    reads: tuple[Callable[[Any], Iterable[Any]], ...]


def _is_one_shot(_: object, traits: _Traits) -> bool:
    return traits.is_one_shot


def _is_secret(part: object, _: _Traits) -> bool:
    return isinstance(part, SECRETS)


def _is_unfit(part: object, traits: _Traits) -> bool:
    if traits.is_one_shot or not traits.cached:
        return traits.is_one_shot
    return not traits.cached.isdisjoint(attributes(part))


def _holds(value: object, is_sought: Callable[[Any, _Traits], bool]) -> bool:
    pending: list[object] = [value]
    seen: set[int] = set()
    for part in pending:
        traits = _traits(type(part))
        if id(part) in seen:
            continue
        seen.add(id(part))
        if is_sought(part, traits):
            return True
        for read in traits.reads:
            pending += [inner for inner in read(part) if type(inner) not in _ENDS]
    return False


def _find_traits(cls: Any) -> _Traits:
    return _Traits(hasattr(cls, "__next__"), cached_names(cls), _reads(cls))


_traits: Callable[[Any], _Traits] = lru_cache(maxsize=1024)(_find_traits)


def _reads(cls: Any) -> tuple[Callable[[Any], Iterable[Any]], ...]:
    """What gives the parts of an instance, whatever its class makes of `__iter__`."""
    if issubclass(cls, _OUTSIDE):
        return ()
    if issubclass(cls, BaseModel):
        return (_model_values,)
    bases = [base for base in _READS if issubclass(cls, base)]
    return (*(read for base in bases for read in _READS[base]), _attribute_values)


def _attribute_values(value: object) -> Iterable[Any]:
    return attributes(value).values()


def _model_values(model: BaseModel) -> Iterable[Any]:
    held = attributes(model).values()
    more = [model.__pydantic_extra__, model.__pydantic_private__]
    return held if more == _NO_MORE else chain(held, *(part.values() for part in more if part))


_NO_MORE = [None, None]
_CONTAINERS: tuple[Any, ...] = (list, tuple, set, frozenset, deque)
_DICT: Any = dict
_READS: dict[Any, tuple[Callable[[Any], Iterable[Any]], ...]] = {
    **{base: (base.__iter__,) for base in _CONTAINERS},
    dict: (_DICT.keys, _DICT.values),
}

# They hold nothing, or lead away from the value: to the globals of a function, to all modules.
_ENDS: frozenset[type] = frozenset(
    {
        *(NoneType, bool, int, float, complex, str, bytes, bytearray, range),
        *(datetime, date, time, timedelta, Decimal, UUID),
    }
)
_OUTSIDE = (type, ModuleType, FunctionType, BuiltinFunctionType, MethodType)
