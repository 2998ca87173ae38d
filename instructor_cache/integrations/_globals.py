"""Which globals a function reads, and what stands in them now."""

from __future__ import annotations

import dis
import sys
import types
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

__all__ = ["globals_of", "is_standard"]

_READS = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"})
_GOES_ON = frozenset({"LOAD_ATTR", "LOAD_METHOD"})

Path = tuple[str, ...]


def globals_of(func: types.FunctionType) -> dict[str, Any]:
    """Give what a function reads of its module, and of modules that it names, by dotted name."""
    scope = func.__globals__
    return dict(_found(scope, path) for path in _paths(func.__code__) if path[0] in scope)


def is_standard(package: str) -> bool:
    """Whether it is of Python's own library."""
    return package.partition(".")[0] in sys.stdlib_module_names


def _found(scope: dict[str, Any], path: Path) -> tuple[str, Any]:
    """What a path leads to, followed through modules only: an object is read as a whole."""
    value, n = scope[path[0]], 1
    while n < len(path) and isinstance(value, types.ModuleType) and not is_standard(value.__name__):
        value, n = getattr(value, path[n], None), n + 1
    return ".".join(path[:n]), value


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
