"""From a function to a version that follows its own code."""

from __future__ import annotations

import ast
import hashlib
import inspect
import types
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import lru_cache
from itertools import groupby
from types import CodeType
from typing import Any

from .annotations import closure_of
from .canonical import NoForm, canonical


def source_version(func: Callable[..., Any]) -> str:
    """Give a version that changes when the function's own code does; for ``version=``.

    Its body and signature count, and the constants that it reads: globals and closure variables
    that hold plain data. Comments, formatting and decorators do not count, nor does the code of
    what it calls, or of its model's validators: with these change ``version`` by hand. Read once,
    at the first call.
    """
    inner: Any = inspect.unwrap(func)
    return _digest(f"{_source(inner)}\n{sorted(_constants(inner))}")


def code_version(func: types.FunctionType) -> str:
    """Give a version that changes when the function's body or signature does, and nothing else."""
    return _digest(_source(func))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _source(func: Any) -> str:
    """The function as it was written; its compiled form where there is no source."""
    code: CodeType = func.__code__
    try:
        return _parsed(code, code.co_filename)
    except (OSError, TypeError, SyntaxError):
        defaults = _written((func.__defaults__, func.__kwdefaults__))
        return "\n".join([defaults, *_compiled(code)])


@lru_cache(maxsize=256)
def _parsed(code: CodeType, _file: str) -> str:
    """The source, which is read once: equal code of two files may differ in its annotations."""
    if code.co_name == "<lambda>":  # its source is the whole line, others on it included
        raise OSError
    text = inspect.getsource(code)
    is_method = text[0].isspace()  # indented: it needs something to stand in
    tree = ast.parse(f"if True:\n{text}" if is_method else text)
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name == code.co_name:
            node.decorator_list = []
            return _dumped(node)
    return _dumped(tree)


def _dumped(part: Any) -> str:
    """What was written, by its meaning: `ast.unparse` and `ast.dump` differ between Pythons."""
    if isinstance(part, ast.AST):
        fields = dict(ast.iter_fields(part))
        if isinstance(part, ast.JoinedStr):
            fields["values"] = list(_joined(part.values))
        there = (f"{n}={_dumped(fields[n])}" for n in sorted(fields) if fields[n] not in (None, []))
        return f"{type(part).__name__}({','.join(there)})"
    if isinstance(part, list):
        return f"[{','.join(map(_dumped, part))}]"  # pyright: ignore[reportUnknownArgumentType]
    return repr(part)


def _joined(parts: list[ast.expr]) -> Iterator[Any]:
    """The parts of an f-string, texts that follow each other as one."""
    for is_text, each in groupby(parts, lambda part: isinstance(part, ast.Constant)):
        if not is_text:
            yield from each
        elif text := "".join(str(part.value) for part in each if isinstance(part, ast.Constant)):
            yield text


def _compiled(code: CodeType) -> Iterator[str]:
    """The bytecode and all that it refers to; differs from one version of Python to the next."""
    yield code.co_code.hex()
    yield _written((code.co_names, code.co_varnames, code.co_freevars, code.co_argcount))
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _compiled(constant)
        else:
            yield _written(constant)


def _written(value: Any) -> str:
    try:
        return canonical(value).hex()
    except NoForm:
        return type(value).__qualname__


def _constants(func: Any) -> Iterator[str]:
    """What the function reads and did not make, written canonically where that is possible."""
    scope = {**func.__globals__, **closure_of(func)}
    for name in sorted({*_names(func.__code__), *func.__code__.co_freevars} & scope.keys()):
        value = scope[name]
        if not (callable(value) or inspect.ismodule(value)):
            with suppress(Exception):  # what has no canonical form is no constant
                yield f"{name}={canonical(value).hex()}"


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)
