"""Which globals a function reads, and what stands in them now."""

from __future__ import annotations

import dis
import sys
import types
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from functools import lru_cache
from typing import Any

from ._sdk import kind_of

__all__ = ["globals_of", "is_standard"]

_READS = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"})
_GOES_ON = frozenset({"LOAD_ATTR", "LOAD_METHOD"})
_WRITES = frozenset({"STORE_GLOBAL", "DELETE_GLOBAL"})

Path = tuple[str, ...]


def globals_of(func: types.FunctionType) -> dict[str, Any]:
    """Give what a function reads of its module, and of modules that it names, by dotted name.

    Not the counts and times that it keeps there itself: they differ from call to call.
    """
    scope, own = func.__globals__, _written(func.__code__)
    found = dict(_found(scope, path) for path in _paths(func.__code__) if path[0] in scope)
    return {name: each for name, each in found.items() if not _is_tally(each, name in own)}


def is_standard(package: str) -> bool:
    """Whether it is of Python's own library."""
    return package.partition(".")[0] in sys.stdlib_module_names


def _found(scope: dict[str, Any], path: Path) -> tuple[str, Any]:
    """What a path leads to, followed through modules only: an object is read as a whole."""
    value, n = scope[path[0]], 1
    while n < len(path) and isinstance(value, types.ModuleType) and not is_standard(value.__name__):
        value, n = _member(value, path[n]), n + 1
    return ".".join(path[:n]), value


def _member(module: types.ModuleType, name: str) -> Any:
    """What stands in a module, None for nothing: what loads it may not be installed."""
    held = vars(module)
    with suppress(Exception):
        return held[name] if name in held else getattr(module, name)
    return None


def _is_tally(value: Any, is_own: bool) -> bool:
    """Whether it counts or times calls; a number that others write is a setting."""
    if kind_of(value) is deque:
        return all(_is_tally(each, True) for each in tuple(value))
    is_number = isinstance(value, (int, float, datetime, type(None)))
    return isinstance(value, Counter) or (is_own and is_number)


@lru_cache(maxsize=1024)
def _written(code: types.CodeType) -> frozenset[str]:
    """The globals that a function changes."""
    own = {each.argval for each in dis.get_instructions(code) if each.opname in _WRITES}
    inner = (each for each in code.co_consts if isinstance(each, types.CodeType))
    return frozenset(own.union(*map(_written, inner)))


@lru_cache(maxsize=1024)
def _paths(code: types.CodeType) -> tuple[Path, ...]:
    return tuple(sorted(set(_read(code))))


def _read(code: types.CodeType) -> Iterator[Path]:
    """Each global that is read, with the attributes that are read of it at once."""
    path: Path = ()
    for each in dis.get_instructions(code):
        if path and each.opname in _GOES_ON:
            path += (str(each.argval),)
        elif each.opname != "EXTENDED_ARG":
            if path:
                yield path
            path = (each.argval,) if each.opname in _READS else ()
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _read(constant)
