"""Instances of the classes in reach as tagged JSON: models, enums, secrets, other objects.

An instance is built from its state: no `__init__`, no validator, nothing of its class runs.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from enum import Enum, Flag
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Secret, SecretBytes, SecretStr

from ..errors import Unstorable
from ._kinds import class_of, is_class
from ._reach import name_of
from ._state import (
    ModelState,
    attributes,
    build,
    build_model,
    holds_only_attributes,
    model_state,
    restore,
)

if TYPE_CHECKING:
    from ._tagged import Tagged

__all__ = ["dump", "load"]

_SECRETS = (SecretStr, SecretBytes, Secret)
_IMMUTABLE: tuple[type[Any], ...] = (str, int, float, complex, bytes, tuple, frozenset)
_GROWN_BY: dict[type[Any], str] = {
    **dict.fromkeys((list, deque, bytearray), "extend"),
    **dict.fromkeys((set, OrderedDict, Counter, dict), "update"),
}


def dump(tagged: Tagged, value: Any, where: str) -> tuple[str, Any]:
    """The tag and the body of an instance; Unstorable if its class is out of reach."""
    if isinstance(value, _SECRETS):
        return _dump_secret(tagged, value, where)
    if is_class(value):
        return "class", _name(tagged, value, where)
    cls = class_of(value)
    name = _name(tagged, cls, where)
    if isinstance(value, Enum):
        return "enum", [name, _dump_member(tagged, value, where)]
    if isinstance(value, BaseModel):
        return "model", [name, *_dump_model(tagged, value, where)]
    for base in (*_IMMUTABLE, *_GROWN_BY):
        if issubclass(cls, base):
            held = tagged.dump_fields(attributes(value), where)
            return f"of_{base.__name__}", [name, tagged.dump(base(value), where), held]
    return "object", [name, _dump_object(tagged, value, where)]


def _name(tagged: Tagged, cls: type, where: str) -> str:
    name = tagged.reach.name(cls)
    if name is None:
        raise Unstorable(
            f"{where}: found {name_of(cls)}, wanted a class that the return annotation names;"
            " name it there or in the field's annotation (it must be the only one of its name)"
        )
    return name


def _dump_secret(tagged: Tagged, value: Any, where: str) -> tuple[str, Any]:
    cls = class_of(value)
    if not tagged.secrets:
        raise Unstorable(
            f"{where}: found a {cls.__name__}; a secret is stored only when the entry is"
            " encrypted; give the cache a cipher, or leave the secret out of the result"
        )
    secret = tagged.dump(value.get_secret_value(), where)
    if cls is SecretStr or cls is SecretBytes:
        return cls.__name__, secret
    return "secret", [_name(tagged, cls, where), secret]


def _dump_member(tagged: Tagged, value: Enum, where: str) -> Any:
    if value._name_ in type(value)._member_map_:
        return value._name_
    return [tagged.dump(value._value_, where)]  # a flag made of several


def _dump_model(tagged: Tagged, model: BaseModel, where: str) -> list[Any]:
    state = model_state(model)
    return [
        tagged.dump_fields(state.attributes, where),
        sorted(state.fields_set),
        None if state.extra is None else tagged.dump_dict(state.extra, f"{where}.model_extra"),
        None if state.private is None else tagged.dump_fields(state.private, where),
    ]


def _dump_object(tagged: Tagged, value: Any, where: str) -> Any:
    if not holds_only_attributes(value):
        raise Unstorable(
            f"{where}: found {name_of(class_of(value))}, which holds more than its attributes;"
            " wanted plain data: turn it into a model, a dataclass or builtin types"
        )
    return tagged.dump_fields(attributes(value), where)


def load(tagged: Tagged, tag: str, body: Any) -> Any:
    """The instance that `dump` gave that tag and body."""
    if tag == "SecretStr":
        return SecretStr(tagged.load(body))
    if tag == "SecretBytes":
        return SecretBytes(tagged.load(body))
    if tag == "class":
        return tagged.reach.find(body)
    name, *rest = body
    return _LOADS[tag](tagged, tagged.reach.find(name), *rest)


def _load_secret(tagged: Tagged, cls: type[Any], secret: Any) -> Any:
    _check(cls, _SECRETS)
    return build(cls, {"_secret_value": tagged.load(secret)})


def _load_member(tagged: Tagged, cls: type[Any], member: Any) -> Any:
    _check(cls, Enum if type(member) is str else Flag)
    return cls._member_map_[member] if type(member) is str else cls(tagged.load(member[0]))


def _load_model(tagged: Tagged, cls: type[Any], *parts: Any) -> BaseModel:
    held, fields_set, extra, private = parts
    _check(cls, BaseModel)
    state = ModelState(
        tagged.load_dict(held),
        None if extra is None else tagged.load_dict(extra),
        set(fields_set),
        None if private is None else tagged.load_dict(private),
    )
    model: BaseModel = build_model(cls, state)
    return model


def _load_object(tagged: Tagged, cls: type[Any], held: Any) -> Any:
    _refuse(cls, (BaseModel, Enum, *_SECRETS))
    return build(cls, tagged.load_dict(held))


def _load_immutable(base: type[Any]) -> Any:
    make: Any = base.__new__

    def load_subclass(tagged: Tagged, cls: type[Any], value: Any, held: Any) -> Any:
        _check(cls, base)
        _refuse(cls, (Enum,))
        built = make(cls, _exactly(base, tagged.load(value)))
        restore(built, tagged.load_dict(held))
        return built

    return load_subclass


def _load_grown(base: type[Any], grow_by: str) -> Any:
    make: Any = base.__new__
    grow = getattr(base, grow_by)

    def load_subclass(tagged: Tagged, cls: type[Any], value: Any, held: Any) -> Any:
        _check(cls, base)
        built = make(cls)
        grow(built, _exactly(base, tagged.load(value)))
        restore(built, tagged.load_dict(held))
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
    **{f"of_{base.__name__}": _load_grown(base, grow_by) for base, grow_by in _GROWN_BY.items()},
}
