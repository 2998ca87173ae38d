"""JSON for people: a field per line, a line of text per line, short lists in one, and all exact."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from ..codecs._kinds import is_dict, is_list

_WIDTH = 100
_LINES = "$lines"


class Compact:
    """A value to be written in one line, however long: what a reader skips."""

    def __init__(self, value: Any) -> None:
        self.value = value


def compact(value: Any) -> str:
    """Give *value* in one line, its text as such."""
    return _encodable(json.dumps(value, separators=(", ", ": "), ensure_ascii=False))


def _encodable(text: str) -> str:
    """Give JSON with lone surrogates escaped, which no file can hold as such."""
    return text.encode("utf-8", "backslashreplace").decode()


def spread(value: Any) -> Any:
    """Give *value* with each text of several lines as ``{"$lines": [...]}``."""
    if isinstance(value, str):
        return {_LINES: value.split("\n")} if "\n" in value else value
    if is_list(value):
        return [spread(item) for item in value]
    if is_dict(value):
        return {_escaped(name): spread(item) for name, item in value.items()}
    return value


def gather(value: Any) -> Any:
    """Give back what `spread` was given; raise ValueError for lines that are no list of text."""
    if is_list(value):
        return [gather(item) for item in value]
    if not is_dict(value):
        return value
    if list(value) == [_LINES]:
        return _joined(value[_LINES])
    return {_unescaped(name): gather(item) for name, item in value.items()}


def _joined(lines: Any) -> str:
    if is_list(lines) and all(isinstance(line, str) for line in lines):
        return "\n".join(lines)
    raise ValueError(f'found {compact(lines)[:60]} as "{_LINES}", wanted a list of texts')


def _is_ours(name: str) -> bool:
    return name.startswith("$") and name.lstrip("$") == _LINES[1:]


def _escaped(name: str) -> str:
    return f"${name}" if _is_ours(name) else name


def _unescaped(name: str) -> str:
    return name[1:] if _is_ours(name) else name


def write(value: Any, indent: int = 0, room: int = _WIDTH) -> str:
    """Give *value* as JSON that goes on at *indent*, with *room* characters left in its line."""
    if isinstance(value, Compact):
        return compact(value.value)
    if is_dict(value) and value:
        return _write_object(value, indent)
    if is_list(value) and value and not _fits(value, room):
        return _block("[", (write(item, indent + 2) for item in value), "]", indent)
    return compact(value)


def _write_object(value: dict[str, Any], indent: int) -> str:
    if list(value) == [_LINES]:
        return _block(f'{{"{_LINES}": [', map(compact, value[_LINES]), "]}", indent)
    names = {compact(name): item for name, item in value.items()}
    room = {name: _WIDTH - indent - len(name) - 5 for name in names}
    lines = (f"{name}: {write(item, indent + 2, room[name])}" for name, item in names.items())
    return _block("{", lines, "}", indent)


def _block(start: str, lines: Iterable[str], end: str, indent: int) -> str:
    inner = " " * (indent + 2)
    return start + ",".join(f"\n{inner}{line}" for line in lines) + f"\n{' ' * indent}{end}"


def _fits(value: list[Any], room: int) -> bool:
    is_flat = not any(isinstance(item, (dict, list, Compact)) for item in value)
    return is_flat and len(compact(value)) <= room
