"""An argument as a cassette shows it: as JSON what is plain data, the rest as Python writes it."""

from __future__ import annotations

import re
from ast import literal_eval
from typing import Any

from ..codecs._kinds import is_dict, is_list
from ._texts import Compact, gather, spread

_REPR = "$repr"
_TEXT = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""", re.DOTALL)
_PLAIN = re.compile(r"(?:None|True|False|-?\d[\d.e+-]*)(?=[,\]}]|\Z)")
_WORDS = {"None": None, "True": True, "False": False}
_OPEN, _CLOSED = "([{<", ")]}>"


def shown_text(text: str) -> Any:
    """Give what a sketch says of an argument, its text in lines."""
    try:
        value, end = _read(text, 0)
        shown = spread(value)
        if end == len(text) and text_of(shown) == text:
            return shown
    except (ValueError, SyntaxError, IndexError, RecursionError):
        pass
    return Compact({_REPR: text})


def text_of(value: Any) -> str:
    """Give back what `shown_text` was given."""
    return _written(gather(value))


def _written(value: Any) -> str:
    value = value.value if isinstance(value, Compact) else value
    if is_list(value):
        return f"[{', '.join(map(_written, value))}]"
    if not is_dict(value):
        return repr(value)
    if list(value) == [_REPR]:
        return str(value[_REPR])
    return f"{{{', '.join(f'{name!r}: {_written(item)}' for name, item in value.items())}}}"


def _read(text: str, at: int) -> tuple[Any, int]:
    """The value that is written at a place, and where it ends."""
    if found := _TEXT.match(text, at) or _PLAIN.match(text, at):
        token = found[0]
        return (_WORDS[token] if token in _WORDS else literal_eval(token)), found.end()
    if text[at] == "[":
        return _read_list(text, at + 1)
    if text[at] == "{" and (text[at + 1] == "}" or _is_dict(text, at + 1)):
        return _read_dict(text, at + 1)
    end = _end(text, at)
    return Compact({_REPR: text[at:end]}), end


def _is_dict(text: str, at: int) -> bool:
    found = _TEXT.match(text, at)
    return found is not None and text.startswith(": ", found.end())


def _read_list(text: str, at: int) -> tuple[list[Any], int]:
    items: list[Any] = []
    while text[at] != "]":
        item, at = _read(text, at)
        items.append(item)
        at = _after(text, at, "]")
    return items, at + 1


def _read_dict(text: str, at: int) -> tuple[dict[str, Any], int]:
    items: dict[str, Any] = {}
    while text[at] != "}":
        if (name := _TEXT.match(text, at)) is None or not text.startswith(": ", name.end()):
            raise ValueError("a dict with other names, or one that was shortened")
        items[literal_eval(name[0])], at = _read(text, name.end() + 2)
        at = _after(text, at, "}")
    return items, at + 1


def _after(text: str, at: int, end: str) -> int:
    if text.startswith(", ", at):
        return at + 2
    if text[at] != end:
        raise ValueError("something else than the next item")
    return at


def _end(text: str, at: int) -> int:
    """Where what is neither text nor plain ends, whatever brackets and texts it has inside."""
    depth = 0
    while at < len(text) and not (depth == 0 and (text[at] in "]}" or text.startswith(", ", at))):
        depth += (text[at] in _OPEN) - (text[at] in _CLOSED)
        found = _TEXT.match(text, at)
        at = found.end() if found else at + 1
    return at
