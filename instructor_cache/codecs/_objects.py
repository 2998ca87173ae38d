"""Instances of the classes in reach as tagged JSON: models, enums, secrets, other objects.

An instance is built from its state: no `__init__`, no validator, nothing of its class runs.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from enum import Enum, Flag
from typing import TYPE_CHECKING, Any, cast

from pydantic import BaseModel, SecretBytes, SecretStr

from ..errors import Unstorable
from ._inside import SECRETS
from ._kinds import class_of, is_class, is_list, items_of
from ._reach import name_of
from ._state import (
    ModelState,
    build,
    build_model,
    holds_only_attributes,
    model_state,
    restore,
)

if TYPE_CHECKING:
    from ._tagged import Tagged

__all__ = ["SecretFound", "dump", "load"]


class SecretFound(Unstorable):
    """There is a secret in the result, and the entry will not be encrypted."""


_LIST, _SET, _DICT = cast("tuple[Any, Any, Any]", (list, set, dict))
_DEQUE, _ORDERED_DICT = cast("tuple[Any, Any]", (deque, OrderedDict))


def _read_counter(value: Any) -> Counter[Any]:
    return Counter(dict(items_of(dict)(value)))


def _read_deque(value: Any) -> deque[Any]:
    return deque(items_of(deque)(value), vars(deque)["maxlen"].__get__(value))


def _grow_deque(empty: Any, value: deque[Any]) -> None:
    _DEQUE.__init__(empty, value, value.maxlen)


def _grow_ordered_dict(empty: Any, value: OrderedDict[Any, Any]) -> None:
    for key, item in value.items():
        _ORDERED_DICT.__setitem__(empty, key, item)


def _reader(base: type[Any]) -> Callable[[Any], Any]:
    items_in = items_of(base)
    return lambda value: base(items_in(value))


# What a builtin holds in an instance of a subclass, whatever the subclass makes of its methods.
_READ: dict[type[Any], Callable[[Any], Any]] = {
    str: str.__str__,
    int: int.__int__,
    float: float.__float__,
    complex: complex.__pos__,
    bytes: lambda value: bytes.__getitem__(value, slice(None)),
    bytearray: lambda value: bytearray.__getitem__(value, slice(None)),
    **{base: _reader(base) for base in (tuple, frozenset, list, set, OrderedDict)},
    deque: _read_deque,
    Counter: _read_counter,
    dict: _reader(dict),
}
_IMMUTABLE: tuple[type[Any], ...] = (str, int, float, complex, bytes, tuple, frozenset)
_GROW: dict[type[Any], Callable[[Any, Any], None]] = {
    list: _LIST.extend,
    deque: _grow_deque,
    bytearray: bytearray.extend,
    set: _SET.update,
    OrderedDict: _grow_ordered_dict,
    Counter: _DICT.update,  # its own adds up
    dict: _DICT.update,
}


def dump(tagged: Tagged, value: Any, where: str) -> tuple[str, Any]:
    """The tag and the body of an instance; Unstorable if its class is out of reach."""
    if isinstance(value, SECRETS):
        return _dump_secret(tagged, value, where)
    if is_class(value):
        return "class", _name(tagged, value, where)
    cls = class_of(value)
    name = _name(tagged, cls, where)
    if isinstance(value, Enum):
        return "enum", [name, _dump_member(tagged, value, where)]
    if isinstance(value, BaseModel):
        return "model", [name, *_dump_model(tagged, value, where)]
    for base in (*_IMMUTABLE, *_GROW):
        if issubclass(cls, base):
            held = tagged.dump_attributes(value, where)
            return f"of_{base.__name__}", [name, tagged.dump(_READ[base](value), where), held]
    return "object", [name, _dump_object(tagged, value, where)]


def _name(tagged: Tagged, cls: type, where: str) -> str:
    name = tagged.reach.name(cls)
    if name is None:
        raise Unstorable(f"{where}: found {name_of(cls)}, {_why_not(tagged, cls)}")
    return name


def _why_not(tagged: Tagged, cls: type) -> str:
    if hasattr(cls, "__next__"):
        return "which can be read only once, so it can't be stored; make it a list"
    if tagged.reach.is_ambiguous(cls):
        return "wanted the only class of that name; give one of them another name"
    return (
        "wanted a class that the return annotation names;"
        " name it there or in the field's annotation"
    )


def _dump_secret(tagged: Tagged, value: Any, where: str) -> tuple[str, Any]:
    cls = class_of(value)
    if not tagged.secrets:
        raise SecretFound(
            f"{where}: found a {cls.__name__}; a secret is stored only when the entry is"
            " encrypted, which no cache does yet; leave the secret out of the result"
        )
    held = tagged.dump_attributes(value, where)
    if cls in (SecretStr, SecretBytes) and held.keys() == {"_secret_value"}:
        return cls.__name__, held["_secret_value"]
    return "secret", [_name(tagged, cls, where), held]


def _dump_member(tagged: Tagged, value: Enum, where: str) -> Any:
    if value._name_ in type(value)._member_map_:
        return value._name_
    return [tagged.dump(value._value_, where)]  # a flag made of several


def _dump_model(tagged: Tagged, model: BaseModel, where: str) -> list[Any]:
    cls, state = class_of(model), model_state(model)
    return [
        tagged.dump_attributes(model, where),
        sorted(state.fields_set),
        None if state.extra is None else tagged.dump_dict(state.extra, f"{where}.model_extra"),
        None if state.private is None else tagged.dump_fields(cls, state.private, where),
    ]


def _dump_object(tagged: Tagged, value: Any, where: str) -> Any:
    if not holds_only_attributes(value):
        raise Unstorable(
            f"{where}: found {name_of(class_of(value))}, which holds more than its attributes;"
            " wanted plain data: turn it into a model, a dataclass or builtin types"
        )
    return tagged.dump_attributes(value, where)


def load(tagged: Tagged, tag: str, body: Any) -> Any:
    """The instance that `dump` gave that tag and body."""
    if tag == "SecretStr":
        return build(SecretStr, {"_secret_value": tagged.load(body)})
    if tag == "SecretBytes":
        return build(SecretBytes, {"_secret_value": tagged.load(body)})
    if tag == "class":
        return tagged.reach.find(body)
    name, *rest = body
    return _LOADS[tag](tagged, tagged.reach.find(name), *rest)


def _load_secret(tagged: Tagged, cls: type[Any], held: Any) -> Any:
    _check(cls, SECRETS)
    return build(cls, tagged.load_fields(held))


def _load_member(tagged: Tagged, cls: type[Any], member: Any) -> Any:
    _check(cls, Enum if type(member) is str else Flag)
    return cls._member_map_[member] if type(member) is str else cls(tagged.load(member[0]))


def _load_model(tagged: Tagged, cls: type[Any], *parts: Any) -> BaseModel:
    held, fields_set, extra, private = parts
    _check(cls, BaseModel)
    state = ModelState(
        tagged.load_fields(held),
        None if extra is None else tagged.load_fields(extra),
        _names(fields_set),
        None if private is None else tagged.load_fields(private),
    )
    model: BaseModel = build_model(cls, state)
    return model


def _names(data: Any) -> set[str]:
    if not is_list(data) or not all(isinstance(name, str) for name in data):
        raise TypeError("the names of fields are a list of text")
    return set(data)


def _load_object(tagged: Tagged, cls: type[Any], held: Any) -> Any:
    _refuse(cls, (BaseModel, Enum, *SECRETS))
    return build(cls, tagged.load_fields(held))


def _load_immutable(base: type[Any]) -> Any:
    make: Any = base.__new__

    def load_subclass(tagged: Tagged, cls: type[Any], value: Any, held: Any) -> Any:
        _check(cls, base)
        _refuse(cls, (Enum,))
        built = make(cls, _exactly(base, tagged.load(value)))
        restore(built, tagged.load_fields(held))
        return built

    return load_subclass


def _load_grown(base: type[Any], grow: Callable[[Any, Any], None]) -> Any:
    make: Any = base.__new__

    def load_subclass(tagged: Tagged, cls: type[Any], value: Any, held: Any) -> Any:
        _check(cls, base)
        built = make(cls)
        grow(built, _exactly(base, tagged.load(value)))
        restore(built, tagged.load_fields(held))
        return built

    return load_subclass


def _exactly(base: type[Any], value: Any) -> Any:
    cls = class_of(value)
    if cls is not base:
        raise TypeError(f"found a {cls.__name__}, wanted a {base.__name__}")
    return value


def _check(cls: type[Any], base: type[Any] | tuple[type[Any], ...]) -> None:
    if not issubclass(cls, base):
        raise TypeError(f"{name_of(cls)} is no {base!r}")


def _refuse(cls: type[Any], bases: tuple[type[Any], ...]) -> None:
    if issubclass(cls, bases):
        raise TypeError(f"{name_of(cls)} has a tag of its own")


_LOADS: dict[str, Any] = {
    "secret": _load_secret,
    "enum": _load_member,
    "model": _load_model,
    "object": _load_object,
    **{f"of_{base.__name__}": _load_immutable(base) for base in _IMMUTABLE},
    **{f"of_{base.__name__}": _load_grown(base, grow) for base, grow in _GROW.items()},
}
