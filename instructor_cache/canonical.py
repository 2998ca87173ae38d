"""From a value to bytes that are equal exactly when the values are, in every process.

Each value is written as a tag, the length of its body, and the body: no two values share a form
and no separator can be forged from inside. Types count (1, True and 1.0 differ), the order of
sets and dicts does not, every NaN equals every other, -0.0 differs from 0.0.
"""

from __future__ import annotations

import datetime as dt
import functools
import re
import struct
import sys
import types
import typing
import uuid
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable
from decimal import Decimal
from enum import Enum, Flag
from fractions import Fraction
from pathlib import PurePath, PurePosixPath
from typing import Any

import pydantic_core
from pydantic import BaseModel

from .identity import identity, module_name

Encode = Callable[[Any], bytes]


class NoForm(TypeError):
    """A value that has no canonical form; the message says which and why.

    Attributes:
        kind: The type of that value, where it is the type that has none.
    """

    def __init__(self, message: str, kind: type | None = None) -> None:
        super().__init__(message)
        self.kind = kind


def canonical(value: Any) -> bytes:
    """Give the canonical bytes of *value*, or raise NoForm."""
    encode = _EXACT.get(type(value))  # pyright: ignore[reportUnknownArgumentType]
    return encode(value) if encode is not None else _other(value)


def _frame(tag: bytes, body: bytes) -> bytes:
    return b"%b%d:%b" % (tag, len(body), body)


def _text(tag: bytes, text: str) -> bytes:
    return _frame(tag, text.encode("utf-8", "surrogatepass"))


def _sequence(tag: bytes, items: Iterable[Any]) -> bytes:
    return _frame(tag, b"".join(map(canonical, items)))


def _unordered(tag: bytes, items: Iterable[bytes]) -> bytes:
    return _frame(tag, b"".join(sorted(items)))


# -- builtin types, by exact type ----------------------------------------------------------


def _str(value: str) -> bytes:
    body = str.encode(value, "utf-8", "surrogatepass")  # most of a prompt's key: no call more
    return b"s%d:%b" % (len(body), body)


def _int(value: int) -> bytes:
    return b"i%x;" % value


def _float(value: float) -> bytes:
    return b"f" + struct.pack(">d", value if value == value else float("nan"))


def _complex(value: complex) -> bytes:
    return b"c" + _float(value.real) + _float(value.imag)


def _dict(value: dict[Any, Any]) -> bytes:
    return _unordered(b"d", (canonical(k) + canonical(v) for k, v in value.items()))


def _deque(value: deque[Any]) -> bytes:
    return _frame(b"q", canonical(value.maxlen) + _sequence(b"l", value))


def _decimal(value: Decimal) -> bytes:
    return _text(b"D", Decimal.__str__(value))


def _zone(zone: dt.tzinfo | None) -> bytes:
    if zone is None:
        return b"n"
    if isinstance(key := getattr(zone, "key", None), str):  # a ZoneInfo
        return _text(b"z", key)
    try:
        offset = zone.utcoffset(None)
    except Exception:
        offset = None
    if offset is None:
        raise NoForm(f"the time zone {_type_name(zone)} has neither a name nor a fixed offset")
    return _frame(b"o", canonical((offset, zone.tzname(None))))


def _datetime(value: dt.datetime) -> bytes:
    return _frame(b"M", canonical((value.isoformat(), value.fold)) + _zone(value.tzinfo))


def _time(value: dt.time) -> bytes:
    return _frame(b"K", canonical((value.isoformat(), value.fold)) + _zone(value.tzinfo))


def _timedelta(value: dt.timedelta) -> bytes:
    return _frame(b"L", canonical((value.days, value.seconds, value.microseconds)))


def _range(value: range | slice) -> bytes:
    return _sequence(b"R" if isinstance(value, range) else b"S", _bounds(value))


def _bounds(value: Any) -> tuple[Any, Any, Any]:
    return value.start, value.stop, value.step


