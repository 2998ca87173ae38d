"""Whether two results are the same to the last bit, and where they are not.

Every comparison answers None for "the same", or the path from there to the first difference.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from math import copysign
from types import BuiltinFunctionType, FunctionType, NoneType
from typing import Any
from zoneinfo import ZoneInfo

from pydantic import BaseModel

from ._kinds import WRITTEN_AS_TEXT, is_tuple, items_of
from ._state import attributes, cached_names, holds_only_attributes, place_of

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


def _floats(left: float, right: float) -> str | None:
    if _unequal(left, left):  # nan
        return None if _unequal(right, right) else HERE
    return HERE if _unequal(left, right) or copysign(1, left) != copysign(1, right) else None


_unequal = float.__ne__


def _identical(left: Any, right: Any) -> str | None:
    return None if left is right else HERE


def _by(aspect: Any) -> Compare:
    """Compares what a method of the base makes of the two: a subclass may have its own."""

    def compare(left: Any, right: Any) -> str | None:
        return None if aspect(left) == aspect(right) else HERE

    return compare


def _by_eq(base: type[Any]) -> Compare:
    equal: Any = base.__eq__
    return lambda left, right: None if equal(left, right) is True else HERE


def _moments_of(base: type[Any]) -> Compare:
    """Compares the parts that pickle would keep: `fold` and the time zone are among them."""
    reduce: Any = base.__reduce_ex__

    def compare(left: Any, right: Any) -> str | None:
        return _differ(reduce(left, 4)[1], reduce(right, 4)[1])

    return compare


def _offsets(left: timezone, right: timezone) -> str | None:
    same = left.utcoffset(None) == right.utcoffset(None) and left.tzname(None) == right.tzname(None)
    return None if same else HERE


def _zones(left: ZoneInfo, right: ZoneInfo) -> str | None:
    return None if left is right or (left.key and left.key == right.key) else HERE


def _sequences_of(base: type[Any]) -> Compare:
    items_in = items_of(base)

    def compare(left: Any, right: Any) -> str | None:
        return _items(tuple(items_in(left)), tuple(items_in(right)))

    return compare


def _items(ours: tuple[Any, ...], theirs: tuple[Any, ...]) -> str | None:
    if len(ours) != len(theirs):
        return HERE
    for index, (mine, yours) in enumerate(zip(ours, theirs, strict=True)):
        found = _differ(mine, yours)
        if found is not None:
            return f"[{index}]{found}"
    return None


def _limits(left: deque[Any], right: deque[Any]) -> str | None:
    limit: Any = vars(deque)["maxlen"]
    return None if limit.__get__(left) == limit.__get__(right) else HERE


def _sets_of(base: type[Any]) -> Compare:
    items_in = items_of(base)

    def compare(left: Any, right: Any) -> str | None:
        return _members(list(items_in(left)), list(items_in(right)))

    return compare


def _members(ours: list[Any], theirs: list[Any]) -> str | None:
    if len(ours) != len(theirs):
        return HERE
    partners = {member: member for member in theirs}
    alone = [member for member in ours if member not in partners]
    met = [member for member in ours if member in partners]
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


def _mappings_of(base: type[Any]) -> Compare:
    items_in = items_of(base)

    def compare(left: Any, right: Any) -> str | None:
        return _pairs(list(items_in(left)), list(items_in(right)))

    return compare


def _pairs(ours: list[Any], theirs: list[Any]) -> str | None:
    if len(ours) != len(theirs):
        return HERE
    pairs = zip(ours, theirs, strict=True)
    for index, ((my_key, mine), (your_key, yours)) in enumerate(pairs):
        found = HERE if _differ(my_key, your_key) is not None else _differ(mine, yours)
        if found is not None:
            return f"[key {index}]{found}"  # the key itself is data, and may be private
    return None


def _factories(left: defaultdict[Any, Any], right: defaultdict[Any, Any]) -> str | None:
    return None if left.default_factory is right.default_factory else HERE


def _attributes(left: object, right: object) -> str | None:
    return _named(type(right), attributes(left), attributes(right))


def _named(cls: type, ours: dict[str, Any], theirs: dict[str, Any]) -> str | None:
    """Compares what an instance of the class holds, less cached values that were not stored."""
    if ours.keys() != theirs.keys():
        missing = (theirs.keys() - ours.keys() - cached_names(cls)) | (ours.keys() - theirs.keys())
        if missing:
            return place_of(cls, theirs, min(missing))
    for name, mine in ours.items():
        found = _differ(mine, theirs[name])
        if found is not None:
            return place_of(cls, theirs, name) + found
    return None


def _models(left: BaseModel, right: BaseModel) -> str | None:
    if left.__pydantic_fields_set__ != right.__pydantic_fields_set__:
        return ".model_fields_set"
    found = _attributes(left, right)
    if found is None:
        found = _differ(left.__pydantic_extra__, right.__pydantic_extra__)
    if found is None:
        found = _private(left, right)
    return found


def _private(left: BaseModel, right: BaseModel) -> str | None:
    ours, theirs = left.__pydantic_private__, right.__pydantic_private__
    if ours is None or theirs is None:
        return None if ours is theirs else HERE
    return _named(type(right), ours, theirs)


def _objects(left: Any, right: Any) -> str | None:
    """Equal to themselves, and by what they hold: an `__eq__` may look at a part only."""
    found = _attributes(left, right)
    if found is not None or holds_only_attributes(left):
        return found
    if (left == right) is not True:
        return HERE
    return None if _same_when_reduced(left, right) else HERE


def _same_when_reduced(left: Any, right: Any) -> bool:
    """What has no reduced form is taken at its word if the interpreter itself compares it."""
    try:
        ours, theirs = left.__reduce_ex__(2), right.__reduce_ex__(2)
    except TypeError:
        return not isinstance(type(left).__eq__, FunctionType)
    return _differ(_listed(ours), _listed(theirs)) is None


def _listed(reduced: Any) -> Any:
    """A reduced form whose items can be compared, for some of them come as iterators."""
    if not is_tuple(reduced):
        return reduced
    return [list(part) if hasattr(part, "__next__") else part for part in reduced]


_COMPARISONS: dict[type, Compare] = {
    **{base: _by_eq(base) for base in (str, int, bytes, bytearray, date, timedelta)},
    **{base: _by(base.__str__) for base in WRITTEN_AS_TEXT},
    float: _floats,
    complex: _by(complex.__repr__),
    Decimal: _by(Decimal.as_tuple),
    datetime: _moments_of(datetime),
    time: _moments_of(time),
    timezone: _offsets,
    ZoneInfo: _zones,
    list: _sequences_of(list),
    tuple: _sequences_of(tuple),
    deque: _both(_sequences_of(deque), _limits),
    set: _sets_of(set),
    frozenset: _sets_of(frozenset),
    dict: _mappings_of(dict),
    OrderedDict: _mappings_of(OrderedDict),
    defaultdict: _both(_mappings_of(dict), _factories),
    Enum: _identical,
    type: _identical,
    FunctionType: _identical,
    BuiltinFunctionType: _identical,
    BaseModel: _models,
}

# Compared as a whole; what a subclass of the others adds are attributes.
_WHOLE = frozenset({Enum, type, FunctionType, BuiltinFunctionType, BaseModel})
