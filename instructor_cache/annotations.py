"""From a function to the type that its return annotation names."""

from __future__ import annotations

import inspect
import sys
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, ForwardRef

from ._frames import callers_frame

MISSING: Any = object()

_DEEPEST = 100  # aliases within each other; more are one that stands for itself
_UNIONS = (typing.Union, types.UnionType)


def return_annotation(func: Callable[..., Any], local_names: Mapping[str, Any]) -> Any:
    """Give the resolved return annotation of *func*; `MISSING` if it has none.

    Strings and forward references are looked up where Python would: in the function's closure,
    in *local_names*, in its module. Raises NameError for a name that isn't there (yet).
    """
    inner = inspect.unwrap(func)  # a wrapper by `functools.wraps` may come from another module
    annotation = getattr(inner, "__annotations__", {}).get("return", MISSING)
    if annotation is MISSING:
        return MISSING
    names = {**_module_of(inner), **local_names, **closure_of(inner)}
    holder = types.SimpleNamespace(__annotations__={"return": _with_references(annotation)})
    return typing.get_type_hints(holder, names, names, include_extras=True)["return"]


def callers_names(func: Callable[..., Any]) -> dict[str, Any]:
    """Give the local names at the place where *func* is being decorated, if it is defined there.

    A string annotation may name a class that is local to the enclosing function.
    """
    frame, _ = callers_frame()
    at_home = frame.f_globals is getattr(inspect.unwrap(func), "__globals__", None)
    return dict(frame.f_locals) if at_home and frame.f_locals is not frame.f_globals else {}


def bare(annotation: Any) -> Any:
    """Give the type inside ``Annotated[type, ...]``, or that an alias of a type stands for."""
    for _ in range(_DEEPEST):
        if (inner := _inner(annotation)) is MISSING:
            break
        annotation = inner
    return annotation


def present(annotation: Any) -> Any:
    """Give the type, as `bare` does, of an answer that is not None."""
    for _ in range(_DEEPEST):
        annotation = bare(annotation)
        kinds = [kind for kind in typing.get_args(annotation) if kind is not type(None)]
        if typing.get_origin(annotation) not in _UNIONS or len(kinds) != 1:
            break
        annotation = kinds[0]
    return annotation


def _inner(annotation: Any) -> Any:
    args = typing.get_args(annotation)
    alias = typing.get_origin(annotation) or annotation
    if alias is typing.Annotated:
        return args[0]
    if type(alias).__name__ != "TypeAliasType" or isinstance(alias.__value__, str):
        return MISSING
    return _with_arguments(alias.__value__, dict(zip(alias.__type_params__, args, strict=False)))


def _with_arguments(value: Any, arguments: Mapping[Any, Any]) -> Any:
    """What an alias stands for, with its parameters put in; as it is if some have no argument."""
    parameters = getattr(value, "__parameters__", ())
    if parameters and arguments.keys() >= set(parameters):
        return value[tuple(arguments[parameter] for parameter in parameters)]
    return arguments.get(value, value) if isinstance(value, typing.TypeVar) else value


def name_of(annotation: Any) -> str:
    """Give the annotation as its author would write it."""
    if annotation is None or annotation is type(None):
        return "None"
    is_class = inspect.isclass(annotation) and typing.get_origin(annotation) is None
    return annotation.__qualname__ if is_class else str(annotation)


def _module_of(func: Any) -> dict[str, Any]:
    return getattr(func, "__globals__", None) or vars(sys.modules.get(func.__module__, types))


def closure_of(func: Any) -> dict[str, Any]:
    """Give what a function has captured, by name; variables without a value yet are left out."""
    code = getattr(func, "__code__", None)
    cells = zip(code.co_freevars, func.__closure__ or (), strict=True) if code else ()
    return {name: value for name, cell in cells if (value := _content(cell)) is not MISSING}


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet
        return MISSING


def _with_references(annotation: Any) -> Any:
    """The annotation with ``list["User"]`` read as a reference, which Python 3.10 does not do."""
    if not isinstance(annotation, types.GenericAlias):
        return annotation
    args = (
        ForwardRef(a) if isinstance(a, str) else _with_references(a) for a in annotation.__args__
    )
    origin: Any = annotation.__origin__
    return types.GenericAlias(origin, tuple(args))
