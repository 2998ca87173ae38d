"""An argument as a cassette shows it: as JSON if it is plain data, else as Python writes it."""

from __future__ import annotations

from ast import literal_eval
from typing import Any

from ..codecs._kinds import is_dict, is_list
from ._texts import gather, spread

_REPR = "$repr"


def shown_text(text: str) -> Any:
    """Give what a sketch says of an argument, its text in lines."""
    try:
        value = literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return {_REPR: text}
    is_same = _is_json(value) and repr(value) == text
    return spread(value) if is_same else {_REPR: text}


def text_of(value: Any) -> str:
    """Give back what `shown_text` was given."""
    if is_dict(value) and list(value) == [_REPR]:
        return str(value[_REPR])
    return repr(gather(value))


def _is_json(value: Any) -> bool:
    if is_list(value):
        return all(map(_is_json, value))
    if is_dict(value):
        return _REPR not in value and all(type(n) is str and _is_json(value[n]) for n in value)
    return value is None or type(value) in (str, int, bool)
