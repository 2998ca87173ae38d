"""A second opinion on whether two values are the same, written apart from the library's.

Every value is drawn as nested tuples of text that name its type; equal portraits, equal values.
"""

from __future__ import annotations

import enum
import re
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from pydantic import BaseModel, Secret, SecretBytes, SecretStr
from pydantic_core import MultiHostUrl, Url

__all__ = ["portrait", "same"]

BUILT_IN_RUST = (Url, MultiHostUrl)


def same(left: Any, right: Any) -> bool:
    """Whether the two have one portrait."""
    return portrait(left) == portrait(right)


def portrait(value: Any) -> Any:
    """The value as nested tuples of text, types included."""
    cls = type(value)
    return (f"{cls.__module__}.{cls.__qualname__}", id(cls), _inside(value))


def _inside(value: Any) -> Any:
    if isinstance(value, (enum.Enum, type)):
        return str(value), id(value)
    if isinstance(value, BaseModel):
        return _model(value)
    if isinstance(value, (SecretStr, SecretBytes, Secret)):
        return _rest(value)
    if isinstance(value, (str, int, bytes, bytearray)):
        return _scalar(value), _rest(value)
    if isinstance(value, float):
        return float.hex(value), _rest(value)
    if isinstance(value, (datetime, time)):
        zone = value.tzinfo
        return value.isoformat(), value.fold, zone and (type(zone).__name__, str(zone), repr(zone))
    if isinstance(value, (complex, Decimal, date, timedelta, re.Pattern)):
        return repr(value)
    return _container(value)


def _scalar(value: Any) -> Any:
    for base in (str, int, bytes, bytearray):
        if isinstance(value, base):
            return hex(int.__int__(value)) if base is int else base.__repr__(value)
    raise AssertionError(value)


def _container(value: Any) -> Any:
    if isinstance(value, (set, frozenset)):
        base: Any = set if isinstance(value, set) else frozenset
        return sorted(repr(portrait(item)) for item in base.__iter__(value)), _rest(value)
    if isinstance(value, (dict, OrderedDict, Counter)):
        base = OrderedDict if isinstance(value, OrderedDict) else dict
        pairs = [(portrait(key), portrait(item)) for key, item in base.items(value)]
        factory = value.default_factory if isinstance(value, defaultdict) else None
        return pairs, repr(factory), _rest(value)
    if isinstance(value, (list, tuple, deque)):
        limit = getattr(value, "maxlen", None)
        base = next(kind for kind in (list, tuple, deque) if isinstance(value, kind))
        return [portrait(item) for item in base.__iter__(value)], limit, _rest(value)
    made_in_python = type(value).__module__.partition(".")[0] not in sys.stdlib_module_names
    return _rest(value) if made_in_python and not isinstance(value, BUILT_IN_RUST) else str(value)


def _model(value: BaseModel) -> Any:
    return (
        _rest(value),
        sorted(value.model_fields_set),
        _named(value.__pydantic_extra__),
        _named(value.__pydantic_private__),
    )


def _rest(value: Any) -> Any:
    """Attributes, the values of cached properties among them."""
    cls = type(value)
    found = dict(getattr(value, "__dict__", {}))
    for base in cls.__mro__:
        slots = base.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if not name.startswith("__") and hasattr(value, name):
                found[name] = getattr(value, name)
    return _named(found)


def _named(held: dict[str, Any] | None) -> Any:
    return None if held is None else sorted((n, portrait(v)) for n, v in held.items())
