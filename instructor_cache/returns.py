"""What a function answers with: how to store it, and a fingerprint of its type."""

from __future__ import annotations

import collections.abc as abc
import typing
from collections.abc import Callable, Mapping
from functools import cached_property
from inspect import isasyncgenfunction, isgeneratorfunction
from typing import Any, TypeVar

from pydantic import TypeAdapter
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError

from .annotations import MISSING, name_of, return_annotation, without_metadata
from .codecs import codec_for, lint
from .entry import FORMAT
from .events import logger
from .identity import identity
from .protocols import Codec
from .schema import fingerprint, holds_model

T = TypeVar("T")

_UNFINISHED = ("class-not-fully-defined", "undefined-annotation")
# An Iterable may be a list: only a generator function makes it a stream.
_STREAMS = {
    *(abc.Iterator, abc.Generator),
    *(abc.AsyncIterator, abc.AsyncGenerator, abc.AsyncIterable),
}


class ReturnType:
    """The type of a function's answers, from *returns* or else from its return annotation.

    Read at decoration; where the annotation names something that is defined later, at the first
    call. Raises ValueError for an annotation without a Pydantic model.
    """

    def __init__(
        self,
        func: Callable[..., Any],
        returns: Any,
        local_names: Mapping[str, Any],
        *,
        raw_response: bool = True,
    ) -> None:
        self._func, self._returns, self._local_names = func, returns, local_names
        self._raw_response = raw_response
        try:
            _ = self.codec, self.fingerprint
        except UndefinedName:
            return  # perhaps a forward reference: the first call looks again
        self._local_names = dict[str, Any]()

    @cached_property
    def annotation(self) -> Any:
        """The resolved type."""
        if self._returns is not None:
            return self._returns
        found = self._defined(lambda: return_annotation(self._func, self._local_names))
        if found is MISSING:
            raise self._refusal("no return annotation")
        return found

    @cached_property
    def codec(self) -> Codec:
        """Turns answers into bytes and back."""
        self._refuse_streams()
        schema = self._adapter.core_schema
        if self._returns is None and not holds_model(schema):
            raise self._refusal(name_of(self.annotation))
        for trouble in lint(self.annotation):
            logger.info("%s: %s", identity(self._func), trouble)
        return codec_for(self.annotation, raw_response=self._raw_response)

    @cached_property
    def fingerprint(self) -> str:
        """Changes when the type's schema does, or the form of entries.

        Versions of this library that can't read each other's entries don't find them either.
        """
        _ = self._adapter  # complete, forward references included
        return f"{fingerprint(self.annotation)}{FORMAT:x}"

    @cached_property
    def _adapter(self) -> TypeAdapter[Any]:
        return self._defined(self._adapt)

    def _adapt(self) -> TypeAdapter[Any]:
        try:
            adapter: TypeAdapter[Any] = TypeAdapter(self.annotation)
            if not adapter.pydantic_complete:  # a class with forward references
                adapter.rebuild()
        except PydanticSchemaGenerationError as error:
            raise self._refusal(name_of(self.annotation)) from error
        return adapter

    def _defined(self, step: Callable[[], T]) -> T:
        """The outcome of *step*; if a name in it isn't defined (yet), an error that says so."""
        try:
            return step()
        except (NameError, PydanticUserError) as error:
            if isinstance(error, PydanticUserError) and error.code not in _UNFINISHED:
                raise self._refusal(name_of(self.annotation)) from error
            raise UndefinedName(
                f"the return annotation of {identity(self._func)} can't be resolved: {error}; "
                f"define that name before the first call, where the function can see it, or pass "
                f"the type as returns="
            ) from error

    def _refuse_streams(self) -> None:
        inner = without_metadata(self.annotation)
        generates = isgeneratorfunction(self._func) or isasyncgenfunction(self._func)
        if generates or (typing.get_origin(inner) or inner) in _STREAMS:
            raise ValueError(
                f"{identity(self._func)} answers with a stream, {name_of(inner)}; streams can't "
                f"be cached yet: collect the items and return a list of them"
            )

    def _refusal(self, found: str) -> ValueError:
        return ValueError(
            f"{identity(self._func)} must return a Pydantic model, found {found}; annotate it, "
            f"for example `-> UserDetail` or `-> list[UserDetail]`, or name the type with returns="
        )


class UndefinedName(ValueError):
    """A name in an annotation has no value, or not yet."""
