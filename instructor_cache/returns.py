"""From a function's return annotation to the type of its answers."""

from __future__ import annotations

import collections.abc as abc
import types
import typing
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, ForwardRef, TypeVar

from pydantic import TypeAdapter
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError

from ._frames import callers_frame
from .codecs import codec_for
from .protocols import Codec
from .schema import fingerprint, holds_model, identity

T = TypeVar("T")

_UNSET: Any = object()
_UNFINISHED = ("class-not-fully-defined", "undefined-annotation")
_STREAMS = {
    *(abc.Iterator, abc.Generator, abc.Iterable),
    *(abc.AsyncIterator, abc.AsyncGenerator, abc.AsyncIterable),
}


class ReturnType:
    """The type that a function answers with: how to store it, and a fingerprint of its schema.

    Read at decoration. Where the annotation names something that is defined later, at the first
    call. Raises ValueError for an annotation without a Pydantic model, unless *returns* names
    the type.
    """

    def __init__(
        self, func: Callable[..., Any], returns: Any, namespace: Mapping[str, Any]
    ) -> None:
        self._func, self._explicit = func, returns
        self._namespace = {**func.__globals__, **namespace} if _is_plain(func) else dict(namespace)
        try:
            _ = self.codec, self.fingerprint
        except _Undefined:
            return  # perhaps a forward reference: the first call looks again
        self._namespace = {}

    @cached_property
    def annotation(self) -> Any:
        """The resolved type: ``returns=`` if it was given, else the return annotation."""
        return self._annotated() if self._explicit is None else self._explicit

    @cached_property
    def codec(self) -> Codec:
        """Turns answers into bytes and back."""
        self._check(self._adapter.core_schema)
        return codec_for(self.annotation)

    @cached_property
    def fingerprint(self) -> str:
        """Changes when the type's schema does."""
        return self._finished(lambda: fingerprint(self._adapter))

    @cached_property
    def _adapter(self) -> TypeAdapter[Any]:
        return self._finished(self._adapt)

    def _adapt(self) -> TypeAdapter[Any]:
        try:
            adapter: TypeAdapter[Any] = TypeAdapter(self.annotation)
            _ = adapter.core_schema
            return adapter
        except PydanticSchemaGenerationError as error:
            raise self._refusal(_name(self.annotation)) from error

    def _annotated(self) -> Any:
        annotation = getattr(self._func, "__annotations__", {}).get("return", _UNSET)
        if annotation is _UNSET:
            raise self._refusal("no return annotation")
        return self._finished(lambda: self._resolve(annotation))

    def _resolve(self, annotation: Any) -> Any:
        # Closure cells and globals may have been filled since the decoration.
        late = _closure(self._func) if _is_plain(self._func) else {}
        known = {**self._namespace, **getattr(self._func, "__globals__", {}), **late}
        holder = types.SimpleNamespace(__annotations__={"return": _with_references(annotation)})
        namespace = {**known, **{k: v for k, v in self._namespace.items() if k not in known}}
        return typing.get_type_hints(holder, namespace, namespace, include_extras=True)["return"]

    def _finished(self, step: Callable[[], T]) -> T:
        """The outcome of *step*; if a name in it isn't defined (yet), an error that says so."""
        try:
            return step()
        except NameError as error:
            raise self._undefined(error) from error
        except PydanticUserError as error:
            if error.code in _UNFINISHED:
                raise self._undefined(error) from error
            raise self._refusal(_name(self.annotation)) from error

    def _check(self, schema: Any) -> None:
        if _origin(self.annotation) in _STREAMS:
            raise ValueError(
                f"{identity(self._func)} answers with a stream, {_name(self.annotation)}; streams "
                f"can't be cached yet: collect the items and return list[...] of them"
            )
        if self._explicit is None and not holds_model(schema):
            raise self._refusal(_name(self.annotation))

    def _refusal(self, found: str) -> ValueError:
        return ValueError(
            f"{identity(self._func)} must return a Pydantic model, found {found}; annotate it, "
            f"for example `-> UserDetail` or `-> list[UserDetail]`, or name the type with returns="
        )

    def _undefined(self, error: Exception) -> _Undefined:
        return _Undefined(
            f"the return annotation of {identity(self._func)} can't be resolved: {error}; define "
            f"that name before the first call, where the function can see it, or pass returns="
        )


class _Undefined(ValueError):
    """A name in the annotation has no value, or not yet."""


def callers_names() -> dict[str, Any]:
    """Give the local names at the place where a decorator of this package is applied.

    String annotations may name a class that is local to that function.
    """
    frame, _ = callers_frame()
    return {} if frame.f_locals is frame.f_globals else dict(frame.f_locals)


def _is_plain(func: Any) -> bool:
    return isinstance(func, types.FunctionType)


def _closure(func: Any) -> dict[str, Any]:
    cells = zip(func.__code__.co_freevars, func.__closure__ or (), strict=True)
    return {name: value for name, cell in cells if (value := _content(cell)) is not _UNSET}


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet
        return _UNSET


def _with_references(annotation: Any) -> Any:
    """The annotation with ``list["User"]`` read as a reference, which Python 3.10 does not do."""
    if not isinstance(annotation, types.GenericAlias):
        return annotation
    parts = [
        ForwardRef(a) if isinstance(a, str) else _with_references(a) for a in annotation.__args__
    ]
    origin: Any = annotation.__origin__
    return types.GenericAlias(origin, tuple(parts))


def _origin(annotation: Any) -> Any:
    while typing.get_origin(annotation) is typing.Annotated:
        annotation = typing.get_args(annotation)[0]
    return typing.get_origin(annotation) or annotation


def _name(annotation: Any) -> str:
    if annotation is None or annotation is type(None):
        return "None"
    return annotation.__qualname__ if isinstance(annotation, type) else str(annotation)