_EXACT: dict[type, Encode] = {
    type(None): lambda _: b"n",
    bool: lambda value: b"T" if value else b"F",
    str: _str,
    int: _int,
    float: _float,
    complex: _complex,
    bytes: lambda value: _frame(b"b", value),
    bytearray: lambda value: _frame(b"B", bytes(value)),
    tuple: lambda value: _sequence(b"t", value),
    list: lambda value: _sequence(b"l", value),
    dict: _dict,
    set: lambda value: _unordered(b"e", map(canonical, value)),
    frozenset: lambda value: _unordered(b"E", map(canonical, value)),
    deque: _deque,
    Decimal: _decimal,
    Fraction: lambda value: _frame(b"Q", _int(value.numerator) + _int(value.denominator)),
    dt.datetime: _datetime,
    dt.date: lambda value: _text(b"j", value.isoformat()),
    dt.time: _time,
    dt.timedelta: _timedelta,
    uuid.UUID: lambda value: _frame(b"U", value.bytes),
    range: _range,
    slice: _range,
    type(...): lambda _: b".",
}


# -- everything else, by what it is --------------------------------------------------------


def _other(value: Any) -> bytes:
    cls: Any = type(value)  # pyright: ignore[reportUnknownVariableType]
    if hasattr(cls, "__cache_key__"):
        return _object(value, cls.__cache_key__(value))
    for accepts, encode in _KINDS:
        if accepts(value):
            return encode(value)
    for base, encode in _EXACT.items():
        if isinstance(value, base):
            return _derived(value, encode)
    kind: Any = type(value)  # pyright: ignore[reportUnknownVariableType]
    raise NoForm(f"found an object of type {_type_name(value)}", kind)


def _object(value: Any, content: Any) -> bytes:
    return _frame(b"O", _text(b"", identity(type(value))) + canonical(content))


def _derived(value: Any, encode: Encode) -> bytes:
    """An instance of a user's subclass of a builtin type: class, content, attributes."""
    body = _text(b"", identity(type(value))) + encode(value)
    return _frame(b"X", body + canonical(attributes(value)))


def _enum(value: Enum) -> bytes:
    name = None if isinstance(value, Flag) else value.name  # a combination's name varies
    try:
        content = canonical(value.value)
    except NoForm:
        content = b"?"
    return _frame(b"V", _text(b"", identity(type(value))) + canonical(name) + content)


def _model(value: BaseModel) -> bytes:
    fields = {name: value.__dict__.get(name) for name in type(value).model_fields}
    extra, private = value.__pydantic_extra__, value.__pydantic_private__
    return _object(value, (fields, extra or None, private or None))


def _fields(value: Any) -> bytes:
    """A dataclass or attrs object, with what else its class may have put into it."""
    return _object(value, attributes(value))


def attributes(value: Any) -> dict[str, Any]:
    """Give what an object holds, whether it was ever asked for a cached property or not."""
    members = {name: member for cls in type(value).__mro__ for name, member in vars(cls).items()}
    slots = [name for name in members if isinstance(members[name], types.MemberDescriptorType)]
    held = {name: getattr(value, name) for name in slots if hasattr(value, name)}
    held.update(getattr(value, "__dict__", {}))
    return {n: held[n] for n in held if not isinstance(members.get(n), functools.cached_property)}


def _default_dict(value: defaultdict[Any, Any]) -> bytes:
    return _object(value, (value.default_factory, dict(value), attributes(value)))


def _alias(value: Any) -> bytes:
    """A named alias of a type: two modules may have two of one name."""
    name = f"{module_name(value)}.{value.__name__}"
    return _frame(b"A", _text(b"", name) + canonical(value.__value__))


def _new_type(value: Any) -> bytes:
    return _frame(b"w", _text(b"", identity(value)) + canonical(value.__supertype__))


