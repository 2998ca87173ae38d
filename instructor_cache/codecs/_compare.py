"""Whether two results are the same to the last bit, and where they are not.

Every comparison answers None for "the same", or the path from there to the first difference.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable
from datetime import datetime, time, timezone, tzinfo
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from math import copysign
from types import FunctionType, NoneType
from typing import Any
from zoneinfo import ZoneInfo

from pydantic import BaseModel, Secret, SecretBytes, SecretStr

from ._state import attributes, holds_only_attributes

__all__ = ["difference"]

Compare = Callable[[Any, Any], "str | None"]

HERE = ""

_EQUAL_IS_SAME = frozenset({str, int, bool, bytes, NoneType})


def difference(left: Any, right: Any) -> str | None:
    """The path of the first difference between the two, or None if there is none.

    Types must be the same, `1` is not `True`, `0.0` is not `-0.0`, and nan equals nan.
    """
    found = _differ(left, right)
    return found if found is None else found.lstrip(".") or "the result itself"


def _differ(left: object, right: object) -> str | None:
    cls = type(left)
    if cls is not type(right):
        return HERE
    if cls in _EQUAL_IS_SAME:
        return None if left == right else HERE
    return _comparison(cls)(left, right)


def _find_comparison(cls: type[Any]) -> Compare:
    if cls in _COMPARISONS:
        return _COMPARISONS[cls]
    for base in cls.__mro__[:-1]:
        if base in _COMPARISONS:
            compare = _COMPARISONS[base]
            return compare if base in _WHOLE else _both(compare, _attributes)
    return _objects


_comparison: Callable[[Any], Compare] = lru_cache(maxsize=1024)(_find_comparison)


def _both(first: Compare, second: Compare) -> Compare:
    def compare(left: Any, right: Any) -> str | None:
        found = first(left, right)
        return second(left, right) if found is None else found

    return compare


def _equal(left: Any, right: Any) -> str | None:
    return None if left == right else HERE


def _identical(left: Any, right: Any) -> str | None:
    return None if left is right else HERE


def _strings(left: str, right: str) -> str | None:
    return None if str.__eq__(left, right) else HERE


def _integers(left: int, right: int) -> str | None:
    return None if int.__eq__(left, right) else HERE


def _floats(left: float, right: float) -> str | None:
    if left != left:
        return None if right != right else HERE
    return None if left == right and copysign(1, left) == copysign(1, right) else HERE


def _complexes(left: complex, right: complex) -> str | None:
    found = _floats(left.real, right.real)
    return _floats(left.imag, right.imag) if found is None else found


def _decimals(left: Decimal, right: Decimal) -> str | None:
    return _equal(left.as_tuple(), right.as_tuple())


def _moments(left: datetime | time, right: datetime | time) -> str | None:
    if left.replace(tzinfo=None) != right.replace(tzinfo=None) or left.fold != right.fold:
        return HERE
    return _differ(left.tzinfo, right.tzinfo)


def _offsets(left: timezone, right: timezone) -> str | None:
    same = left.utcoffset(None) == right.utcoffset(None) and left.tzname(None) == right.tzname(None)
    return None if same else HERE


def _zones(left: ZoneInfo, right: ZoneInfo) -> str | None:
    return None if left is right or (left.key and left.key == right.key) else HERE


def _secrets(left: Any, right: Any) -> str | None:
    return _differ(left.get_secret_value(), right.get_secret_value())


def _sequences(left: Iterable[Any], right: Iterable[Any]) -> str | None:
    ours, theirs = tuple(left), tuple(right)
    if len(ours) != len(theirs):
        return HERE
    for index, (mine, yours) in enumerate(zip(ours, theirs, strict=True)):
        found = _differ(mine, yours)
        if found is not None:
            return f"[{index}]{found}"
    return None


def _deques(left: deque[Any], right: deque[Any]) -> str | None:
    return _sequences(left, right) if left.maxlen == right.maxlen else HERE


def _sets(left: frozenset[Any], right: frozenset[Any]) -> str | None:
    if len(left) != len(right):
        return HERE
    partners = {member: member for member in right}
    alone = [member for member in left if member not in partners]
    met = [member for member in left if member in partners]
    for member in met:
        if _differ(member, partners.pop(member)) is not None:
            return "[a member]"
    return _unordered(alone, list(partners.values()))


def _unordered(left: list[Any], right: list[Any]) -> str | None:
    """Pairs what equality can't find, for nan does not equal itself."""
    for mine in left:
        for index, yours in enumerate(right):
            if _differ(mine, yours) is None:
                del right[index]
                break
        else:
            return "[a member]"
    return None


def _mappings(left: dict[Any, Any], right: dict[Any, Any]) -> str | None:
    if len(left) != len(right):
        return HERE
    pairs = zip(left.items(), right.items(), strict=True)
    for index, ((my_key, mine), (your_key, yours)) in enumerate(pairs):
        found = HERE if _differ(my_key, your_key) is not None else _differ(mine, yours)
        if found is not None:
            return f"[key {index}]{found}"  # the key itself is data, and may be private
    return None


def _default_dicts(left: defaultdict[Any, Any], right: defaultdict[Any, Any]) -> str | None:
    return _mappings(left, right) if left.default_factory is right.default_factory else HERE


def _fields(left: dict[str, Any], right: dict[str, Any]) -> str | None:
    if left.keys() != right.keys():
        return "." + min(left.keys() ^ right.keys())
    for name, mine in left.items():
        found = _differ(mine, right[name])
        if found is not None:
            return f".{name}{found}"
    return None


def _attributes(left: Any, right: Any) -> str | None:
    return _fields(attributes(left), attributes(right))


def _models(left: BaseModel, right: BaseModel) -> str | None:
    if left.__pydantic_fields_set__ != right.__pydantic_fields_set__:
        return ".model_fields_set"
    found = _fields(attributes(left), attributes(right))
    if found is None:
        found = _differ(left.__pydantic_extra__, right.__pydantic_extra__)
    if found is None:
        found = _differ(left.__pydantic_private__, right.__pydantic_private__)
    return found


def _objects(left: Any, right: Any) -> str | None:
    return (_attributes if holds_only_attributes(left) else _equal)(left, right)


_COMPARISONS: dict[type, Compare] = {
    str: _strings,
    int: _integers,
    float: _floats,
    complex: _complexes,
    Decimal: _decimals,
    datetime: _moments,
    time: _moments,
    timezone: _offsets,
    ZoneInfo: _zones,
    tzinfo: _equal,
    list: _sequences,
    tuple: _sequences,
    deque: _deques,
    set: _sets,
    frozenset: _sets,
    dict: _mappings,
    OrderedDict: _mappings,
    Counter: _mappings,
    defaultdict: _default_dicts,
    Enum: _identical,
    type: _identical,
    FunctionType: _identical,
    Secret: _secrets,
    SecretStr: _secrets,
    SecretBytes: _secrets,
    BaseModel: _models,
}

# Compared as a whole; what a subclass of the others adds are attributes.
_WHOLE = frozenset({Enum, type, FunctionType, Secret, SecretStr, SecretBytes, BaseModel})
