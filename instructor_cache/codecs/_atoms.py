"""Values without parts that JSON has no word for, each with a tag and a form of its own."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from datetime import date, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from types import EllipsisType
from typing import Any, NamedTuple, cast
from uuid import UUID, SafeUUID
from zoneinfo import ZoneInfo

from pydantic_core import MultiHostUrl, TzInfo, Url

from ._kinds import WRITTEN_AS_TEXT, is_list

__all__ = ["ATOMS", "Atom"]


class Atom(NamedTuple):
    """How the values of one type are written as JSON, and read back."""

    tag: str
    dump: Callable[[Any], Any]
    load: Callable[[Any], Any]


def _dump_bytes(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _load_bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def _load_bytearray(text: str) -> bytearray:
    return bytearray(_load_bytes(text))


def _load_int(text: str) -> int:
    return int(text, 16)


def _dump_complex(value: complex) -> list[str]:
    return [repr(value.real), repr(value.imag)]


def _load_complex(parts: list[str]) -> complex:
    real, imaginary = parts
    return complex(float(real), float(imaginary))


def _dump_fraction(value: Fraction) -> list[str]:
    return [hex(value.numerator), hex(value.denominator)]


def _load_fraction(parts: list[str]) -> Fraction:
    numerator, denominator = parts
    return Fraction(int(numerator, 16), int(denominator, 16))


def _dump_timedelta(value: timedelta) -> list[int]:
    return [value.days, value.seconds, value.microseconds]


def _load_timedelta(parts: list[int]) -> timedelta:
    days, seconds, microseconds = parts
    return timedelta(days, seconds, microseconds)


def _dump_timezone(value: timezone) -> list[Any]:
    offset, name = value.utcoffset(None), value.tzname(None)
    named = name != timezone(offset).tzname(None)
    return [_dump_timedelta(offset), name if named else None]


def _load_timezone(data: list[Any]) -> timezone:
    offset, name = data
    if name is None:
        return timezone(timedelta(*offset))
    return timezone(timedelta(*offset), name)


def _dump_offset(value: TzInfo) -> int:
    offset: timedelta | None = value.utcoffset(None)
    return int(offset.total_seconds()) if offset else 0


def _dump_zone(value: ZoneInfo) -> str:
    if not isinstance(cast(Any, value.key), str):
        raise ValueError("found a ZoneInfo without a key, wanted a named one; use ZoneInfo(name)")
    return value.key


def _load_zone(key: str) -> ZoneInfo:
    if not re.fullmatch(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*", key):
        raise ValueError(f"{key!r} names no time zone")
    return ZoneInfo(key)


def _dump_uuid(value: UUID) -> Any:
    return str(value) if value.is_safe is SafeUUID.unknown else [str(value), value.is_safe.name]


def _load_uuid(data: Any) -> UUID:
    text, safety = data if is_list(data) else (data, "unknown")
    return UUID(text, is_safe=SafeUUID[safety])


def _load_pattern(data: list[Any]) -> re.Pattern[Any]:
    source, flags, binary = data
    if flags & re.DEBUG:  # it would print
        raise ValueError("a pattern with re.DEBUG")
    pattern = _load_bytes(source) if binary else source
    return re.compile(pattern, flags)


def _dump_pattern(value: re.Pattern[Any]) -> list[Any]:
    if value.flags & re.DEBUG:
        raise ValueError("found a pattern with re.DEBUG, wanted one without; compile it anew")
    binary = isinstance(value.pattern, bytes)
    return [_dump_bytes(value.pattern) if binary else value.pattern, value.flags, binary]


def _dump_range(value: range) -> list[int]:
    return [value.start, value.stop, value.step]


def _load_range(parts: list[int]) -> range:
    start, stop, step = parts
    return range(start, stop, step)


def _dump_nothing(_: EllipsisType) -> None:
    return None


def _load_ellipsis(_: None) -> EllipsisType:
    return ...


ATOMS: dict[type[Any], Atom] = {
    int: Atom("int", hex, _load_int),
    float: Atom("float", repr, float),
    complex: Atom("complex", _dump_complex, _load_complex),
    bytes: Atom("bytes", _dump_bytes, _load_bytes),
    bytearray: Atom("bytearray", _dump_bytes, _load_bytearray),
    Decimal: Atom("decimal", str, Decimal),
    Fraction: Atom("fraction", _dump_fraction, _load_fraction),
    date: Atom("date", date.isoformat, date.fromisoformat),
    timedelta: Atom("timedelta", _dump_timedelta, _load_timedelta),
    timezone: Atom("timezone", _dump_timezone, _load_timezone),
    TzInfo: Atom("offset", _dump_offset, TzInfo),
    ZoneInfo: Atom("zone", _dump_zone, _load_zone),
    UUID: Atom("uuid", _dump_uuid, _load_uuid),
    range: Atom("range", _dump_range, _load_range),
    EllipsisType: Atom("ellipsis", _dump_nothing, _load_ellipsis),
    re.Pattern: Atom("pattern", _dump_pattern, _load_pattern),
    Url: Atom("url", str, Url),
    MultiHostUrl: Atom("multi_host_url", str, MultiHostUrl),
    **{cls: Atom(cls.__name__, str, cls) for cls in WRITTEN_AS_TEXT},
}
