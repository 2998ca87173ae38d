"""Writes any value so that somebody can read it: without secrets, addresses, or the user's code."""

from __future__ import annotations

import datetime as dt
import functools
import re
import types
import typing
import uuid
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum, Flag
from fractions import Fraction
from pathlib import PurePath
from typing import Any

import pydantic_core

from ._hidden import is_header, is_hidden, labelled
from ._masks import LONG, MASK, ends_masked
from ._members import GAP, as_shown, fields_of, some
from ._parts import class_of
from ._shortened import CUT, clean, quoted_within

_DEEPEST, _NODES = 6, 1_000
_FEW = 60  # bytes that are shown


@dataclass(frozen=True)
class Style:
    """How much of a call is written.

    Attributes:
        longest: Characters of a text in an argument; fewer, one by one, while there is no room.
        part: Characters of an argument.
        room: Bytes of a call.
        whole: Characters of a text that is looked through for secrets as a whole.
        hide: Gives a text without secrets that nothing but their value tells.
    """

    longest: tuple[int, ...] = (200,)
    part: int = 200
    room: int = 2_000
    whole: int = LONG
    hide: Callable[[str], str] = str


SHORT = Style()


class Pen:
    """Writes one argument.

    Attributes:
        is_masked: Whether anything secret was left out.
        full: What was written, before it was shortened.
    """

    def __init__(self, style: Style = SHORT, longest: int = SHORT.longest[0]) -> None:
        self.style, self.longest = style, longest
        self.is_masked = False
        self.full: list[bytes] = []
        self._left = _NODES

    def named(self, name: Any, value: Any, depth: int) -> str:
        """Give the text of a value that has a name, by which it may be secret."""
        return self._mask() if is_hidden(name, value) else self.text(value, depth)

    def text(self, value: Any, depth: int) -> str:
        """Give the text of any value."""
        self._left -= 1
        if depth > _DEEPEST or self._left < 0:
            return CUT
        try:
            return self._text(as_shown(value), depth)
        except Exception:  # it is not what its class promises
            return _opaque(value)

    def _text(self, value: Any, depth: int) -> str:
        kind = class_of(value)
        if (plain := _PLAIN.get(kind)) is not None:
            return self._note(plain(self, value, depth))
        if hasattr(kind, "get_secret_value"):
            return f"{kind.__name__}({self._mask()})"
        for base, write in _KINDS:
            if issubclass(kind, base):
                text = write(self, value, depth)
                is_own = kind is base or base not in _BUILTIN
                return self._note(text if is_own else f"{kind.__name__}({text})")
        fields = fields_of(value)
        if fields is not None:
            return self._object(kind.__name__, fields, depth)
        if typing.get_origin(value) is not None:  # list[User]
            return self._note(str(value))
        modules = {cls.__module__ for cls in kind.__mro__}
        if not modules.isdisjoint(("ipaddress", "pydantic.networks")):
            return self._note(f"{kind.__name__}({self.quoted(str(value))})")
        return self._note(_opaque(value))

    def _mask(self) -> str:
        self.is_masked = True
        return self._note(MASK)

    def _note(self, text: str) -> str:
        self.full.append(text.encode("utf-8", "backslashreplace"))
        return text

    def quoted(self, text: str) -> str:
        """Give *text* in quotes, without secrets."""
        told, has_secret = ends_masked(bare := self.style.hide(text), self.style.whole)
        has_secret |= bare != text
        self.is_masked |= has_secret
        if len(told) > self.longest:
            self._note(told if has_secret else text)
        return quoted_within(told, self.longest)

    # -- containers ------------------------------------------------------------------------

    def items(self, values: Any, depth: int) -> str:
        """Give the texts of the items of a sequence."""
        if is_header(values):
            return f"{self.text(values[0], depth + 1)}, {self._mask()}"
        return ", ".join(self.text(v, depth + 1) if v is not GAP else CUT for v in some(values))

    def unordered(self, values: Collection[Any], depth: int) -> str:
        """Give the texts of the items of a set, in an order that does not change."""
        if len(values) > _NODES:
            return f"{len(values):,} items"
        texts = [self._aside(value, depth + 1) for value in values]
        return ", ".join(self._note(v) if v is not GAP else CUT for v in some(sorted(texts)))

    def _aside(self, value: Any, depth: int) -> str:
        """The text of a value that is noted later, when the order is known."""
        pen = Pen(self.style, self.longest)
        self._left -= 1
        pen._left = self._left // 2
        text = pen.text(value, depth)
        self.is_masked |= pen.is_masked
        return text

    def pairs(self, items: dict[Any, Any], depth: int) -> str:
        """Give the texts of the items of a dict."""
        written, hidden = list[str](), labelled(items)
        for pair in some(items.items()):
            if pair is GAP:
                written.append(CUT)
                continue
            name, value = pair
            key = self.text(name, depth + 1)
            text = self._mask() if name in hidden else self.named(name, value, depth + 1)
            written.append(f"{key}: {text}")
        return ", ".join(written)

    def _object(self, name: str, fields: list[tuple[str, Any, bool]], depth: int) -> str:
        self._note(name)
        hidden = labelled({field: value for field, value, _ in fields})
        hidden |= {field for field, _, is_shown in fields if not is_shown}
        written = [
            f"{field}={self._mask() if field in hidden else self.named(field, value, depth + 1)}"
            for field, value, _ in fields
        ]
        return f"{name}({', '.join(written)})"