def _special(value: Any) -> bytes:
    was_class = value is typing.Annotated  # until Python 3.12
    return _text(b"N" if was_class else b"Y", str(value))


def _type_variable(value: typing.TypeVar) -> bytes:
    bounds = (value.__name__, value.__bound__, value.__constraints__)
    return _frame(b"y", canonical(bounds))


def _ordered_dict(value: OrderedDict[Any, Any]) -> bytes:
    return _object(value, (list(value.items()), attributes(value)))


def _secret(value: Any) -> bytes:
    return _object(value, value.get_secret_value())


def _path(value: PurePath) -> bytes:
    return _text(b"P" if isinstance(value, PurePosixPath) else b"W", str(value))


def _pattern(value: re.Pattern[Any]) -> bytes:
    return _frame(b"r", canonical((value.pattern, value.flags)))


def _partial(value: functools.partial[Any]) -> bytes:
    return _object(value, (value.func, value.args, value.keywords))


def _method(value: types.MethodType) -> bytes:
    return _frame(b"m", canonical(value.__self__) + _text(b"", value.__func__.__qualname__))


def _generic(value: Any) -> bytes:
    """A parametrised type, such as ``list[User]`` or ``User | None``."""
    return _frame(b"G", canonical(typing.get_origin(value)) + canonical(typing.get_args(value)))


def _model_class(value: type[BaseModel]) -> bytes:
    from .schema import model_fingerprint  # which describes defaults and members canonically

    return _text(b"C", f"{identity(value)} {model_fingerprint(value)}")


def _by_name(value: Any) -> bytes:
    if not _is_importable(value):
        raise NoForm(f"found {value.__qualname__}, which no other process can find by that name")
    return _text(b"N", identity(value))


def _is_importable(value: Any) -> bool:
    if value.__module__ == "builtins":  # some, such as NoneType, are not reachable by name
        return True
    found: Any = sys.modules.get(value.__module__)
    for name in value.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is value


def _type_name(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _is(*kinds: Any) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, kinds)


def _has(name: str) -> Callable[[Any], bool]:
    """Asks the class: an instance may answer yes to everything, as a mock does."""
    return lambda value: hasattr(type(value), name)  # pyright: ignore[reportUnknownArgumentType]


def _is_model_class(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, BaseModel)


def _is_textual(value: Any) -> bool:
    """Whether it is an IP address or a URL, asked by name: their modules are slow to import."""
    modules = {cls.__module__ for cls in type(value).__mro__}
    return not modules.isdisjoint(("ipaddress", "pydantic.networks"))


_KINDS: tuple[tuple[Callable[[Any], bool], Encode], ...] = (
    (lambda value: value is Any, lambda value: _text(b"Y", str(value))),  # a class since 3.11
    (_is(Enum), _enum),
    (_is(BaseModel), _model),
    (lambda value: typing.get_origin(value) is not None, _generic),
    (lambda value: type(value).__name__ == "TypeAliasType", _alias),
    (lambda value: type(value).__name__ == "NewType", _new_type),
    (_is(typing.TypeVar), _type_variable),
    (lambda value: type(value).__module__ == "typing", _special),
    (_is_model_class, _model_class),
    (_is(type, types.FunctionType, types.BuiltinFunctionType), _by_name),
    (_is(types.MethodType), _method),
    (_is(types.ModuleType), lambda value: _text(b"u", value.__name__)),
    (_is(functools.partial), _partial),
    (_has("__dataclass_fields__"), _fields),
    (_has("__attrs_attrs__"), _fields),
    (_is(OrderedDict), _ordered_dict),
    (_is(defaultdict), _default_dict),
    (_is(PurePath), _path),
    (_is(re.Pattern), _pattern),
    (_is(dt.tzinfo), _zone),
    (_has("get_secret_value"), _secret),
    (_is(pydantic_core.Url, pydantic_core.MultiHostUrl), lambda value: _object(value, str(value))),
    (_is_textual, lambda value: _object(value, str(value))),
)
