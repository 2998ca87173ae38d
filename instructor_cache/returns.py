"""What a function answers with: how to store it, and a fingerprint of its type."""

from __future__ import annotations

import collections.abc as abc
import inspect
import re
import typing
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from inspect import isasyncgenfunction, iscoroutinefunction, isgeneratorfunction
from typing import Any, TypeVar

from pydantic import TypeAdapter
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError

from .annotations import MISSING, bare, name_of, present, return_annotation
from .codecs import (
    FINAL,
    STREAM,
    AsyncReplay,
    ExactCodec,
    Item,
    Passed,
    Replay,
    StreamCodec,
    codec_for,
    is_partial,
    lint,
    own_class,
)
from .entry import FORMAT
from .events import logger
from .identity import identity
from .protocols import Codec
from .schema import fingerprint, holds_model

T = TypeVar("T")

_UNFINISHED = ("class-not-fully-defined", "undefined-annotation")
_STREAMS = (abc.Iterator, abc.Generator)
_LISTS = (list, tuple, set, frozenset, abc.Sequence, abc.Iterable, abc.Collection)
_ASYNC_STREAMS = (abc.AsyncIterator, abc.AsyncGenerator, abc.AsyncIterable)
# The same where the annotation is a text of which not all names are defined yet.
_NAMES_OF_STREAMS = re.compile(r"(?:\w+\.)*(Async)?(?:Iterator|Generator|(?<=Async)Iterable)\b")


class ReturnType:
    """The type of a function's answers, from *returns* or else from its return annotation.

    Read at decoration; where the annotation names something that is defined later, at the first
    call. Raises ValueError for an annotation without a Pydantic model.

    Attributes:
        is_async: Whether who calls the function has to wait: for its answer, or for its items.
        is_stream: Whether the answer is a stream by its annotation. One that is not may be.
        is_lazy: Whether it is one for which the function is called when items are asked for.
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
        self.is_stream, is_async = self._kind()
        is_coroutine = iscoroutinefunction(func)
        self.is_async = is_async or is_coroutine or isasyncgenfunction(func)
        self.is_lazy = self.is_stream and (is_async or not is_coroutine)
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
        if self.is_stream:
            return self._stream_codec
        aliased = self._defined(lambda: bare(self.annotation))
        if typing.get_origin(aliased) in (*_STREAMS, *_ASYNC_STREAMS):
            raise ValueError(
                f"found {self.name} as the return annotation of {identity(self._func)}, an alias "
                f"of a stream that names what is defined later; define that before the function"
            )
        return self._codec_for(self.annotation, streamed=self._read_stream)

    @cached_property
    def items(self) -> Codec:
        """Does the same for one item of an answer that turns out to be a stream."""
        if not self.keeps_all:
            return self.codec
        item, *others = typing.get_args(self._present) or (None,)
        if item is None or any(other not in (None, type(None), Any) for other in others):
            raise self._refusal(f"{name_of(self.annotation)}, whose items alone can be stored")
        return self._codec_for(item)

    def _codec_for(self, annotation: Any, **options: Any) -> Codec:
        if isinstance(annotation, type) and is_partial(annotation):
            annotation = own_class(annotation)  # whose snapshots instructor gives
        schema = self._adapter(annotation).core_schema
        if self._returns is None and not holds_model(schema):
            raise self._refusal(name_of(self.annotation))
        for trouble in lint(annotation):
            logger.info("%s: %s", identity(self._func), trouble)
        return codec_for(annotation, raw_response=self._raw_response, **options)

    @property
    def name(self) -> str:
        """The type as its author would write it."""
        return name_of(self.annotation)

    @property
    def name_of_items(self) -> str:
        """What a stream is probably made of: what a list is a list of, else the type itself."""
        held = typing.get_args(self._present)
        is_list = typing.get_origin(self._present) in _LISTS
        return name_of(held[0]) if is_list and held else self.name

    @property
    def keeps_all(self) -> bool:
        """Whether all items of a stream are kept; else the last one, for none was promised."""
        return self._mark == STREAM

    def fits(self, answer: Any) -> bool:
        """Whether *answer* is of the type, its models taken at their class."""
        return isinstance(self.codec, ExactCodec) and self.codec.fits(answer)

    def passed(self, items: list[Item], waited: float = 0.0) -> Passed:
        """Give what is kept of a stream that gave *items*, and that nobody asked for a while."""
        return Passed(items, self._mark, waited)

    def replay(self, items: Iterable[Any]) -> Replay | AsyncReplay:
        """Give *items* to a caller to iterate over."""
        return AsyncReplay(items) if self.is_async else Replay(items)

    @property
    def _mark(self) -> bytes:
        may_be = typing.get_origin(self._present) is abc.Iterable  # it may be a list as well
        return STREAM if self.is_stream or may_be else FINAL

    @cached_property
    def _stream_codec(self) -> StreamCodec:
        return StreamCodec(self.items, self.replay)

    def _read_stream(self, payload: bytes) -> Any:
        return self._stream_codec.decode(payload)

    @cached_property
    def fingerprint(self) -> str:
        """Changes when the type's schema does, or the form of entries.

        Versions of this library that can't read each other's entries don't find them either.
        """
        _ = self.codec  # complete, forward references included
        return f"{fingerprint(self.annotation)}{FORMAT:x}"

    @property
    def _present(self) -> Any:
        """The type of an answer that is not None."""
        return present(self.annotation)

    def _adapter(self, annotation: Any) -> TypeAdapter[Any]:
        return self._defined(lambda: self._adapt(annotation))

    def _adapt(self, annotation: Any) -> TypeAdapter[Any]:
        try:
            adapter: TypeAdapter[Any] = TypeAdapter(annotation)
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

    def _kind(self) -> tuple[bool, bool]:
        """Whether the answer is a stream by its annotation, and whether an async one."""
        try:
            annotation = self._defined(lambda: bare(self.annotation))
        except ValueError:  # something in it is not defined yet
            named = _NAMES_OF_STREAMS.match(self._written())
            return named is not None, bool(named and named[1])
        origin = typing.get_origin(annotation) or annotation
        generates = isgeneratorfunction(self._func) or isasyncgenfunction(self._func)
        is_stream = origin in (*_STREAMS, *_ASYNC_STREAMS)
        is_stream = is_stream or (generates and origin is abc.Iterable)
        return is_stream, origin in _ASYNC_STREAMS

    def _written(self) -> str:
        """The return annotation as text; nothing if it was not written as one."""
        annotations = getattr(inspect.unwrap(self._func), "__annotations__", {})
        written = annotations.get("return")
        return str(written).strip("'\"")  # quoted by hand, and again by the future import

    def _refusal(self, found: str) -> ValueError:
        return ValueError(
            f"{identity(self._func)} must return a Pydantic model, found {found}; annotate it, "
            f"for example `-> UserDetail`, `-> list[UserDetail]` or, for a stream, "
            f"`-> Iterator[UserDetail]` (`-> Iterable[UserDetail] | None` if it may be None), "
            f"or name the type with returns="
        )


class UndefinedName(ValueError):
    """A name in an annotation has no value, or not yet."""
