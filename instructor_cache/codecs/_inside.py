"""What is somewhere inside a value, found without running any code of its classes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import lru_cache
from itertools import chain
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType, NoneType
from typing import Any, NamedTuple
from uuid import UUID

from pydantic import BaseModel, Secret, SecretBytes, SecretStr

from ._state import attributes, cached_names

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
    is_one_shot = hasattr(cls, "__next__") or hasattr(cls, "__anext__")
    cached: frozenset[str] = frozenset() if issubclass(cls, _OUTSIDE) else cached_names(cls)
    return _Traits(is_one_shot, cached, _reads(cls))


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