Write = Callable[[Pen, Any, int], str]


def _opaque(value: Any) -> str:
    return f"<{clean(str(getattr(class_of(value), '__name__', 'object')))}>"


def _int(_: Pen, value: int, __: int) -> str:
    try:
        return int.__repr__(value)
    except ValueError:  # too many digits
        return f"<a number of {value.bit_length()} bits>"


def _bytes(pen: Pen, value: bytes | bytearray, _: int) -> str:
    if len(value) > _FEW:
        pen.full.append(bytes(value))
        return f"<{len(value):,} bytes>"
    return f"b{pen.quoted(bytes(value).decode('latin-1'))}"


def _written(base: Any) -> Write:
    return lambda pen, value, _: f"{type(value).__name__}({pen.quoted(base.__str__(value))})"


def _enum(_: Pen, value: Enum, __: int) -> str:
    name = value._value_ if isinstance(value, Flag) else value._name_
    return f"{type(value).__name__}.{name}"


def _tuple(pen: Pen, value: tuple[Any, ...], depth: int) -> str:
    names = getattr(type(value), "_fields", None)
    if names is None:
        return f"({pen.items(value, depth)}{',' if len(value) == 1 else ''})"
    named = zip(names, tuple(value), strict=False)
    return ", ".join(f"{name}={pen.named(name, item, depth + 1)}" for name, item in named)


def _partial(pen: Pen, value: functools.partial[Any], depth: int) -> str:
    return (
        f"partial({pen.items((value.func, *value.args), depth)}, {pen.text(value.keywords, depth)})"
    )


def _by_name(_: Pen, value: Any, __: int) -> str:
    return str(value.__qualname__)


_FUNCTIONS = types.FunctionType, types.BuiltinFunctionType, types.MethodType
_TIMES = dt.datetime, dt.date, dt.time, dt.timedelta
_BUILTIN: tuple[type, ...] = (
    *(bool, int, float, complex, str, bytes, bytearray),
    *(list, tuple, set, frozenset, deque, dict),
)
_KINDS: tuple[tuple[Any, Write], ...] = (
    (type(None), lambda _, __, ___: "None"),
    (type(...), lambda _, __, ___: "..."),
    (Enum, _enum),
    (bool, lambda _, value, __: repr(bool(value))),
    (int, _int),
    (float, lambda _, value, __: float.__repr__(value)),
    (complex, lambda _, value, __: complex.__repr__(value)),
    (str, lambda pen, value, _: pen.quoted(str.__str__(value))),
    *((base, _bytes) for base in (bytes, bytearray)),
    (list, lambda pen, value, depth: f"[{pen.items(value, depth)}]"),
    (tuple, _tuple),
    (dict, lambda pen, value, depth: f"{{{pen.pairs(value, depth)}}}"),
    *(
        (base, lambda pen, value, depth: f"{{{pen.unordered(value, depth)}}}")
        for base in (set, frozenset)
    ),
    (range, lambda _, value, __: repr(value)),
    (deque, lambda pen, value, depth: f"[{pen.items(value, depth)}]"),
    *((base, _written(base)) for base in (*_TIMES, Decimal, Fraction, uuid.UUID, PurePath)),
    *((base, _written(base)) for base in (pydantic_core.Url, pydantic_core.MultiHostUrl)),
    (re.Pattern, lambda pen, value, _: f"re.compile({pen.quoted(str(value.pattern))})"),
    (functools.partial, _partial),
    *((base, _by_name) for base in (type, *_FUNCTIONS)),
)
_PLAIN = {base: write for base, write in _KINDS if base in _BUILTIN}
